"""Candidates of one suite whose weights come out equal, so that their pictures would be the same, and candidates that are their
own model A though they ask for more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from harness.declare import Candidate, Checkpoint, Ensemble, Model, Relay, plain
from harness.declare.listing import first_of
from harness.materialise.adapter_expressions import weights_of, with_adapter
from harness.materialise.content_identity import references_of, weights_of_candidate
from harness.materialise.equal_weights import (
    Limits,
    Place,
    Weighed,
    asks_for_a_change,
    equal_groups,
    frame_alone,
    frame_path,
    weighed,
)
from harness.materialise.library import Library, frame_of
from harness.materialise.recipe_plan import RecipePlan
from harness.merge import Altered, Expression

_COMPARED = ("name", "axes", "model", "adapters")
"""The fields of a candidate that are compared by what they do, and those that change no picture."""
_Planned = Callable[[Model], RecipePlan]


def equality_problems(candidates: Sequence[Candidate], plan_of: _Planned, library: Library,
                      limits: Limits | None = None) -> dict[str, str]:
    """By candidate, a sentence for each that changes nothing, and for each that has the weights of an earlier one where neither
    stands for a parent: alpha 0 and 1, a plain model, an adapter at weight 0. Candidates that cannot be planned are passed
    over. `limits` are those of earlier surveys; new ones are added."""
    declared = {candidate.name: candidate for candidate in candidates}
    recipes = []
    for candidate in candidates:
        try:
            recipes.append(_weighed(candidate, plan_of, library))
        except (ValueError, OSError):  # said of the candidate itself
            continue
    frames = {(frame_path(recipe), recipe.plan.frame.ema, recipe.apart): frame_alone(recipe) for recipe in recipes}
    problems: dict[str, str] = {}
    for group in equal_groups([*recipes, *frames.values()], limits):
        named = [recipe for recipe in group if recipe.name]
        alone = {frame_path(recipe) for recipe in group if not recipe.name}
        idle = [recipe for recipe in named if frame_path(recipe) in alone and _asks(recipe)]
        problems |= {recipe.name: f"candidate {recipe.name!r}: nothing changes: its weights are those of "
                     f"{recipe.plan.frame.path!r}, tensor by tensor, as the other models or the adapters add nothing to them. "
                     "Merge other parts or models, or remove it" for recipe in idle}
        problems |= _pairs(changing, declared) if (changing := [recipe for recipe in named if recipe not in idle]) else {}
    return problems


def problems_of_contents(candidates: Sequence[Candidate], library: Library, named: Collection[str]) -> dict[str, str]:
    """By candidate, a sentence for each that is declared as an earlier one and made of the same contents under other file names.
    `named` are candidates with a problem already. Files of which no others have the sizes are not hashed."""
    alike: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.name not in named and _more_than_tensors(candidate):
            with suppress(ValueError, OSError):  # said of the candidate itself
                alike.setdefault(repr(_by_sizes(candidate, library)), []).append(candidate)
    return {name: problem for group in alike.values() if len(group) > 1 for name, problem in _of_contents(group, library)}


def _more_than_tensors(candidate: Candidate) -> bool:
    """Whether a candidate is made of more than the tensors of one model and its adapters, which are compared by themselves."""
    return isinstance(candidate.model, Relay | Ensemble) or bool(
        candidate.stages or candidate.controls or candidate.references or candidate.post)


def _of_contents(group: Sequence[Candidate], library: Library) -> Iterator[tuple[str, str]]:
    by_identity: dict[str, Candidate] = {}
    for candidate in group:
        with suppress(ValueError, OSError):
            earlier = by_identity.setdefault(weights_of_candidate(candidate, library).identity, candidate)
            if earlier.key != candidate.key:
                files = set(references_of(earlier)) ^ set(references_of(candidate))
                yield candidate.name, (
                    f"candidates {earlier.name!r} and {candidate.name!r} differ in the names of files alone, whose contents are "
                    f"equal ({first_of(sorted(map(repr, files)))}), so every picture would be made twice. Remove one, or give it "
                    "another file")


def _by_sizes(candidate: Candidate, library: Library) -> Any:
    """The declaration with the sizes of files in place of their names."""
    sizes = {file: path.stat().st_size if (path := library.path(file)).is_file() else 0 for file in references_of(candidate)}

    def sized(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: sized(value) for key, value in data.items()}
        if isinstance(data, list):
            return [sized(item) for item in data]
        if not isinstance(data, str):
            return data
        prefix, colon, file = data.partition(":")  # "ARCHITECTURE:file", as image encoders are declared
        return sizes.get(data, (prefix, sizes[file]) if colon and file in sizes else data)

    return sized(plain(replace(candidate, name="", axes={})))


def _pairs(group: Sequence[Weighed], declared: dict[str, Candidate]) -> dict[str, str]:
    own = [recipe for recipe in group if not _stands_for_a_parent(declared[recipe.name], recipe.plan)]
    parents = [recipe for recipe in group if recipe not in own]
    models = [recipe for recipe in parents if isinstance(recipe.plan.model, str | Checkpoint)
              and not declared[recipe.name].adapters]
    first, *others = [*own, *(parent for parent in parents if parent.tokens != own[0].tokens)] if own else models or parents[:1]
    problems = {}
    for other in others:
        if declared[other.name].key == declared[first.name].key:  # as in a calibration; elsewhere the check refuses it
            continue
        how = ("they do the same to the same files" if other.tokens == first.tokens else
               "what is merged holds the same values in their files, or their numbers round to the same")
        problems[other.name] = (
            f"candidates {first.name!r} and {other.name!r} have equal weights, tensor by tensor, so every picture would be made "
            f"twice: {how}. Remove one, or change what it merges")
    return problems


def _weighed(candidate: Candidate, plan_of: _Planned, library: Library) -> Weighed:
    """The candidate's tensors with the adapters that act in every step; all other that it declares is `apart`."""
    plan, file = plan_of(candidate.model), library.open(frame_of(candidate.model))
    adapted: dict[Place, Expression] = {}
    apart: list[str] = []
    for adapter in candidate.adapters:
        reading = library.adapter(adapter.path, file)
        if not reading.changes or (adapter.start, adapter.end) != (0.0, 1.0):
            apart += [repr(plain(adapter))] if adapter.weight else []
            continue
        weights = weights_of(adapter, reading, file)
        for component, part in plan.parts.items():
            keys = {key: adapted.get((component, key), expression) for key, expression in part.keys.items()}
            changed = with_adapter(keys, component, adapter, reading, weights)
            adapted |= {(component, key): expression for key, expression in changed.items()}
    return weighed(candidate.name, plan, adapted, _apart(candidate, apart))


def _apart(candidate: Candidate, adapters: Sequence[str]) -> Hashable:
    """All that makes a candidate another one beside its tensors."""
    frame = frame_of(candidate.model)
    # A model with an adapter beside it may be compared with the model into which the adapter is fused.
    beside = bool(candidate.adapters) and isinstance(candidate.model, str | Checkpoint)
    others = {spec.name: plain(getattr(candidate, spec.name)) for spec in fields(candidate) if spec.name not in _COMPARED}
    return repr(others), frame.configs, tuple(adapters), beside


def _asks(recipe: Weighed) -> bool:
    adapted = any(isinstance(expression, Altered) and expression.description[-1] != 0 for expression in recipe.tensors.values())
    return adapted or asks_for_a_change(recipe.plan)


def _stands_for_a_parent(candidate: Candidate, plan: RecipePlan) -> bool:
    """Whether the candidate is at an end of a sweep, where it is expected to be one of the models that others are made of."""
    if any(adapter.weight == 0 for adapter in candidate.adapters):
        return True
    if isinstance(plan.model, str | Checkpoint):
        return not candidate.adapters
    alphas = [value for part in plan.parts.values() for word, _, value, _ in part.blocks if word == "alpha"]
    return bool(alphas) and all(value in (0.0, 1.0) for value in alphas)
