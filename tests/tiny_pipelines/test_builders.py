"""Each tiny pipeline is one that diffusers itself loads and samples, and its images depend on all they should depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tests.tiny_pipelines import BUILDERS, TINY
from tests.tiny_pipelines.row import denoiser, generators

Folder = Callable[[str], Path]


def loaded(folder: Path) -> Any:
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pixels(pipe: Any, call: Mapping[str, Any], prompt: str = "a red cat", seed: int = 5) -> np.ndarray[Any, Any]:
    """Values from 0 to 255."""
    return np.asarray(pipe(prompt=prompt, generator=generators(1, seed), output_type="np", **call)[0]) * 255


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_an_image_depends_on_prompt_seed_and_denoiser_alone(name: str, tiny_pipeline: Folder) -> None:
    pipe, call = loaded(tiny_pipeline(name)), TINY[name].call
    first = pixels(pipe, call)
    assert np.isfinite(first).all() and first.std() > 8
    assert np.array_equal(first, pixels(pipe, call))
    others = {"seed": pixels(pipe, call, seed=6), "prompt": pixels(pipe, call, "zebra 7")}
    for tensor in denoiser(pipe).parameters():
        tensor.data.mul_(1.1)
    others["denoiser"] = pixels(pipe, call)
    assert {what: bool(np.abs(other - first).mean() > 1) for what, other in others.items()} == dict.fromkeys(others, True)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_tiny_pipeline_is_small_and_its_weights_are_safetensors(name: str, tiny_pipeline: Folder) -> None:
    files = [path for path in tiny_pipeline(name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert not {path.suffix for path in files} - {".json", ".safetensors", ".jinja", ".txt", ".model"}


def test_a_tiny_pipeline_is_the_same_each_time(tmp_path: Path, tiny_pipeline: Folder) -> None:
    torch.manual_seed(1)
    BUILDERS["PixArtSigmaPipeline"](tmp_path)
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / weights).read_bytes() == (tiny_pipeline("PixArtSigmaPipeline") / weights).read_bytes()


def test_what_had_no_tiny_pipeline_still_cannot_have_one() -> None:
    """Where this fails, the class gets a row with parts."""
    assert {name for name, row in TINY.items() if row.reason} == {
        "Cosmos2TextToImagePipeline", "StableCascadeCombinedPipeline", "WuerstchenCombinedPipeline"}
    assert not hasattr(diffusers, "PaellaVQModel") and not hasattr(diffusers.pipelines, "wuerstchen")
    assert find_spec("cosmos_guardrail") is None
