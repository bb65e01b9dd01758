"""Everything that can be known to be wrong with one merge before any file is opened. suite.py asks for every merge of a
suite, once the types of its fields are known to be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from harness.check.words import doubles, number, unknown
from harness.declare import Alpha, Alphas, Blocks, Gradient, Merge
from harness.merge import MERGE_METHODS, MergeMethod
from harness.merge.blocks import CONVENTIONS
from harness.merge.presets import PRESETS, preset_base

PARTS: Final = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
MISSING: Final = ("error", "keep_a")
DTYPES: Final = ("a", "fp32", "fp16", "bf16")
PRECISIONS: Final = ("auto", "fp64")
FORCES: Final = ("prediction", "ema")
SEED: Final = "seed"
"""Known among the settings of every random method, beside its own."""
LEAST_BLOCKS, MOST_BLOCKS = 3, 110
"""An input block, the middle and an output block; and more than any convention has."""
_WHOLE: Final = 2 ** 53


def merge_problems(merge: Merge) -> Iterator[str]:
    """One phrase per problem of the merge itself; its models are looked at by the caller."""
    yield from unknown("merge method", [merge.method], MERGE_METHODS)
    yield from _words(merge)
    yield from _take(merge)
    row = MERGE_METHODS.get(merge.method)
    if row is None:
        return
    yield from _models(merge, row)
    yield from _weights(merge, row)
    yield from _settings(merge, row)
    for word, given, limits in (("alpha", merge.alpha, row.alpha_range), ("beta", merge.beta, row.beta_range)):
        if limits is None:
            if given is not None:
                yield f"{word} is given; merge method {merge.method!r} takes no {word}. Leave it out"
        elif given is None:
            yield f"merge method {merge.method!r} needs {word}; none is given. It takes {limits[0]:g} to {limits[1]:g}"
        else:
            yield from _Numbers(word, merge, limits).problems(given)


def _words(merge: Merge) -> Iterator[str]:
    yield from unknown("part", merge.parts, PARTS)
    yield from doubles("part", merge.parts)
    yield from unknown("missing policy", [merge.missing], MISSING)
    yield from unknown("dtype", [merge.dtype], DTYPES)
    yield from unknown("precision", [merge.precision], PRECISIONS)
    yield from unknown("force", merge.force, FORCES)
    if any(isinstance(inner, Merge) and inner.dtype != "a" for inner in (*merge.models, *merge.take.values())):
        yield "dtype is given for a merge within a merge; only the whole result is rounded. Give it outermost"
    if not merge.parts:
        yield "the merge names no parts; for example parts=('unet',)"


def _take(merge: Merge) -> Iterator[str]:
    yield from unknown("part", merge.take, PARTS)
    yield from (f"the part {part!r} is both merged (parts) and taken whole (take); leave it out of one of them"
                for part in merge.take if part in merge.parts)


def _models(merge: Merge, row: MergeMethod) -> Iterator[str]:
    """Too few models, too many, or one in the wrong place."""
    given, name = len(merge.models), merge.method
    if not row.many:
        if given != row.models:
            yield f"merge method {name!r} takes {row.models} models; {given} are given" + (
                ". Give the third as c" if given < row.models else "")
        elif merge.more:
            yield f"merge method {name!r} takes a fixed number of models; give the third as c, not in more"
        return
    if row.base and merge.c is None:
        yield f"merge method {name!r} merges the differences from a base; give the base as c"
    elif not row.base and merge.c is not None:
        yield f"merge method {name!r} takes no base; give the model of c in more"
    elif given < row.models:
        yield f"merge method {name!r} takes at least {row.models} models; {given} are given. Give further ones in more"


def _weights(merge: Merge, row: MergeMethod) -> Iterator[str]:
    if not merge.weights:
        return
    if not row.weighted:
        yield f"weights are given; merge method {merge.method!r} takes none. Leave them out"
        return
    listed = 2 + len(merge.more)
    if len(merge.weights) != listed:
        yield f"{len(merge.weights)} weights are given; expected {listed}, one for each of a, b and more"
    yield from (f"weights[{place}] is {weight!r}; expected a finite number"
                for place, weight in enumerate(merge.weights) if not number(weight))


def _settings(merge: Merge, row: MergeMethod) -> Iterator[str]:
    known = {parameter.name: parameter for parameter in row.parameters}
    names = [*known, *([SEED] if row.random else [])]
    for name, value in merge.settings.items():
        if name not in names:
            yield (f"merge method {merge.method!r} has no settings; {name!r} is given" if not names else
                   next(unknown(f"setting of {merge.method!r}", [name], names)))
            continue
        # A seed is any whole number that survives as a float, unless the method says otherwise.
        low, high, whole = (known[name].low, known[name].high, known[name].whole) if name in known else (0, _WHOLE, True)
        if not number(value) or not low <= value <= high:
            yield f"setting {name!r} is {value!r}; {merge.method!r} takes {_plain(low)} to {_plain(high)}"
        elif whole and value != int(value):
            yield f"setting {name!r} is {value!r}; expected a whole number"


class _Numbers:
    """Every number that an alpha or beta holds, against the range of the method."""

    def __init__(self, word: str, merge: Merge, limits: tuple[float, float]) -> None:
        self.word, self.merge, self.limits = word, merge, limits

    def problems(self, given: Alpha) -> Iterator[str]:
        if isinstance(given, Alphas):
            yield from self._alphas(given)
        else:
            yield from self._rule(self.word, given)

    def _alphas(self, given: Alphas) -> Iterator[str]:
        yield from self._rule(f"{self.word}: default", given.default)
        yield from unknown(f"part of {self.word}", given.parts, PARTS)
        for part, rule in given.parts.items():
            yield from self._rule(f"{self.word}: parts[{part!r}]", rule)
            if part in PARTS and part not in self.merge.parts:
                yield f"{self.word}: the part {part!r} has its own, but is not merged; merged: {', '.join(self.merge.parts)}"
        yield from self._named(f"{self.word}: keys", given.keys)

    def _named(self, place: str, values: Mapping[str, float]) -> Iterator[str]:
        for name, value in values.items():
            yield from self._number(f"{place}[{name!r}]", value)
            if not name.strip():
                yield f"{place}: the pattern {name!r} is empty; write * for any text"

    def _rule(self, place: str, rule: float | Blocks | Gradient) -> Iterator[str]:
        if isinstance(rule, Gradient):
            if len(rule.values) < 2:
                yield (f"{place}: a gradient needs at least 2 values, for the first and the last layer; {len(rule.values)} "
                       f"{'is' if len(rule.values) == 1 else 'are'} given")
            yield from self._listed(f"{place}: values", rule.values)
        elif isinstance(rule, Blocks):
            yield from self._blocks(place, rule)
        else:
            yield from self._number(place, rule)

    def _blocks(self, place: str, blocks: Blocks) -> Iterator[str]:
        yield from (f"{place}: {said}" for said in unknown("convention", [blocks.convention], CONVENTIONS))
        if bool(blocks.values) == bool(blocks.preset):
            yield f"{place}: Blocks takes either values or a preset; {'both are' if blocks.preset else 'neither is'} given"
        if blocks.preset:
            yield from self._preset(place, blocks)
        elif blocks.values and not LEAST_BLOCKS <= len(blocks.values) <= MOST_BLOCKS:
            yield (f"{place}: {len(blocks.values)} block weights are given; expected one for each block, such as 26 for Stable "
                   "Diffusion 1 or 20 for SDXL, BASE first")
        yield from self._listed(f"{place}: values", blocks.values)
        if blocks.base is not None:
            yield from self._number(f"{place}: base", blocks.base)

    def _preset(self, place: str, blocks: Blocks) -> Iterator[str]:
        if blocks.preset not in PRESETS:
            yield from (f"{place}: {said}" for said in unknown("preset", [blocks.preset], PRESETS))
            return
        if blocks.convention in CONVENTIONS and CONVENTIONS[blocks.convention].own_slots:
            yield (f"{place}: preset {blocks.preset!r} has no values for the slots of convention {blocks.convention!r}; give "
                   "values, or another convention")
        held = (*PRESETS[blocks.preset], preset_base(blocks.preset))
        for value in {min(held), max(held)}:
            yield from self._number(f"{place}: of preset {blocks.preset!r} a value", value)

    def _listed(self, place: str, values: tuple[float, ...]) -> Iterator[str]:
        for index, value in enumerate(values):
            yield from self._number(f"{place}[{index}]", value)

    def _number(self, place: str, value: float) -> Iterator[str]:
        low, high = self.limits
        if not number(value) or not low <= value <= high:
            yield f"{place} is {value!r}; {self.merge.method!r} takes {low:g} to {high:g}"


def _plain(value: float) -> str:
    """Whole numbers without an exponent, so that a limit can be copied."""
    return str(int(value)) if value == int(value) else f"{value:g}"
