"""The head of a run folder, run.json, read with suspicion: it may be torn, edited or of another version."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.declare import Suite, restore
from harness.declare.picture_uses import PICTURES
from harness.records import RUN_FORMAT
from harness.records.regular_files import LARGEST_RUN_JSON, read_regular
from reports.read.field_types import trouble
from reports.read.value_rows import FIELD_TYPES, rows_of

AGAIN: Final = "run the suite again, which writes the file again and keeps the images that still fit"
_TYPES: Final[dict[str, type]] = {
    "suite": dict, "sampling": dict, "metric_settings": dict, "metrics": dict, "environment": dict, "not_offered": dict,
    "in_bf16": dict, PICTURES: dict,
    "not_selected": list, "command": list, "added": list, "race": str, "started": str,
    "not_counted": str}
_OF_TEXT: Final = ("metric_settings", "not_offered", "not_selected", "added", PICTURES)
"""Whose members are texts."""
_WORDS: Final[dict[type, str]] = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number",
                                  bool: "true or false", type(None): "null"}


def read_head(folder: Path) -> tuple[dict[str, Any], Suite]:
    """run.json and the suite in it. Raises FileNotFoundError when there is none, and ValueError, with the file, what was
    found and what to do, when it is not the head of a run that this version can read."""
    file = folder / "run.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no run.json")
    try:
        head = json.loads(read_regular(file, LARGEST_RUN_JSON).decode("utf-8"), parse_constant=_no_number,
                          object_pairs_hook=_once)
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
    for name, expected in _TYPES.items():
        if name not in head and name == "suite":
            raise ValueError(f"{file} has no suite; {AGAIN}")
        if not isinstance(head.get(name, expected()), expected):
            raise ValueError(f"{file}: {name!r} is {_kind(head[name])} where {_WORDS[expected]} was expected; "  # noqa: TRY004 - content of a file
                             f"{AGAIN}")
    if problem := _odd_parts(head):
        raise ValueError(f"{file}: {problem}; {AGAIN}")
    return head, _suite(file, head["suite"])


def _odd_parts(head: Mapping[str, Any]) -> str:
    """The first member of an object or a list of the head that is not of its kind, in words; else an empty string."""
    for value, spec in head.get("metrics", {}).items():
        if not isinstance(spec, dict):
            return f"the metric {value!r} is {_kind(spec)} where an object was expected"
        for name, kind in FIELD_TYPES.items():
            if name in spec and not isinstance(spec[name], kind):
                return f"the {name} of the metric {value!r} is {_kind(spec[name])}"
    try:
        rows_of(head)
    except ValueError as error:
        return str(error)
    for name in _OF_TEXT:
        members = head.get(name, ())
        parts = members.values() if isinstance(members, dict) else members
        if wrong := next((one for one in parts if not isinstance(one, str)), None):
            return f"{name!r} holds {_kind(wrong)} where texts were expected"
    return ""


def _suite(file: Path, data: Mapping[str, Any]) -> Suite:
    try:
        suite = restore(data)
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: its suite is not one that this version can read ({error}); {AGAIN}") from error
    if not isinstance(suite, Suite):
        raise ValueError(f"{file}: its suite is not marked as one; {AGAIN}")  # noqa: TRY004 - content of a file
    try:
        problem = trouble(suite)
    except RecursionError:
        problem = "its suite is nested too deeply"
    if problem:
        raise ValueError(f"{file}: {problem}; {AGAIN}")
    return suite


def _kind(value: object) -> str:
    return _WORDS.get(type(value), type(value).__name__)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError(f"{Counter(name for name, _ in pairs).most_common(1)[0][0][:60]!r} stands twice in one object")
    return entries
