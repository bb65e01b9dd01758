"""What the stages measure: two parents of one size on one device, a merge of them, a grid, and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from harness import Candidate, Grid, Merge, Prompt
from harness.materialise import Phase, Workbench
from harness.probes.clock import device_wait
from harness.records import Cell
from harness.sampling import TextState, embedded, sample
from tests.benchmarks.sweep import SIZES, write_parent

if TYPE_CHECKING:
    from harness.sampling import Images, embedded

Facts: TypeAlias = dict[str, Any]
"""One result: `what` was measured, and figures or `not_measured` with a reason."""

GIB: Final = 2 ** 30
NEEDS_CUDA: Final = "needs a CUDA device"
_TEXTS: Final = ("a red star", "a blue car", "an orange cat", "a green fish")
PROMPTS: Final = tuple(Prompt(id=f"p{number}", text=text) for number, text in enumerate(_TEXTS))


@dataclass(frozen=True, kw_only=True)
class Live:
    """A candidate that is ready to sample on a device."""

    bench: Workbench
    grid: Grid
    phases: tuple[Phase, ...]
    texts: Mapping[str, TextState]

    def pictures(self, cells: Sequence[Cell]) -> Images:
        """The pictures of one batch; unusable ones are black."""
        ((_, made),) = sample(self.phases, self.grid, [tuple(cells)], self.texts, lambda *_: None)
        return made


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A device and a size of model: "zoo", or "sd15" and "sdxl" with random weights, kept in `folder`."""

    device: str
    size: str
    folder: Path

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    @property
    def usual_mode(self) -> str:
        """The number format in which a candidate is computed by default on the device."""
        return "fp16" if self.cuda else "fp32"

    @property
    def label(self) -> str:
        """The size in words: "sd15 512²"."""
        return f"{self.size} {SIZES[self.size][0]}²"

    def parents(self) -> tuple[str, str]:
        """The references of two models. Random weights are written at the first call."""
        if self.size == "zoo":
            return "zoo:photo", "zoo:anime"
        self.folder.mkdir(parents=True, exist_ok=True)
        a, b = (write_parent(self.folder, self.size, seed, self.device) for seed in (0, 1))
        return a, b

    def merged(self, mode: str, alpha: float = 0.5, **changes: Any) -> Candidate:
        """A merge of the parents' U-Nets, computed in `mode`."""
        a, b = self.parents()
        model = Merge(a=a, b=b, alpha=alpha, parts=("unet",))
        return Candidate(name=f"{mode} {alpha:g}", model=model, quantization=mode, **changes)

    def grid(self, *, batch_size: int = 1, steps: int = 20, sampler: str = "dpmpp_2m") -> Grid:
        """Four prompts and eight seeds at the size's usual resolution; the zoo takes two steps."""
        side = SIZES[self.size][0]
        return Grid(prompts=PROMPTS, seeds=tuple(range(8)), guidance_scales=(5,), batch_size=batch_size, sampler=sampler,
                    steps=2 if self.size == "zoo" else steps, width=side, height=side)

    def bench(self, grid: Grid) -> Workbench:
        """A workbench without any model yet."""
        return Workbench(device=self.device, root=self.folder, steps=grid.steps)

    def live(self, candidate: Candidate, grid: Grid, bench: Workbench | None = None) -> Live:
        """The candidate ready to sample, and the prompts embedded."""
        bench = bench or self.bench(grid)
        phases = bench.prepare(candidate).phases
        texts = embedded(phases, grid.prompts)
        return Live(bench=bench, grid=grid, phases=phases, texts=texts)

    def wait(self) -> None:
        """Returns when the device is idle."""
        device_wait(self.device)()

    def on(self, device: str, size: str) -> Subject:
        """The same with another device and size."""
        return replace(self, device=device, size=size)


def cells_of(grid: Grid, count: int) -> tuple[Cell, ...]:
    """The first cells of a grid, prompt by prompt."""
    return tuple(Cell(prompt=prompt.id, seed=seed, guidance=grid.guidance_scales[0])
                 for seed in grid.seeds for prompt in grid.prompts)[:count]


def difference(one: Images, other: Images) -> Facts:
    """How far two sets of pictures are apart: the largest difference in levels of 255, the share of changed values, and PSNR in
    decibels, None where they are equal."""
    levels = np.abs(one.astype(int) - other.astype(int))
    mean_square = float((levels.astype(float) ** 2).mean())
    return {"largest_levels": int(levels.max()), "changed_share": float((levels > 0).mean()),
            "psnr_db": 10 * float(np.log10(255 ** 2 / mean_square)) if mean_square else None}


def failure(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
