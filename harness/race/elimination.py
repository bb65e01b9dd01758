"""When a race may stop sampling what has lost, and when it is over: looks at the select prompts with the error spent among
them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from harness.declare import Budget, Candidate, Suite, grid_of
from harness.declare.effective_grid import whole_grid
from harness.declare.pairing import counterpart, with_baseline
from harness.records import Dropped, ValueSpec
from reports import formatting as words
from reports.read.run import Run
from reports.statistics.intervals import LEVEL
from reports.verdict.candidates import controls
from reports.verdict.cells import score_cells
from reports.verdict.picking import Pick, choose, competing, key_of, own_guidances
from reports.verdict.recommendation import Recommendation, Scored
from reports.verdict.scoring import CellKey, judged, keeping, limited, score_table


@dataclass(frozen=True, kw_only=True)
class LookResult:
    """What one look at the race came to.

    `dropped` are the cells this look took out (not those of earlier looks). `candidates` x `guidances` is what the next look
    samples: the smallest rectangle that holds every cell still in the race, with the candidates that always stay; in the
    suite's order. `best` and `pick` are the cell of the highest mean and the one that would be picked now; None where
    nothing competes. `incomplete` are cells that lack images and could not compete. When `done` the race is over
    (still ask `refinements` first where a look remains); `why` says in words what the look came to, also when it goes on.
    """

    number: int
    looks: int
    level: float
    dropped: tuple[Dropped, ...]
    candidates: tuple[str, ...]
    guidances: tuple[float, ...]
    best: CellKey | None
    pick: CellKey | None
    incomplete: tuple[CellKey, ...]
    done: bool
    why: str


def select_prompts(suite: Suite) -> tuple[str, ...]:
    """Ids of the prompts a race may use, in declared order: the select split, or all prompts where there is none."""
    prompts = suite.grid.prompts
    return tuple(p.id for p in prompts if p.split == "select") or tuple(p.id for p in prompts)


def prompt_looks(prompts: Sequence[str], budget: Budget) -> tuple[tuple[str, ...], ...]:
    """The prompts known by each look (those of earlier looks included), in the given order; the last look knows all."""
    if not prompts:
        return ()
    sizes = [*range(max(1, budget.first_prompts), len(prompts), max(1, budget.step_prompts)), len(prompts)]
    return tuple(tuple(prompts[:size]) for size in sizes)


def look_level(number: int, looks: int) -> float:
    """The level of the intervals of look `number` (from 1) of `looks`, for the record of a look too: 1 - 0.05 / looks.

    The 5 % of error are spent in equal parts, so that however the looks depend on each other, and whenever the race ends, a
    cell that is truly best is dropped in at most 5 % of races (Bonferroni; spending functions in general: Lan and DeMets,
    Biometrika 70 (1983) 659). Raises ValueError for a look that is none of them.
    """
    if not 1 <= number <= looks:
        raise ValueError(f"look {number} of {looks}: expected one from 1 to {looks}")
    return 1 - (1 - LEVEL) / looks


def judge_look(images: pd.DataFrame, suite: Suite, number: int, out: Collection[CellKey] = (), *,
               values: Mapping[str, ValueSpec]) -> LookResult:
    """Judges look `number` (from 1) of the len(prompt_looks(select_prompts(suite), suite.budget)) that `suite` allows.

    `images` and `values` are those of the Run; only rows of the look's own prompts are read, so images beyond them change
    nothing. `out` are the cells that earlier looks dropped. `suite` must hold the candidates that a refinement added, with
    their axes. A cell is dropped when its interval, which holds for all cells together, shows it worse than the best of those
    that are shown to keep the constraints, or when a constraint rules it out; both errors together are those of the look's
    level (scoring.shares).
    Raises ValueError for a suite without a budget or a look it does not have.
    """
    budget = _budget(suite)
    known = prompt_looks(select_prompts(suite), budget)
    level = look_level(number, len(known))
    rows = images[images["prompt"].isin(known[number - 1])]
    constraints = limited(suite.objective.constraints, values)
    cells = score_table(rows, constraints, out, level)
    picked = choose(rows, suite, cells)
    remaining = [c for c in cells if c.tied]
    dropped = tuple(_dropped(c) for c in cells if c.complete and not c.tied and (c.ruled_out or c.behind.low is not None))
    if not any(c.behind.low is not None for c in cells):
        remaining = competing(cells)  # one prompt decides nothing
    candidates = {c.candidate for c in remaining} | {suite.baseline}
    guidances = {c.guidance for c in remaining} | _beside(suite, [key_of(c) for c in remaining])
    last = number == len(known)
    # Of a pick that may be ruled out yet, more prompts tell more than whether another cell is a little better.
    sure = picked is not None and bool(keeping(rows, judged(rows, constraints), [key_of(picked.cell)], level))
    over = _over(suite, picked, remaining, level if sure else None, last)
    best = max(competing(cells), key=lambda c: c.objective.mean or 0.0, default=None)
    summary = (f"look {number} of {len(known)}, at {words.plural(len(known[number - 1]), 'prompt')}, dropped "
            f"{words.plural(len(dropped), 'cell')} and left {len(remaining)}")
    incomplete = tuple(key_of(c) for c in cells if not c.complete and not c.dropped)
    if incomplete:
        summary += f", not counting {len(incomplete)} that lack images"
    return LookResult(
        number=number, looks=len(known), level=level, dropped=dropped, best=key_of(best) if best else None,
        candidates=tuple(c.name for c in suite.candidates if c.name in candidates),
        guidances=tuple(g for g in whole_grid(suite).guidance_scales if g in guidances),
        pick=key_of(picked.cell) if picked else None, done=bool(over), why=f"{summary}; {over}" if over else summary,
        incomplete=incomplete)


def _beside(suite: Suite, cells: Iterable[CellKey]) -> set[float]:
    """The guidance scales of the baseline's images that stand beside those of cells."""
    candidates = {c.name: c for c in suite.candidates}
    scales = {with_baseline(suite, candidates.get(name), guidance).scale for name, guidance in cells}
    return {scale for scale in scales if scale is not None}


def _over(suite: Suite, picked: Pick | None, remaining: Sequence[Scored], level: float | None, last: bool) -> str:
    """Why the race is over, or "" while it is not; `level` is None where it is open whether the pick keeps the constraints."""
    if picked is None:
        return "no remaining cell has images and keeps the constraints"
    if len(remaining) == 1:
        return "one cell is left"
    if last:
        return "the prompts are used up"
    enough = _budget(suite).enough
    gain = float("inf") if level is None else most_to_gain(picked, level)
    return f"no other cell can be better than the pick by more than {enough:g} points" if gain <= enough else ""


def most_to_gain(picked: Pick, level: float) -> float:
    """Points by which the best of the cells that may be picked can be better than the pick, at most, at `level`.

    The smaller of two bounds. From the intervals, which hold for all cells together: a cell's upper end from the best cell,
    less the pick's lower end. From the surface: see Surface.most_above. Infinite without intervals.
    """
    low = picked.cell.behind.low
    highs = [c.behind.high for c in picked.free if c.behind.high is not None and c is not picked.cell]
    if low is None:
        return float("inf")
    best = picked.cell.behind.mean == 0.0
    bounds = [max([0.0, *highs]) - (0.0 if best else low)]
    if picked.mapped is not None and picked.spot is not None:
        among = picked.mapped.mask(picked.free)
        bounds.append(picked.mapped.surface.most_above(picked.spot.pick, among, level))
    return min(bounds)


def _dropped(cell: Scored) -> Dropped:
    """The record of a dropped cell, without numbers where it could not be compared with a cell that competes."""
    of = cell.behind
    mean, low, high = (of.mean, of.low, of.high) if of.mean is not None and of.low is not None else (None, None, None)
    return Dropped(candidate=cell.candidate, guidance=cell.guidance, mean=mean, low=low, high=high, why=cell.ruled_out)


def refinements(result: LookResult, suite: Suite) -> tuple[float, ...]:
    """Values of the axis `suite.budget.refine` at which to add candidates before the next look, in rising order; none where
    nothing is to be refined, or `result` was the last look. They are then sampled on all prompts known so far.

    Between the best cell's value, and the pick's, and their neighbours on the axis, a value half-way, on steps that divide the
    gap evenly and are no shorter than `finest`. Raises ValueError when a candidate of the suite has no number on the axis.
    """
    budget = _budget(suite)
    if not budget.refine or result.number >= result.looks:
        return ()
    values = {c.name: _value(c, budget.refine) for c in suite.candidates}
    around = {values[cell[0]] for cell in (result.best, result.pick) if cell is not None}
    found = []
    for low, high in pairwise(sorted(set(values.values()))):
        steps = int((high - low) / budget.finest + 1e-9)
        if steps >= 2 and (low in around or high in around):
            found.append(round(low + (high - low) * (steps // 2) / steps, 10))
    return tuple(found)


def _value(candidate: Candidate, axis: str) -> float:
    value = candidate.axes.get(axis)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"candidate {candidate.name!r} has {value!r} on the axis {axis!r}: refining it needs a number for every "
                     "candidate")


def confirm_plan(run: Run, recommendation: Recommendation) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Candidates and guidances (a rectangle, in the suite's order) to sample on the confirm prompts: the pick, the controls
    and the baseline, at the pick's guidance and at the controls' own best ones. Both empty where nothing was picked."""
    if recommendation.pick is None or recommendation.guidance is None:
        return (), ()
    others = run.roles
    own = own_guidances(recommendation.cells or score_cells(run))
    names = {recommendation.pick, *others}
    at = [(recommendation.pick, recommendation.guidance), *((name, own[name]) for name in others if name in own)]
    scales = {guidance for _, guidance in at} | _beside(run.suite, at) | {
        counterpart(grid_of(run.suite, run.candidate(name)).guidance_scales, recommendation.guidance) for name in others}
    return (tuple(c.name for c in run.suite.candidates if c.name in names),
            tuple(g for g in whole_grid(run.suite).guidance_scales if g in scales))


def confirm_images(suite: Suite, seeds: int) -> int:
    """The most images that a confirmation with so many seeds may need: 0 without confirm prompts."""
    others = controls(suite)
    prompts = sum(p.split == "confirm" for p in suite.grid.prompts)
    candidates = min(1 + len(others), len(suite.candidates))
    return prompts * seeds * candidates * min(1 + len(others), len(whole_grid(suite).guidance_scales))


def _budget(suite: Suite) -> Budget:
    if suite.budget is None:
        raise ValueError(f"suite {suite.name!r} has no budget: it cannot be sampled adaptively; give it Suite(budget=Budget())")
    return suite.budget
