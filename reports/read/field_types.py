"""Whether what was read from a run folder, a suite or a record, holds what its fields are declared as: anybody can edit files,
and whoever reads a run relies on kinds. What a suite file may say is for the checks of the harness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_origin

from harness.declare import SIDES, Objective, Suite
from harness.declare.misfits import Misfit, misfits, options
from harness.declare.suite import MOST_IMAGES
from harness.records import Measurement, Record, Sample

_LARGEST: Final = 2**63
"""No number of a suite is larger: it would not fit into a file, or would overflow what is computed with it."""
_LARGEST_FLOAT: Final = 1e100
_WORDS: Final[dict[Any, str]] = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false",
                                 type(None): "null"}


def trouble(suite: Suite) -> str:
    """The first thing about a suite that no run can have written, in words; an empty string where there is none."""
    return _odd_fields(suite, "suite") or _odd_names(suite) or _odd_objective(suite.objective) or _too_many(suite)


def sound_records(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The records that hold what their kinds say, and a sentence for each of the others, which then count as not there."""
    sound, problems = list[Record](), list[str]()
    for record in records:
        if problem := _odd_record(record):
            problems.append(f"journal: the {type(record).__name__.lower()} of {record.candidate!r} is not one: {problem}")
        else:
            sound.append(record)
    return sound, problems


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
    """What is wrong with the first field that is not of its kind, in words; an empty string if nothing is."""
    return next((_phrase(misfit, place) for misfit in misfits(declaration, _fits)), "")


def _phrase(misfit: Misfit, place: str) -> str:
    for step in misfit.path:
        if step.kind == "field":
            place += f".{step.at}"
        elif step.kind == "key":
            place = f"a name in {place}"
        else:
            place += f"[{step.at!r}]"
    allowed = options(misfit.hint)
    # Of several kinds, the one whose class it has is what it was meant to be.
    meant = [kind for kind in allowed if kind is type(misfit.value)] or allowed
    return f"{place} is {_shown(misfit.value)}; expected {' or '.join(map(_expected, meant))}"


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_FLOAT
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
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
        return f"the suite's baseline {suite.baseline!r} is not one of its candidates"
    if odd_split := next((p for p in grid.prompts if p.split not in ("select", "confirm")), None):
        return f"the prompt {odd_split.id!r} is of the split {odd_split.split!r}; expected 'select' or 'confirm'"
    return ""


def _odd_objective(objective: Objective) -> str:
    """What an objective says that no reader can follow."""
    for axis, side in objective.prefer.items():
        if side not in SIDES:
            return f"the objective prefers {_shown(side)} of {_shown(axis)}; expected one of {', '.join(SIDES)}"
    for of in objective.desirabilities:
        if of.worst == of.best or of.shape <= 0 or of.weight <= 0:
            return (f"the desirability of {_shown(of.metric)} has worst {of.worst:g}, best {of.best:g}, shape {of.shape:g} and "
                    f"weight {of.weight:g}; expected two different values, and a shape and a weight above 0")
    return ""


def _too_many(suite: Suite) -> str:
    return f"the suite declares {suite.images} images; expected at most {MOST_IMAGES}" if suite.images > MOST_IMAGES else ""


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."


def _expected(hint: Any) -> str:
    return {tuple: "a list", Mapping: "an object"}.get(get_origin(hint), _WORDS.get(hint, f"a {hint.__name__}"))
