"""What a run folder already holds, kept in step with its journal: which images are whole, which metrics are measured.
run.py asks and adds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.records import (
    RUN_FORMAT,
    Cell,
    Coverage,
    Failure,
    Finished,
    Journal,
    Latency,
    Measurement,
    Memory,
    Record,
    Sample,
    Weights,
    to_line,
    write_atomically,
)


class RunFolderError(RuntimeError):
    """A run folder that cannot be gone on with; the text names it and says what to do."""


class Ledger:
    """The journal of one run folder with its index. A sample counts only while its file has the hash it was written with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl")
        self._records, self.damaged = self._read()
        self._reindex()

    def add(self, records: Sequence[Record]) -> None:
        """Appends to the journal, durably, and to the index."""
        self.journal.add(records)
        for record in records:
            if isinstance(record, Sample):
                self._sound[record.sha256, record.path] = True
            self._records.append(record)
            self._index(record)

    def head(self) -> dict[str, Any]:
        """The run.json of an earlier session; empty when there is none or it cannot be read. Raises RunFolderError for
        one of another format, which this version would spoil."""
        try:
            head = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(head, dict):
            return {}
        if head.get("format", RUN_FORMAT) != RUN_FORMAT:
            raise RunFolderError(f"{self.folder}: its run.json has format {head['format']!r}, this version writes {RUN_FORMAT}; "
                                 "use the version that wrote it, or give --runs-dir another folder")
        return head

    def forget(self, candidate: str) -> None:
        """Takes a candidate out of the journal and deletes those of its images that no other candidate shares.

        Only paths that the journal names and that lie in this folder are deleted; nothing else in it is ours.
        """
        kept = [r for r in self._records if r.candidate != candidate]
        shared = {r.path for r in kept if isinstance(r, Sample)}
        own = {r.path for r in self._records if isinstance(r, Sample) and r.candidate == candidate}
        write_atomically(self.journal.path, "".join(to_line(r) + "\n" for r in kept).encode())
        for path in own - shared:
            image = self.folder / path
            if image.resolve().is_relative_to((self.folder / "images").resolve()) and image.suffix == ".png":
                image.unlink(missing_ok=True)
        self._records = kept
        self._reindex()

    def announce(self, weights: Weights) -> None:
        """States what a candidate now is, unless the last thing said of it was the same."""
        if self._weights.get(weights.candidate) != weights:
            self.add([weights])

    def identity(self, candidate: str) -> str:
        """The identity last announced for a candidate; empty when there is none."""
        weights = self._weights.get(candidate)
        return weights.identity if weights else ""

    def adopt(self, candidate: str, cell: Cell, key: str) -> bool:
        """Whether the image of `key` is at hand, whole and unaltered; an image of another name is taken over by key."""
        held = self._by_key.get(key)
        if held is None or not self._intact(held):
            return False
        if self.samples.get((candidate, cell)) != (current := replace(held, candidate=candidate, cell=cell)):
            self.add([current])
        return True

    def cover(self, candidate: str, coverage: Sequence[Coverage]) -> None:
        """Writes the coverage of a candidate's present weights, once."""
        if not self.covered(candidate):
            self.add([replace(row, of=len(coverage)) for row in coverage])

    def covered(self, candidate: str) -> bool:
        """Whether all rows of the coverage of the candidate's present weights are in the journal."""
        rows = self._coverage.get(candidate, {})
        return bool(rows) and len(rows) >= max(rows.values())

    def latency(self, candidate: str) -> Latency | None:
        """The latency of the candidate as it is timed now; it counts only together with its memory figures."""
        latency, memory = self._latencies.get(candidate), self._memories.get(candidate)
        now = self._weights.get(candidate)
        if latency is None or memory is None or now is None or not latency.setting == memory.setting == now.setting:
            return None
        return latency

    def measured(self, metric: str, version: int, setting: str, pairs: Iterable[tuple[Sample, str]]) -> bool:
        """Whether `metric` stands in the journal for every (sample, reference key), in this version and setting."""
        return all(self._measured.get((s.candidate, s.key, metric)) == (version, setting, reference) for s, reference in pairs)

    def _read(self) -> tuple[list[Record], list[str]]:
        try:
            return self.journal.read()
        except OSError as error:
            raise RunFolderError(f"{self.journal.path} cannot be read ({error.strerror}); "
                                 "give --runs-dir another folder") from error

    def _intact(self, sample: Sample) -> bool:
        place = (sample.sha256, sample.path)
        if place not in self._sound:
            image = self.folder / sample.path
            try:
                inside = image.resolve().is_relative_to(self.folder.resolve())
                data = image.read_bytes() if inside else b""
            except (OSError, ValueError):
                data = b""
            self._sound[place] = hashlib.sha256(data).hexdigest() == sample.sha256
        return self._sound[place]

    def _reindex(self) -> None:
        self.samples: dict[tuple[str, Cell], Sample] = {}
        self._by_key: dict[str, Sample] = {}
        self._measured: dict[tuple[str, str, str], tuple[int, str, str]] = {}
        self._weights: dict[str, Weights] = {}
        self._coverage: dict[str, dict[tuple[str, str], int]] = {}
        self._latencies: dict[str, Latency] = {}
        self._memories: dict[str, Memory] = {}
        self._sound: dict[tuple[str, str], bool] = {}
        for record in self._records:
            self._index(record)

    def _index(self, record: Record) -> None:
        match record:
            case Sample():
                before = self._by_key.get(record.key)
                if before is not None and before.sha256 != record.sha256:
                    # Made again with other last bits: what was measured on, or against, the old ones no longer counts.
                    self._measured = {k: v for k, v in self._measured.items() if record.key not in (k[1], v[2])}
                self.samples[record.candidate, record.cell] = record
                self._by_key[record.key] = record
            case Measurement():
                place = (record.candidate, record.sample, record.metric)
                self._measured[place] = (record.version, record.setting, record.reference)
            case Weights():
                before_weights = self._weights.get(record.candidate)
                if before_weights is not None and before_weights.identity != record.identity:
                    self._coverage.pop(record.candidate, None)
                self._weights[record.candidate] = record
            case Coverage():
                self._coverage.setdefault(record.candidate, {})[record.stage, record.component] = record.of
            case Latency():
                self._latencies[record.candidate] = record
            case Memory():
                self._memories[record.candidate] = record
            case Failure() | Finished():
                pass
