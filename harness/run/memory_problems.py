"""Candidates that no GPU of this size can hold, and those that may not fit beside what is on it: found before the first image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from harness.check.together import together
from harness.declare import Candidate, Grid, Suite
from harness.materialise import Workbench
from harness.probes.available import DeviceMemory, device_memory
from harness.run.memory_plan import Footprint, first_measures, planned

_GIB: Final = 2 ** 30


def memory_problems(suite: Suite, offered: Sequence[Candidate], bench: Workbench,
                    memory: DeviceMemory | None = None) -> list[str]:
    """One sentence per reason why candidates cannot run on the workbench's GPU: their weights alone are larger than its memory.
    Nothing is said of a CPU, which has swap. `memory` is that of a GPU that this process has not."""
    return _each(suite, offered, bench, _problem, memory)


def memory_remarks(suite: Suite, offered: Sequence[Candidate], bench: Workbench,
                   memory: DeviceMemory | None = None) -> list[str]:
    """One sentence per reason why candidates may not fit: by the plan, their batches take more than is free now. A run halves
    batches that are refused, and the plan adds an estimate, so that this is no problem."""
    return _each(suite, offered, bench, _doubt, memory)


def ways_out(footprint: Footprint, grid: Grid, bytes_free: int) -> str:
    """What makes a candidate fit that does not, in words."""
    ways = []
    if largest := footprint.largest_batch(bytes_free, grid.low_memory):
        ways.append(f"batch_size={largest}")
    if measures := footprint.measures(bytes_free, grid.images_per_batch):
        ways.append(f"low_memory={measures!r}")
    elif not largest and (measures := footprint.measures(bytes_free, 1)):
        ways.append(f"batch_size=1 with low_memory={measures!r}")
    if not ways:
        return "no measure is enough: take fewer bits or smaller images, or a device with more memory"
    return f"it fits with {' or '.join(ways)}"


def _each(suite: Suite, offered: Sequence[Candidate], bench: Workbench,
          of: Callable[[Footprint, Grid, str, DeviceMemory], str], known: DeviceMemory | None) -> list[str]:
    if bench.device == "cpu":
        return []
    memory = known or device_memory(bench.device)

    def listed() -> Iterator[tuple[str, str]]:
        for row in planned(suite, offered, bench):
            if isinstance(row.footprint, Footprint) and (phrase := of(row.footprint, suite.grid, bench.device, memory)):
                yield from ((repr(name), phrase) for name in row.names)

    return [f"suite {suite.name!r}, {phrase}" for phrase in together(listed())]


def _problem(footprint: Footprint, grid: Grid, device: str, memory: DeviceMemory) -> str:
    needed = sum(footprint.weights(grid.low_memory).values())
    if needed <= memory.total:
        return ""
    enough = first_measures(lambda measures: sum(footprint.weights((*grid.low_memory, *measures)).values()) <= memory.total)
    way = f"declare low_memory={enough!r} in the grid, or " if enough else ""
    return (f"the weights alone take {needed / _GIB:.2f} GiB, and {device} ({memory.name}) has {memory.total / _GIB:.2f} GiB; "
            f"{way}a smaller number format of the candidate (precision, quantization). `sweetspot plan` says what fits")


def _doubt(footprint: Footprint, grid: Grid, device: str, memory: DeviceMemory) -> str:
    needed = footprint.need(grid.images_per_batch, grid.low_memory).in_all
    if needed <= memory.free or sum(footprint.weights(grid.low_memory).values()) > memory.total:
        return ""
    return (f"batches of {grid.images_per_batch} may not fit: by the plan they take {needed / _GIB:.2f} GiB, and "
            f"{memory.free / _GIB:.2f} GiB of {device} ({memory.name}) are free. By the plan, "
            f"{ways_out(footprint, grid, memory.free)}; otherwise the run halves a batch that is refused")
