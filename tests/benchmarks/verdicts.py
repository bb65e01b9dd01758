"""How often verdicts are wrong: suites with planted truth go through the same code as real runs; nothing decides a test.

    python tests/benchmarks/verdicts.py
    python tests/benchmarks/verdicts.py --suites 100 --tables 50 --zoo runs/alpha_cfg

An image scores truth(cell) + prompt + seed of the prompt + prompt x cell + image, all normal. The two SDs that pairing leaves,
of prompts and of images in a paired difference, are those that `pytest suites/alpha_cfg.py --benchmark` showed between the cells
tied with its best one (ZOO; --zoo estimates them again from a run folder and adds suites of its own shuffled images, with
their heavy tails), or what fact sheets assume for CLIP x 100 of large models (ASSUMED). Last line: JSON.

a_a: suites in which no cell differs; a suite "announces" when its tied set leaves out a cell, or when its sentence calls the pick
better or worse than a control. coverage: 95 % intervals that hold the planted difference. optimum: hills planted over 21 alphas
x 6 guidance scales; how far the pick is below the best cell in truth, and the gain reported on the confirm prompts less the
true one; races.py does the same with adaptive sweeps. gate: how often not_worse_than fails a true drop. seconds: recommendation
and gates of one table of 100,800 images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.declare import Candidate, Gate, Grid, Merge
from reports.gates import FAILED, judge
from reports.read.run import Run, load_run
from reports.statistics.intervals import bootstrap_interval, cluster_interval, holm
from reports.statistics.plateau import sweet_spot
from reports.statistics.surface import fit_surface
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend
from tests.reports import synthetic
from tests.rows import row

Floats = NDArray[np.float64]
ALPHAS_21 = tuple(round(0.05 * i, 2) for i in range(21))
SCALES_6 = (2.0, 3.0, 4.0, 5.0, 7.0, 10.0)
SHIPPED = ((0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0), (1.0, 3.0, 5.0, 7.5, 15.0))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """SDs in points: of a prompt and of a seed (pairing cancels both), and of prompts and images in a paired difference."""

    prompt: float
    seed: float
    difference_prompt: float
    difference_image: float


ZOO = Noise(prompt=4.2, seed=4.5, difference_prompt=2.43, difference_image=7.64)
ZOO_CLIP = Noise(prompt=3.3, seed=3.8, difference_prompt=0.74, difference_image=6.13)
ASSUMED = Noise(prompt=3.3, seed=1.8, difference_prompt=0.8, difference_image=1.8)


@dataclass(frozen=True, kw_only=True)
class World:
    """A run without images: its table lacks the objective only. Rows are in the order prompt, seed, cell."""

    run: Run
    cells: tuple[tuple[float, float], ...]
    prompts: int
    seeds: int

    def draw(self, truth: Floats, noise: Noise, rng: np.random.Generator) -> Run:
        """The run with scores drawn around `truth` (one number for each of `cells`)."""
        shape = (self.prompts, self.seeds, len(self.cells))
        scores = (50 + truth + rng.normal(0, noise.prompt, (shape[0], 1, 1)) + rng.normal(0, noise.seed, (*shape[:2], 1))
                  + rng.normal(0, noise.difference_prompt / 2**0.5, (shape[0], 1, shape[2]))
                  + rng.normal(0, noise.difference_image / 2**0.5, shape))
        return self.with_scores(scores)

    def with_scores(self, scores: Floats) -> Run:
        """The run with these scores, of shape (prompts, seeds, cells)."""
        return replace(self.run, images=self.run.images.assign(objective=scores.ravel()))


def world(alphas: tuple[float, ...], scales: tuple[float, ...], split: tuple[int, int], seeds: int) -> World:
    """A sweep over alpha and guidance with so many select and confirm prompts."""
    made = tuple(Candidate(name=f"alpha={x:g}", model=Merge(a="zoo:photo", b="zoo:anime", alpha=x), axes={"alpha": x})
                 for x in alphas)
    grid = Grid(prompts=synthetic.prompts(*split), seeds=tuple(range(seeds)), guidance_scales=scales, width=32, height=32)
    suite = synthetic.merge_suite(candidates=made, grid=grid)
    with tempfile.TemporaryDirectory() as folder:
        run = load_run(synthetic.write_run(Path(folder), synthetic.merge_suite(grid=synthetic.SMALL)))
    cells = tuple(itertools.product(alphas, scales))
    rows = [(p.id, p.split, seed, f"alpha={a:g}", a, g) for p in grid.prompts for seed in grid.seeds for a, g in cells]
    images = pd.DataFrame(rows, columns=["prompt", "split", "seed", "candidate", "alpha", "guidance"])
    return World(run=replace(run, suite=suite, images=images, failures=(), missing=()), cells=cells, prompts=sum(split),
                 seeds=seeds)


def announced(found: list[Recommendation]) -> dict[str, float]:
    """Shares of verdicts on suites without any difference that announce one."""
    said = [[c for c in rec.comparisons if c.value == "objective" and c.other_guidance == rec.guidance] for rec in found]
    left_out = [any(not c.tied for c in rec.cells) for rec in found]
    called = [any(c.word in ("better", "worse") for c in told) for told in said]
    return {"tied set leaves out a cell": _share(left_out), "called better or worse than a control": _share(called),
            "one or both": _share([a or b for a, b in zip(left_out, called, strict=True)]),
            "called better than both parents": _share([all(c.word == "better" for c in told) for told in said])}


def a_a(suites: int, zoo: Path | None) -> dict[str, Any]:
    """False alarms of suites in which nothing differs."""
    small, big = world(*SHIPPED, (12, 8), 2), world(ALPHAS_21, SCALES_6, (12, 8), 2)
    rng = np.random.default_rng(1)
    found: dict[str, Any] = {}
    for name, w, count in (("7 x 5 cells", small, suites), ("21 x 6 cells", big, suites)):
        truth = np.zeros(len(w.cells))
        found[f"{name}, 12 + 8 prompts x 2 seeds, {count} suites"] = announced(
            [recommend(w.draw(truth, ZOO, rng)) for _ in range(count)])
    if zoo:
        run = load_run(zoo)
        wide = _wide(run, "objective")
        scores = wide.to_numpy().reshape(wide.index.get_level_values("prompt").nunique(), -1, wide.shape[1])
        shuffled = [recommend(_relabel(run, rng.permuted(scores, axis=2), wide)) for _ in range(suites)]
        found[f"the zoo's images, cells shuffled, {suites} suites"] = announced(shuffled)
    return found


def _relabel(run: Run, scores: Floats, like: pd.DataFrame) -> Run:
    long: Any = pd.DataFrame(scores.reshape(like.shape), index=like.index, columns=like.columns).stack([0, 1], future_stack=True)
    images = run.images.drop(columns=["objective"]).merge(long.rename("objective").reset_index(),
                                                          on=["prompt", "seed", "candidate", "guidance"])
    return replace(run, images=images)


def coverage(repeats: int) -> dict[str, float]:
    """Shares of 95 % intervals that hold the truth, and of pairs from `holm` that both do so when neither is distinct."""
    rng = np.random.default_rng(2)
    found = {}
    for prompts, seeds in ((8, 2), (12, 2), (100, 4)):
        held: dict[str, list[bool]] = {"t": [], "bootstrap": [], "holm, both": []}
        clusters = np.repeat(np.arange(prompts), seeds).tolist()
        for i in range(repeats):
            own = rng.normal(0, ZOO.difference_prompt, (2, prompts, 1))
            x = (own + rng.normal(0, ZOO.difference_image, (2, prompts, seeds))).reshape(2, -1)
            one = cluster_interval(x[0], clusters)
            held["t"].append(not one.distinct)
            held["bootstrap"].append(not bootstrap_interval(x[0], clusters, draws=799, seed=i).distinct)
            held["holm, both"].append(not any(e.distinct for e in holm([one, cluster_interval(x[1], clusters)], row("score"))))
        found.update({f"{name}, {prompts} prompts x {seeds} seeds": _share(values) for name, values in held.items()})
    return found


def optimum(tables: int, split: tuple[int, int], noise: Noise) -> dict[str, float]:
    """Regret and bias over hills whose top lies anywhere in alpha 0.2 to 0.8 and guidance 3 to 7, heights as in the zoo."""
    w = world(ALPHAS_21, SCALES_6, split, 4)
    rng = np.random.default_rng(3)
    x, g = np.array(w.cells).T
    place = {cell: i for i, cell in enumerate(w.cells)}
    regret: dict[str, list[float]] = {}
    bias: dict[str, list[float]] = {"confirmed": [], "on the select prompts": []}
    plateau = []
    for _ in range(tables):
        truth = -14 * (x - rng.uniform(0.2, 0.8)) ** 2 - 7 * np.log(g / rng.uniform(3, 7)) ** 2
        run = w.draw(truth, noise, rng)
        rec = recommend(run)
        select = run.images[run.images["split"] == "select"]
        surface = fit_surface(select, ["alpha", "guidance"])
        spot = sweet_spot(surface)
        means = {(float(c.candidate[6:]), c.guidance): c.objective.mean or 0.0 for c in rec.cells}
        mine = (float(str(rec.pick)[6:]), float(rec.guidance or 0.0))
        points = [(float(a), float(b)) for a, b in surface.points]
        for name, cell in (("recommendation", mine), ("highest mean", max(means, key=lambda c: means[c])),
                           ("surface, best", points[spot.best]), ("surface, pick", points[spot.pick])):
            regret.setdefault(name, []).append(float(truth.max() - truth[place[cell]]))
        plateau.append(bool(spot.plateau[points.index(w.cells[int(truth.argmax())])]))
        parent = (0.0, mine[1])
        told = next(c for c in rec.comparisons if c.other == "alpha=0" and c.value == "objective" and c.other_guidance == mine[1])
        true = float(truth[place[mine]] - truth[place[parent]])
        bias["confirmed"].append((told.difference.mean or 0.0) - true)
        best = max(means, key=lambda c: means[c])
        below = (0.0, best[1])
        seen = means[best] - means[below] - float(truth[place[best]] - truth[place[below]])
        bias["on the select prompts"].append(seen)
    return {**{f"within 0.1 points of the best: {n}": _share([r <= 0.1 for r in v]) for n, v in regret.items()},
            **{f"mean regret, points: {n}": round(float(np.mean(v)), 3) for n, v in regret.items()},
            "surface's plateau holds the true best": _share(plateau),
            **{f"bias of the gain, points: {n}": round(float(np.mean(v)), 3) for n, v in bias.items()},
            "standard error of that bias": round(float(np.std(bias["confirmed"]) / tables**0.5), 3)}


def gate(repeats: int, prompts: int, noise: Noise) -> dict[str, float]:
    """How often the gate "not worse than the baseline, margin 0" fails at a true drop of 0.5 points, and of none; 4 seeds."""
    w = world((0.0, 1.0), (3.0,), (prompts // 2, prompts - prompts // 2), 4)
    rng = np.random.default_rng(4)
    rule = Gate(value="objective", not_worse_than="alpha=0", candidates=("alpha=1",))
    rec = Recommendation(kind="sweep", axis="alpha", pick=None, guidance=3.0, sentence="", rule="")
    found = {}
    for drop in (0.5, 0.0):
        runs = [w.draw(np.array([0.0, -drop]), noise, rng) for _ in range(repeats)]
        verdicts = [judge(replace(r, suite=replace(r.suite, gates=(rule,))), rec)[0].status for r in runs]
        found[f"failed at a drop of {drop:g}"] = _share([v == FAILED for v in verdicts])
    return found


def seconds() -> dict[str, float]:
    """Fastest of five."""
    w = world(ALPHAS_21, SCALES_6, (60, 40), 8)
    run = w.draw(np.zeros(len(w.cells)), ZOO, np.random.default_rng(5))
    took = []
    for _ in range(5):
        started = time.perf_counter()
        judge(run, recommend(run))
        took.append(time.perf_counter() - started)
    return {"images": float(len(run.images)), "seconds": round(min(took), 3)}


def estimated(folder: Path, value: str) -> dict[str, float]:
    """The SDs of a paired difference between cells tied with the best of a run, averaged in variance over all such pairs."""
    run = load_run(folder)
    tied = [(c.candidate, c.guidance) for c in recommend(run).cells if c.tied]
    wide = _wide(run, value)
    images, between = [], []
    for one, other in itertools.combinations(tied, 2):
        prompts = (wide[one] - wide[other]).groupby(level="prompt")
        images.append(float(prompts.var(ddof=1).mean()))
        between.append(float(prompts.mean().var(ddof=1)) - images[-1] / float(prompts.size().mean()))
    return {"difference_prompt": round(max(0.0, float(np.mean(between))) ** 0.5, 2),
            "difference_image": round(float(np.mean(images)) ** 0.5, 2), "pairs of cells": float(len(images))}


def _wide(run: Run, value: str) -> pd.DataFrame:
    return run.images.pivot_table(index=["prompt", "seed"], columns=["candidate", "guidance"], values=value).sort_index()


def _share(flags: list[bool]) -> float:
    return round(float(np.mean(flags)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=int, default=1000)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--zoo", type=Path, default=None)
    given = parser.parse_args()
    figures: dict[str, Any] = {}

    def tell(group: str, values: dict[str, Any]) -> None:
        figures[group] = values
        print(group, *(f"  {name}: {value}" for name, value in values.items()), sep="\n", flush=True)

    tell("seconds", seconds())
    tell("coverage", coverage(2 * given.suites))
    for name, noise in (("zoo's objective", ZOO), ("zoo's CLIP score", ZOO_CLIP), ("assumed", ASSUMED)):
        tell(f"gate, 100 prompts x 4 seeds, {name}", gate(given.suites, 100, noise))
    tell("a_a", a_a(given.suites, given.zoo))
    for name, noise in (("zoo's noise", ZOO), ("assumed noise", ASSUMED)):
        tell(f"optimum, {given.tables} tables, 100 + 100 prompts x 4 seeds, {name}", optimum(given.tables, (100, 100), noise))
    if given.zoo:
        tell("estimated", {v: estimated(given.zoo, v) for v in ("objective", "clip_score")})
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
