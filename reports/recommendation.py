"""Which candidate to ship and at which guidance: chosen on the select prompts, confirmed on the others.
The page, the terminal table and the gates read the Recommendation made here; fidelity.py decides quantization suites."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import pandas as pd

from reports import words
from reports.candidates import axis_of, controls, label, parents, varies_fidelity
from reports.load import Run, by_cell
from reports.statistics import Estimate, cluster_mean, paired_difference

FEW_PROMPTS: Final = 8
SWEEP_RULE: Final = (
    "Best is the highest mean objective on the select prompts. Tied are all cells whose paired difference from the best "
    "has a 95 % interval (t, prompts as clusters, not adjusted for the number of cells) that includes 0. The pick is taken "
    "from the tied cells that are no parents and lie within one standard error of the best (the one-standard-error rule: "
    "Breiman et al., Classification and Regression Trees, 1984): of these the lowest guidance scale, and there the axis "
    "value nearest the middle of the tied range (without a numeric axis: the highest mean). The choice is then checked on "
    "the confirm prompts, which had no part in it.")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One (candidate, guidance) cell of the select split: its objective, and its paired difference from the best cell."""

    candidate: str
    guidance: float
    objective: Estimate
    behind: Estimate
    tied: bool
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The pick minus another candidate, in `value`, on the prompts of `split`; `word` is better, worse, tied or not measured."""

    other: str
    role: str
    guidance: float | None
    other_guidance: float | None
    value: str
    split: str
    difference: Estimate
    word: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The verdict. `pick` is None when nothing can be recommended; `sentence` says it all in one sentence.

    `tied_candidates` are those tied at the pick's guidance, `tied_guidances` those tied at the pick;
    `clip_alone` is the (candidate, guidance) with the highest mean CLIP score, had that been the only judge.
    """

    kind: str
    axis: str | None
    pick: str | None
    guidance: float | None
    sentence: str
    rule: str
    cells: tuple[Scored, ...] = ()
    tied_candidates: tuple[str, ...] = ()
    tied_guidances: tuple[float, ...] = ()
    clip_alone: tuple[str, float] | None = None
    clip_alone_at_pick: float | None = None
    comparisons: tuple[Comparison, ...] = ()
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


def recommend(run: Run) -> Recommendation:
    """The recommendation of a run: by fidelity and cost when quantization or runtime vary without a numeric axis, otherwise
    by the objective over candidates and guidance scales."""
    if axis_of(run.suite) is None and varies_fidelity(run.suite):
        from reports.fidelity import recommend_cheapest
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
    pick = _pick(run, ranked)
    clip = _clip_alone(run, None)
    clip_at_pick = _clip_alone(run, pick.candidate)
    draft = Recommendation(
        kind="sweep", axis=axis_of(run.suite), pick=pick.candidate, guidance=pick.guidance, sentence="", rule=SWEEP_RULE,
        cells=cells, clip_alone=clip, clip_alone_at_pick=clip_at_pick[1] if clip_at_pick else None,
        tied_candidates=tuple(c.candidate for c in ranked if c.tied and c.guidance == pick.guidance),
        tied_guidances=tuple(sorted(c.guidance for c in ranked if c.tied and c.candidate == pick.candidate)),
        comparisons=compare(run, pick.candidate, pick.guidance, _best_guidances(ranked)), caveats=caveats(run, cells))
    from reports.phrases import sweep_reasons, sweep_sentence
    return replace(draft, sentence=sweep_sentence(run, draft), reasons=sweep_reasons(run, draft))


def score_cells(run: Run) -> tuple[Scored, ...]:
    """Every cell of the select split with its mean objective and its paired difference from the best complete cell.

    A cell is complete when it has as many measured images as the fullest one; only complete cells compete, because a
    mean over easier prompts is no better mean. With fewer than two prompts no interval exists and only the best is tied.
    """
    table = select_rows(run)
    groups = by_cell(table)
    means = {key: cluster_mean(rows, "objective") for key, rows in groups.items()}
    fullest = max((m.pairs for m in means.values()), default=0)
    complete = [key for key, m in means.items() if m.pairs == fullest and m.mean is not None]
    best = max(complete, key=lambda key: means[key].mean or 0.0, default=None)
    cells = []
    for key, rows in groups.items():
        behind = (paired_difference(rows, groups[best], "objective", by=("prompt", "seed")) if best is not None
                  else Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why="nothing was measured"))
        tied = key in complete and (key == best or (behind.low is not None and not behind.distinct))
        cells.append(Scored(candidate=key[0], guidance=key[1], objective=means[key], behind=behind, tied=tied,
                            complete=key in complete))
    return tuple(cells)


def select_rows(run: Run) -> pd.DataFrame:
    """Rows of the select split, or all rows when the suite declares none."""
    rows = run.images[run.images["split"] == "select"]
    return run.images if rows.empty else rows


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


def caveats(run: Run, cells: tuple[Scored, ...]) -> tuple[str, ...]:
    """What a reader must know before relying on the verdict: few prompts, gaps, failures, no confirmation."""
    said = []
    counts = {split: sum(p.split == split for p in run.suite.grid.prompts) for split in ("select", "confirm")}
    for split, consequence in (("select", "no interval exists."), ("confirm", "nothing was confirmed on unseen prompts.")):
        if counts[split] < 2:
            said.append(f"The {split} split has {words.plural(counts[split], 'prompt')}: {consequence}")
    if few := [f"{count} {split}" for split, count in counts.items() if 2 <= count < FEW_PROMPTS]:
        said.append(f"Few prompts ({', '.join(few)}): the intervals are wide, and more prompts narrow them more than more "
                    "seeds do.")
    for name in dict.fromkeys(f.candidate for f in run.failures):
        said.append(f"{label(run, name)} {run.failure_of(name)}.")
    failed = {f.candidate for f in run.failures}
    absent: dict[str, list[str]] = {}
    for gap in run.missing:
        if gap.value == "image" and gap.candidate not in failed:
            absent.setdefault(gap.why, []).append(f"{label(run, gap.candidate)} ({words.plural(gap.count, 'image')})")
    said.extend(f"Missing, {why}: {words.listed(names)}." for why, names in absent.items())
    if partial := [c for c in cells if not c.complete]:
        names = [f"{label(run, c.candidate)} at CFG {c.guidance:g}" for c in partial]
        said.append(f"Not ranked, because images or values are missing: {words.listed(names)}.")
    if run.damaged:
        said.append(f"{words.plural(len(run.damaged), 'line')} of the journal could not be read.")
    return tuple(words.visible(s) for s in said)
