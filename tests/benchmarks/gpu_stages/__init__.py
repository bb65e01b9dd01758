"""The stages of the first hour on a GPU, the most valuable answers first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from tests.benchmarks.gpu_stages.costs import caps, compiled, load, modes
from tests.benchmarks.gpu_stages.memory import memory
from tests.benchmarks.gpu_stages.pictures import bits, determinism, images
from tests.benchmarks.gpu_stages.subject import Facts, Subject
from tests.benchmarks.gpu_stages.whole_runs import describe, driver, parents, promotion, sweep

Work: TypeAlias = Callable[[Subject], Iterator[Facts]]

LIMIT_SECONDS: Final = 170.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage does, of what size its models are ("zoo", "sd15", "sdxl"), and after how many seconds it is ended."""

    work: Work
    size: str = "zoo"
    limit_seconds: float = LIMIT_SECONDS


STAGES: Final[dict[str, Stage]] = {
    "environment": Stage(work=describe, limit_seconds=60),
    "bits": Stage(work=bits),
    "images": Stage(work=images),
    "promotion": Stage(work=promotion),
    "parents-sd15": Stage(work=parents, size="sd15"),
    "determinism": Stage(work=determinism, size="sd15"),
    "memory-sd15": Stage(work=memory, size="sd15"),
    "caps-sd15": Stage(work=caps, size="sd15"),
    "sweep-sd15": Stage(work=sweep, size="sd15"),
    "load-sd15": Stage(work=load, size="sd15"),
    "parents-sdxl": Stage(work=parents, size="sdxl"),
    "memory-sdxl": Stage(work=memory, size="sdxl"),
    "caps-sdxl": Stage(work=caps, size="sdxl"),
    "sweep-sdxl": Stage(work=sweep, size="sdxl"),
    "load-sdxl": Stage(work=load, size="sdxl"),
    "compile": Stage(work=compiled, size="sd15"),
    "driver": Stage(work=driver, size="sd15"),
    "modes": Stage(work=modes, size="sd15"),
}

__all__ = ["STAGES", "Facts", "Stage", "Subject"]
