"""What a run writes: frozen records and the append-only journal that holds them. The harness writes them; reports read them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

RUN_FORMAT: Final = 1
"""Format of a run folder, in its run.json: raise it when an older reader would read the folder wrongly."""
PHASES: Final = ("total", "text", "denoise", "decode")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of the grid: which prompt (by id), seed and guidance scale."""

    prompt: str
    seed: int
    guidance: float

    @property
    def noise_seed(self) -> int:
        """Seed (32 bits) of the CPU generator that draws the initial noise.

        It depends on the prompt's id as well as on the seed, so that prompts are independent draws and an interval
        with the prompt as cluster is honest; it depends on nothing else, so every candidate starts from the same noise.
        """
        return int.from_bytes(hashlib.sha256(f"{self.prompt}\n{self.seed}".encode()).digest()[:4])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One written image. `key` is the hash of all that determines it; `path` is relative to the run folder."""

    key: str
    candidate: str
    cell: Cell
    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One metric on one image. `values` are finite floats by value name, `labels` are words ("dominant": "red"),
    `details` is JSON for pictures of the page, and `missing` says why a value of the metric is absent. `reference` is
    the key of the baseline's sample that it was compared with, empty where there was none; `setting` is the hash of
    whatever else decides the values (for the CLIP score its model file), empty where nothing does."""

    sample: str
    candidate: str
    cell: Cell
    metric: str
    version: int
    values: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What happened to every tensor of one component in one stage ("merge", "adapter <path>", "quantize").

    `keys` maps a status to the tensor names that have it. Merge: merged, merged_in_part (some input channels), copied,
    adapted, left_out (what only others have), missing_in_a, missing_in_b, shape_mismatched, non_finite, unmatched. File:
    known_extra, unmatched. Adapter: applied, consumed, refused, absent_component. Quantize: quantized, kept.
    `notes` says in words what a reader should know (casts, a scheme's limits). `of` is the number of rows that belong
    together: a candidate with fewer on record has lost some, and its coverage is not known.
    """

    candidate: str
    stage: str
    component: str
    keys: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    of: int = 0


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds per image at `batch_size`, by phase, one entry per timed round (warm-up rounds are not in it).

    `setting` is the hash of all that was timed; it counts while it equals the setting of the candidate's Weights.
    `yardstick` holds the seconds of one fixed small computation before each round: where it differs between two
    candidates, the machine was busy with something else and their latencies cannot be compared. `stopped` says why there
    are so many rounds and no more.
    """

    candidate: str
    batch_size: int
    warmup_rounds: int
    seconds: Mapping[str, tuple[float, ...]]
    guidance: float
    setting: str = ""
    yardstick: tuple[float, ...] = ()
    stopped: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One figure that a probe gave: a number, or None and the reason it could not be measured. Missing is never zero."""

    name: str
    unit: str
    value: float | None
    why_missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory of one candidate while it sampled at batch 1, by probe, in bytes; `setting` as in Latency."""

    candidate: str
    readings: tuple[Reading, ...]
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One phase that was passed through once ("switch", "text", "denoise", "decode"), on the clock of its timeline."""

    phase: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a timeline: bytes in use at times since its start. `why_ended` says why there is no more, or nothing."""

    name: str
    at_seconds: tuple[float, ...]
    used_bytes: tuple[int, ...]
    why_ended: str = ""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Memory over time while a candidate was made resident and made one untimed image, with the phases marked.

    `samples_per_second` is the rate reached by `samples` samples before they were thinned; `notes` says what to know.
    """

    candidate: str
    series: tuple[Series, ...]
    spans: tuple[Span, ...]
    samples: int
    samples_per_second: float | None
    longest_gap_seconds: float
    notes: tuple[str, ...] = ()
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Power:
    """Energy, clocks and temperature over the timed images of a candidate, and in words what held the clocks back
    (`limits`; where the driver does not tell, `why_no_limits`)."""

    candidate: str
    images: int
    readings: tuple[Reading, ...]
    limits: tuple[str, ...] = ()
    why_no_limits: str = ""
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Durations:
    """Seconds of what is timed apart from an image's phases: "load", "first_switch" (which may merge and
    read files), "switch", "step" (every denoising step)."""

    candidate: str
    seconds: Mapping[str, tuple[float, ...]]
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchPoint:
    """Seconds of each timed batch of `batch_size` images, and the memory readings of one untimed batch before them."""

    batch_size: int
    seconds: tuple[float, ...]
    readings: tuple[Reading, ...]


@dataclass(frozen=True, kw_only=True)
class BatchCurve:
    """Throughput and peak memory by batch size; `stopped` says why it ends where it ends."""

    candidate: str
    points: tuple[BatchPoint, ...]
    stopped: str
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Whether a batch fits into the device's memory (or under `cap_bytes`). If not: the bytes asked for, free and there
    in all, as far as the allocator said; `why` is its first sentence."""

    candidate: str
    batch_size: int
    fits: bool
    cap_bytes: int | None = None
    asked_bytes: int | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    why: str = ""
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Defect:
    """An image that is none: `sample` is its key, `why` what was wrong with the numbers it was to be made of. Its file is black
    where they were no numbers; no metric is computed on it."""

    candidate: str
    cell: Cell
    sample: str
    why: str


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """One image made twice, in a batch of `batch_size` and alone: the largest difference in levels of 0 to 255, and the share
    of values that differ at all. `setting` is the identity of the weights."""

    candidate: str
    cell: Cell
    batch_size: int
    largest_levels: int
    changed_share: float
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A candidate that could not go on: in which stage, and what was said."""

    candidate: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a candidate's model turned out to be: `inputs` is the content hash of every input file, `identity` the hash
    of all that makes its weights, `declared` the key of the declaration it was made from (Candidate.key), `setting` the
    hash of how it is timed. A sample counts only if its key follows from the last identity announced."""

    candidate: str
    identity: str
    inputs: Mapping[str, str]
    declared: str = ""
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A candidate went through all stages; `reused` of its images stood in the journal already."""

    candidate: str
    identity: str
    sampled: int
    reused: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A cell that a look took out of the race: its mean paired difference from the best, and the interval of that look."""

    candidate: str
    guidance: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """One step of a suite that spends a budget. `race` is the hash of the declaration that it follows: only the looks of the
    present one count, and of several with one `number` the last. `stage` is "search", "select", "refine", "confirm" or "gate".

    Until this look the images of `candidates` x `guidances` x `prompts` x `seeds` were asked for, beside those of the looks
    before; `images` is how many there are by now in all. After it `dropped` are out of the race. `level` is that of the
    look's intervals, `why` says in words what the look came to. It belongs to no candidate: `candidate` stays empty.
    """

    race: str
    number: int
    stage: str
    candidates: tuple[str, ...]
    guidances: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: int
    dropped: tuple[Dropped, ...] = ()
    level: float = 0.95
    why: str = ""
    candidate: str = ""


Record: TypeAlias = (Sample | Measurement | Coverage | Latency | Memory | Timeline | Power | Durations | BatchCurve | Fit
                     | NoiseFloor | Defect | Failure | Weights | Finished | Look)
_KINDS: Final[dict[str, type[Any]]] = {
    "sample": Sample, "measurement": Measurement, "coverage": Coverage, "latency": Latency, "memory": Memory,
    "timeline": Timeline, "power": Power, "durations": Durations, "batch_curve": BatchCurve, "fit": Fit,
    "noise_floor": NoiseFloor, "defect": Defect, "failure": Failure, "weights": Weights, "finished": Finished,
    "look": Look,
}
_PARTS: Final[dict[type[Any], dict[str, type[Any]]]] = {
    Memory: {"readings": Reading}, Power: {"readings": Reading}, Timeline: {"series": Series, "spans": Span},
    BatchCurve: {"points": BatchPoint}, BatchPoint: {"readings": Reading}, Look: {"dropped": Dropped},
}
_LISTS: Final = ("notes", "yardstick", "limits", "at_seconds", "used_bytes", "candidates", "guidances", "prompts", "seeds")
_NAMES: Final = {cls: kind for kind, cls in _KINDS.items()}


def sample_key(identity: str, cell: Cell, texts: tuple[str, str], setting: Mapping[str, Any]) -> str:
    """Key of an image: 16 hex digits of the SHA-256 over everything that determines it.

    `identity` is that of the weights, `texts` the prompt and its negative, `setting` the sampling block of run.json
    (sampler, steps, size, batch size, kind of device, version of the sampling code).
    """
    parts = [identity, cell.noise_seed, float(cell.guidance), *texts, sorted(setting.items())]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()[:16]


def to_line(record: Record) -> str:
    """One JSON line. A NaN or an infinity in a record is a programming error and raises ValueError."""
    body = {f.name: _plain(getattr(record, f.name)) for f in fields(record)}
    return json.dumps({"kind": _NAMES[type(record)], **body}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_line(line: str) -> Record:
    """The record of one journal line; raises ValueError when the line is not one."""
    try:
        data = json.loads(line)
        cls = _KINDS[data.pop("kind")]
        if "cell" in data:
            data["cell"] = Cell(**data["cell"])
        if cls in (Coverage, Latency, Durations):
            name = "keys" if cls is Coverage else "seconds"
            data[name] = {k: tuple(v) for k, v in data[name].items()}
        record: Record = _built(cls, data)
        _sound(record)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a journal line ({error}): {line[:120]!r}") from error
    return record


def _built(cls: type[Any], data: dict[str, Any]) -> Any:
    """The dataclass of a JSON object, its parts built alike; lists become tuples, as they were when written."""
    parts = _PARTS.get(cls, {})
    for name, part in parts.items():
        data[name] = tuple(_built(part, one) for one in data[name])
    for name in (*_LISTS, *(("seconds",) if cls is BatchPoint else ())):
        if name in data:
            data[name] = tuple(data[name])
    return cls(**data)


def _sound(record: Any) -> None:
    """Raises TypeError where a line edited by hand has another kind of value than its readers rely on."""
    kinds: dict[str, Any] = {"candidate": str, "key": str, "path": str, "sha256": str, "sample": str, "metric": str,
                             "identity": str, "setting": str, "values": dict, "labels": dict, "details": dict,
                             "missing": dict, "keys": dict, "inputs": dict, "guidance": int | float, "message": str}
    for place in (record, getattr(record, "cell", None)):
        for name, kind in kinds.items():
            value = getattr(place, name, None)
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} is {value!r}")
    cell = getattr(record, "cell", None)
    if cell is not None and not (isinstance(cell.prompt, str) and isinstance(cell.seed, int)):
        raise TypeError(f"cell is {cell!r}")


class Journal:
    """The append-only file of a run's records. Lines are added whole, and by default reach the disk before `add` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, records: Iterable[Record], *, sync: bool = True) -> None:
        """Appends the records as lines; a torn last line left by a killed run is closed off first.

        Without `sync` the lines outlive a killed process but not a power cut, until the next `add` or `sync`.
        """
        text = "".join(to_line(r) + "\n" for r in records)
        if not text:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(text.encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def sync(self) -> None:
        """Waits until all that was added is on the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def read(self) -> tuple[list[Record], list[str]]:
        """All whole records in order, and one sentence for each line that could not be read."""
        damaged: list[str] = []
        return list(self.records(damaged)), damaged

    def records(self, damaged: list[str], start: int = 0, end: int | None = None, lines_before: int = 0) -> Iterator[Record]:
        """The whole records between two byte offsets (the file's end by default), in order; a sentence for each line
        that could not be read is put into `damaged`. `lines_before` is the number of lines before `start`."""
        cells: dict[tuple[Any, ...], Cell] = {}
        for number, line in enumerate(self.lines(start, end), start=lines_before + 1):
            if line.isspace():
                continue
            text = line.decode(errors="replace")
            try:
                yield _quickly(text, cells) or from_line(text)
            except ValueError as error:
                damaged.append(f"{self.path.name} line {number}: {error}")

    def lines(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The lines between two byte offsets, with their ends; nothing where there is no file."""
        if not self.path.exists():
            return
        with self.path.open("rb", buffering=1 << 20) as file:
            place = file.seek(start)
            for line in file:
                if end is not None and (place := place + len(line)) > end:
                    return
                yield line


def _quickly(text: str, cells: dict[tuple[Any, ...], Cell]) -> Record | None:
    """What `from_line` gives, for the two kinds that fill a journal, several times as fast; None where it must decide.

    `cells` holds the cells met so far: a cell stands in the lines of every candidate and metric, and one object is enough.
    """
    try:
        data = json.loads(text)
        kind = data.pop("kind")
        place = tuple(data["cell"].values())
        cell = cells.get(place)
        if list(data["cell"]) != ["prompt", "seed", "guidance"] or kind not in ("sample", "measurement"):
            return None
        if cell is None or [*map(type, place)] != [type(cell.prompt), type(cell.seed), type(cell.guidance)]:
            record = from_line(text)
            if isinstance(record, Sample | Measurement):
                cells[place] = record.cell
            return record
        data["cell"] = cell
        known: Record
        if kind == "sample":
            known = Sample(**data)
            sound = all(type(v) is str for k, v in data.items() if k != "cell")
        else:
            known = Measurement(**data)
            sound = (all(type(v) is dict for v in (known.values, known.labels, known.details, known.missing))
                     and all(type(v) is str for v in (known.sample, known.candidate, known.metric, known.setting)))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None
    return known if sound else None


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` to a temporary file beside `path`, syncs it to the disk and renames it: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def finite(values: Mapping[str, float]) -> bool:
    """Whether every value is a finite number; only then may it enter a Measurement."""
    return all(math.isfinite(v) for v in values.values())


def _plain(value: Any) -> Any:
    if isinstance(value, Cell | Reading | Span | Series | BatchPoint | Dropped):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
