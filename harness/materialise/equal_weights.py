"""Recipes whose weights come out equal: two candidates that would be one, and merges that change nothing. Of the weights only as
many are read as it takes to find a difference."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.declare import Fused, Merge, short_hash
from harness.materialise.library import checkpoint_of, name_of
from harness.materialise.recipe_plan import RecipePlan
from harness.materialise.similarity_ranges import needs_survey, surveyed
from harness.merge import Altered, Expression, Merged, Source, evaluate
from harness.merge.expression import merges
from harness.merge.libtorch import WIDENED, kernels, plain_sum
from harness.merge.match_keys import model_names
from harness.weights.safetensors_header import DTYPE_BYTES
from harness.weights.stream import InputFiles

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[str, str]
"""A tensor of a model: its component and key."""
Token = tuple[str, Hashable]
"""The dtype that a tensor is stored as, and what is done to which tensors of which files."""
Limits = dict[str, tuple[float, float]]
"""What surveys of whole models gave, as in `surveyed`."""


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A recipe's tensors, for comparison: `tensors` as expressions, `tokens` that are equal where the same is done to the same
    files and stored alike, `plan` the one that they are of. Only recipes with equal `apart` are compared: it holds all else that
    makes two candidates differ."""

    name: str
    plan: RecipePlan
    tensors: Mapping[Place, Expression] = field(repr=False)
    tokens: Mapping[Place, Token] = field(repr=False)
    apart: Hashable = ()


def weighed(name: str, plan: RecipePlan, adapted: Mapping[Place, Expression] | None = None, apart: Hashable = ()) -> Weighed:
    """The tensors of a plan with their tokens; those that are `adapted` instead are not rounded."""
    adapted = adapted or {}
    tensors = {(component, key): expression for component, part in plan.parts.items() for key, expression in part.keys.items()}
    stored = {place: "F32" if place in adapted else plan.parts[place[0]].stored[place[1]].dtype for place in tensors}
    tensors |= adapted
    of_group = _surveyed_keys(tensors)
    return Weighed(name=name, plan=plan, tensors=tensors, apart=apart,
                   tokens={place: (stored[place], _token(expression, plan, of_group)) for place, expression in tensors.items()})


def frame_alone(of: Weighed) -> Weighed:
    """The model that gives all that is not merged, by itself."""
    return _alone(of, name_of(of.plan.frame))


def _alone(of: Weighed, model: str) -> Weighed:
    """One of the files of a plan, by itself."""
    files, companion = of.plan.files, of.plan.files[model].companion
    beside = set() if companion is None else companion.components.keys() - of.plan.parts.keys()
    tensors: dict[Place, Expression] = {
        (component, key): Source(model=model, component=component, key=key, dtype=info.values_dtype)
        for component, infos in files[model].components.items() if component not in beside for key, info in infos.items()}
    tokens = {place: (files[model].components[place[0]][place[1]].kept_dtype, _token(source, of.plan, {}))
              for place, source in tensors.items() if isinstance(source, Source)}
    return Weighed(name="", plan=of.plan, tensors=tensors, tokens=tokens, apart=of.apart)


def _surveyed_keys(tensors: Mapping[Place, Expression]) -> dict[str, str]:
    """{group: hash of the keys of its survey}: the limits of a surveyed merge follow from all of them."""
    keys: dict[str, set[str]] = defaultdict(set)
    for expression in tensors.values():
        for merge in merges(expression):
            if merge.group:
                keys[merge.group].add(merge.key)
    return {group: short_hash(sorted(names)) for group, names in keys.items()}


def asks_for_a_change(plan: RecipePlan) -> bool:
    """Whether anything but A itself is asked for. A merge at alpha 0 may ask for nothing else."""
    frame = frame_alone(weighed("", plan)).tokens
    alphas = any(value for part in plan.parts.values() for word, _, value, _ in part.blocks if word == "alpha")
    return alphas or any(
        _acts(expression) or frame.get((component, key), ("", None))[1] != _token(expression, plan, {})
        for component, part in plan.parts.items() for key, expression in part.keys.items())


def _acts(expression: Expression) -> bool:
    """Whether anything is merged, or an adapter added at a weight other than 0."""
    if isinstance(expression, Source):
        return False
    return isinstance(expression, Merged) or expression.description[-1] != 0 or _acts(expression.input)


def frame_path(of: Weighed) -> Path:
    """The file of the model that gives all that is not merged."""
    return of.plan.files[name_of(of.plan.frame)].path


def changes_nothing(plan: RecipePlan, read: bool = True, limits: Limits | None = None) -> str:
    """Why a recipe that asks for a change makes none, or an empty string. Without `read`, only what the recipe shows by itself,
    such as a model that is merged with itself. `limits` are those that surveys gave already."""
    own = weighed("", plan)
    frame = frame_alone(own)
    if own.tokens.keys() != frame.tokens.keys() or not asks_for_a_change(plan):
        return ""
    same_files = all(token[1] == frame.tokens[place][1] for place, token in own.tokens.items())
    if not same_files and not (read and equal_groups([own, frame], limits)):
        return ""
    changed = [component for component, part in plan.parts.items() if not set(part.coverage) <= {"copied"}]
    return (f"nothing changes: the result is {plan.frame.path} as it is, tensor by tensor. What it is merged with holds the same "
            f"values in {', '.join(changed) or 'all that is taken'}. Merge other parts, or another model")


def equal_to(plan: RecipePlan, read: bool = True, limits: Limits | None = None) -> list[str]:
    """A sentence for each model that the result equals, as a whole or in components that are merged or adapted: what alpha 0
    asks for, and alpha 1. `read` and `limits` are as in `changes_nothing`."""
    own = weighed("", plan)
    models = {model: _alone(own, model) for model in plan.files}
    letters = _letters(plan)
    parts: dict[str, list[str]] = {
        model: [component for component, part in plan.parts.items()
                if _equal(_within(own, component), _within(alone, component), read, limits)] for model, alone in models.items()}
    sentences = []
    for model, components in parts.items():
        if len(components) == len(plan.parts) and own.tokens.keys() == models[model].tokens.keys():
            return [f"equal to {letters.get(model, model)} in every tensor: {len(own.tokens)} of {', '.join(components)}"]
        if changed := [component for component in components if not set(plan.parts[component].coverage) <= {"copied"}]:
            count = sum(len(plan.parts[component].keys) for component in changed)
            sentences.append(f"equal to {letters.get(model, model)} in {', '.join(changed)}: {count} tensors")
    return sentences


def _letters(plan: RecipePlan) -> dict[str, str]:
    """{name of a file: "A (name)"} for the models of a merge; a name alone is its own."""
    model = plan.model
    while isinstance(model, Fused):
        model = model.model
    if not isinstance(model, Merge):
        return {}
    letters = zip(model_names(len(model.models), model.c is not None), model.models, strict=True)
    names = [(letter, name_of(checkpoint_of(parent))) for letter, parent in letters if not isinstance(parent, Merge | Fused)]
    return {name: f"{letter} ({name})" for letter, name in reversed(names)}


def same_component(one: RecipePlan, other: RecipePlan, component: str) -> bool:
    """Whether two recipes give a component the same tensors to the bit. Of them only as many are read as it takes to find a
    difference."""
    return _equal(_within(weighed("", one), component), _within(weighed("", other), component), read=True, limits=None)


def _within(of: Weighed, component: str) -> Weighed:
    tokens = {place: token for place, token in of.tokens.items() if place[0] == component}
    return replace(of, tokens=tokens, tensors={place: of.tensors[place] for place in tokens})


def _equal(one: Weighed, other: Weighed, read: bool, limits: Limits | None) -> bool:
    if not one.tokens or one.tokens.keys() != other.tokens.keys():
        return False
    return all(token == other.tokens[place] for place, token in one.tokens.items()) or (
        read and bool(equal_groups([one, other], limits)))


def equal_groups(recipes: Sequence[Weighed], limits: Limits | None = None) -> list[list[Weighed]]:
    """The recipes whose tensors are all equal to the bit, in groups of two or more. The smallest tensors are made first, and
    none that no longer decides anything: those that need a survey of a whole model come last. `limits` are those that surveys
    gave already; new ones are added."""
    values = _Values({} if limits is None else limits)
    pending: dict[Hashable, list[Weighed]] = defaultdict(list)
    for recipe in recipes:
        pending[recipe.apart, frozenset(recipe.tokens)].append(recipe)
    groups = [group for group in pending.values() if len(group) > 1]
    late = {place for group in groups for recipe in group for place, expression in recipe.tensors.items()
            if needs_survey([expression])}
    for place in sorted({place for group in groups for place in group[0].tokens},
                        key=lambda place: (place in late, _size(groups, place))):
        remaining = []
        for group in groups:
            if place not in group[0].tokens or len({recipe.tokens[place] for recipe in group}) == 1:
                remaining.append(group)
                continue
            split: dict[Hashable, list[Weighed]] = defaultdict(list)
            for recipe in group:
                split[values.of(recipe, place)].append(recipe)
            remaining += [part for part in split.values() if len(part) > 1]
        groups = remaining
        if not groups:
            break
    return groups


class _Values:
    """Digests of tensors as they would be stored, each made once."""

    def __init__(self, limits: Limits) -> None:
        self._digests: dict[Hashable, Hashable] = {}
        self._limits = limits
        self._filled: dict[tuple[int, str], dict[str, Expression]] = {}

    def of(self, recipe: Weighed, place: Place) -> Hashable:
        token = recipe.tokens[place]
        if token not in self._digests:
            self._digests[token] = self._made(recipe, place, token)
        return self._digests[token]

    def _made(self, recipe: Weighed, place: Place, token: Token) -> Hashable:
        from blake3 import blake3

        from harness.weights.write import bytes_of

        expression, dtype = recipe.tensors[place], token[0]
        try:
            if (plain := _plain_values(expression, dtype, recipe.plan)) is not None:
                return blake3(plain).digest()
            if needs_survey([expression]):
                expression = self._surveyed(recipe, place)
            made = evaluate(expression, _reader(recipe.plan), dtype=dtype, precision=recipe.plan.precision)
            # Widened: the same values are the same weights, however they are stored.
            return blake3(bytes_of(made.double() if dtype == "F64" else made.float())).digest()
        except (ValueError, RuntimeError):  # whoever makes the weights says what is wrong with it
            return token

    def _surveyed(self, recipe: Weighed, place: Place) -> Expression:
        """The expression of a place with the limits that all tensors of its component give."""
        component, key = place
        if (id(recipe), component) not in self._filled:
            whole = {name: expression for (part, name), expression in recipe.tensors.items() if part == component}
            self._filled[id(recipe), component] = surveyed(whole, _reader(recipe.plan), self._limits)
        return self._filled[id(recipe), component][key]


def _plain_values(expression: Expression, dtype: str, plan: RecipePlan) -> bytes | None:
    """The widened values of a stored tensor, or of a weighted sum of two, made without torch; None where that is imported already
    or needed."""
    make = kernels()
    total = None if make is None else plain_sum(expression, dtype, plan.precision)
    read = (total.first, total.second) if total else (expression,) if isinstance(expression, Source) else ()
    infos = [plan.files[one.model].components[one.component][one.key] for one in read if isinstance(one, Source)]
    if make is None or not infos or (total is None and infos[0].dtype != dtype) or any(
            info.dtype not in WIDENED or info.offset is None or info.transposed or info.scale for info in infos):
        return None
    buffers = [memoryview(bytearray(info.count * DTYPE_BYTES[info.dtype])) for info in infos]
    with InputFiles() as files:
        for info, buffer in zip(infos, buffers, strict=True):
            files.read_into(info.file, info.offset or 0, buffer)
    if total is None:
        return make().widened(buffers[0], dtype)
    out = memoryview(bytearray(infos[0].count * DTYPE_BYTES[dtype]))
    make().weighted_sum(total, buffers[0], buffers[1], out, dtype)
    return make().widened(out, dtype)


def _reader(plan: RecipePlan) -> Callable[[Source], Tensor]:
    return lambda source: plan.files[source.model].tensor(source.component, source.key)


def _size(groups: Sequence[Sequence[Weighed]], place: Place) -> tuple[int, Place]:
    for group in groups:
        if place in group[0].tokens and (stored := group[0].plan.parts.get(place[0])) is not None:
            return math.prod(stored.stored[place[1]].shape), place
    return 0, place


def _token(expression: Expression, plan: RecipePlan, of_group: Mapping[str, str]) -> Hashable:
    """What is done to which tensors of which files. A model merged with itself is that model, and so is one with an adapter at
    weight 0. `of_group` are the `_surveyed_keys` of the recipe."""
    if isinstance(expression, Source):
        # Where its values are: a key may be spelled in other ways where other models stand beside it.
        return plan.files[expression.model].components[expression.component][expression.key], expression.dtype
    inputs = tuple(_token(part, plan, of_group) for part in expression.inputs)
    if isinstance(expression, Altered):
        return inputs[0] if expression.description[-1] == 0 else (*expression.description, inputs[0])
    if len(set(inputs)) == 1 and ":" not in expression.name:  # nobody knows what a method of the user's own makes of it
        return inputs[0]
    if expression.method.adds_difference and inputs[1] == inputs[2]:
        return inputs[0]
    merged: tuple[Any, ...] = (expression.name, expression.call, expression.channels,
                               (expression.group, of_group.get(expression.group, "")), inputs)
    return (*merged, expression.seed, expression.component, expression.key) if expression.method.random else merged


