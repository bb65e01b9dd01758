"""Whether an ensemble's denoisers run faster at once, on a thread each, than one after the other: per image at batch 1, and per
batch where a run computes a batch on each core anyway. Ratios of interleaved rounds, and whether the bits are equal."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from harness import Candidate, Ensemble
from harness.materialise import Workbench
from harness.sampling import embedded, entered
from tests.fakes import tiny_grid

ENSEMBLE = Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5))
Work = Callable[[], torch.Tensor]


def denoisers(batch: int) -> tuple[Work, Work]:
    """One evaluation of each denoiser of the ensemble, guided, on a batch of 64 x 64 pixels."""
    grid = tiny_grid(width=64, height=64)
    (phase,) = Workbench(device="cpu", root=Path.cwd(), steps=1).prepare(Candidate(name="both", model=ENSEMBLE)).phases
    branches = entered(phase, embedded([phase], grid.prompts))
    drawing = torch.Generator().manual_seed(1)
    unet = branches[0].pipeline.unet
    latents = torch.randn(2 * batch, unet.config.in_channels, 16, 16, generator=drawing)

    def work(number: int) -> Work:
        branch = branches[number]
        states = next(iter(branch.text.positive.values())).states.expand(2 * batch, -1, -1)

        def once() -> torch.Tensor:
            with torch.inference_mode():
                made: torch.Tensor = branch.pipeline.unet(latents, 500, states).sample
                return made
        return once

    return work(0), work(1)


def seconds(todo: Callable[[], object], repeats: int) -> float:
    """What one of `repeats` calls took."""
    begun = time.perf_counter()
    for _ in range(repeats):
        todo()
    return (time.perf_counter() - begun) / repeats


def measured(first: Work, second: Work, rounds: int, repeats: int) -> dict[str, object]:
    """Median seconds and ratios, every operation on one thread, as a run computes small images."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        def both() -> list[torch.Tensor]:
            return [first(), second()]

        def at_once() -> list[torch.Tensor]:
            return list(pool.map(lambda work: work(), (first, second)))

        def two_batches() -> None:
            list(pool.map(lambda _: both(), range(2)))

        def two_batches_by_denoiser() -> None:
            at_once()
            at_once()

        equal = all(map(torch.equal, both(), at_once()))
        taken = [[seconds(todo, repeats) for todo in (both, at_once, two_batches, two_batches_by_denoiser)]
                 for _ in range(rounds)]
    return {"bits_equal": equal, "one_after_the_other_ms": round(1000 * statistics.median(r[0] for r in taken), 2),
            "at_once_to_one_after_the_other": round(statistics.median(r[1] / r[0] for r in taken), 2),
            "two_batches_by_denoiser_to_by_batch": round(statistics.median(r[3] / r[2] for r in taken), 2)}


def main() -> None:
    """Prints one JSON line for each batch size."""
    asking = argparse.ArgumentParser(description=__doc__)
    asking.add_argument("--rounds", type=int, default=9)
    asking.add_argument("--repeats", type=int, default=10)
    asking.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    given = asking.parse_args()
    for batch in given.batches:
        print(json.dumps({"batch": batch, **measured(*denoisers(batch), given.rounds, given.repeats)}))


if __name__ == "__main__":
    main()
