"""Savers of transformers: attention by one kernel, and what acts on U-Nets alone is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness import Candidate
from harness.materialise import MaterialiseError, Workbench
from harness.records import Cell
from harness.sampling import embedded, entered
from harness.sampling.denoise import called
from tests.fakes import PROMPTS, tiny_grid
from tests.savers.settings import process_settings
from tests.weights.pipelines import folder_of, theirs

GRID = tiny_grid(steps=2, width=16, height=16, batch_size=1, sampler="flow_euler", guidance_scales=(2,))


@pytest.fixture(scope="module", params=["sd3", "flux-schnell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(theirs(request.param), tmp_path_factory.mktemp(request.param))


def made(folder: Path, *savers: str) -> tuple[torch.Tensor, set[str]]:
    """Latents of a picture, and the attention kernels that made them."""
    bench = Workbench.for_grid(GRID, device="cpu", root=folder)
    (phase,) = bench.prepare(Candidate(name="c", model=str(folder), savers=savers)).phases
    (branch,) = entered(phase, embedded([phase], PROMPTS[:1]))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        latents = called(branch.pipeline, GRID, (Cell(prompt="star", seed=1, guidance=2),), branch.text)
    names = {event.key for event in profile.key_averages()}
    return latents, {kernel for kernel in ("flash_attention_for_cpu", "attention_math")
                     if f"aten::_scaled_dot_product_{kernel}" in names}


def test_attention_is_computed_by_the_named_kernel_and_nothing_is_left_behind(folder: Path) -> None:
    settings = process_settings()
    plain, usual = made(folder)
    chosen, kernels = made(folder, "sdpa_math")
    again, after = made(folder)
    assert (usual, kernels, after) == ({"flash_attention_for_cpu"}, {"attention_math"}, {"flash_attention_for_cpu"})
    assert torch.equal(plain, again)
    assert torch.allclose(plain, chosen, rtol=1e-3, atol=1e-3)
    assert process_settings() == settings


@pytest.mark.parametrize("name", ["attention_slicing", "channels_last", "fuse_qkv"])
def test_savers_of_u_nets_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(MaterialiseError, match=f"{name}.*U-Net"):
        Workbench.for_grid(GRID, device="cpu", root=folder).inspect(Candidate(name="c", model=str(folder), savers=(name,)))
