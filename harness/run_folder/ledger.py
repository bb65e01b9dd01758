"""The content of a run folder, kept in step with its journal: which images are intact, which metrics are measured."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any, Final

from harness.probes.collector import without_collector
from harness.records import (
    RUN_FORMAT,
    BatchCurve,
    Cell,
    Coverage,
    Defect,
    Durations,
    Failure,
    Fit,
    Intermediate,
    Journal,
    Latency,
    Look,
    Measurement,
    Memory,
    NoiseFloor,
    Power,
    Record,
    Sample,
    SessionStart,
    Timeline,
    Weights,
    from_line,
    standing_looks,
    to_line,
    write_atomically,
)
from harness.records.images import APART, IDENTITIES
from harness.records.regular_files import LARGEST_RUN_JSON, read_regular
from harness.records.reusable import (
    NO_VERSION,
    TIME,
    Claim,
    LatestRecords,
    chunked_places,
    claim_of,
    is_floor_of,
    is_timed_alike,
    scored_in_part,
    sha_of,
)
from harness.run_folder import journal_index
from harness.run_folder.image_files import ImageFiles
from harness.run_folder.journal_index import JournalContent, Stat

INDEX_LINES: Final = 5000
"""The index is written again after this many new lines, or an eighth of all, whichever is more."""


class RunFolderError(RuntimeError):
    """A run folder that cannot be resumed; the message names it and says what to do."""


class Ledger:
    """The journal of one run folder with its index. A sample counts only while its file is the one that was written.

    A file is recognised by its size, mtime, ctime and inode, recorded when it was written or last hashed; if one of them
    differs, by the SHA-256 of its content. With `verify`, and whenever an image is read, the content is always hashed.
    """

    def __init__(self, folder: Path, *, verify: bool = False) -> None:
        self.folder, self.verify = folder, verify
        self.journal = Journal(folder / "journal.jsonl")
        self._index_path = folder / "journal.index"
        # Images, measurements and failures arrive from different threads.
        self._turn = RLock()
        self._behind = False
        self.session: SessionStart | None = None
        """Written before the first image of a session whose environment is not that of the images before."""
        self._load()

    @property
    def samples(self) -> dict[tuple[str, Cell], Sample]:
        """The newest image of every candidate and cell."""
        return self._content.samples

    @property
    def damaged(self) -> list[str]:
        """A sentence for each line of the journal that could not be read."""
        return self._content.damaged

    def add(self, records: Sequence[Record], *, durable: bool = True) -> None:
        """Appends to the journal and the index; if `durable`, syncs the lines and all waiting images to the disk. Records that
        can be computed again from images need not be durable at once: they survive a killed process, and after the next `flush`
        also a power cut."""
        with self._turn:
            if durable:
                self.flush()
            self._add(records, sync=durable)
            self._behind = self._behind or not durable

    def store(self, images: Iterable[tuple[Sample | Intermediate, bytes]]) -> None:
        """Writes images to their paths and their records to the journal in this order: what an image was made of comes first.
        Without data, the file is one that is there already.

        They survive a killed process from now on, and a power cut after the next `flush`, which happens automatically.
        """
        with self._turn:
            written: list[Sample | Intermediate] = []
            try:
                for sample, data in images:
                    if data:
                        self._images.write(sample, data)
                    written.append(sample)
            finally:
                self._add([*self._session_due(), *written] if written else [], sync=False)
            if self._images.due:
                self.flush()

    def _session_due(self) -> list[SessionStart]:
        before = self._latest.of(SessionStart, "")
        known = self.session is None or any(start.environment == self.session.environment for start in before)
        return [] if self.session is None or known else [self.session]

    def flush(self) -> None:
        """Waits until every stored image and its line are on the disk. Raises OSError if the disk refuses one."""
        with self._turn:
            if self._images.sync() or self._behind:
                self.journal.sync()
                self._behind = False

    def close(self) -> None:
        """Flushes, and writes the index again so that the next session opens the folder quickly."""
        self.flush()
        self._save_index()

    def head(self) -> dict[str, Any]:
        """The run.json of an earlier session; empty if there is none or it cannot be read. Raises RunFolderError for another
        format, which this version would damage."""
        try:
            head = json.loads(read_regular(self.folder / "run.json", LARGEST_RUN_JSON))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(head, dict):
            return {}
        if head.get("format", RUN_FORMAT) != RUN_FORMAT:
            raise RunFolderError(f"{self.folder}: its run.json has format {head['format']!r}, but this version writes "
                                 f"{RUN_FORMAT}; use the version that wrote it, or another folder with --runs-dir")
        return head

    def forget(self, candidate: str, keys: Collection[str] | None = None) -> None:
        """Removes a candidate from the journal and deletes those of its images that no other candidate shares. With `keys`, only
        the images of these keys, and what is on record about them.

        Only paths that the journal names and that are in this folder are deleted; nothing else in it is ours.
        """
        with self._turn:
            self.flush()
            lines: list[str] = []
            own: set[str] = set()
            shared: set[str] = set()
            of_others = {sample.key for (name, _), sample in self.samples.items() if name != candidate}
            for record in self.journal.records([]):
                # Another candidate may share an image, and then what is on record about it: defects, and what it was made of.
                about_shared = isinstance(record, Defect) or (isinstance(record, Intermediate) and record.sample in of_others)
                others = record.candidate != candidate or (keys is not None and _image_of(record) not in keys)
                if others or about_shared:
                    lines.append(to_line(record) + "\n")
                if isinstance(record, Sample | Intermediate):
                    (shared if others or about_shared else own).add(record.path)
            write_atomically(self.journal.path, "".join(lines).encode())
            for path in own - shared:
                self._images.delete(path)
            self._load(self._images.stats)

    def announce(self, weights: Weights) -> None:
        """Records a candidate's current weights, unless the last record of them is the same."""
        if self._latest.weights(weights.candidate) != weights:
            self.add([weights])

    def weights(self, candidate: str) -> Weights | None:
        """The last recorded weights of a candidate."""
        return self._latest.weights(candidate)

    def identity(self, candidate: str) -> str:
        """The last recorded identity of a candidate; empty if there is none."""
        weights = self._latest.weights(candidate)
        return weights.identity if weights else ""

    def setting(self, candidate: str) -> str:
        """The last recorded hash of how a candidate is timed; empty if there is none."""
        weights = self._latest.weights(candidate)
        return weights.setting if weights else ""

    def missing(self, candidate: str, cells: Iterable[tuple[Cell, str]]) -> list[Cell]:
        """Those cells, given with the keys of their images, whose image, or a picture that it was made of, is missing or altered.
        An intact image that another
        candidate or cell has under the same key is adopted."""
        with self._turn:
            absent: list[Cell] = []
            adopted: list[Sample | Intermediate] = []
            for cell, key in cells:
                sample = self._content.by_key.get(key)
                if sample is None and (raw := self._raw(key, candidate)):
                    adopted += raw
                elif sample is None or not self._whole(sample):
                    absent.append(cell)
                elif (here := self.samples.get((candidate, cell))) is sample:
                    continue
                elif here != (current := replace(sample, candidate=candidate, cell=cell)):
                    adopted.append(current)
            self._add(adopted, sync=True)
            return absent

    def made_of(self, sample: str) -> tuple[Intermediate, ...]:
        """The pictures that the image of this key was made of, in order, each as it was recorded last."""
        return tuple(self._made_of.get(sample, {}).values())

    def picture(self, key: str) -> Sample | Intermediate | None:
        """An intact picture of this key: an image, or one that images were made of."""
        known = (self._content.by_key.get(key), self._intermediates.get(key))
        return next((one for one in known if one is not None and self._images.intact(one)), None)

    def _raw(self, key: str, candidate: str) -> list[Sample | Intermediate]:
        """The picture before the post-steps of another candidate's image, as the image of this one, with what it was made of;
        nothing if there is none of this key, or it is not intact."""
        raw = self._intermediates.get(key)
        if raw is None or not self._images.intact(raw):
            return []
        stages = [replace(one, candidate=candidate, sample=key) for one in self.made_of(raw.sample) if one.key != key]
        image = Sample(key=key, candidate=candidate, cell=raw.cell, path=raw.path, sha256=raw.sha256)
        return [*stages, image] if all(self._images.intact(one) for one in stages) else []

    def _whole(self, sample: Sample) -> bool:
        """Whether an image is intact, and every picture that it was made of."""
        return self._images.intact(sample) and all(self._images.intact(one) for one in self.made_of(sample.key))

    def adopt(self, candidate: str, cell: Cell, key: str) -> bool:
        """Whether the image of `key` is there and intact; an image of another candidate with this key is adopted."""
        return not self.missing(candidate, [(cell, key)])

    def read(self, sample: Sample | Intermediate) -> bytes:
        """The bytes of an image, hashed as they are read. Raises AlteredImageError if they are not those that were written."""
        return self._images.read(sample)

    def cover(self, candidate: str, coverage: Sequence[Coverage]) -> None:
        """Records the coverage of a candidate's current weights once."""
        if not self.covered(candidate):
            self.add([replace(row, of=len(coverage)) for row in coverage])

    def covered(self, candidate: str) -> bool:
        """Whether all rows of the coverage of the candidate's current weights are in the journal."""
        rows = [row for row in self._latest.of(Coverage, candidate) if row.stage not in APART]
        return bool(rows) and len(rows) >= max(row.of for row in rows)

    def cover_prompts(self, row: Coverage) -> None:
        """Records which prompts fit the text encoder, unless the last record says the same."""
        if row not in self._latest.of(Coverage, row.candidate):
            self.add([row])

    def chunked(self, candidate: str, prompts: str) -> frozenset[str]:
        """The places of those texts that the candidate's text encoder reads in chunks; `prompts` is the hash of the prompts."""
        return chunked_places(self._latest.of(Coverage, candidate), prompts)

    def tried(self, candidate: str) -> bool:
        """Whether the journal says which identities hold for the candidate's current weights."""
        return any(row.stage == IDENTITIES for row in self._latest.of(Coverage, candidate))

    def latency(self, candidate: str) -> Latency | None:
        """The latency of the candidate in its current timing setting; it counts only together with its memory figures."""
        weights = self._latest.weights(candidate)
        timed = [record for record in self._latest.of(Latency, candidate) if is_timed_alike(record, weights)]
        probed = any(is_timed_alike(record, weights) for record in self._latest.of(Memory, candidate))
        return timed[0] if timed and probed else None

    def timing_failure(self, candidate: str) -> Failure | None:
        """The failure of the candidate's last timing in its current timing setting, if it failed."""
        return next((failure for failure in self._latest.of(Failure, candidate) if failure.stage == TIME), None)

    def last_latency(self, candidate: str) -> Latency | None:
        """The newest latency of the candidate, whether it counts in its current timing setting or not."""
        return next(iter(self._latest.of(Latency, candidate)), None)

    def fits(self, candidate: str) -> list[Fit]:
        """What is known about which batch sizes fit into memory with the candidate's current weights, oldest first."""
        return self._latest.of(Fit, candidate)

    def defect(self, sample: str) -> str:
        """Why the image of this key is unusable; empty if it is usable."""
        return self._defects.get(sample, "")

    def has_floor(self, candidate: str, identity: str, batch_size: int) -> bool:
        """Whether the noise floor of this batch size was measured on these weights."""
        return any(is_floor_of(floor, identity, batch_size) for floor in self._latest.of(NoiseFloor, candidate))

    def look(self, look: Look) -> None:
        """Records a look, which replaces those that an earlier session wrote with its number or a higher one. Writes nothing if
        the same look is in the journal, so a race that repeats an earlier one writes nothing."""
        if look not in self.looks(look.race):
            self.add([look])

    def looks(self, race: str) -> tuple[Look, ...]:
        """The valid looks of a race in the journal."""
        return standing_looks(self._looks, race)

    def measured(self, metric: str, version: int, setting: str, pairs: Iterable[tuple[Sample, str]]) -> bool:
        """Whether the journal has `metric` for every (sample, reference key) in this version and setting, measured on and against
        the current images."""
        by_key, measured, nothing = self._content.by_key, self._content.measured, dict[str, Claim]()
        for sample, reference in pairs:
            claim = measured.get((sample.candidate, metric), nothing).get(sample.key)
            if claim != (version, setting, reference, sample.sha256, sha_of(reference, by_key)):
                return False
        return True

    def _add(self, records: Sequence[Record], *, sync: bool) -> None:
        if not records:
            return
        self.journal.add(records, sync=sync)
        for record in records:
            self._note(record)
        self._content.lines += len(records)
        self._unindexed += len(records)
        if self._unindexed >= max(INDEX_LINES, self._content.lines // 8):
            self._save_index()

    def _load(self, stats: dict[str, tuple[str, Stat]] | None = None) -> None:
        """Reads the index and the lines after it; `stats` are those that this session already knows."""
        self._latest = LatestRecords()
        self._defects: dict[str, str] = {}
        self._made_of: dict[str, dict[str, Intermediate]] = {}
        self._intermediates: dict[str, Intermediate] = {}
        self._looks: list[Look] = []
        with without_collector():  # a journal is a million small objects and no cycles
            self._content, start = journal_index.load(self._index_path, self.journal.path) or (JournalContent(), 0)
            try:
                others = [from_line(line) for line in self._content.others]
            except ValueError:  # of a version that knew other kinds of records
                self._content, start, others = JournalContent(), 0, []
            for record in others:
                self._place(record)
            self._unindexed, already_damaged = 0, len(self._content.damaged)
            try:
                for record in self.journal.records(self._content.damaged, start, lines_before=self._content.lines):
                    self._note(record)
                    self._unindexed += 1
            except OSError as error:
                raise RunFolderError(f"{self.journal.path} cannot be read ({error.strerror}); "
                                     "use another folder with --runs-dir") from error
            self._content.lines += self._unindexed + len(self._content.damaged) - already_damaged
        self._images = ImageFiles(self.folder, self._content.stats | (stats or {}), verify=self.verify)
        self._content.stats = self._images.stats

    def _save_index(self) -> None:
        """Writes the index; only images that are on the disk have a stat in it. Without an index the journal is read."""
        if (self._unindexed or self._images.hashed) and self.journal.path.exists():
            with suppress(OSError):
                journal_index.save(self._index_path, self._content, self.journal.path)
            self._unindexed = 0

    def _note(self, record: Record) -> None:
        content = self._content
        if isinstance(record, Sample):
            content.samples[record.candidate, record.cell] = record
            content.by_key[record.key] = record
        elif isinstance(record, Measurement):
            version = NO_VERSION if scored_in_part(record) else record.version
            content.measured.setdefault((record.candidate, record.metric), {})[record.sample] = (
                claim_of(version, record.setting, (record.sample, record.reference), content.by_key))
        else:
            content.others.append(to_line(record))
            self._place(record)

    def _place(self, record: Record) -> None:
        match record:
            case Defect():
                self._defects[record.sample] = record.why
            case Intermediate():
                self._made_of.setdefault(record.sample, {})[record.name] = record
                self._intermediates[record.key] = record
            case Look():
                self._looks.append(record)
            case Timeline() | Power() | Durations() | BatchCurve():
                pass  # large, and never asked for
            case _:
                self._latest.take(record)


def _image_of(record: Record) -> str:
    """The key of the image that a record is, or is about; empty for one about something else."""
    return record.key if isinstance(record, Sample) else record.sample if isinstance(record, Intermediate | Measurement) else ""
