"""Runs whose images are painted: model files are hashed and recipes planned as always, but no pipeline is built and nothing is
sampled. For tests of what a run does with images: order, journal, resuming, races, gates, pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness import Grid
from harness.declare import Candidate
from harness.executors.maker import Maker
from harness.materialise import Workbench
from harness.post import PostProcess
from harness.probes.clock import Stopwatch
from harness.records import PHASES, Cell, Coverage
from harness.weights import ModelFile, Pipeline, shape_pipeline


class PaintedBench(Workbench):
    """Plans and identifies candidates as the real one does; what it prepares is a colour."""

    def prepare(self, candidate: Candidate, group: int = 0) -> Any:
        prompts = self.groups(candidate)[group].prompts
        return colour(candidate.name, self.raw_weights(candidate).of(prompts[0] if prompts else ""), self.post(candidate))


def colour(candidate: str, key: str, post: PostProcess | None = None) -> Any:
    """A candidate ready to be painted: every image follows from its key and the cell."""
    import torch

    part = torch.nn.Linear(4, 4)
    pipeline = SimpleNamespace(device="cpu", parts={"unet": part}, denoiser=part, vae=part, encoders=(), controls=(),
                               references=())
    branch = SimpleNamespace(enter=lambda: pipeline)
    phase = SimpleNamespace(enter=branch.enter, branches=(branch,), key=key, streams=SimpleNamespace(remark=""))
    rows = tuple(Coverage(candidate=candidate, stage="merge", component=part, keys={}) for part in ("unet", "vae"))
    return SimpleNamespace(phases=(phase,), every_phase=(phase,), coverage=rows, stages=(), post=post, pipeline=phase.enter(),
                           candidate=None)


def paint(phases: Any, grid: Grid, todo: Any, texts: object = None, broken: Callable[[Cell, str], None] | None = None,
          later: object = None) -> Iterator[tuple[tuple[Cell, ...], np.ndarray]]:
    """In place of sampling: a gradient of two colours per candidate and cell, whatever the batch."""
    across = np.linspace(0, 1, grid.width)[None, :, None]
    down = np.ones((grid.height, 1, 1))
    for cells in todo:
        yield cells, np.stack([(ends[0] * (1 - across) * down + ends[1] * across * down).astype(np.uint8) for ends in (
            np.random.default_rng([int(phases[0].key, 16), cell.noise_seed, int(1000 * cell.guidance)]).integers(256, size=(2, 3))
            for cell in cells)])


def pass_time(phases: Sequence[Any], grid: Grid, cell: Cell, watch: Stopwatch, *_: object) -> None:
    """In place of timing an image: every phase passes, in no time."""
    for name in PHASES:
        if name != "total":
            with watch.phase(name):
                pass


def without_encoders(model: ModelFile, config: Path | None = None) -> Pipeline:
    """The shapes of a model, of which no prompt is read; those of a file are made once."""
    status = model.path.stat()
    return _without_encoders(_Opened(model=model, place=(str(model.path), status.st_mtime_ns, status.st_size)), config)


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A model file that equals another if it is the same one."""

    model: ModelFile = field(compare=False)
    place: tuple[object, ...]


@lru_cache(maxsize=8)
def _without_encoders(of: _Opened, config: Path | None) -> Pipeline:
    return replace(shape_pipeline(of.model, config), encoders=())


def paint_runs(patch: pytest.MonkeyPatch, bench: type = PaintedBench, painting: Callable[..., Any] = paint) -> None:
    """From here on every run of this process is painted, by `painting` in place of `paint`."""
    for user in ("harness.run.suite_run", "harness.run.shared_setting"):
        patch.setattr(f"{user}.Workbench", bench)
    patch.setattr("harness.materialise.workbench.shape_pipeline", without_encoders)
    patch.setattr("harness.executors.maker.sample", painting)
    patch.setattr("harness.executors.maker.lengths_of", lambda *_: lambda _: ())
    patch.setattr("harness.run.latency.time_one", pass_time)
    patch.setattr("harness.run.latency.free_memory", lambda _: None)
    patch.setattr(Maker, "_embeddings", lambda *_: {})
