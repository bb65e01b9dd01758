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
    candidates, the machine was busy with something else and their latencies cannot be compared.
    """

    candidate: str
    batch_size: int
    warmup_rounds: int
    seconds: Mapping[str, tuple[float, ...]]
    guidance: float
    setting: str = ""
    yardstick: tuple[float, ...] = ()


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


Record: TypeAlias = Sample | Measurement | Coverage | Latency | Memory | Failure | Weights | Finished
_KINDS: Final[dict[str, type[Any]]] = {
    "sample": Sample, "measurement": Measurement, "coverage": Coverage, "latency": Latency, "memory": Memory,
    "failure": Failure, "weights": Weights, "finished": Finished,
}
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
        if cls is Memory:
            data["readings"] = tuple(Reading(**r) for r in data["readings"])
        if cls in (Coverage, Latency):
            name = "keys" if cls is Coverage else "seconds"
            data[name] = {k: tuple(v) for k, v in data[name].items()}
        for name in ("notes", "yardstick"):
            if name in data:
                data[name] = tuple(data[name])
        record: Record = cls(**data)
        _sound(record)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a journal line ({error}): {line[:120]!r}") from error
    return record


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
    """The append-only file of a run's records. Lines are added whole and flushed to the disk before `add` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, records: Iterable[Record]) -> None:
        """Appends the records as lines; a torn last line left by a killed run is closed off first."""
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
            os.fsync(file.fileno())

    def read(self) -> tuple[list[Record], list[str]]:
        """All whole records in order, and one sentence for each line that could not be read."""
        records: list[Record] = []
        damaged: list[str] = []
        for number, line in self._lines():
            try:
                records.append(from_line(line))
            except ValueError as error:
                damaged.append(f"{self.path.name} line {number}: {error}")
        return records, damaged

    def _lines(self) -> Iterator[tuple[int, str]]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line


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
    if isinstance(value, Cell | Reading):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
