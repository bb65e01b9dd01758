"""Candidates that no GPU of this size can hold, whatever else is on it: found before the first image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.check.together import together
from harness.declare import Candidate, Suite
from harness.declare.suite import LOW_MEMORY
from harness.materialise import Workbench
from harness.probes.available import DeviceMemory, device_memory
from harness.run.memory_plan import Footprint, planned

_MEASURES: Final = tuple(LOW_MEMORY)
_GIB: Final = 2 ** 30


def memory_problems(suite: Suite, offered: Sequence[Candidate], bench: Workbench) -> list[str]:
    """One sentence per reason why candidates cannot run on the workbench's GPU: their weights alone are larger than its memory.
    Whether activations fit as well shows in the run, which halves batches. Nothing is said of a CPU, which has swap."""
    if bench.device == "cpu":
        return []
    memory = device_memory(bench.device)
    too_large = [(repr(name), problem) for row in planned(suite, offered, bench) if isinstance(row.footprint, Footprint)
                 and (problem := _problem(row.footprint, suite, bench.device, memory)) for name in row.names]
    return [f"suite {suite.name!r}, {phrase}" for phrase in together(too_large)]


def _problem(footprint: Footprint, suite: Suite, device: str, memory: DeviceMemory) -> str:
    measures = suite.grid.low_memory
    needed = sum(footprint.weights(measures).values())
    if needed <= memory.total:
        return ""
    enough = next((_MEASURES[:count] for count in range(len(_MEASURES) + 1)
                   if sum(footprint.weights((*measures, *_MEASURES[:count])).values()) <= memory.total), None)
    way = f"declare low_memory={enough!r} in the grid, or " if enough else ""
    return (f"the weights alone take {needed / _GIB:.2f} GiB, and {device} ({memory.name}) has {memory.total / _GIB:.2f} GiB; "
            f"{way}a smaller number format of the candidate (precision, quantization). `sweetspot plan` says what fits")
