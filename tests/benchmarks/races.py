"""Adaptive sweeps over planted truth: the race of harness/race/elimination.py on tables that hold every image, of which it is
shown what it asked for. tests/race/test_elimination.py runs a few; as a program it counts errors and images:

    python tests/benchmarks/races.py --suites 1000 --refined 200 --tables 500

Noise and worlds are those of verdicts.py. a_a: suites in which no cell differs; counted are races in which a look drops a cell,
in which the verdict calls the pick better or worse than a control (each kind of claim is held to 5 % by itself), and either;
--refined counts suites in which alphas are added around the best, a family that the data choose.
optimum: hills planted over 21 alphas x 6 guidance scales, 100 + 100 prompts x 4 seeds, as high as in the zoo or scaled to a
spread (best less worst cell) of 1, 2 or 4 points; how far the pick is below the best cell, the share of the whole grid's images
that were sampled, and the gain reported on the confirm prompts less the true one. "refined" starts from 7 alphas. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.declare import Budget, Suite
from harness.race.elimination import LookResult, confirm_plan, judge_look, prompt_looks, refinements, select_prompts
from harness.records import Look
from reports.read.run import Run
from reports.verdict.candidates import axis_of
from reports.verdict.cells import score_cells
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend
from tests.rows import ROWS

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Raced:
    """What a race came to: the run as a reader would find it, the verdict on it, and the share of all images that it took."""

    run: Run
    verdict: Recommendation
    results: tuple[LookResult, ...]
    share: float

    @property
    def dropped(self) -> int:
        """How many cells the looks dropped."""
        return sum(len(r.dropped) for r in self.results)


def race(run: Run, start: tuple[str, ...] = ()) -> Raced:
    """Races the suite of `run`, whose table must hold all images; with `start` only those candidates at first, the others where a
    refinement asks for them."""
    full = run.suite
    suite = replace(full, candidates=tuple(c for c in full.candidates if not start or c.name in start))
    table = run.images
    columns = [table[c].to_numpy() for c in ("candidate", "guidance", "prompt")]
    shown = np.zeros(len(table), dtype=np.bool_)
    assert full.budget is not None
    known = prompt_looks(select_prompts(full), full.budget)
    candidates, guidances = tuple(c.name for c in suite.candidates), full.grid.guidance_scales
    looks: list[Look] = []
    results: list[LookResult] = []
    out: set[tuple[str, float]] = set()
    for number, prompts in enumerate(known, start=1):
        fresh = prompts[len(known[number - 2]):] if number > 1 else prompts
        shown |= _asked(columns, candidates, guidances, fresh)
        result = judge_look(table[shown], suite, number, out, values=ROWS)
        out |= {(d.candidate, d.guidance) for d in result.dropped}
        results.append(result)
        looks.append(Look(race="", number=number, stage="select", candidates=candidates, guidances=guidances, prompts=prompts,
                          seeds=full.grid.seeds, images=int(shown.sum()), dropped=result.dropped, level=result.level,
                          why=result.why))
        candidates, guidances = result.candidates, result.guidances
        suite, added = _refined(suite, full, refinements(result, suite))
        if result.done and not added:
            break
        shown |= _asked(columns, added, guidances, prompts)
        candidates = tuple(c.name for c in suite.candidates if c.name in (*candidates, *added))
    raced = replace(run, suite=suite, images=table[shown], looks=tuple(looks))
    pick, scale = results[-1].pick or (None, None)
    chosen, scales = confirm_plan(raced, Recommendation(kind="sweep", axis=axis_of(suite), pick=pick, guidance=scale, sentence="",
                                                        rule="", cells=score_cells(raced)))
    confirm = tuple(p.id for p in full.grid.prompts if p.split == "confirm")
    shown |= _asked(columns, chosen, scales, confirm)
    done = replace(raced, images=table[shown])
    return Raced(run=done, verdict=recommend(done), results=tuple(results), share=float(shown.mean()))


def _asked(columns: list[NDArray[np.generic]], candidates: tuple[str, ...], guidances: tuple[float, ...],
           prompts: tuple[str, ...]) -> Flags:
    """Rows of candidates x guidances x prompts."""
    wanted: Flags = np.logical_and.reduce([pd.Series(column).isin(of).to_numpy() for column, of in
                                           zip(columns, (candidates, guidances, prompts), strict=True)])
    return wanted


def _refined(suite: Suite, full: Suite, values: tuple[float, ...]) -> tuple[Suite, tuple[str, ...]]:
    """The suite with the candidates of `full` that lie at `values` of its one axis, and their names."""
    names = {c.name for c in suite.candidates}
    added = tuple(c.name for c in full.candidates
                  if c.name not in names and any(abs(float(next(iter(c.axes.values()))) - v) < 1e-9 for v in values))
    return replace(suite, candidates=tuple(c for c in full.candidates if c.name in names or c.name in added)), added


def a_a(suites: int, *, refined: bool = False) -> dict[str, Any]:
    """False alarms of races in which nothing differs: 7 alphas x 5 scales, looks at 6, 9 and 12 of the select prompts; `refined`
    adds alphas between them around the best cell and the pick of each look."""
    from tests.benchmarks.verdicts import ALPHAS_21, SHIPPED, ZOO, world

    w = world(ALPHAS_21 if refined else SHIPPED[0], SHIPPED[1], (12, 8), 2)
    budget = Budget(first_prompts=6, step_prompts=3, refine="alpha" if refined else "", finest=0.05)
    run = replace(w.run, suite=replace(w.run.suite, budget=budget))
    rng = np.random.default_rng(11)
    start = tuple(f"alpha={x:g}" for x in SHIPPED[0]) if refined else ()
    raced = [race(replace(w, run=run).draw(np.zeros(len(w.cells)), ZOO, rng), start) for _ in range(suites)]
    told = [{c.word for c in r.verdict.comparisons if c.value == "objective" and c.other_guidance == r.verdict.guidance}
            for r in raced]
    called = [bool(said & {"better", "worse"}) for said in told]
    return {"a look drops a cell": _mean([r.dropped > 0 for r in raced]), "called better or worse than a control": _mean(called),
            "one or both": _mean([c or r.dropped > 0 for r, c in zip(raced, called, strict=True)]),
            "share of the images": _mean([r.share for r in raced]),
            "candidates added": _mean([len(r.run.suite.candidates) - len(start or run.suite.candidates) for r in raced])}


def optimum(tables: int, noise_name: str, spread: float, *, refined: bool = False) -> dict[str, Any]:
    """Regret, images and bias of races over planted hills; `spread` 0 leaves the hills as high as in the zoo."""
    from tests.benchmarks import verdicts

    w = verdicts.world(verdicts.ALPHAS_21, verdicts.SCALES_6, (100, 100), 4)
    budget = Budget(refine="alpha" if refined else "", finest=0.05)
    w = replace(w, run=replace(w.run, suite=replace(w.run.suite, budget=budget)))
    start = tuple(f"alpha={x:g}" for x in (0, 0.15, 0.35, 0.5, 0.65, 0.85, 1)) if refined else ()
    noise = {"zoo": verdicts.ZOO, "assumed": verdicts.ASSUMED}[noise_name]
    rng = np.random.default_rng(6)
    x, g = np.array(w.cells).T
    found: dict[str, list[float]] = {name: [] for name in ("within", "regret", "share", "bias", "lost", "looks")}
    for _ in range(tables):
        truth = -14 * (x - rng.uniform(0.2, 0.8)) ** 2 - 7 * np.log(g / rng.uniform(3, 7)) ** 2
        truth *= spread / np.ptp(truth) if spread else 1.0
        raced = race(w.draw(truth, noise, rng), start)
        place = {(f"alpha={a:g}", s): float(t) for (a, s), t in zip(w.cells, truth, strict=True)}
        mine = place[str(raced.verdict.pick), float(raced.verdict.guidance or 0.0)]
        best = max(place, key=lambda cell: place[cell])
        found["regret"].append(place[best] - mine)
        found["within"].append(place[best] - mine <= 0.1)
        found["share"].append(raced.share)
        found["looks"].append(len(raced.results))
        found["lost"].append(any((d.candidate, d.guidance) == best for r in raced.results for d in r.dropped))
        found["bias"].extend((c.difference.mean or 0.0) - mine + place[c.other, raced.verdict.guidance or 0.0]
                             for c in raced.verdict.comparisons if c.value == "objective" and c.other_guidance == c.guidance)
    return {"within 0.1 points of the best": _mean(found["within"]), "mean regret, points": _mean(found["regret"]),
            "share of the images": _mean(found["share"]), "nine in ten races: share at most":
            round(float(np.quantile(found["share"], 0.9)), 3), "looks": _mean(found["looks"]),
            "the best cell was dropped": _mean(found["lost"]), "bias of the gain, points": _mean(found["bias"]),
            "standard error of that bias": round(float(np.std(found["bias"]) / len(found["bias"]) ** 0.5), 4)}


def _mean(values: Any) -> float:
    return round(float(np.mean(values)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", type=int, default=1000)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--refined", type=int, default=0, help="suites of a_a whose races add alphas, beside the others")
    parser.add_argument("--noise", choices=("zoo", "assumed"), default=None, help="only this one")
    parser.add_argument("--spreads", type=float, nargs="*", default=[0.0, 1.0, 2.0, 4.0])
    given = parser.parse_args()
    figures: dict[str, Any] = {}

    def tell(group: str, values: dict[str, Any]) -> None:
        figures[group] = values
        print(group, *(f"  {name}: {value}" for name, value in values.items()), sep="\n", flush=True)

    if given.suites:
        tell(f"a_a, {given.suites} suites", a_a(given.suites))
    if given.refined:
        tell(f"a_a refined from 7 alphas, {given.refined} suites", a_a(given.refined, refined=True))
    for noise in (given.noise,) if given.noise else ("zoo", "assumed"):
        for spread in given.spreads if given.tables else ():
            said = f"{given.tables} tables, {noise}'s noise, spread {f'{spread:g}' if spread else 'as in the zoo'}"
            tell(f"optimum, {said}", optimum(given.tables, noise, spread))
        if given.tables and 0.0 in given.spreads:
            tell(f"refined, {given.tables} tables, {noise}'s noise", optimum(given.tables, noise, 0.0, refined=True))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
