"""The baseline file of a suite: the measured values of the candidate that was promoted last, cell by cell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.records.signed_json import is_signed, read_json, signed_text

BASELINE_FORMAT: Final = 1
BASELINE_FILE: Final = "baseline.json"
"""The path of the baseline file in a run folder, against which its gates are judged."""
LARGEST: Final = 2**1000
"""Integers beyond it do not fit a float."""
PLACE: Final = ("prompt", "seed", "guidance")
COSTS: Final = ("seconds_per_image", "peak_bytes", "weights_bytes", "yardstick_seconds")
"""Figures that a baseline has besides the values of the images."""
TO_RUN: Final = "bytes to run"
"""The unit of a peak. Earlier versions wrote "bytes", and their peaks hold what making the candidate takes."""
RESTORE: Final = "Restore it from git, or promote again"
_FROM_RECORD: Final = ("candidate", "weights", "inputs", "metrics", "metric_settings", "sampling", "environment", "prompts",
                       "reference", "cells", "sampled_as", "pictures")
_ADDED: Final = ("prompts", "metric_settings", "reference", "figures")
"""Parts that files of older versions lack."""


class BaselineError(ValueError):
    """A baseline file cannot be used. The message names the file, the problem, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a baseline file holds: which version of which name was promoted from which suite, and its values cell by cell.

    `columns` are prompt, seed, guidance, image and the values, `rows` the cells; a value that was not measured is None. `prompts`
    gives text and negative by id, `pictures` by id the contents of the pictures that the candidate or the reference uses, by
    name; `metrics` and `settings` are the versions and settings it was measured with, `reference` the candidate that paired
    values were taken against, `figures` what it cost. `sampling` is the sampling block of the run, `sampled_as` that of the
    candidate where it declared its own. `absent` are the parts that a file of an older version lacks: these are empty.
    """

    name: str = ""
    version: int = 0
    candidate: str = ""
    suite: str = ""
    run_started: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    prompts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    pictures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    sampled_as: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def baseline_text(record: Mapping[str, Any]) -> str:
    """The baseline file of a promotion record, as text. Records of older versions lack some parts; so does their baseline."""
    figures = {key: record["figures"][key] for key in COSTS if key in record["figures"]}
    parts = {key: record[key] for key in _FROM_RECORD if key in record}
    return signed_text({"format": BASELINE_FORMAT, "suite": record["suite"], "name": record["name"], "version": record["number"],
                        "figures": figures, **parts})


def read_baseline(path: Path, title: str = "") -> Baseline:
    """The baseline in a file. Errors name it by `title`, or else by its path. Raises BaselineError for anything that a promotion
    does not write, and for a file that was changed afterwards."""
    title = title or str(path)
    try:
        data = read_json(path)
    except ValueError as error:
        raise BaselineError(f"{title} cannot be read as a baseline file ({error}). {RESTORE}") from error
    if isinstance(refused := data.get("refused"), str):
        raise BaselineError(refused)
    if data.get("format") != BASELINE_FORMAT:
        raise BaselineError(f"{title} is not a baseline file of format {BASELINE_FORMAT}: its format is "
                            f"{str(data.get('format'))[:40]!r}. {RESTORE}")
    if not is_signed(data):
        raise BaselineError(f"{title} was changed after it was written: its digest does not match its content. {RESTORE}")
    try:
        return _checked(data)
    except ValueError as error:
        raise BaselineError(f"{title} is not what a promotion writes: {error}. {RESTORE}") from error


def refused_text(why: str) -> str:
    """The content of a run folder's baseline file if the original cannot be used: the reason, which its gates report."""
    return json.dumps({"refused": why})


def _checked(data: Mapping[str, Any]) -> Baseline:
    """The parts of a signed file. Raises ValueError, naming the first invalid part."""
    suite, cells = (_part(data, key, dict) for key in ("suite", "cells"))
    columns = tuple(_part(cells, "columns", list, "cells"))
    return Baseline(
        name=_part(data, "name", str), version=_part(data, "version", int), candidate=_part(data, "candidate", str),
        suite=_part(suite, "name", str, "suite"), run_started=str(suite.get("run_started", "")), columns=columns,
        rows=_rows(_part(cells, "rows", list, "cells"), columns), prompts=_prompts(_added(data, "prompts")),
        pictures=_pictures(_added(data, "pictures")),
        metrics=_part(data, "metrics", dict), settings=_added(data, "metric_settings"), sampling=_part(data, "sampling", dict),
        sampled_as=_added(data, "sampled_as"), environment=_part(data, "environment", dict),
        reference=_added(data, "reference"), figures=_added(data, "figures"),
        absent=tuple(key for key in _ADDED if key not in data))


def _part(data: Mapping[str, Any], key: str, kind: type, within: str = "") -> Any:
    name = f"{within}.{key}" if within else key
    if key not in data:
        raise ValueError(f"{name!r} is missing")
    if not isinstance(data[key], kind) or (kind is int and isinstance(data[key], bool)):
        raise ValueError(f"{name!r} is a {type(data[key]).__name__}; expected a {kind.__name__}")
    return data[key]


def _added(data: Mapping[str, Any], key: str) -> Any:
    return _part(data, key, dict) if key in data else {}


def _prompts(prompts: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    for name, texts in prompts.items():
        if not isinstance(texts, list) or len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"prompt {name!r} is not a text and a negative text")
    return {name: (texts[0], texts[1]) for name, texts in prompts.items()}


def _pictures(pictures: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    for name, own in pictures.items():
        if not isinstance(own, dict) or not all(isinstance(content, str) for content in own.values()):
            raise ValueError(f"the pictures of prompt {name!r} are not contents by name")
    return dict(pictures)


def _rows(rows: list[Any], columns: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) != len(columns):
        raise ValueError("'cells.columns' are not names, each once")
    if lacking := [name for name in PLACE if name not in columns]:
        raise ValueError(f"'cells.columns' lacks {', '.join(lacking)}")
    checks = [_CHECKS.get(name, _is_value) for name in columns]
    at = [columns.index(name) for name in PLACE]
    places = set()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise ValueError(f"row {number} of its cells does not have {len(columns)} entries")
        for name, check, entry in zip(columns, checks, row, strict=True):
            if not check(entry):
                raise ValueError(f"row {number} of its cells has {str(entry)[:40]!r} for {name!r}")
        places.add(tuple(row[i] for i in at))
    if len(places) != len(rows):
        raise ValueError("a cell is in it twice")
    return tuple(map(tuple, rows))


def _is_text(entry: Any) -> bool:
    return isinstance(entry, str)


def _is_seed(entry: Any) -> bool:
    return type(entry) is int and -(2**63) <= entry < 2**63


def _is_number(entry: Any) -> bool:
    return math.isfinite(entry) if isinstance(entry, float) else type(entry) is int and abs(entry) < LARGEST


def _is_value(entry: Any) -> bool:
    return entry is None or _is_number(entry)


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {"prompt": _is_text, "image": _is_text, "seed": _is_seed,
                                                       "guidance": _is_number}
