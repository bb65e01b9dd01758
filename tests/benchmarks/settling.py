"""Whether so many prompts settle it in 8 of 10 repeats, as a report says; nothing decides a test.

    python tests/benchmarks/settling.py
    python tests/benchmarks/settling.py --repeats 2000

Truth is planted: differences and SDs of prompts, all normal (shares: beta distributed). The first three: the number is computed
from the planted mean and SD, and the interval that the verdict really uses is drawn for so many prompts; shares near 0.80 are
right. Of the comparisons with two controls the other one is equal to the pick; of tied cells all but the best one are as far
behind it, or on a hill, up to so many times as far.
"told by a run": the number comes from one run of 16 prompts that left the difference open, as a reader gets it; how many of new
runs of so many prompts show the difference, by how many times it needs more prompts than there are. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.gates import INCONCLUSIVE, decide
from reports.statistics.intervals import cluster_interval, holm, of_means, wilson
from reports.statistics.settling import JointTest, Needed, prompts_to_leave_out, prompts_to_settle
from reports.statistics.tied_set import PRIOR_PROMPTS, from_best
from tests.rows import row

Floats = NDArray[np.float64]
NUMBER, SHARE = row("a plain number"), row("clipped_share")
THERE = 16


def measured(mean: float, sd: float, prompts: int) -> Floats:
    """So many numbers with just this mean and SD."""
    x = np.random.default_rng(0).normal(size=prompts)
    return mean + sd * (x - x.mean()) / x.std(ddof=1)


def controls(repeats: int) -> dict[str, float]:
    """The pick against two controls by Holm's steps, of which one is equal to it."""
    rng, shares = np.random.default_rng(1), {}
    for ratio in (0.25, 0.4, 0.55):
        sides = (of_means(measured(ratio, 1.0, THERE)), of_means(measured(0.0, 1.0, THERE)))
        count = _count(prompts_to_settle(holm(sides, NUMBER)[0]))
        shown = [holm((of_means(rng.normal(ratio, 1.0, count)), of_means(rng.normal(0, 1.0, count))), NUMBER)[0].distinct
                 for _ in range(repeats)]
        shares[f"{ratio:g} SDs, {count} prompts"] = _share(shown)
    return shares


def tied_cells(repeats: int) -> dict[str, float]:
    """A cell among others as far behind the best one, by the intervals that hold for all cells together."""
    rng, shares = np.random.default_rng(2), {}
    for cells, ratio, hill in ((4, 0.5, 0), (18, 0.5, 0), (35, 0.4, 0), (35, 0.7, 0), (18, 0.3, 2), (35, 0.3, 3)):
        truth = np.full(cells, -ratio * 2**0.5)  # the SD of a difference of two cells is the root of 2
        truth[2:] *= 1 + hill * np.arange(cells - 2) / cells
        truth[0] = 0
        limit = float(np.mean([from_best(rng.normal(size=(THERE, cells)), seed=s).limit for s in range(8)]))
        family = JointTest(limit=limit, level=0.95, prompts=THERE, prior=PRIOR_PROMPTS)
        needed = prompts_to_leave_out(-truth[1:], np.full(cells - 1, (2 / THERE) ** 0.5), family)
        count = _count(needed[0])
        out = [not from_best(truth + rng.normal(size=(count, cells)), draws=512, seed=s).tied[1]
               for s in range(repeats // 4)]
        shares[f"{cells} cells, {ratio:g} SDs, the others up to {1 + hill} times, {count} prompts"] = _share(out)
    return shares


def gates(repeats: int) -> dict[str, float]:
    """Gates on a difference, at two levels, and on a share."""
    rng, shares = np.random.default_rng(3), {}
    for mean, level in ((-0.2, 0.95), (-1.0, 0.95), (-0.1, 0.9875)):
        limit = -0.5
        count = _count(prompts_to_settle(of_means(measured(mean, 1.0, THERE), level), limit))
        drawn = [of_means(rng.normal(mean, 1.0, count), level) for _ in range(repeats)]
        shares[f"margin 0.5, difference {mean:g} SDs, level {level:g}, {count} prompts"] = _share(
            [decide(of.low, of.high, at_least=limit) != INCONCLUSIVE for of in drawn])
    for mean, limit in ((0.05, 0.1), (0.1, 0.05), (0.02, 0.04)):
        spread = 6.0  # of the beta distribution of a prompt's share
        sd = (mean * (1 - mean) / (spread + 1)) ** 0.5
        count = _count(prompts_to_settle(wilson(of_means(measured(mean, sd, THERE))), limit, SHARE))
        drawn = [wilson(of_means(rng.beta(mean * spread, (1 - mean) * spread, count))) for _ in range(repeats)]
        shares[f"share {mean:g} at most {limit:g}, {count} prompts"] = _share(
            [decide(of.low, of.high, at_most=limit) != INCONCLUSIVE for of in drawn])
    return shares


def by_a_run(repeats: int) -> dict[str, Any]:
    """What a reader gets: the number of a run that left the difference open, tried with new prompts."""
    rng = np.random.default_rng(4)
    outcomes: dict[str, list[bool]] = {"up to 3 times as many": [], "3 to 10 times": [], "10 to 30 times": []}
    unsaid = 0
    for _ in range(8 * repeats):
        true = rng.normal(0, 0.5)
        needed = prompts_to_settle(of := cluster_interval(rng.normal(true, 1.0, THERE), range(THERE)))
        if of.distinct or needed is None:
            continue
        if needed.prompts is None:
            unsaid += 1
            continue
        times = needed.prompts / THERE
        name = list(outcomes)[0 if times <= 3 else 1 if times <= 10 else 2]
        outcomes[name].append(of_means(rng.normal(true, 1.0, needed.prompts)).distinct)
    return {**{name: {"shows it": _share(shown), "runs": len(shown)} for name, shown in outcomes.items()}, "no number": unsaid}


def _count(needed: Needed | None) -> int:
    assert needed is not None
    assert needed.prompts is not None
    return needed.prompts


def _share(of: list[bool]) -> float:
    return round(float(np.mean(of)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, metavar="N")
    repeats, start = parser.parse_args().repeats, time.perf_counter()
    results = {"controls": controls(repeats), "tied cells": tied_cells(repeats), "gates": gates(repeats),
               "told by a run": by_a_run(repeats)}
    for name, shares in results.items():
        print(f"{name}:")
        for what, share in shares.items():
            print(f"  {what}: {share}")
    print(json.dumps({**results, "seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
