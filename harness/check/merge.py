"""All problems of one merge that can be found before any file is opened. The types of its fields are checked before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.check.alphas import PARTS, Range, alpha_problems
from harness.check.phrases import doubles, number, unknown
from harness.declare import Merge
from harness.declare.models import ALL, DENOISER
from harness.declare.syntax.parsed import LARGEST_WEIGHT
from harness.merge import MERGE_METHODS, MergeMethod

MISSING: Final = ("error", "keep_a")
DTYPES: Final = ("a", "fp32", "fp16", "bf16")
PRECISIONS: Final = ("auto", "fp64")
FORCES: Final = ("prediction", "ema")
SEED: Final = "seed"
"""A setting that every random method takes besides its own."""
_WHOLE: Final = 2 ** 53
_COMPONENTS: Final = {DENOISER: ("unet", "transformer"), ALL: PARTS}
"""What the words for parts can mean."""


def merge_problems(merge: Merge) -> Iterator[str]:
    """One phrase per problem of the merge itself; the caller checks its models."""
    if why_not := MERGE_METHODS.why_not(merge.method):
        yield why_not
    yield from _words(merge)
    yield from _take(merge)
    row = MERGE_METHODS.find(merge.method)
    if row is None:
        return
    yield from _models(merge, row)
    yield from _weights(merge, row)
    yield from _settings(merge, row)
    for word, given, limits in (("alpha", merge.alpha, row.alpha_range), ("beta", merge.beta, row.beta_range)):
        if limits is None:
            if given is not None:
                yield f"{word} is given, but merge method {merge.method!r} takes no {word}. Remove it"
        elif given is None:
            yield f"merge method {merge.method!r} needs {word}, from {limits[0]:g} to {limits[1]:g}; none is given"
        else:
            yield from alpha_problems(given, Range(word=word, whose=repr(merge.method), low=limits[0], high=limits[1],
                                                   parts=_merged(merge)))


def _words(merge: Merge) -> Iterator[str]:
    yield from unknown("part", merge.parts, (*PARTS, DENOISER, ALL))
    yield from doubles("part", merge.parts)
    yield from unknown("missing policy", [merge.missing], MISSING)
    yield from unknown("dtype", [merge.dtype], DTYPES)
    yield from unknown("precision", [merge.precision], PRECISIONS)
    yield from unknown("force", merge.force, FORCES)
    if any(isinstance(inner, Merge) and inner.dtype != "a" for inner in (*merge.models, *merge.take.values())):
        yield "dtype is given for a merge within a merge, but only the final result is rounded. Give it to the outermost merge"
    if not merge.parts:
        yield "the merge names no parts; give for example parts=('unet',), or 'all'"


def _merged(merge: Merge) -> tuple[str, ...]:
    """The parts that may be merged; which of them a word means depends on the models."""
    return tuple(dict.fromkeys(name for part in merge.parts for name in _COMPONENTS.get(part, (part,))))


def _take(merge: Merge) -> Iterator[str]:
    yield from unknown("part", merge.take, PARTS)
    yield from (f"the part {part!r} is both merged (parts) and taken whole (take); remove it from one of them"
                for part in merge.take if part in merge.parts or (DENOISER in merge.parts and part in _COMPONENTS[DENOISER]))


def _models(merge: Merge, row: MergeMethod) -> Iterator[str]:
    """Too few models, too many, or one in the wrong place."""
    given, name = len(merge.models), merge.method
    if not row.many:
        if given != row.models:
            yield f"merge method {name!r} takes {row.models} models, but {given} are given" + (
                ". Give the third as c" if given < row.models else "")
        elif merge.more:
            yield f"merge method {name!r} takes exactly {row.models} models; give the third as c, not in more"
        return
    if row.base and merge.c is None:
        yield f"merge method {name!r} merges differences from a base; give the base as c"
    elif not row.base and merge.c is not None:
        yield f"merge method {name!r} takes no base; move the model from c to more"
    elif given < row.models:
        yield f"merge method {name!r} takes at least {row.models} models, but {given} are given. Give the others in more"


def _weights(merge: Merge, row: MergeMethod) -> Iterator[str]:
    if not merge.weights:
        return
    if not row.weighted:
        yield f"weights are given, but merge method {merge.method!r} takes none. Remove them"
        return
    listed = 2 + len(merge.more)
    if len(merge.weights) != listed:
        yield f"{len(merge.weights)} weights are given; expected {listed}: one for a, one for b and one for each model in more"
    yield from (f"weights[{place}] is {weight!r}; expected a number from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
                for place, weight in enumerate(merge.weights) if not number(weight) or abs(weight) > LARGEST_WEIGHT)


def _settings(merge: Merge, row: MergeMethod) -> Iterator[str]:
    known = {parameter.name: parameter for parameter in row.parameters}
    names = [*known, *([SEED] if row.random else [])]
    for name, value in merge.settings.items():
        if name not in names:
            yield (f"merge method {merge.method!r} has no settings, but {name!r} is given" if not names else
                   next(unknown(f"setting of {merge.method!r}", [name], names)))
            continue
        # A seed is any integer that a float can hold exactly, unless the method says otherwise.
        low, high, whole = (known[name].low, known[name].high, known[name].whole) if name in known else (0, _WHOLE, True)
        if not number(value) or not low <= value <= high:
            yield f"setting {name!r} is {value!r}; {merge.method!r} takes {_plain(low)} to {_plain(high)}"
        elif whole and value != int(value):
            yield f"setting {name!r} is {value!r}; expected an integer"


def _plain(value: float) -> str:
    """A number as text; integers without an exponent, so that a limit can be copied."""
    return str(int(value)) if value == int(value) else f"{value:g}"
