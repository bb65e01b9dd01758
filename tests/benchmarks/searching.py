"""Whether the search over block weights finds more than chance does; nothing decides a test.

    python tests/benchmarks/searching.py --worlds 40 --trials 40

A world is a concave function of 26 block weights: an optimum that waves with depth, blocks of very different influence, and one
direction in which errors add up. A score is the function plus normal noise. Shown is the true value of the best-scored
trial, below the optimum's 0, averaged over worlds, with its standard error; "better" counts the worlds in which the search
beats chance. Chance begins with the same presets. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.declare import Blocks, Candidate, Merge, Search
from harness.merge.search_space import preset_values
from harness.race.search import Searcher

BLOCKS = 26
Floats = NDArray[np.float64]


def world(seed: int) -> Callable[[Floats], float]:
    """The true score of block weights, at most 0."""
    rng = np.random.default_rng(seed)
    depth = np.linspace(0, 1, BLOCKS)
    best = np.clip(0.5 + 0.4 * np.sin(2 * np.pi * (rng.random() + depth * rng.uniform(0.3, 1.2)))
                   + rng.normal(0, 0.15, BLOCKS), 0, 1)
    influence = rng.exponential(1, BLOCKS)
    influence *= 20 / influence.sum()
    together = rng.normal(0, 1, BLOCKS) / BLOCKS**0.5

    def truth(values: Floats) -> float:
        off = values - best
        return -float((influence * off * off).sum()) - 2 * float(together @ off) ** 2

    return truth


def searched(search: Search, truth: Callable[[Floats], float], noise: float, rng: np.random.Generator) -> float:
    """The true value of the best trial of a search."""
    with tempfile.TemporaryDirectory() as folder:
        searcher = Searcher(search, Path(folder))
        while (candidate := searcher.ask()) is not None:
            searcher.tell(candidate.name, truth(_values(candidate)) + float(rng.normal(0, noise)))
        return truth(_values(searcher.best(1)[0]))


def by_chance(search: Search, truth: Callable[[Floats], float], noise: float, rng: np.random.Generator) -> float:
    """The same of the presets and then uniform draws."""
    presets = [np.asarray(preset_values(search, name)) for name in search.presets]
    tried = [*presets, *rng.random((search.trials - len(presets), BLOCKS))]
    scores = [truth(values) + float(rng.normal(0, noise)) for values in tried]
    return truth(tried[int(np.argmax(scores))])


def _values(candidate: Candidate) -> Floats:
    assert isinstance(candidate.model, Merge)
    assert isinstance(candidate.model.alpha, Blocks)
    return np.asarray(candidate.model.alpha.values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--trials", type=int, default=40)
    given = parser.parse_args()
    figures = {}
    for presets in ((), ("GRAD_V", "GRAD_A", "FLAT_50", "COSINE")):
        for noise in (0.0, 0.5):
            found: dict[str, list[float]] = {"search": [], "chance": []}
            started = time.perf_counter()
            for seed in range(given.worlds):
                search = Search(merge=Merge(a="a", b="b"), guidance=3.0, trials=given.trials, presets=presets, seed=seed)
                truth = world(seed)
                found["search"].append(searched(search, truth, noise, np.random.default_rng([seed, 1])))
                found["chance"].append(by_chance(search, truth, noise, np.random.default_rng([seed, 2])))
            ahead = np.asarray(found["search"]) - np.asarray(found["chance"])
            row = {name: round(float(np.mean(values)), 3) for name, values in found.items()}
            error = float(ahead.std(ddof=1)) / len(ahead)**0.5
            row |= {"ahead": round(float(ahead.mean()), 3), "its standard error": round(error, 3),
                    "better": round(float((ahead > 0).mean()), 3),
                    "seconds": round((time.perf_counter() - started) / given.worlds, 2)}
            name = f"{len(presets)} presets, noise {noise:g}"
            figures[name] = row
            print(name, row, flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
