"""Adapters change a layer where it is called: in each pipeline's denoiser, those that are not called have no effect at all, or
their adapters are fused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter
from harness.adapters.attach import can_be_live
from harness.own_pipelines import OWN
from tests.own_pipelines.own_bench import apart, by_diffusers, diffusers_pipeline, grid_for, sampled
from tests.tiny_pipelines import BUILDERS, TINY
from tests.tiny_pipelines.row import denoiser, generators

Folder = Callable[[str], Path]


@pytest.mark.parametrize("name", sorted(OWN.keys() & BUILDERS.keys()))
def test_a_layer_that_is_not_called_does_not_matter_or_is_fused(name: str, tiny_pipeline: Folder) -> None:
    pipe = diffusers_pipeline(name, tiny_pipeline(name))
    layers = {path: layer for path, layer in denoiser(pipe).named_modules()
              if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and can_be_live(path)}
    called: set[str] = set()
    for path, layer in layers.items():
        layer.register_forward_hook(lambda *_, path=path: called.add(path))

    def image() -> np.ndarray:
        return np.asarray(pipe(prompt="a red cat", generator=generators(1), output_type="np", **TINY[name].call)[0])

    before = image()
    assert called
    if layers.keys() == called:
        return
    with torch.no_grad():
        for path in layers.keys() - called:
            layers[path].weight.add_(1)
    assert np.array_equal(before, image())


def test_an_adapter_of_a_layer_that_is_read_but_not_called_is_in_effect(tiny_pipeline: Folder, tmp_path: Path) -> None:
    name, path = "HunyuanDiTPipeline", "time_extra_emb.pooler.v_proj"
    folder, grid = tiny_pipeline(name), grid_for("HunyuanDiTPipeline", seeds=(0,))
    pipe = diffusers_pipeline(name, folder)
    layer = pipe.transformer.get_submodule(path)
    drawing = torch.Generator().manual_seed(2)
    down, up = (torch.randn(shape, generator=drawing) for shape in ((2, layer.in_features), (layer.out_features, 2)))
    file = tmp_path / "lora.safetensors"
    save_file({f"transformer.{path}.lora_A.weight": down, f"transformer.{path}.lora_B.weight": up}, file)
    images = sampled(folder, grid, adapters=(Adapter(path=str(file), weight=0.5),))
    with torch.no_grad():
        layer.weight.add_(0.5 * up @ down)
    assert apart(images, {cell: by_diffusers(pipe, grid, cell) for cell in images}) <= 1
    assert apart(images, sampled(folder, grid)) > 2
