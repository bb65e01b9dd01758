"""Seconds of a sweep of strengths whose candidates share their first stage, and without room for it; nothing decides a test.

    python tests/benchmarks/stages_in_common.py
    python tests/benchmarks/stages_in_common.py --rounds 5 --steps 25 --seeds 8

The built-in photo and anime models, six strengths, 64 x 64, batches of four. Steps are those of a batch of the full size. The
two are run in turns, each in a folder of its own; the first pair warms up. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import harness.run.images
from harness import Grid, Stage, Suite, strength_sweep
from harness.records import Finished
from harness.run.suite_run import Options, SuiteRun
from harness.sampling import Denoising, StageStore
from harness.sampling.common_stages import Pool
from tests.fakes import PROMPTS

STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.8, 1)
BATCH = 4


class Quiet:
    """A progress that shows nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def seconds_and_steps(suite: Suite, store: StageStore) -> tuple[float, int]:
    """What sampling all candidates of a suite takes, with this room for stages in common."""
    steps, advance = 0, Denoising.advance

    def counted(run: Denoising, *args: Any, **options: Any) -> None:
        nonlocal steps
        before = run.step
        advance(run, *args, **options)
        steps += (run.step - before) * (len(run.cells) == BATCH)

    harness.executors.maker.StageStore = lambda: store  # type: ignore[misc, assignment]
    Denoising.advance = counted  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        run = SuiteRun(suite, "", Options(root=Path(folder), runs=Path(folder)), Quiet())  # type: ignore[arg-type]
        try:
            started = time.perf_counter()
            for candidate in suite.candidates:
                assert isinstance(run.candidate(candidate), Finished)
            return time.perf_counter() - started, steps
        finally:
            Denoising.advance = advance  # type: ignore[method-assign]
            run.close()


def main() -> None:
    """Runs both in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    sweep = strength_sweep("zoo:photo", Stage(model="zoo:anime"), STRENGTHS)
    suite = Suite(name="stages", candidates=sweep, baseline=sweep[0].name, metrics=("exposure",), latency_rounds=1,
                  grid=Grid(prompts=PROMPTS[:4], seeds=tuple(range(1, options.seeds + 1)), guidance_scales=(4,),
                            steps=options.steps, width=64, height=64, batch_size=BATCH))
    seconds: dict[str, list[float]] = {"in common": [], "each alone": []}
    steps = {}
    for number in range(options.rounds + 1):
        for name, store in (("in common", StageStore()), ("each alone", StageStore(latents=Pool(0), pictures=Pool(0)))):
            taken, steps[name] = seconds_and_steps(suite, store)
            if number:
                seconds[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, median in medians.items():
        print(f"{name:10}  {median:6.2f} s  {steps[name]} steps")
    ratio = medians["in common"] / medians["each alone"]
    print(f"time {ratio:.2f}, steps {steps['in common'] / steps['each alone']:.2f} of each alone")
    print(json.dumps({"seconds": medians, "steps": steps, "ratio": round(ratio, 3)}))


if __name__ == "__main__":
    main()
