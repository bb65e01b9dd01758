"""Everything that can be known to be wrong with a suite's budget and its search before any image. suite.py asks, once the types
of their fields are known to be right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Final

from harness.check.alphas import LEAST_BLOCKS, MOST_BLOCKS
from harness.check.candidate import reference_problems
from harness.check.phrases import doubles, number
from harness.check.values import known_values
from harness.declare import Alphas, Blocks, Budget, Search, Suite
from harness.declare.interpolate import RefiningError, between
from harness.declare.nearest import did_you_mean
from harness.merge import MERGE_METHODS
from harness.merge.search_space import SearchError, preset_values, slots_of_search

_DERIVED: Final = "is derived from all images of a prompt, while a budget samples a part of them"
FEWEST_ON_AXIS: Final = 3
"""Candidates on an axis before there is a best one with something on both sides."""
_SEARCHED: Final = re.compile(r"search \d+")


def budget_problems(suite: Suite, budget: Budget) -> Iterator[str]:
    """One phrase per problem of the budget."""
    for name, least in (("images", 0), ("first_prompts", 2), ("step_prompts", 1)):
        value = getattr(budget, name)
        if value < least:
            yield f"{name} is {value!r}; expected a whole number of at least {least}"
    for name in ("enough", "finest"):
        value = getattr(budget, name)
        if not number(value) or value <= 0:
            yield f"{name} is {value!r}; expected a number above 0"
    splits = [p.split for p in suite.grid.prompts]
    if (select := splits.count("select")) < 2 * budget.first_prompts:
        yield (f"{select} prompts are in the split 'select', and the first look takes {budget.first_prompts}; it spares nothing "
               f"with fewer than {2 * max(budget.first_prompts, 2)}. Give more prompts, a smaller first_prompts, or no budget")
    if "confirm" not in splits:
        yield "no prompt is in the split 'confirm': a race looks at its prompts again and again, so others must confirm its pick"
    first = len(suite.candidates) * len(suite.grid.guidance_scales) * len(suite.grid.seeds) * max(budget.first_prompts, 0)
    if 0 < budget.images < first:
        yield (f"images is {budget.images}, and the first look takes {first}: {len(suite.candidates)} candidates x "
               f"{len(suite.grid.guidance_scales)} guidance scales x {len(suite.grid.seeds)} seeds x {budget.first_prompts} "
               "prompts")
    yield from _of_all_images(suite)
    if len({(c.quantization, c.runtime) for c in suite.candidates}) > 1:
        yield ("candidates differ in quantization or runtime: such a suite asks what is lost against the baseline, and a budget "
               "looks for the best by the objective. Leave the budget out, or make it a suite of its own")
    if budget.refine:
        yield from _refine(suite, budget.refine)


def _of_all_images(suite: Suite) -> Iterator[str]:
    """Where the objective or a gate rests on a value that depends on which other images there are: with a part of them, and not
    the same part for all candidates, it would favour some."""
    objective = suite.objective
    used = [objective.maximise, *(p.metric for p in objective.penalties), *(c.metric for c in objective.constraints),
            *(d.metric for d in objective.desirabilities)]
    for value in (name for name, spec in known_values(suite).items() if spec.pooled):
        if value in used:
            yield (f"the objective uses {value!r}, which {_DERIVED}. Give an objective without it, such as "
                   "Objective(penalties=(Penalty(metric='clipped_share', weight=100, allowance=0.05),))")
        yield from (f"the gate {gate.name!r} asks for {value!r}, which {_DERIVED}" for gate in suite.gates if gate.value == value)


def _refine(suite: Suite, axis: str) -> Iterator[str]:
    """What keeps an axis from having candidates added between its declared ones."""
    on = {c.name: (c, float(c.axes[axis])) for c in suite.candidates if number(c.axes.get(axis))}
    known = {name for c in suite.candidates for name, value in c.axes.items() if number(value)}
    if len({value for _, value in on.values()}) < FEWEST_ON_AXIS:
        yield (f"refine is {axis!r}, which is a number for {len(on)} candidates; expected an axis with {FEWEST_ON_AXIS} "
               f"different numbers at least. {did_you_mean(axis, known) if known else 'No candidate has an axis of numbers'}")
        return
    ordered = sorted(on.values(), key=lambda one: one[1])
    troubles = []
    for (low, below), (high, above) in pairwise(ordered):
        if below == above:
            continue
        try:
            between(low, high, axis, (below + above) / 2)
        except RefiningError as error:
            troubles.append(str(error))
        else:
            break
    else:
        yield f"refine is {axis!r}, and no two candidates have another between them: {troubles[0]}"
    for name, (_, value) in on.items():
        said = re.fullmatch(rf"{re.escape(axis)}=(-?[0-9.]+(?:e-?[0-9]+)?)", name)
        if said and said[1].count(".") < 2 and float(said[1]) != float(f"{value:g}"):
            yield (f"candidate {name!r} has {axis} {value:g}, and refine adds candidates of such names by their value; call it "
                   "otherwise")


def search_problems(suite: Suite, search: Search, root: Path) -> Iterator[str]:
    """One phrase per problem of the search; Optuna is looked for and not imported."""
    if find_spec("optuna") is None:
        yield "it needs Optuna, which is not installed; install it with: pip install 'sweetspot[search]'"
    if suite.budget is None:
        yield "it needs a budget, whose race tries what is proposed; give budget=Budget()"
    yield from (f"merge: {said}" for said in _merge(search, root))
    yield from _counts(suite, search)
    if float(search.guidance) not in map(float, suite.grid.guidance_scales):
        yield (f"guidance is {search.guidance!r}, which is no guidance scale of the grid; expected one of "
               f"{', '.join(f'{scale:g}' for scale in suite.grid.guidance_scales)}")
    yield from doubles("preset", search.presets)
    for candidate in suite.candidates:
        if _SEARCHED.fullmatch(candidate.name):
            yield f"candidate {candidate.name!r} has a name that the search gives to what it finds; call it otherwise"
    if not LEAST_BLOCKS <= search.blocks <= MOST_BLOCKS:
        yield (f"blocks is {search.blocks}; expected how many block weights the models have, such as 26 for Stable Diffusion 1 "
               "or 20 for SDXL")
        return
    yield from _slots(search)


def _slots(search: Search) -> Iterator[str]:
    """What keeps the presets from being had for so many blocks."""
    try:
        slots_of_search(search)
        for preset in search.presets:
            preset_values(search, preset)
    except SearchError as error:
        yield str(error)


def _merge(search: Search, root: Path) -> Iterator[str]:
    alpha = search.merge.alpha
    if alpha is not None and not isinstance(alpha, Alphas | Blocks):
        yield "alpha is given; it is what is searched. Leave it out, or give Alphas, whose parts and keys stay"
        return
    row = MERGE_METHODS.get(search.merge.method)
    if row is not None and row.alpha_range is None:
        yield f"merge method {search.merge.method!r} takes no alpha, so that there is nothing to search"
        return
    if row is not None and row.alpha_range is not None and not (row.alpha_range[0] <= 0 and row.alpha_range[1] >= 1):
        low, high = row.alpha_range
        yield f"merge method {search.merge.method!r} takes alpha from {low:g} to {high:g}; a search proposes 0 to 1"
    # Any alpha stands for those to come: all else about the merge is looked at.
    yield from reference_problems(replace(search.merge, alpha=0.5) if alpha is None else search.merge, root)


def _counts(suite: Suite, search: Search) -> Iterator[str]:
    least = max(1, len(search.presets))
    if search.trials < least:
        yield f"trials is {search.trials}; expected at least {least}, for the presets come first"
    if not 1 <= search.keep <= max(1, search.trials):
        yield f"keep is {search.keep}; expected 1 to the number of trials, {search.trials}"
    select = sum(p.split == "select" for p in suite.grid.prompts)
    if not 1 <= search.prompts <= select:
        yield f"prompts is {search.prompts}; expected 1 to the number of select prompts, {select}"
    if not 0 <= search.seed < 2**32:
        yield f"seed is {search.seed}; expected a whole number from 0 to {2**32 - 1}"
