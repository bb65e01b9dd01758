"""The denoiser of each class that is sampled by its own pipeline: it computes with the merged and adapted weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Adapter, Candidate, Merge, Prompt
from harness.own_pipelines import OWN
from tests.own_pipelines.own_bench import apart, by_diffusers, diffusers_pipeline, grid_for, images_of, prepared
from tests.tiny_pipelines.row import denoiser

State = dict[str, torch.Tensor]
ALPHA, STRENGTH = 0.5, 0.8


@pytest.mark.parametrize("name", OWN)
def test_a_merge_with_an_adapter_is_what_the_pipeline_computes_with(name: str, tiny_pipeline: Callable[[str], Path],
                                                                    tmp_path: Path) -> None:
    folder, drawing = tiny_pipeline(name), torch.Generator().manual_seed(1)
    file = next(folder.glob("[tu][rn]*/diffusion_pytorch_model.safetensors"))
    first = load_file(file)
    second = {key: tensor + 0.2 * torch.randn(tensor.shape, generator=drawing) for key, tensor in first.items()}
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    save_file(second, other / file.relative_to(folder), metadata={"format": "pt"})
    low_rank = drawn_lora(first, drawing)
    save_file({f"{file.parent.name}.{key}": tensor for key, tensor in low_rank.items()}, tmp_path / "lora.safetensors")

    grid = grid_for(name, prompts=(Prompt(id="p", text="a red cat"),), seeds=(0,), guidance_scales=(1.0,))
    images = images_of(prepared(Candidate(name="m", model=Merge(a=str(folder), b=str(other), alpha=ALPHA), adapters=(
        Adapter(path=str(tmp_path / "lora.safetensors"), weight=STRENGTH),)), grid), grid)
    pipe = diffusers_pipeline(name, folder)
    denoiser(pipe).load_state_dict(by_hand(first, second, low_rank))
    assert apart(images, {cell: by_diffusers(pipe, grid, cell) for cell in images}) <= 1


def drawn_lora(state: State, drawing: torch.Generator) -> State:
    """Rank 2, on two matrices of the attention, by the names of diffusers' modules."""
    chosen = [key.removesuffix(".weight") for key, tensor in sorted(state.items())
              if tensor.ndim == 2 and key.endswith(".weight") and ("to_q" in key or "qkv" in key or "attn.to" in key)][:2]
    assert chosen
    drawn = {}
    for module in chosen:
        rows, columns = state[f"{module}.weight"].shape
        drawn[f"{module}.lora_A.weight"] = torch.randn((2, columns), generator=drawing)
        drawn[f"{module}.lora_B.weight"] = torch.randn((rows, 2), generator=drawing)
    return drawn


def by_hand(first: State, second: State, low_rank: State) -> State:
    """The weighted sum plus the product of the two factors, in float64, rounded once."""
    merged = {key: (1 - ALPHA) * tensor.double() + ALPHA * second[key].double() for key, tensor in first.items()}
    for key in low_rank:
        if (module := key.removesuffix(".lora_B.weight")) != key:
            merged[f"{module}.weight"] += STRENGTH * low_rank[key].double() @ low_rank[f"{module}.lora_A.weight"].double()
    return {key: tensor.to(first[key].dtype) for key, tensor in merged.items()}
