"""Which candidate to ship and at which guidance: chosen on the select prompts, confirmed on the others.
The page, the terminal table and the gates read the Recommendation made here; fidelity.py decides quantization suites."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from reports import words
from reports.candidates import axis_of, controls, label, parents, varies_fidelity
from reports.cells import CELL, FEW_PROMPTS, caveats, score_cells, select_rows
from reports.decision import Comparison, Recommendation, Scored
from reports.fidelity import recommend_cheapest
from reports.load import Run
from reports.phrases import sweep_reasons, sweep_sentence
from reports.statistics import bootstrap_interval, cluster_interval, cluster_means, differences, holm, paired_difference
from reports.surface import fit_surface
from reports.sweetspots import sweet_spot

SWEEP_RULE: Final = (
    "Best is the highest mean objective on the select prompts. Tied are all cells whose paired difference from the best "
    "has a 95 % interval that includes 0; these intervals hold for all cells together (prompts as clusters, their signs "
    "flipped to see how far apart equal cells look by chance: Romano and Wolf, JASA 100, 2005). The pick is taken "
    "from the tied cells that are no parents and lie within one standard error of the best (the one-standard-error rule: "
    "Breiman et al., Classification and Regression Trees, 1984): of these the lowest guidance scale, and there the axis "
    "value nearest the middle of the tied range (without a numeric axis: the highest mean). The choice is then checked on "
    "the confirm prompts, which had no part in it, against all controls together (Holm's intervals by t).")


def recommend(run: Run) -> Recommendation:
    """The recommendation of a run: by fidelity and cost when quantization or runtime vary without a numeric axis, otherwise
    by the objective over candidates and guidance scales."""
    if axis_of(run.suite) is None and varies_fidelity(run.suite):
        return recommend_cheapest(run)
    return _recommend_best(run)


def _recommend_best(run: Run) -> Recommendation:
    cells = score_cells(run)
    ranked = [c for c in cells if c.complete and c.objective.mean is not None]
    if not ranked:
        why = "; ".join(f"{g.candidate}: {words.plural(g.count, g.value)} missing ({g.why})" for g in run.missing[:3])
        return Recommendation(kind="sweep", axis=axis_of(run.suite), pick=None, guidance=None, cells=cells,
                              rule=SWEEP_RULE, caveats=caveats(run, cells),
                              sentence=f"No recommendation: the objective was not measured on any image ({why}).")
    present = {c.candidate for c in ranked}
    if len(present) == 1 < len(run.suite.candidates):
        only = label(run, next(iter(present)))
        return Recommendation(kind="sweep", axis=axis_of(run.suite), pick=None, guidance=None, cells=cells,
                              rule=SWEEP_RULE, caveats=caveats(run, cells),
                              sentence=f"No recommendation yet: only {only} has images, and nothing to be compared with; "
                                       "run the other candidates too.")
    pick = _pick(run, ranked)
    comparisons = compare(run, pick.candidate, pick.guidance, _best_guidances(ranked))
    clip = _clip_alone(run, None)
    clip_at_pick = _clip_alone(run, pick.candidate)
    draft = Recommendation(
        kind="sweep", axis=axis_of(run.suite), pick=pick.candidate, guidance=pick.guidance, sentence="", rule=SWEEP_RULE,
        cells=cells, clip_alone=clip, clip_alone_at_pick=clip_at_pick[1] if clip_at_pick else None,
        tied_candidates=tuple(c.candidate for c in ranked if c.tied and c.guidance == pick.guidance),
        tied_guidances=tuple(sorted(c.guidance for c in ranked if c.tied and c.candidate == pick.candidate)),
        comparisons=comparisons, caveats=(*caveats(run, cells), *_shaky(run, pick.candidate, comparisons)))
    return replace(draft, sentence=sweep_sentence(run, draft), reasons=(*sweep_reasons(run, draft), *_smoothed(run, ranked)))


def _pick(run: Run, ranked: list[Scored]) -> Scored:
    """The cell that SWEEP_RULE names; without intervals the highest mean."""
    best = max(ranked, key=_mean)
    if best.behind.low is None:
        return best
    tied = [c for c in ranked if c.tied]
    free = [c for c in tied if c.candidate not in parents(run.suite)] or tied
    near = [c for c in free if -(c.behind.mean or 0.0) <= (c.behind.error or 0.0)] or [max(free, key=_mean)]
    lowest = min(c.guidance for c in near)
    row = [c for c in near if c.guidance == lowest]
    axis = axis_of(run.suite)
    if axis is None:
        return max(row, key=_mean)
    place = {c.candidate: float(run.candidate(c.candidate).axes[axis]) for c in tied if c.guidance == lowest}
    middle = (min(place.values()) + max(place.values())) / 2
    return min(row, key=lambda c: (abs(place[c.candidate] - middle), -_mean(c)))


def _mean(cell: Scored) -> float:
    """The mean objective of a cell, for ranking; cells without one are never ranked."""
    return -math.inf if cell.objective.mean is None else cell.objective.mean


def _best_guidances(ranked: list[Scored]) -> dict[str, float]:
    """For each candidate the guidance at which its own mean objective is highest on the select split."""
    best: dict[str, Scored] = {}
    for c in ranked:
        if c.candidate not in best or _mean(c) > _mean(best[c.candidate]):
            best[c.candidate] = c
    return {name: c.guidance for name, c in best.items()}


def compare(run: Run, pick: str, guidance: float, own: dict[str, float]) -> tuple[Comparison, ...]:
    """The pick minus each control and the baseline, in objective and CLIP score, at the pick's guidance; in objective
    also at the control's own best guidance (`own`), for a parent must not lose by a setting that does not suit it.

    The controls of one value and setting are one family, with the intervals of statistics.holm: "better than both" is
    said wrongly of either in at most 5 % of runs."""
    rows, split = _judging_rows(run)
    mine = rows[(rows["candidate"] == pick) & (rows["guidance"] == guidance)]
    others = {name: role for name, role in controls(run.suite).items() if name != pick}
    families = [("objective", dict.fromkeys(others, guidance)), ("clip_score", dict.fromkeys(others, guidance)),
                ("objective", {name: own[name] for name in others if own.get(name, guidance) != guidance})]
    found = []
    for value, settings in families:
        told = []
        for name, setting in settings.items():
            theirs = rows[(rows["candidate"] == name) & (rows["guidance"] == setting)]
            difference = paired_difference(mine, theirs, value, by=("prompt", "seed"))
            told.append(difference if len(theirs) else
                        replace(difference, why=run.failure_of(name) or "it has no images there"))
        for (name, setting), difference in zip(settings.items(), holm(told), strict=True):
            found.append(Comparison(other=name, role=others[name], guidance=guidance, other_guidance=setting, value=value,
                                    split=split, difference=difference, word=difference.word))
    return tuple(sorted(found, key=lambda c: list(others).index(c.other)))


def _smoothed(run: Run, ranked: list[Scored]) -> tuple[str, ...]:
    """What a smooth surface through the ranked cells says; beside the pick, which rests on the cells as measured. Nothing where
    there is no axis of three values, or where no surface can be fitted, as when the cells share too few prompts."""
    axis = axis_of(run.suite)
    names = {c.candidate for c in ranked}
    if axis is None or len({run.candidate(n).axes[axis] for n in names}) < max(3, len(names)):
        return ()
    axes = [axis, "guidance"] if len({c.guidance for c in ranked}) > 1 else [axis]
    table = select_rows(run)
    cells = pd.MultiIndex.from_tuples([(c.candidate, c.guidance) for c in ranked])
    try:
        surface = fit_surface(table[pd.MultiIndex.from_frame(table[list(CELL)]).isin(cells)], axes)
    except ValueError:
        return ()
    return (f"On a smooth surface through all cells the pick would be {sweet_spot(surface).sentence}",)


def _judging_rows(run: Run) -> tuple[pd.DataFrame, str]:
    """The images the pick is judged by, and their split: the confirm prompts if there are any."""
    held_out = run.images[run.images["split"] == "confirm"]
    return (select_rows(run), "select") if held_out.empty else (held_out, "confirm")


def _shaky(run: Run, pick: str, comparisons: tuple[Comparison, ...]) -> tuple[str, ...]:
    """Comparisons whose word depends on the t distribution: the cluster bootstrap of the same differences says another."""
    rows, _ = _judging_rows(run)
    said = []
    for c in comparisons:
        if c.value != "objective" or c.other_guidance != c.guidance or c.difference.prompts < FEW_PROMPTS:
            continue
        at = rows[rows["guidance"] == c.guidance]
        pairs = differences(at[at["candidate"] == pick], at[at["candidate"] == c.other], c.value, by=("prompt", "seed"))
        values, clusters = pairs["difference"].to_numpy(dtype=np.float64), pairs["prompt"].tolist()
        drawn = bootstrap_interval(values, clusters)
        if drawn.word != cluster_interval(values, clusters).word:
            said.append(f"Few prompts decide about {label(run, pick)} and {label(run, c.other)}: by the cluster bootstrap the "
                        f"difference is {words.signed(drawn.mean)} {words.interval(drawn.low, drawn.high)} ({drawn.word}), which "
                        "is not what the t interval says. More prompts settle it.")
    return tuple(said)


def _clip_alone(run: Run, candidate: str | None) -> tuple[str, float] | None:
    table = select_rows(run)
    table = table if candidate is None else table[table["candidate"] == candidate]
    if "clip_score" not in table.columns or not table["clip_score"].notna().any():
        return None
    means = cluster_means(table, "clip_score", CELL)
    name, guidance = max(means, key=lambda k: means[k].mean or 0.0)
    return str(name), float(guidance)
