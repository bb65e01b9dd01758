"""Which candidate is best and at which guidance: chosen on the select prompts, compared with its rivals on the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from harness.declare.listing import first_of
from harness.declare.swept_axis import asks_for_the_cheapest
from reports import formatting as words
from reports.read.beside import scale_at, scales_of, stand_beside
from reports.read.interim_looks import exits
from reports.read.run import Run
from reports.statistics.intervals import (
    CLUSTER,
    bootstrap_interval,
    cluster_interval,
    cluster_means,
    differences,
    holm,
    paired_difference,
)
from reports.verdict.candidates import label, label_with_role
from reports.verdict.cells import FEW_PROMPTS, caveats, score_cells, select_looks, select_rows, undecided
from reports.verdict.confirm_looks import gate_level
from reports.verdict.fidelity import recommend_cheapest
from reports.verdict.picking import choose, competing, own_guidances, scales_apart
from reports.verdict.recommendation import Comparison, Recommendation, Scored
from reports.verdict.runtimes import fastest_runtime
from reports.verdict.scoring import CELL
from reports.verdict.sentences import (
    at_counterpart,
    preference_reasons,
    preferred_ends,
    race_reasons,
    sweep_evidence,
    sweep_reasons,
)
from reports.verdict.settling import of_comparisons, of_tied_cells

SWEEP_RULE: Final = (
    "The best cell has the highest mean objective on the select prompts, among the cells that are shown to meet the constraints,"
    " if any (a cell is ruled out if the interval of a constrained metric lies wholly on the wrong side, and shown to meet the "
    "constraint if wholly on the right one; with constraints the error rate of 5 % is divided: half for the tied set, a quarter "
    "for either). Tied are all cells whose paired difference from the best has a 95 % interval that includes 0; these intervals "
    "hold for all cells together (prompts as clusters, their signs flipped to see how far apart equal cells look by chance: "
    "Romano and Wolf, JASA 100, 2005). The pick is a tied cell that is not a parent. On a numeric axis of three values or more a "
    "smooth surface through all cells decides which: of the tied cells within one standard deviation of the surface's best (the"
    " one-standard-error rule: Breiman et al., Classification and Regression Trees, 1984) the one that the objective prefers: "
    "unless the suite says otherwise that of the fewest steps, of these of the lowest guidance scale, and there the axis value "
    "nearest the middle of the plateau. Without a surface, or where it does not fit, the same is done with the cells as measured "
    "and their standard errors, with the middle of the tied range (without a numeric axis: the highest mean). The choice is then "
    "checked on the confirm prompts, which had no part in it, against all rivals together (Holm's intervals by t).")
OWN_SCALES_RULE: Final = (
    " Some candidates here have guidance scales of their own, which are no setting of the others. So the axis values that the "
    "objective prefers decide first, then the candidates of the scales at which the mean is highest, and guidance only among "
    "these.")
RACE_RULE: Final = (
    " This sweep was adaptive: after each interim look, cells that were significantly worse than the best, or significantly "
    "violated a constraint, were not sampled further. The looks share the error rate of 5 %, and so do the looks at the confirm "
    "prompts (Bonferroni).")


def recommend(run: Run) -> Recommendation:
    """The recommendation of a run: by fidelity and cost when quantization or runtime vary without a numeric axis, otherwise
    by the objective over candidates and guidance scales."""
    if asks_for_the_cheapest(run.suite):
        return recommend_cheapest(run)
    return _recommend_best(run)


def _recommend_best(run: Run) -> Recommendation:
    cells = score_cells(run)
    ranked = competing(cells)
    if len(ranked) == 0 or len({c.candidate for c in cells if c.objective.mean is not None}) == 1 < len(run.suite.candidates):
        return Recommendation(kind="sweep", axis=run.axis, pick=None, guidance=None, cells=cells, rule=_rule(run),
                              caveats=caveats(run, cells), sentence=_no_pick(run, cells))
    picked = choose(select_rows(run), run.suite, cells)
    assert picked is not None
    pick = picked.cell
    comparisons = compare(run, pick.candidate, pick.guidance, own_guidances(cells))
    clip = _clip_alone(run, cells, None)
    clip_at_pick = _clip_alone(run, cells, pick.candidate)
    draft = Recommendation(
        kind="sweep", axis=run.axis, pick=pick.candidate, guidance=pick.guidance, sentence="", rule=_rule(run),
        cells=cells, clip_alone=clip, clip_alone_at_pick=clip_at_pick[1] if clip_at_pick else None,
        tied_candidates=tuple(c.candidate for c in ranked
                              if c.tied and stand_beside(run, c.candidate, (pick.guidance, c.guidance))),
        tied_guidances=tuple(sorted(c.guidance for c in ranked if c.tied and c.candidate == pick.candidate)),
        comparisons=comparisons, settling=(*of_comparisons(run, comparisons), *of_tied_cells(select_rows(run), pick, cells)),
        caveats=(*caveats(run, cells), *([picked.caveat] if picked.caveat else []),
                                          *undecided(run, pick.candidate, pick.guidance),
                                          *_shaky(run, pick.candidate, comparisons)))
    reasons = (*sweep_reasons(run, draft),
               *([f"On the smooth surface through all cells the pick is {picked.spot.sentence}"] if picked.spot else
                 preference_reasons(run.suite, pick.candidate, picked.near)),
               *race_reasons(run))
    evidence = sweep_evidence(run, draft, "" if picked.spot else preferred_ends(run.suite, pick.candidate, picked.near))
    evidence = "; ".join(filter(None, (evidence, fastest_runtime(run))))
    what = f"{label_with_role(run, pick.candidate)} at CFG {pick.guidance:g}"
    return replace(draft, sentence=f"The best candidate is {what}; {evidence}.", evidence=evidence, reasons=reasons)


def _rule(run: Run) -> str:
    return SWEEP_RULE + (OWN_SCALES_RULE if scales_apart(run.suite) else "") + (RACE_RULE if select_looks(run) else "")


def _no_pick(run: Run, cells: tuple[Scored, ...]) -> str:
    """Why nothing can be recommended, in one sentence."""
    measured = [c for c in cells if c.objective.mean is not None]
    if not measured and run.images["objective"].notna().any():
        return "No recommendation: no prompt and seed has a usable image of every candidate, so there is nothing to compare."
    if not measured:
        why = first_of([f"{g.candidate}: {words.plural(g.count, g.value)} missing ({g.why})" for g in run.missing], between="; ")
        return f"No recommendation: the objective was not measured on any image ({why})."
    if ruled := [c for c in measured if c.ruled_out]:
        nearest = max(ruled, key=lambda c: c.objective.mean or 0.0)
        return (f"No recommendation: no cell keeps the constraints; {label(run, nearest.candidate)} at CFG {nearest.guidance:g}, "
                f"the best of them, is ruled out by {nearest.ruled_out}.")
    sampled = set(run.images["candidate"])
    if lacking := [g for g in run.missing if g.value == "objective" and g.candidate in sampled]:
        why = first_of([f"{label(run, g.candidate)}: {g.why}" for g in lacking], between="; ")
        way = "maximise a value that every candidate has" if all(g.expected for g in lacking) else "run the suite again"
        return (f"No recommendation: only {label(run, measured[0].candidate)} has an objective, so there is nothing to compare "
                f"it with ({why}); {way}.")
    return (f"No recommendation yet: only {label(run, measured[0].candidate)} has images, so there is nothing to compare "
            "it with; run the other candidates too.")


def compare(run: Run, pick: str, guidance: float, own: dict[str, float]) -> tuple[Comparison, ...]:
    """The pick minus each control and the baseline, in objective and scores, at the pick's guidance; in objective
    also at the control's own best guidance (`own`), for a parent must not lose by a setting that does not suit it. A control that
    is sampled at several other scales has no counterpart of the pick's guidance, and is compared at its own best one alone.

    The controls of one value and setting are one family, with the intervals of statistics.holm: "better than both" is
    said wrongly of either in at most 5 % of runs, and where a budget allows several looks, in all looks together."""
    rows, split = _judging_rows(run)
    level = gate_level(run.suite)
    mine = rows[(rows["candidate"] == pick) & (rows["guidance"] == guidance)]
    others = {name: role for name, role in run.roles.items() if name != pick}
    beside = {name: own.get(name, guidance) if (scale := scale_at(run, name, guidance)) is None else scale for name in others}
    families = [*((value, beside) for value in ("objective", *run.scores)),
                ("objective", {name: own[name] for name in others if own.get(name, beside[name]) != beside[name]})]
    comparisons = []
    for value, settings in families:
        told = []
        for name, setting in settings.items():
            theirs = rows[(rows["candidate"] == name) & (rows["guidance"] == setting)]
            difference = paired_difference(mine, theirs, run.row(value), by=("prompt", "seed"), level=level)
            told.append(difference if len(theirs) else
                        replace(difference, why=run.failure_of(name) or _no_images(run, name, (split, setting))))
        for (name, setting), difference in zip(settings.items(), holm(told, run.row(value), level), strict=True):
            comparisons.append(Comparison(other=name, role=others[name], guidance=guidance, other_guidance=setting, value=value,
                                    split=split, difference=difference, word=difference.word))
    return tuple(sorted(comparisons, key=lambda c: list(others).index(c.other)))


def _no_images(run: Run, name: str, at: tuple[str, float]) -> str:
    """Why a control has no images of a split at a guidance scale."""
    split, scale = at
    out = exits(run.suite, run.looks).get(name)
    return (f"it has no {split} images at CFG {scale:g}" + (f": interim look {out.look} dropped it" if out else
            f"; it is sampled at CFG {', '.join(f'{known:g}' for known in scales_of(run, name))}"
            if scale not in scales_of(run, name) else ""))


def _judging_rows(run: Run) -> tuple[pd.DataFrame, str]:
    """The images the pick is judged by, and their split: the confirm prompts if there are any."""
    held_out = run.images[run.images["split"] == "confirm"]
    return (select_rows(run), "select") if held_out.empty else (held_out, "confirm")


def _shaky(run: Run, pick: str, comparisons: tuple[Comparison, ...]) -> tuple[str, ...]:
    """Comparisons whose word depends on the t distribution: the cluster bootstrap of the same differences says another."""
    rows, _ = _judging_rows(run)
    level = gate_level(run.suite)
    sentences = []
    for c in comparisons:
        if c.value != "objective" or not at_counterpart(run, c) or c.difference.prompts < FEW_PROMPTS:
            continue
        mine = rows[(rows["candidate"] == pick) & (rows["guidance"] == c.guidance)]
        theirs = rows[(rows["candidate"] == c.other) & (rows["guidance"] == c.other_guidance)]
        pairs = differences(mine, theirs, c.value, by=("prompt", "seed"))
        values, clusters = pairs["difference"].to_numpy(dtype=np.float64), pairs[CLUSTER].tolist()
        drawn = bootstrap_interval(values, clusters, level)
        # The word that is shown holds for all controls together; where the bootstrap says the same, nothing contradicts it.
        if drawn.word not in (c.word, cluster_interval(values, clusters, level).word):
            sentences.append(f"A few prompts dominate the comparison of {label(run, pick)} and {label(run, c.other)}: by the "
                        f"cluster bootstrap the difference is {words.signed(drawn.mean)} {words.interval(drawn.low, drawn.high)} "
                        f"({drawn.word}), which contradicts the t interval. More prompts would settle it.")
    return tuple(sentences)


def _clip_alone(run: Run, cells: tuple[Scored, ...], candidate: str | None) -> tuple[str, float] | None:
    """The cell of the highest mean CLIP score, of all or of one candidate, over prompts that all cells of a race have."""
    table = select_rows(run)
    if (looks := select_looks(run)) and any(c.dropped for c in cells):
        table = table[table["prompt"].isin(looks[0].prompts)]
    table = table if candidate is None else table[table["candidate"] == candidate]
    if "clip_score" not in table.columns or not table["clip_score"].notna().any():
        return None
    means = cluster_means(table, "clip_score", CELL)
    name, guidance = max(means, key=lambda k: means[k].mean or 0.0)
    return str(name), float(guidance)
