"""Which candidate to ship and at which guidance: chosen on the select prompts, confirmed on the others.
The page, the terminal table and the gates read the Recommendation made here; fidelity.py decides quantization suites."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from reports import words
from reports.candidates import axis_of, controls, label, parents, varies_fidelity
from reports.cells import caveats, score_cells, select_rows
from reports.decision import Comparison, Recommendation, Scored
from reports.fidelity import recommend_cheapest
from reports.load import Run, by_cell
from reports.phrases import sweep_reasons, sweep_sentence
from reports.statistics import cluster_mean, paired_difference

SWEEP_RULE: Final = (
    "Best is the highest mean objective on the select prompts. Tied are all cells whose paired difference from the best "
    "has a 95 % interval (t, prompts as clusters, not adjusted for the number of cells) that includes 0. The pick is taken "
    "from the tied cells that are no parents and lie within one standard error of the best (the one-standard-error rule: "
    "Breiman et al., Classification and Regression Trees, 1984): of these the lowest guidance scale, and there the axis "
    "value nearest the middle of the tied range (without a numeric axis: the highest mean). The choice is then checked on "
    "the confirm prompts, which had no part in it.")


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
    clip = _clip_alone(run, None)
    clip_at_pick = _clip_alone(run, pick.candidate)
    draft = Recommendation(
        kind="sweep", axis=axis_of(run.suite), pick=pick.candidate, guidance=pick.guidance, sentence="", rule=SWEEP_RULE,
        cells=cells, clip_alone=clip, clip_alone_at_pick=clip_at_pick[1] if clip_at_pick else None,
        tied_candidates=tuple(c.candidate for c in ranked if c.tied and c.guidance == pick.guidance),
        tied_guidances=tuple(sorted(c.guidance for c in ranked if c.tied and c.candidate == pick.candidate)),
        comparisons=compare(run, pick.candidate, pick.guidance, _best_guidances(ranked)), caveats=caveats(run, cells))
    return replace(draft, sentence=sweep_sentence(run, draft), reasons=sweep_reasons(run, draft))


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
    also at the control's own best guidance (`own`), for a parent must not lose by a setting that does not suit it."""
    confirm = bool((run.images["split"] == "confirm").any())
    split = "confirm" if confirm else "select"
    rows = run.images[run.images["split"] == split] if confirm else select_rows(run)
    mine = rows[(rows["candidate"] == pick) & (rows["guidance"] == guidance)]
    others = {name: role for name, role in controls(run.suite).items() if name != pick}
    found = []
    for name, role in others.items():
        settings = [(guidance, "objective"), (guidance, "clip_score")]
        if own.get(name, guidance) != guidance:
            settings.append((own[name], "objective"))
        for setting, value in settings:
            theirs = rows[(rows["candidate"] == name) & (rows["guidance"] == setting)]
            difference = paired_difference(mine, theirs, value, by=("prompt", "seed"))
            if theirs.empty:
                difference = replace(difference, why=run.failure_of(name) or "it has no images there")
            found.append(Comparison(other=name, role=role, guidance=guidance, other_guidance=setting, value=value,
                                    split=split, difference=difference, word=difference.word))
    return tuple(found)


def _clip_alone(run: Run, candidate: str | None) -> tuple[str, float] | None:
    table = select_rows(run)
    table = table if candidate is None else table[table["candidate"] == candidate]
    if "clip_score" not in table.columns or not table["clip_score"].notna().any():
        return None
    means = {cell: cluster_mean(rows, "clip_score").mean for cell, rows in by_cell(table).items()}
    return max((k for k, v in means.items() if v is not None), key=lambda k: means[k] or 0.0)
