"""All problems of a suite's budget and search that can be found before any image. The types of their fields are checked
before."""

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
from harness.check.values import known_values, parts_of_objective
from harness.declare import Alphas, Blocks, Budget, Candidate, Search, Suite, grid_of
from harness.declare.interpolate import RefiningError, counts_steps, refined
from harness.declare.nearest import did_you_mean
from harness.declare.swept_axis import mode_of
from harness.merge import MERGE_METHODS
from harness.merge.search_space import SearchError, preset_values, slots_of_search

_DERIVED: Final = "is derived from all images of a prompt, but a budget samples only some of them"
_NEARLY: Final = 1e-9
"""Tolerance for rounding: from 0.4 to 0.8 are two steps of 0.2."""
FEWEST_ON_AXIS: Final = 3
"""Values on an axis, so that the best one can have neighbours on both sides."""
_SEARCHED: Final = re.compile(r"search \d+")


def budget_problems(suite: Suite, budget: Budget) -> Iterator[str]:
    """One phrase per problem of the budget."""
    for name, least in (("images", 0), ("first_prompts", 2), ("step_prompts", 1)):
        value = getattr(budget, name)
        if value < least:
            yield f"{name} is {value!r}; expected an integer of at least {least}"
    for name in ("enough", "finest"):
        value = getattr(budget, name)
        if not number(value) or value <= 0:
            yield f"{name} is {value!r}; expected a number above 0"
    if not number(budget.minutes) or budget.minutes < 0:
        yield f"minutes is {budget.minutes!r}; expected a number above 0, or 0 for no limit"
    splits = [p.split for p in suite.grid.prompts]
    if (select := splits.count("select")) < 2 * budget.first_prompts:
        yield (f"{select} prompts are in the split 'select', and the first interim look takes {budget.first_prompts}; a budget "
               f"saves no images with fewer than {2 * max(budget.first_prompts, 2)}. Give more prompts, a smaller first_prompts, "
               "or no budget")
    if "confirm" not in splits:
        yield ("no prompt is in the split 'confirm'; select prompts are tested repeatedly, so the pick needs held-out confirm "
               "prompts")
    scales = [len(grid_of(suite, candidate).guidance_scales) for candidate in suite.candidates]
    first = sum(scales) * len(suite.grid.seeds) * max(budget.first_prompts, 0)
    if 0 < budget.images < first:
        each = (f"{len(scales)} candidates x {scales[0]} guidance scales" if len(set(scales)) == 1 else
                f"{sum(scales)} guidance scales of {len(scales)} candidates")
        yield (f"images is {budget.images}, but the first interim look takes {first}: {each} x {len(suite.grid.seeds)} seeds x "
               f"{budget.first_prompts} prompts")
    yield from _of_all_images(suite)
    if len({mode_of(c) for c in suite.candidates}) > 1:
        yield ("candidates differ in quantization, runtime or savers: such a suite measures the loss against the baseline, but a "
               "budget searches for the best candidate by the objective. Remove the budget, or use a separate suite")
    if budget.refine:
        yield from _refine(suite, budget.refine, budget.finest)
    elif budget.finest != Budget().finest:
        yield f"finest is {budget.finest!r}, but no axis is refined; name one, such as refine='alpha', or remove finest"


def _of_all_images(suite: Suite) -> Iterator[str]:
    """Problems of an objective or a gate that uses a value which depends on the other images of a prompt. A budget samples
    different images for different candidates, so such a value would favour some."""
    used = parts_of_objective(suite.objective)
    for value in (name for name, spec in known_values(suite).items() if spec.pooled):
        if value in used:
            yield (f"the objective uses {value!r}, which {_DERIVED}. Use an objective without it, such as "
                   "Objective(penalties=(Penalty(metric='clipped_share', weight=100, allowance=0.05),))")
        yield from (f"the gate {gate.name!r} asks for {value!r}, which {_DERIVED}" for gate in suite.gates if gate.value == value)


def _refine(suite: Suite, axis: str, finest: float) -> Iterator[str]:
    """Why no candidates can be added between the declared ones of an axis."""
    on = {c.name: (c, float(c.axes[axis])) for c in suite.candidates if number(c.axes.get(axis))}
    known = {name for c in suite.candidates for name, value in c.axes.items() if number(value)}
    if len({value for _, value in on.values()}) < FEWEST_ON_AXIS:
        yield (f"refine is {axis!r}, which is a number for {len(on)} candidates; expected an axis with at least "
               f"{FEWEST_ON_AXIS} different numbers; {_other_axes(axis, known)}")
        return
    yield from _several_axes([candidate for candidate, _ in on.values()], axis)
    ordered = sorted(on.values(), key=lambda one: one[1])
    whole = any(counts_steps(low, high) for (low, _), (high, _) in pairwise(ordered))
    if whole and finest != 1:
        yield f"finest is {finest:g}, but candidates differ in steps, which are whole numbers; give finest=1"
        return
    gaps = [_trouble_between(suite, low, high, whole) for low, high in pairwise(ordered) if low[1] != high[1]]
    if all(gaps):
        yield f"refine is {axis!r}, but no candidate can be added between any two: {gaps[0]}"
    for name, (_, value) in on.items():
        match = re.fullmatch(rf"{re.escape(axis)}=(-?[0-9.]+(?:e-?[0-9]+)?)", name)
        if match and match[1].count(".") < 2 and float(match[1]) != float(f"{value:g}"):
            yield (f"candidate {name!r} has {axis} {value:g}, but refine names the candidates it adds by their value; rename the "
                   "candidate")


def _other_axes(axis: str, known: set[str]) -> str:
    if axis in known:
        return "give more values on it, or remove refine"
    return did_you_mean(axis, known) if known else "no candidate has a numeric axis"


def _trouble_between(suite: Suite, low: tuple[Candidate, float], high: tuple[Candidate, float], whole: bool) -> str:
    """Why no candidate can be added halfway between two neighbours on the axis that is refined; empty if one can."""
    (one, below), (other, above) = low, high
    axis = "" if suite.budget is None else suite.budget.refine
    try:
        refined(suite, one, other, axis, below + ((above - below) // 2 if whole else (above - below) / 2))
    except RefiningError as error:
        return str(error)
    return ""


def refine_remarks(suite: Suite) -> Iterator[str]:
    """The gaps of the axis that is refined in which nothing can be added, though it can in others."""
    if suite.budget is None or not suite.budget.refine:
        return
    axis = suite.budget.refine
    ordered = sorted(((c, float(c.axes[axis])) for c in suite.candidates if number(c.axes.get(axis))), key=lambda one: one[1])
    whole = any(counts_steps(low, high) for (low, _), (high, _) in pairwise(ordered))
    wide = [(low, high) for low, high in pairwise(ordered) if high[1] - low[1] >= 2 * suite.budget.finest - _NEARLY]
    troubles = [trouble for low, high in wide if (trouble := _trouble_between(suite, low, high, whole))]
    yield from (f"budget: refine={axis!r} adds nothing in one gap: {trouble}" for trouble in troubles)


def _several_axes(candidates: list[Candidate], axis: str) -> Iterator[str]:
    """Why neighbours on an axis differ in more than it: two candidates have the same number there and differ on another axis."""
    first: dict[float, Candidate] = {}
    for candidate in candidates:
        other = first.setdefault(float(candidate.axes[axis]), candidate)
        if differing := [name for name in sorted({*other.axes, *candidate.axes})
                         if other.axes.get(name) != candidate.axes.get(name)]:
            yield (f"refine is {axis!r}, but candidates {other.name!r} and {candidate.name!r} have the same {axis} "
                   f"({candidate.axes[axis]:g}) and differ in {' and '.join(differing)}; new candidates can be added only along "
                   f"a single axis. Remove refine, or use a separate suite for each {differing[0]}")
            return


def search_problems(suite: Suite, search: Search, root: Path) -> Iterator[str]:
    """One phrase per problem of the search. Optuna is looked up, not imported."""
    if find_spec("optuna") is None:
        yield "it needs Optuna, which is not installed; install it with: pip install 'sweetspot[search]'"
    if suite.budget is None:
        yield "it needs a budget to try its proposals; give budget=Budget()"
    yield from (f"merge: {phrase}" for phrase in _merge(search, root))
    yield from _counts(suite, search)
    if float(search.guidance) not in map(float, suite.grid.guidance_scales):
        yield (f"guidance is {search.guidance!r}, which is not a guidance scale of the grid; expected one of "
               f"{', '.join(f'{scale:g}' for scale in suite.grid.guidance_scales)}")
    yield from doubles("preset", search.presets)
    for candidate in suite.candidates:
        if _SEARCHED.fullmatch(candidate.name):
            yield f"the name of candidate {candidate.name!r} is reserved for search results; rename the candidate"
    if not LEAST_BLOCKS <= search.blocks <= MOST_BLOCKS:
        yield (f"blocks is {search.blocks}; expected the number of block weights of the models, such as 26 for Stable Diffusion "
               "1 or 20 for SDXL")
        return
    yield from _slots(search)


def _slots(search: Search) -> Iterator[str]:
    """Why the presets are not available for this number of blocks."""
    try:
        slots_of_search(search)
        for preset in search.presets:
            preset_values(search, preset)
    except SearchError as error:
        yield str(error)


def _merge(search: Search, root: Path) -> Iterator[str]:
    alpha = search.merge.alpha
    if alpha is not None and not isinstance(alpha, Alphas | Blocks):
        yield "alpha is given, but the search proposes it. Remove it, or give Alphas, whose parts and keys are kept"
        return
    row = MERGE_METHODS.find(search.merge.method)
    if row is not None and row.alpha_range is None:
        yield f"merge method {search.merge.method!r} takes no alpha, so there is nothing to search"
        return
    if row is not None and row.alpha_range is not None and not (row.alpha_range[0] <= 0 and row.alpha_range[1] >= 1):
        low, high = row.alpha_range
        yield f"merge method {search.merge.method!r} takes alpha from {low:g} to {high:g}, but a search proposes 0 to 1"
    # Any alpha will do here: everything else about the merge is checked.
    yield from reference_problems(replace(search.merge, alpha=0.5) if alpha is None else search.merge, root)


def _counts(suite: Suite, search: Search) -> Iterator[str]:
    least = max(1, len(search.presets))
    if search.trials < least:
        yield f"trials is {search.trials}; expected at least {least}, because every preset is tried first"
    if not 1 <= search.keep <= max(1, search.trials):
        yield f"keep is {search.keep}; expected 1 to the number of trials, {search.trials}"
    select = sum(p.split == "select" for p in suite.grid.prompts)
    if not 1 <= search.prompts <= select:
        yield f"prompts is {search.prompts}; expected 1 to the number of select prompts, {select}"
    if not 0 <= search.seed < 2**32:
        yield f"seed is {search.seed}; expected an integer from 0 to {2**32 - 1}"
