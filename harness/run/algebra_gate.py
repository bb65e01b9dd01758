"""Checks the algebraic identities of a candidate's merge on a few of its own tensors: the ends of alpha, equal models, exchanged
models and float64. `sweetspot merge --check` checks every key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from harness.declare import Candidate, Fused, Merge, Model
from harness.materialise.algebra_identities import identities_of_tensor
from harness.materialise.content_identity import references_of
from harness.materialise.library import Library, merges_of
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.recipe_plan import RecipePlan
from harness.materialise.similarity_ranges import one_thread, surveyed
from harness.merge import MERGE_METHODS, Expression, Merged, Source, evaluate, sources
from harness.merge import elementwise as separate
from harness.merge.expression import merges
from harness.records import Coverage
from harness.records.images import IDENTITIES

if TYPE_CHECKING:
    from torch import Tensor

HELD, BROKEN = "held", "broken"
KEYS: Final = 8
"""Number of tensors of a component that are checked."""
LARGEST: Final = 2 ** 22
"""Number of values of the largest tensor that is checked."""
LARGEST_WHOLE: Final = 2 ** 18
"""The same for methods that need whole tensors: some sort them, or compute singular values. For other methods, this many values
from the start of a tensor are checked."""


def identities_of(candidate: Candidate, library: Library) -> tuple[Coverage, ...]:
    """A row of stage "identities" for each component that the candidate merges. "held" lists the identities that hold on all
    checked tensors (at most KEYS). "broken" has sentences such as "alpha=0 is A: unet.conv_in.weight by 3.1 ulp and 2 more",
    with the largest deviation in units in the last place of the stored dtype. The ends of alpha and equal models must agree to
    the bit, exchanged models and float64 within one unit, as in `merge --check`.

    The tensors are chosen by hash, from as many blocks as possible, so every run checks the same ones. If nothing is merged,
    one row of component "model" says so. Raises the errors of planning the recipe and reading the models.
    """
    plan = plan_recipe(candidate.model, library)
    merge = _merge_of(plan.model)
    rows = []
    if merge is not None:
        with one_thread():
            for component in (part for part in plan.parts if part in merge.parts and part not in merge.take):
                rows += _component(candidate.name, component, (merge, plan, library))
    library.refuse_changed(references_of(candidate))
    return tuple(rows) or (Coverage(candidate=candidate.name, stage=IDENTITIES, component="model", keys={},
                                    notes=("nothing is merged",)),)


def _component(name: str, component: str, of: tuple[Merge, RecipePlan, Library]) -> list[Coverage]:
    """The row of one component; an empty list if it has no merged tensor."""
    plan, part = of[1], of[1].parts[component]
    merged = [key for status in ("merged", "merged_in_part") for key in part.coverage.get(status, ())
              if part.stored[key].dtype.startswith(("F", "BF"))]
    whole = not all(MERGE_METHODS[merge.method].elementwise for merge in merges_of(of[0]))
    keys = chosen(component, {key: math.prod(part.stored[key].shape) for key in merged}, whole=whole)
    results: dict[str, dict[str, float]] = {}

    def read(source: Source) -> Tensor:
        return plan.files[source.model].tensor(source.component, source.key)

    expressions = surveyed(_merges(component, keys, of), read, {})
    for key, expression in expressions.items():
        if isinstance(expression, Merged):
            tensors = {source: read(source) for source in dict.fromkeys(sources(expression))}
            if separate(expression):
                tensors = {source: tensor.reshape(-1)[:LARGEST_WHOLE] for source, tensor in tensors.items()}
            dtype = part.stored[key].dtype
            made = evaluate(expression, tensors.__getitem__, dtype=dtype, precision=plan.precision)
            for result in identities_of_tensor(expression, tensors, dtype, plan.precision, made):
                off = results.setdefault(result.identity, {})
                if not result.holds:
                    off[key] = result.ulps
    statuses = {HELD: tuple(identity for identity, off in results.items() if not off),
                BROKEN: tuple(f"{identity}: {component}.{_worst(off)}" for identity, off in results.items() if off)}
    notes = (f"tried on {len(expressions)} of {len(merged)} merged tensors",)
    return [Coverage(candidate=name, stage=IDENTITIES, component=component, keys={k: v for k, v in statuses.items() if v},
                     notes=notes)] if expressions else []


def chosen(component: str, sizes: Mapping[str, int], *, whole: bool = False) -> list[str]:
    """Chooses up to KEYS tensors by hash: one of each block before a second one of any. `sizes` is {key: number of values}.
    Tensors above the limit are skipped; if all are, the smallest is chosen. `whole` is for methods that need whole tensors."""
    limit = LARGEST_WHOLE if whole else LARGEST
    small = [key for key, size in sizes.items() if size <= limit] or sorted(sizes, key=lambda key: (sizes[key], key))[:1]
    order = sorted(small, key=lambda key: hashlib.sha256(f"{component}\n{key}".encode()).digest())
    taken_from: dict[str, int] = {}
    turns = {}
    for key in order:
        block = ".".join(key.split(".")[:2])
        turns[key] = taken_from[block] = taken_from.get(block, 0) + 1
    return sorted(order, key=lambda key: turns[key])[:KEYS]


def _merges(component: str, keys: list[str], of: tuple[Merge, RecipePlan, Library]) -> dict[str, Expression]:
    """The outermost merge of each key. If the declared alpha takes only one parent, nothing is merged; then the same merge at
    alpha 0.5 is checked."""
    merge, plan, library = of
    outermost: dict[str, Expression] = {key: outer for key in keys
                                    if (outer := next(merges(plan.parts[component].keys[key]), None)) is not None}
    if len(outermost) < len(keys) and merge.alpha is not None:
        halfway = plan_recipe(replace(merge, alpha=0.5), library).parts[component].keys
        outermost |= {key: outer for key in keys
                      if key not in outermost and (outer := next(merges(halfway[key]), None)) is not None}
    return {key: outermost[key] for key in keys if key in outermost}


def _merge_of(model: Model) -> Merge | None:
    """The merge in a model, without the adapters that are fused into it; None if there is no merge."""
    while isinstance(model, Fused):
        model = model.model
    return model if isinstance(model, Merge) else None


def _worst(off: Mapping[str, float]) -> str:
    """"conv_in.weight by 3.1 ulp and 2 more"."""
    key = max(off, key=lambda key: off[key])
    return f"{key} by {off[key]:.2g} ulp" + (f" and {len(off) - 1} more" if len(off) > 1 else "")
