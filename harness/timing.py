"""Latency and peak memory of one image at batch 1, as a user would run it, apart from the batched sampling. run.py calls it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Suite, short_hash
from harness.probes.clock import Stopwatch, device_wait
from harness.probes.memory import MemoryProbe
from harness.probes.nvml import find_gpu
from harness.records import PHASES, Cell, Latency, Memory
from harness.sample import setting, time_one

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline

WARMUP_ROUNDS: Final = 1
TIMING_VERSION: Final = 1


def timed_cell(suite: Suite) -> Cell:
    """The one cell that is timed: first prompt, first seed, the middle one of the guided scales."""
    guided = [g for g in suite.grid.guidance_scales if g != 1] or list(suite.grid.guidance_scales)
    return Cell(prompt=suite.grid.prompts[0].id, seed=suite.grid.seeds[0], guidance=statistics.median_high(guided))


def timing_setting(suite: Suite, identity: str, machine: Mapping[str, Any]) -> str:
    """Hash of all that is timed and where: weights, cell and its texts, sampling block, rounds, device, processor."""
    prompt = suite.grid.prompts[0]
    cell = timed_cell(suite)
    where = [machine.get(name) for name in ("device", "device_name", "device_uuid", "cpu", "cores", "threads")]
    return short_hash([TIMING_VERSION, identity, prompt.text, prompt.negative, cell.noise_seed, cell.guidance,
                       setting(suite.grid, str(machine.get("device"))), suite.latency_rounds, where])


def time_candidate(candidate: str, pipeline: Pipeline, suite: Suite, key: str) -> tuple[Latency, Memory]:
    """One warm-up round, then `suite.latency_rounds` timed ones under the memory probe, each after the yardstick."""
    device, cell = str(pipeline.device), timed_cell(suite)
    for _ in range(WARMUP_ROUNDS):
        time_one(pipeline, suite.grid, cell, Stopwatch(device))
    seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}
    yardstick = Yardstick(device)
    lengths = []
    with MemoryProbe(device, find_gpu(device)) as memory:
        for _ in range(suite.latency_rounds):
            lengths.append(yardstick.seconds())
            watch = Stopwatch(device)
            time_one(pipeline, suite.grid, cell, watch)
            for phase, value in watch.seconds.items():
                seconds[phase].append(value)
            seconds["total"].append(sum(watch.seconds.values()))
    return (Latency(candidate=candidate, batch_size=1, warmup_rounds=WARMUP_ROUNDS, guidance=cell.guidance, setting=key,
                    seconds={phase: tuple(values) for phase, values in seconds.items()}, yardstick=tuple(lengths)),
            Memory(candidate=candidate, readings=memory.readings(), setting=key))


class Yardstick:
    """A fixed run of small convolutions, a few milliseconds long, like those of a U-Net: what it takes tells how busy
    the machine is with other things."""

    def __init__(self, device: str) -> None:
        import torch

        generator = torch.Generator("cpu").manual_seed(0)
        self._wait = device_wait(device)
        self._input: torch.Tensor = torch.randn(2, 64, 16, 16, generator=generator).to(device)
        self._weight: torch.Tensor = (torch.randn(64, 64, 3, 3, generator=generator) / 24).to(device)
        self.seconds()

    def seconds(self) -> float:
        """Seconds that 30 convolutions of 3 x 3 on (2, 64, 16, 16) take now."""
        import torch

        self._wait()
        start = time.perf_counter()
        with torch.inference_mode():
            values = self._input
            for _ in range(30):
                values = torch.nn.functional.conv2d(values, self._weight, padding=1).clamp(-3, 3)
        self._wait()
        return time.perf_counter() - start
