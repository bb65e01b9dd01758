"""A table of images scored cell by cell: who competes, who is best, and who is tied with the best, under constraints. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from harness.declare import Constraint
from harness.records import ValueSpec
from harness.records.values import OBJECTIVE, spec_of
from reports import formatting as words
from reports.statistics.intervals import CLUSTER, LEVEL, Estimate, cluster_means, clustered, within_bounds, within_range
from reports.statistics.tied_set import from_best
from reports.verdict.recommendation import Family, Scored

CellKey: TypeAlias = tuple[str, float]
"""(candidate, guidance)."""
CELL: Final = ("candidate", "guidance")


def score_table(table: pd.DataFrame, constraints: Sequence[Limited] = (), out: Collection[CellKey] = (),
                level: float = LEVEL, value: ValueSpec = OBJECTIVE) -> tuple[Scored, ...]:
    """Every cell of `table` with its mean objective and its paired difference from the best competing cell. `value` is the row
    of the objective; the intervals end where its range, and that of differences, does.

    A cell is complete when it has as many measured images as the fullest one and is not among `out`, the cells that a race
    dropped; a mean over easier prompts is no better mean. For the same reason complete cells are scored on the images that all of
    them have. Of the complete cells those compete that no constraint rules out, and
    those that are shown to keep all of them are what others can be worse than: `behind` is the difference from the best of
    these. A competing cell of which that is open may be picked, but leaves no other out: it may itself be ruled out later. So
    those ahead of the best kept cell are tied and no part of the tested family, and where none is kept nothing is left out.

    The intervals of the family hold for all of it together (see tied_set.from_best), those of the cells ahead by
    Bonferroni; the others keep that of one comparison. With fewer than two prompts no interval exists and only the best is
    tied. A cell that keeps the constraints and is best of those that do is left out with a chance of at most 1 - `level`: see
    `shares` for how that is divided. The intervals of the mean objectives are always of 95 %.
    """
    keys = list(dict.fromkeys(zip(table["candidate"].tolist(), table["guidance"].astype(float).tolist(), strict=True)))
    means = cluster_means(table, "objective", CELL)
    fullest = max((m.pairs for key, m in means.items() if key not in out), default=0)
    whole = [key for key in keys if key in means and means[key].pairs == fullest and key not in out]
    table = on_common_images(table, whole)
    means = cluster_means(table, "objective", CELL)
    complete = [key for key in whole if key in means]
    measured = judged(table, constraints)
    at = shares(level, len(measured), len(complete))
    ruled = ruled_out(table, measured, at.ruling)
    ranked = [key for key in complete if key not in ruled]
    kept = keeping(table, measured, ranked, at.keeping)
    best = max(kept or ranked, key=lambda key: means[key].mean or 0.0, default=None)
    top = max((means[key].mean or 0.0 for key in kept), default=float("inf"))
    ahead = {key for key in ranked if key not in kept and (means[key].mean or 0.0) > top}
    distances = cell_distances(table, best, at.tying)
    if ahead:
        wide = cell_distances(table, best, 1 - (1 - at.tying) / len(ahead))
        distances |= {key: wide[key] for key in ahead if key in wide}
    halves, family = _half_widths(table, [key for key in ranked if key not in ahead], at.tying)
    why = ("nothing was measured" if not whole else "no image is measured in every cell" if not complete else
           "no cell keeps the constraints" if best is None else "no image of one shares prompt, seed with an image of the other")
    cells = []
    for key in keys:
        behind = distances.get(key, _nothing(why))
        if key in halves and behind.mean is not None and behind.low is not None:
            behind = replace(behind, low=behind.mean - halves[key], high=behind.mean + halves[key])
        tied = key in ranked and (key == best or key in ahead
                                  or (behind.low is not None and (not kept or not behind.distinct)))
        objective = within_bounds(means.get(key, _nothing("no values")), value)
        cells.append(Scored(candidate=key[0], guidance=key[1], objective=objective, behind=within_range(behind, value), tied=tied,
                            complete=key in complete, ruled_out=ruled.get(key, ""), dropped=key in out,
                            family=family if tied and key in halves else None))
    return tuple(cells)


def on_common_images(table: pd.DataFrame, cells: Collection[CellKey]) -> pd.DataFrame:
    """The table without those images of `cells` for which another of them lacks an objective at the same prompt and seed. Rows of
    other cells stay."""
    keys = set(cells)
    of = zip(table["candidate"], table["guidance"].astype(float), strict=True)
    mine = np.array([key in keys for key in of], dtype=np.bool_)
    measured = table[mine & table["objective"].notna().to_numpy()]
    counts = measured.groupby(["prompt", "seed"]).size()
    common = set(counts.index[counts == len(keys)])
    kept = np.array([place in common for place in zip(table["prompt"], table["seed"], strict=True)], dtype=np.bool_)
    return table if kept[mine].all() else table[~mine | kept]


@dataclass(frozen=True, kw_only=True)
class Limited:
    """A constraint with the row of the value that it limits."""

    constraint: Constraint
    value: ValueSpec

    @property
    def words(self) -> str:
        """The limit in words: "at most 5.0 %"."""
        limits = (("at most", self.constraint.at_most), ("at least", self.constraint.at_least))
        return " and ".join(f"{word} {words.number(limit, self.value)}" for word, limit in limits if limit is not None)

    def kept_by(self, of: Estimate) -> bool:
        """Whether the whole interval is on the right side of the limit."""
        at_most, at_least = self.constraint.at_most, self.constraint.at_least
        return (of.low is not None and of.high is not None and (at_most is None or of.high <= at_most)
                and (at_least is None or of.low >= at_least))


def limited(constraints: Sequence[Constraint], values: Mapping[str, ValueSpec]) -> tuple[Limited, ...]:
    """The constraints with the rows of their values, of which `values` are the run's."""
    return tuple(Limited(constraint=c, value=spec_of(values, c.metric)) for c in constraints)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Levels of intervals: `tying` of the differences, `ruling` of those that rule a cell out, `keeping` of those that show that
    it keeps a constraint."""

    tying: float
    ruling: float
    keeping: float


def shares(level: float, constraints: int, cells: int) -> Shares:
    """How the error e = 1 - `level` is divided: all for the differences without constraints, otherwise half of it.

    The other half is for the constraints. Both ends of an interval of level 1 - x err by x/2 each, and a limit has one side. The
    truly best cell that keeps all is ruled out by one of m constraints with a chance of at most e/4 where their intervals are of
    level 1 - e/2m; any of C cells that breaks one is taken for keeping it with at most e/4 where those are of level 1 - e/2C.
    """
    error = 1 - level
    if not constraints:
        return Shares(tying=level, ruling=level, keeping=level)
    return Shares(tying=1 - error / 2, ruling=1 - error / (2 * constraints), keeping=1 - error / (2 * max(1, cells)))


def judged(table: pd.DataFrame, constraints: Sequence[Limited]) -> list[Limited]:
    """The constraints on what was measured at all; the others rule nothing out."""
    return [c for c in constraints if c.value.name in table.columns and table[c.value.name].notna().any()]


def keeping(table: pd.DataFrame, constraints: Sequence[Limited], cells: Sequence[CellKey], level: float) -> list[CellKey]:
    """The cells whose interval lies wholly on the right side of every constraint's limit; without constraints all."""
    meeting = list(cells)
    for constraint in constraints:
        of = constrained(table, constraint.value, level)
        meeting = [key for key in meeting if key in of and constraint.kept_by(of[key])]
    return meeting


def ruled_out(table: pd.DataFrame, constraints: Sequence[Limited], level: float = LEVEL) -> dict[CellKey, str]:
    """Cells whose interval of a constrained metric lies wholly on the wrong side of the limit, and what it is, in words."""
    reasons: dict[CellKey, str] = {}
    for each in constraints:
        constraint, value = each.constraint, each.value
        for key, of in constrained(table, value, level).items():
            if of.low is None or of.high is None:
                continue
            above = constraint.at_most is not None and of.low > constraint.at_most
            below = constraint.at_least is not None and of.high < constraint.at_least
            if key not in reasons and (above or below):
                reasons[key] = (f"{words.title(value)} {words.number(of.mean, value)} {words.interval(of.low, of.high, value)}, "
                              f"{each.words} was asked for")
    return reasons


def constrained(table: pd.DataFrame, value: ValueSpec, level: float = LEVEL) -> dict[CellKey, Estimate]:
    """The mean of a value in every cell that has it; nothing where it was not measured."""
    if value.name not in table.columns:
        return {}
    means = cluster_means(table, value.name, CELL, level)
    return {(str(key[0]), float(key[1])): within_bounds(of, value, level) for key, of in means.items()}


def cell_distances(table: pd.DataFrame, best: CellKey | None, level: float) -> dict[tuple[Any, ...], Estimate]:
    """The paired difference of every cell from the best one, over the prompts and seeds that both have."""
    if best is None:
        return {}
    at = (table["candidate"] == best[0]) & (table["guidance"] == best[1])
    pairs = clustered(table)[[CLUSTER, "prompt", "seed", *CELL, "objective"]].merge(
        table.loc[at, ["prompt", "seed", "objective"]], on=["prompt", "seed"], suffixes=("", "_best"), validate="many_to_one")
    pairs = pairs.assign(difference=pairs["objective"] - pairs["objective_best"])
    return cluster_means(pairs, "difference", CELL, level)


def _nothing(why: str) -> Estimate:
    return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=why)


def _half_widths(table: pd.DataFrame, cells: list[CellKey], level: float) -> tuple[dict[CellKey, float], Family | None]:
    """Half widths of the intervals of `from_best`, over the images that all `cells` have, and what decided; none without two such
    prompts."""
    if not cells:
        return {}, None
    measured = clustered(table).dropna(subset=["objective"])
    wide = measured.pivot_table(index=[CLUSTER, "prompt", "seed"], columns=list(CELL), values="objective", sort=False)
    scores = wide[cells].dropna().groupby(level=CLUSTER, sort=True).mean()
    if len(scores) < 2:
        return {}, None
    of = from_best(scores.to_numpy(dtype=np.float64), level)
    return dict(zip(cells, of.half.tolist(), strict=True)), Family(limit=of.limit, shared=of.shared, level=level)
