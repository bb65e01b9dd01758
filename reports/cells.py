"""The cells of a run, (candidate, guidance), scored on the select prompts, and what a reader must know before relying on them.
recommendation.py and fidelity.py call it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from reports import words
from reports.candidates import label
from reports.costs import slowdown
from reports.decision import Scored
from reports.load import Run
from reports.simultaneous import from_best
from reports.statistics import Estimate, cluster_means

FEW_PROMPTS: Final = 8
CELL: Final = ("candidate", "guidance")


def score_cells(run: Run) -> tuple[Scored, ...]:
    """Every cell of the select split with its mean objective and its paired difference from the best complete cell.

    A cell is complete when it has as many measured images as the fullest one; only complete cells compete, because a
    mean over easier prompts is no better mean. The intervals of complete cells hold for all of them together (see
    simultaneous.from_best); cells that were not ranked keep that of one comparison. With fewer than two prompts no interval
    exists and only the best is tied.
    """
    table = select_rows(run)
    keys = list(dict.fromkeys(zip(table["candidate"].tolist(), table["guidance"].astype(float).tolist(), strict=True)))
    means = cluster_means(table, "objective", CELL)
    fullest = max((m.pairs for m in means.values()), default=0)
    ranked = {key: means[key] for key in keys if key in means and means[key].pairs == fullest}
    best = max(ranked, key=lambda key: ranked[key].mean or 0.0, default=None)
    distances = _distances(table, best)
    halves = _half_widths(table, list(ranked))
    cells = []
    for key in keys:
        behind = distances.get(key, _nothing("nothing was measured" if best is None else
                                             "no image of the one shares prompt, seed with one of the other"))
        if key in halves and behind.mean is not None and behind.low is not None:
            behind = replace(behind, low=behind.mean - halves[key], high=behind.mean + halves[key])
        tied = key in ranked and (key == best or (behind.low is not None and not behind.distinct))
        cells.append(Scored(candidate=key[0], guidance=key[1], objective=means.get(key, _nothing("no values")), behind=behind,
                            tied=tied, complete=key in ranked))
    return tuple(cells)


def _distances(table: pd.DataFrame, best: tuple[str, float] | None) -> dict[tuple[Any, ...], Estimate]:
    """The paired difference of every cell from the best one, over the prompts and seeds that both have."""
    if best is None:
        return {}
    at = (table["candidate"] == best[0]) & (table["guidance"] == best[1])
    pairs = table[["prompt", "seed", *CELL, "objective"]].merge(
        table.loc[at, ["prompt", "seed", "objective"]], on=["prompt", "seed"], suffixes=("", "_best"), validate="many_to_one")
    return cluster_means(pairs.assign(difference=pairs["objective"] - pairs["objective_best"]), "difference", CELL)


def _nothing(why: str) -> Estimate:
    return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=why)


def _half_widths(table: pd.DataFrame, cells: list[tuple[str, float]]) -> dict[tuple[str, float], float]:
    """Half widths of the intervals of `from_best`, over the images that all `cells` have; none without two such prompts."""
    if not cells:
        return {}
    measured = table.dropna(subset=["objective"])
    wide = measured.pivot_table(index=["prompt", "seed"], columns=list(CELL), values="objective", sort=False)
    scores = wide[cells].dropna().groupby(level="prompt", sort=True).mean()
    if len(scores) < 2:
        return {}
    return dict(zip(cells, from_best(scores.to_numpy(dtype=np.float64)).half.tolist(), strict=True))


def select_rows(run: Run) -> pd.DataFrame:
    """Rows of the select split, or all rows when the suite declares none."""
    rows = run.images[run.images["split"] == "select"]
    return run.images if rows.empty else rows


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
    for file, early in run.changed.items():
        said.append(f"{file} was changed between candidates: run {words.listed([label(run, n) for n in early])} again.")
    said.extend(_uneven(run))
    for name in dict.fromkeys(f.candidate for f in run.failures):
        said.append(f"{label(run, name)} {run.failure_of(name)}.")
    told = {f.candidate for f in run.failures} | {name for names in run.changed.values() for name in names}
    absent: dict[str, list[str]] = {}
    for gap in run.missing:
        if gap.value == "image" and gap.candidate not in told:
            absent.setdefault(gap.why, []).append(f"{label(run, gap.candidate)} ({words.plural(gap.count, 'image')})")
    said.extend(f"Missing, {why}: {words.listed(names)}." for why, names in absent.items())
    if partial := [c for c in cells if not c.complete]:
        names = [f"{label(run, c.candidate)} at CFG {c.guidance:g}" for c in partial]
        said.append(f"Not ranked, because images or values are missing: {words.listed(names)}.")
    if run.damaged:
        said.append(f"{words.plural(len(run.damaged), 'line')} of the journal could not be read.")
    return tuple(words.visible(s) for s in said)


def _uneven(run: Run) -> list[str]:
    """Whose latency cannot be compared with the baseline's, because the machine was slower for one of the two."""
    base = run.suite.baseline
    ratios = {c.name: ratio for c in run.suite.candidates if (ratio := slowdown(run, c.name, base)) != 1.0}
    said = [f"The latency of {label(run, n)} is not comparable with that of {label(run, base)}: the machine was {ratio:.1f} "
            f"times slower while {label(run, n)} was timed." for n, ratio in ratios.items() if ratio > 1]
    if hurried := [n for n, ratio in ratios.items() if ratio < 1]:
        most = max(1 / ratios[n] for n in hurried)
        said.append(f"The latency of {words.listed([label(run, n) for n in hurried])} is not comparable with that of "
                    f"{label(run, base)}: the machine was {'up to ' if len(hurried) > 1 else ''}{most:.1f} times slower while "
                    f"{label(run, base)} was timed.")
    return said
