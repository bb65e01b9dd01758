"""The host never waits for the device within a denoising step: a step is launched while the one before is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Candidate
from harness.declare import Grid
from harness.materialise import Workbench
from harness.records import Cell
from harness.samplers import SAMPLERS
from harness.sampling import Denoising, encode
from harness.sampling.denoise import called
from tests.fakes import tiny_grid
from tests.rehearsal.gpu import Gpu
from tests.rehearsal.making import MIDDLE, candidate, sketch
from tests.rehearsal.simulated_cuda import simulated
from tests.run.test_any_family import grid_of
from tests.weights.pipelines import CALLED, folder_of, theirs

SENT = {"euler_a": "its noise is drawn on the host, image by image", "unipc": "diffusers sends its coefficients"}
"""Samplers of which each step sends a few numbers to the device, and why."""


def waits_within_steps(bench: Workbench, gpu: Gpu, of: Candidate, grid: Grid) -> set[str]:
    """The kinds of waits in more steps than the first two, of which the second is a call of its own."""
    (phase,) = bench.prepare(of).phases
    text = encode(phase.enter(), grid.prompts, phase.treatment)
    cells = tuple(Cell(prompt=prompt.id, seed=1, guidance=grid.guidance_scales[-1]) for prompt in grid.prompts[:2])
    run, counts = Denoising(phase.enter(), grid, cells), []
    for until in (1, 2, grid.steps):
        gpu.forget_counts()
        run.advance(phase.enter(), text, until)
        counts.append(dict(gpu.waits))
        assert gpu.operations
    return {kind for kind, count in counts[2].items() if count > counts[1].get(kind, 0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("waits")
    for family in ("sd1", *CALLED):
        folder_of(theirs(family), root / family)
    return root


@pytest.mark.parametrize("sampler", [name for name, row in SAMPLERS.items() if not row.flow])
def test_no_sampler_waits_in_a_step(sampler: str, folder: Path) -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folder, steps=5)
        waits = waits_within_steps(bench, gpu, candidate(model="sd1"), grid_of("sd1", steps=5, sampler=sampler))
    assert waits == ({"copy to device"} if sampler in SENT else set())


def test_no_number_format_waits_in_a_step(folder: Path) -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folder, steps=5)
        for mode in ("fp32", "fp16", "bf16", "int8_weight_only", "int4_weight_only"):
            of = candidate(model=MIDDLE, adapters=sketch("-loha"), quantization=mode)
            assert not waits_within_steps(bench, gpu, of, tiny_grid(steps=5)), mode


@pytest.mark.parametrize("family", CALLED)
def test_more_steps_of_a_diffusers_pipeline_are_no_more_waits(family: str, folder: Path) -> None:
    waits = []
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folder, steps=2)
        pipeline = bench.prepare(candidate(model=family)).pipeline
        for steps in (2, 6):
            grid = grid_of(family, steps=steps)
            text = encode(pipeline, grid.prompts)
            gpu.forget_counts()
            called(pipeline, grid, (Cell(prompt=grid.prompts[0].id, seed=1, guidance=3),), text)
            waits.append(dict(gpu.wait_sites))
    assert waits[0] == waits[1]
