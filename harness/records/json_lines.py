"""Converts records to lines of JSON and back; every line that is read is validated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, TypeAlias

from harness.records.costs import (
    BatchCurve,
    BatchPoint,
    Durations,
    Fit,
    Latency,
    Memory,
    Power,
    Reading,
    Series,
    Span,
    Timeline,
)
from harness.records.events import Dropped, Failure, Finished, Look, SessionStart, Weights, refuse_look
from harness.records.images import Cell, Coverage, Defect, Intermediate, Measurement, NoiseFloor, Sample

Record: TypeAlias = (Sample | Measurement | Coverage | Latency | Memory | Timeline | Power | Durations | BatchCurve | Fit
                     | NoiseFloor | Defect | Intermediate | Failure | Weights | Finished | Look | SessionStart)
_KINDS: Final[dict[str, type[Any]]] = {
    "sample": Sample, "measurement": Measurement, "coverage": Coverage, "latency": Latency, "memory": Memory,
    "timeline": Timeline, "power": Power, "durations": Durations, "batch_curve": BatchCurve, "fit": Fit,
    "noise_floor": NoiseFloor, "defect": Defect, "intermediate": Intermediate, "failure": Failure, "weights": Weights,
    "finished": Finished, "look": Look, "session": SessionStart,
}
_PARTS: Final[dict[type[Any], dict[str, type[Any]]]] = {
    Memory: {"readings": Reading}, Power: {"readings": Reading}, Timeline: {"series": Series, "spans": Span},
    BatchCurve: {"points": BatchPoint}, BatchPoint: {"readings": Reading}, Look: {"dropped": Dropped},
}
_LISTS: Final = ("notes", "yardstick", "limits", "at_seconds", "used_bytes", "candidates", "guidances", "prompts", "seeds")
_HALF: Final = "\\ud"
"""How JSON names half of a character, which no text can hold alone."""
_NAMES: Final = {cls: kind for kind, cls in _KINDS.items()}


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
        # What cannot be written again, such as NaN, a number too large or half a character, no run has written.
        to_line(record).encode()
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a journal line ({error}): {line[:120]!r}") from error
    return record


def quickly(text: str, cells: dict[tuple[Any, ...], Cell]) -> Record | None:
    """The result of `from_line` for the two kinds that fill a journal, several times faster; None if `from_line` must decide.

    `cells` holds the cells seen so far: a cell appears in the lines of every candidate and metric, and one object is enough.
    """
    if _HALF in text.lower():
        return None
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
                     and type(known.version) is int
                     and all(type(v) is str for v in (known.sample, known.candidate, known.metric, known.setting,
                                                      known.reference)))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None
    return known if sound else None


def _built(cls: type[Any], data: dict[str, Any]) -> Any:
    """The dataclass of a JSON object and of its parts; lists become the tuples they were when written."""
    parts = _PARTS.get(cls, {})
    for name, part in parts.items():
        data[name] = tuple(_built(part, one) for one in data[name])
    for name in (*_LISTS, *(("seconds",) if cls is BatchPoint else ())):
        if name in data:
            if not isinstance(data[name], list):
                raise TypeError(f"{name} is {data[name]!r}")
            data[name] = tuple(data[name])
    return cls(**data)


def _sound(record: Any) -> None:
    """Raises TypeError if a line, edited by hand, has a value of another type than its readers rely on."""
    kinds: dict[str, Any] = {"candidate": str, "key": str, "path": str, "sha256": str, "sample": str, "metric": str,
                             "identity": str, "setting": str, "values": dict, "labels": dict, "details": dict,
                             "missing": dict, "keys": dict, "inputs": dict, "guidance": int | float, "message": str,
                             "stage": str, "component": str, "error": str, "why": str, "version": int, "reference": str,
                             "batch_size": int, "cap_bytes": int, "declared": str, "name": str}
    for place in (record, getattr(record, "cell", None)):
        for name, kind in kinds.items():
            value = getattr(place, name, None)
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{name} is {value!r}")
    cell = getattr(record, "cell", None)
    if cell is not None and not (isinstance(cell.prompt, str) and isinstance(cell.seed, int)):
        raise TypeError(f"cell is {cell!r}")
    if isinstance(record, Look):
        refuse_look(record)


def _plain(value: Any) -> Any:
    if isinstance(value, Cell | Reading | Span | Series | BatchPoint | Dropped):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
