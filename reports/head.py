"""The head of a run folder, run.json, read with suspicion: it may be torn, edited or of another version.
Called by load.py alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.declare import Candidate, Gate, Grid, Objective, Penalty, Prompt, Suite, restore
from harness.records import RUN_FORMAT

AGAIN: Final = "run the suite again, which writes the file anew and keeps the images that still fit"
_TYPES: Final[dict[str, type]] = {
    "suite": dict, "sampling": dict, "metric_settings": dict, "metrics": dict, "environment": dict, "not_offered": dict,
    "not_selected": list, "command": list}
_WORDS: Final[dict[type, str]] = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number",
                                  bool: "true or false", type(None): "null"}


def read_head(folder: Path) -> tuple[dict[str, Any], Suite]:
    """run.json and the suite in it. Raises FileNotFoundError when there is none, and ValueError, with the file, what was
    found and what to do, when it is not the head of a run that this version can read."""
    file = folder / "run.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no run.json")
    try:
        head = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}); {AGAIN}") from error
    if not isinstance(head, dict):
        raise ValueError(f"{file} holds {_kind(head)} where an object was expected; {AGAIN}")  # noqa: TRY004 - content of a file
    if head.get("format") != RUN_FORMAT:
        raise ValueError(f"{file}: run format {head.get('format')!r} was written by another version of Sweetspot; "
                         f"this one reads format {RUN_FORMAT}")
    if "sampling" not in head:
        raise ValueError(f"{file} has no sampling settings, so an older version of Sweetspot wrote it and nobody can tell "
                         f"which images belong to its suite; {AGAIN}")
    for name, wanted in _TYPES.items():
        if name not in head and name == "suite":
            raise ValueError(f"{file} has no suite; {AGAIN}")
        if not isinstance(head.get(name, wanted()), wanted):
            raise ValueError(f"{file}: {name!r} is {_kind(head[name])} where {_WORDS[wanted]} was expected; "  # noqa: TRY004 - content of a file
                             f"{AGAIN}")
    if odd := next((k for k, v in head.get("metrics", {}).items() if not isinstance(v, dict)), None):
        raise ValueError(f"{file}: the metric {odd!r} is {_kind(head['metrics'][odd])} where an object was expected; {AGAIN}")
    return head, _suite(file, head["suite"])


def _suite(file: Path, data: Mapping[str, Any]) -> Suite:
    try:
        suite = restore(data)
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: its suite is not one that this version can read ({error}); {AGAIN}") from error
    if not isinstance(suite, Suite):
        raise ValueError(f"{file}: its suite is not marked as one; {AGAIN}")  # noqa: TRY004 - content of a file
    if trouble := _trouble(suite):
        raise ValueError(f"{file}: {trouble}; {AGAIN}")
    return suite


def _trouble(suite: Suite) -> str:
    """The first part of the suite that is not of its kind, in words, or an empty string."""
    if not isinstance(suite.grid, Grid) or not isinstance(suite.objective, Objective):
        return "the suite has no proper grid or no proper objective"
    parts: tuple[tuple[str, Any, Any], ...] = (
        ("candidates", suite.candidates, Candidate), ("prompts", suite.grid.prompts, Prompt), ("gates", suite.gates, Gate),
        ("penalties", suite.objective.penalties, Penalty), ("seeds", suite.grid.seeds, int),
        ("guidance scales", suite.grid.guidance_scales, (int, float)), ("metrics", suite.metrics, str))
    for name, members, kind in parts:
        if not isinstance(members, tuple) or not all(isinstance(m, kind) for m in members):
            return f"the suite's {name} are not of their kind"
    texts = [suite.name, suite.description, suite.baseline, *(c.name for c in suite.candidates),
             *(t for p in suite.grid.prompts for t in (p.id, p.text, p.negative, p.split))]
    if not all(isinstance(t, str) for t in texts) or not all(isinstance(c.axes, Mapping) for c in suite.candidates):
        return "a name, a text or the axes of a candidate are not of their kind"
    known = suite.baseline in {c.name for c in suite.candidates}
    return "" if known else f"the suite's baseline {suite.baseline!r} is none of its candidates"


def _kind(value: object) -> str:
    return _WORDS.get(type(value), type(value).__name__)
