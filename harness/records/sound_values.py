"""Whether the values of a record, or of a suite in a run folder, have their declared types: anybody can edit files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_origin

from harness.declare.misfits import LARGEST_INTEGER, LARGEST_NUMBER, Misfit, misfits, options
from harness.records.images import EMBEDDING, LARGEST_EMBEDDING, MOST_PARTS, SHOWN, TEXT_PARTS, Measurement, Sample
from harness.records.json_lines import Record

_WORDS: Final[dict[Any, str]] = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false",
                                 type(None): "null"}


def unsound(record: Record) -> str:
    """The first value of a record that no run can have written, in words; an empty string if there is none. Such a record counts
    as absent, for a resumed run as for a report."""
    if problem := _problem(record):
        return f"the {type(record).__name__.lower()} of {record.candidate!r} is not one: {problem}"
    return ""


def _problem(record: Record) -> str:
    if isinstance(record, Sample):  # its texts are checked when its line is read
        return ""
    if isinstance(record, Measurement):  # many thousands: by hand
        sound = (all(type(v) is float and abs(v) < LARGEST_NUMBER for v in record.values.values())
                 and all(type(text) is str for words in (record.labels, record.missing) for text in words.values())
                 and type(record.version) is int and type(record.reference) is str)
        return ("" if sound else first_misfit(record, "measurement")) or _unsound_details(record.details)
    return first_misfit(record, type(record).__name__.lower())


def _unsound_details(details: Mapping[str, Any]) -> str:
    """What is wrong with the details that figures and derived values are made from: probabilities by look, colours with their
    shares, embeddings, and the number of parts of a prompt."""
    looks, clusters, parts = details.get("leanings"), details.get("clusters"), details.get(TEXT_PARTS, 2)
    if type(parts) is not int or not 2 <= parts <= MOST_PARTS:
        return f"measurement.details[{TEXT_PARTS!r}] is {shown(parts)}; expected an integer from 2 to {MOST_PARTS:,}"
    if looks is not None and not (isinstance(looks, dict) and all(_fits(share, float) for share in looks.values())):
        return f"measurement.details['leanings'] is {shown(looks)}; expected a number for each look"
    if clusters is not None and not (isinstance(clusters, list) and all(
            isinstance(one, list) and len(one) == 4 and all(_fits(number, float) for number in one) for one in clusters)):
        return f"measurement.details['clusters'] is {shown(clusters)}; expected a list of [L, a, b, share]"
    for name, most in ((EMBEDDING, LARGEST_EMBEDDING), (SHOWN, 64)):
        if (text := details.get(name)) is not None and not (_fits(text, str) and len(text) <= most):
            return f"measurement.details[{name!r}] is {shown(text)}; expected a text of at most {most} characters"
    return ""


def first_misfit(declaration: Any, place: str) -> str:
    """The first field of a dataclass, at any depth, whose value does not have its declared type, in words that begin with
    `place`; an empty string if there is none."""
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
    # Of several types, the one whose class it has is what it was meant to be.
    meant = [kind for kind in allowed if kind is type(misfit.value)] or allowed
    return f"{place} is {shown(misfit.value)}; expected {' or '.join(map(_expected, meant))}"


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_INTEGER
    return isinstance(value, kind) and (not isinstance(value, str) or _writable(value))


def _writable(text: str) -> bool:
    """Whether UTF-8 can hold a text; JSON can name halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """A value in a message, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _expected(hint: Any) -> str:
    return {tuple: "a list", Mapping: "an object"}.get(get_origin(hint), _WORDS.get(hint, f"a {hint.__name__}"))
