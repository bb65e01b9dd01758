"""Which candidates nobody beats in quality and cost at once, as far as the data can tell. Pure functions and one reader of a
run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Final

import numpy as np
import pandas as pd

from harness.records import ValueSpec, values
from reports.read.lacking import asked_places, lacking
from reports.read.run import Run
from reports.statistics.intervals import CLUSTER, Estimate, clustered, holm, of_means, paired_difference
from reports.verdict.costs import FEWEST_ROUNDS, footprint, incomparable, seconds_per_image

FRONT: Final = "on the front"
MAYBE: Final = "perhaps beaten"
BEATEN: Final = "beaten"
SECONDS: Final = values.SECONDS.name
BYTES: Final = values.BYTES.name

MOST_COMPARED: Final = 100
"""Candidates of which every pair gets an interval; pairs grow with their square."""

Gap = tuple[float, float]
"""Lowest and highest plausible difference in cost."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a candidate stands: `status` is FRONT, MAYBE or BEATEN, `by` who beats it (perhaps), empty on the front."""

    candidate: str
    quality: float
    cost: float
    status: str
    by: str = ""


def front(quality: Mapping[str, float], cost: Mapping[str, float], better: Callable[[str, str], Gap | None],
          costlier: Callable[[str, str], Gap | None], compared: Collection[str] | None = None) -> tuple[Place, ...]:
    """The places of candidates that have both a mean quality (more is better) and a cost (less is better).

    `better(a, b)` and `costlier(a, b)` are the intervals of a's quality minus b's and of a's cost minus b's; None where they
    cannot be compared, as for all that are not in `compared` (all are, where it is None). One is *beaten* when another is
    significantly better and shown not to be more expensive, or significantly cheaper and shown not to be worse, by the whole
    interval; *perhaps beaten* when another's mean is at least as good at no higher cost and one of the two is better (the best
    of these is named); else *on the front*.
    """
    names = [name for name in quality if name in cost]
    ahead = _ahead({n: (quality[n], cost[n]) for n in names})
    known = [name for name in names if compared is None or name in compared]
    beaten = {mine: by for mine in known if (by := next(
        (other for other in known if other != mine and _beats(better(other, mine), costlier(mine, other))), None))}
    places = []
    for mine in names:
        by = beaten.get(mine) or ahead.get(mine, "")
        status = BEATEN if mine in beaten else MAYBE if by else FRONT
        places.append(Place(candidate=mine, quality=quality[mine], cost=cost[mine], status=status, by=by))
    return tuple(places)


def _beats(gained: Gap | None, saved: Gap | None) -> bool:
    """Whether intervals of what is gained and saved show that neither is negative and one is positive."""
    return gained is not None and saved is not None and min(gained[0], saved[0]) >= 0 and max(gained[0], saved[0]) > 0


def _ahead(means: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """For each candidate the best of those that are at least as good in mean quality at no higher cost, and better in one of the
    two; by one pass from the cheapest up."""
    ahead: dict[str, str] = {}
    best = ""
    for _, group in groupby(sorted(means, key=lambda name: (means[name][1], -means[name][0])), key=lambda name: means[name][1]):
        first, *rest = group
        for name in (first, *rest):
            if best and means[best][0] >= means[name][0]:
                ahead[name] = best
            elif means[first][0] > means[name][0]:
                ahead[name] = first
        best = first if not best or means[first][0] > means[best][0] else best
    return ahead


def front_of(run: Run, value: str, scales: Mapping[str, float | None], kind: str = SECONDS) -> tuple[Place, ...]:
    """The front of a run in mean `value`, of each candidate at its guidance scale (None for all), against `kind` of cost,
    SECONDS or BYTES (see costs.footprint).

    Differences in quality are paired by prompt and seed, and their intervals hold for all pairs of candidates together
    (Holm's steps). Those in seconds reach from one's fastest round less the other's slowest to the reverse; candidates that
    were timed on a machine of another speed, or once only, are not compared. Memory is one number. Candidates that lack either,
    or some of the images, are left out; of a value that has no better side there is no front.
    """
    at = run.images["candidate"].map(scales).astype(float)
    rows = run.images[at.isna() | (run.images["guidance"] == at)]
    if value not in rows.columns or run.row(value).better not in ("higher", "lower"):
        return ()
    by_prompt = clustered(rows).groupby(["candidate", CLUSTER])[value].mean()
    means = {str(n): float(m) for n, m in by_prompt.groupby(level=0).mean().dropna().items()}
    sign = -1.0 if run.row(value).fewer else 1.0
    spread = _seconds(run, list(means)) if kind == SECONDS else _bytes(run, list(means))
    names = [n for n in means if n in spread and not lacking(run, n, value, asked_places(
        run, n, guidance=scales.get(n))).count]
    gaps = _gaps({n: rows[rows["candidate"] == n] for n in names}, run.row(value))

    def better(a: str, b: str) -> Gap | None:
        if (a, b) in gaps:
            low, high = gaps[a, b]
        elif (b, a) in gaps:
            low, high = -gaps[b, a][1], -gaps[b, a][0]
        else:
            return None
        return (low, high) if sign > 0 else (-high, -low)

    def costlier(a: str, b: str) -> Gap | None:
        if kind == SECONDS and (incomparable(run, a, b) or min(seconds_per_image(run, n).rounds for n in (a, b)) < FEWEST_ROUNDS):
            return None
        return spread[a][0] - spread[b][2], spread[a][2] - spread[b][0]

    placed = front({n: sign * means[n] for n in names}, {n: spread[n][1] for n in names}, better, costlier,
                   {name for pair in gaps for name in pair})
    return tuple(Place(candidate=p.candidate, quality=sign * p.quality, cost=p.cost, status=p.status, by=p.by) for p in placed)


def _gaps(rows: Mapping[str, pd.DataFrame], value: ValueSpec) -> dict[tuple[str, str], Gap]:
    """The interval of every pair's paired difference, all of them together at 95 %. Of more than MOST_COMPARED candidates only
    those with the best means are compared; the others are at most perhaps beaten."""
    best = sorted(rows, key=lambda name: float(rows[name][value.name].mean()), reverse=not value.fewer)[:MOST_COMPARED]
    pairs = list(combinations([name for name in rows if name in set(best)], 2))
    adjusted: Sequence[Estimate] = holm(_differences(rows, pairs, value), value)
    return {pair: (e.low, e.high) for pair, e in zip(pairs, adjusted, strict=True) if e.low is not None and e.high is not None}


def _differences(rows: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]], value: ValueSpec) -> list[Estimate]:
    """`paired_difference` of every pair; all at once where every candidate has the same images, since a merge of tables for each
    of thousands of pairs would take minutes."""
    columns = {name: clustered(table).set_index([CLUSTER, "prompt", "seed"])[value.name].dropna() for name, table in rows.items()
               if any(name in pair for pair in pairs)}
    first = next(iter(columns.values()), pd.Series(dtype=float)).sort_index()
    ordered = {name: column.sort_index() for name, column in columns.items()}
    if not first.index.is_unique or not all(column.index.equals(first.index) for column in ordered.values()):
        return [paired_difference(rows[a], rows[b], value, by=("prompt", "seed")) for a, b in pairs]
    means = {name: column.groupby(level=0).mean().to_numpy(dtype=np.float64) for name, column in ordered.items()}
    return [replace(of_means(means[a] - means[b]), pairs=len(first)) for a, b in pairs]


def _seconds(run: Run, names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Fastest, median and slowest round of the candidates that were timed."""
    seconds = {}
    for name in names:
        s = seconds_per_image(run, name)
        if s.fastest is not None and s.median is not None and s.slowest is not None:
            seconds[name] = (s.fastest, s.median, s.slowest)
    return seconds


def _bytes(run: Run, names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """The bytes of the candidates whose reading is that which most of them have: only equal readings are compared."""
    readings = [(name, reading) for name in names if (reading := footprint(run, name)).value is not None]
    kinds = Counter(reading.name for _, reading in readings).most_common(1)
    return {name: (value, value, value) for name, reading in readings
            if reading.name == kinds[0][0] and (value := reading.value) is not None}
