"""Whether what was read from a run folder, a suite or a record, holds what its fields are declared as: anybody can edit files,
and whoever reads a run relies on kinds. What a suite file may say is for the checks of the harness."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from harness.declare import Suite
from harness.records import Measurement, Record, Sample

_LARGEST: Final = 2**63
"""No number of a suite is larger: it would not fit into a file, or would overflow what is computed with it."""
_LARGEST_FLOAT: Final = 1e100
_WORDS: Final[dict[Any, str]] = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false",
                                 type(None): "null"}


def trouble(suite: Suite) -> str:
    """The first thing about a suite that no run can have written, in words; an empty string where there is none."""
    return _odd_fields(suite, "suite") or _odd_names(suite)


def sound_records(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The records that hold what their kinds say, and a sentence for each of the others, which then count as not there."""
    kept, odd = list[Record](), list[str]()
    for record in records:
        if said := _odd_record(record):
            odd.append(f"journal: the {type(record).__name__.lower()} of {record.candidate!r} is not one: {said}")
        else:
            kept.append(record)
    return kept, odd


def _odd_record(record: Record) -> str:
    if isinstance(record, Sample):  # its texts were looked at when its line was read
        return ""
    if isinstance(record, Measurement):  # many thousands: by hand
        values = record.values.values()
        sound = (all(type(v) is float and abs(v) < _LARGEST_FLOAT for v in values)
                 and all(type(text) is str for told in (record.labels, record.missing) for text in told.values())
                 and type(record.version) is int and type(record.reference) is str)
        return ("" if sound else _odd_fields(record, "measurement")) or _odd_details(record.details)
    return _odd_fields(record, type(record).__name__.lower())


def _odd_details(details: Mapping[str, Any]) -> str:
    """What is wrong with the details that figures are drawn from: probabilities by look, and colours with their shares."""
    looks, clusters = details.get("leanings"), details.get("clusters")
    if looks is not None and not (isinstance(looks, dict) and all(_fits(share, float) for share in looks.values())):
        return f"measurement.details['leanings'] is {_shown(looks)}; expected a number for each look"
    if clusters is not None and not (isinstance(clusters, list) and all(
            isinstance(one, list) and len(one) == 4 and all(_fits(number, float) for number in one) for one in clusters)):
        return f"measurement.details['clusters'] is {_shown(clusters)}; expected a list of [L, a, b, share]"
    return ""


def _odd_fields(declaration: Any, place: str) -> str:
    kind: Any = type(declaration)
    hints = _hints(kind)
    return next((said for name, hint in hints.items() if (said := _odd(getattr(declaration, name), hint, f"{place}.{name}"))), "")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {spec.name: hints[spec.name] for spec in fields(kind)}


def _odd(value: Any, hint: Any, place: str) -> str:
    """What is wrong with a value, or with the first part of it that is not of its kind; an empty string if nothing is."""
    origin = get_origin(hint)
    if hint is Any:
        return ""
    if origin in (Union, types.UnionType):
        return _odd_choice(value, get_args(hint), place)
    if not _fits(value, hint):
        return f"{place} is {_shown(value)}; expected {_expected(hint)}"
    if origin is tuple:
        members = [(one, get_args(hint)[0], f"{place}[{at}]") for at, one in enumerate(value)]
    elif origin is Mapping:
        kind, of = get_args(hint)
        members = [(key, kind, f"a name in {place}") for key in value] + [(one, of, f"{place}[{key!r}]")
                                                                          for key, one in value.items()]
    else:
        return _odd_fields(value, place) if is_dataclass(value) else ""
    return next((said for member in members if (said := _odd(*member))), "")


def _odd_choice(value: Any, options: tuple[Any, ...], place: str) -> str:
    """As `_odd`, of a value that may be of several kinds: what is said is of the one whose class it has, if there is one."""
    told = {option: _odd(value, option, place) for option in options}
    if "" in told.values():
        return ""
    return told.get(type(value)) or f"{place} is {_shown(value)}; expected {' or '.join(map(_expected, options))}"


def _fits(value: Any, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_FLOAT
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    kind = get_origin(hint) or hint
    return isinstance(value, kind) and (not isinstance(value, str) or _writable(value))


def _writable(text: str) -> bool:
    """Whether a text is one that UTF-8 can hold; JSON can name halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _odd_names(suite: Suite) -> str:
    """What is there twice, not there at all, or named and not declared."""
    grid, names = suite.grid, [c.name for c in suite.candidates]
    for what, told in (("candidate", names), ("prompt", [p.id for p in grid.prompts]), ("seed", grid.seeds),
                       ("guidance scale", grid.guidance_scales)):
        if not told:
            return f"the suite has no {what}"
        name, count = Counter(told).most_common(1)[0]
        if count > 1:
            return f"the suite has the {what} {name!r} {count} times"
    if suite.baseline not in names:
        return f"the suite's baseline {suite.baseline!r} is none of its candidates"
    if odd_split := next((p for p in grid.prompts if p.split not in ("select", "confirm")), None):
        return f"the prompt {odd_split.id!r} is of the split {odd_split.split!r}; expected 'select' or 'confirm'"
    return ""


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."


def _expected(hint: Any) -> str:
    return {tuple: "a list", Mapping: "an object"}.get(get_origin(hint), _WORDS.get(hint, f"a {hint.__name__}"))
