"""Models whose first layer takes more than the others': the channels that both have are merged, the rest are A's."""

from __future__ import annotations

import pytest
import torch

from harness.materialise.library import Library, MaterialiseError
from harness.materialise.plan_recipe import plan_recipe
from tests.materialise.models import CONV_IN, made_file, merge, parent, write
from tests.materialise.tiny_dit import flux, sd3

State = dict[str, torch.Tensor]
PREFIX = "model.diffusion_model."


def unet(family: str):
    def made(seed: int, channels: int = 4) -> State:
        state = parent(seed, torch.float32, family)
        generator = torch.Generator().manual_seed(seed)
        shape = state[CONV_IN].shape
        more = torch.randn(shape[0], channels - shape[1], *shape[2:], generator=generator)
        return {**state, CONV_IN: torch.cat([state[CONV_IN], more], dim=1)}
    return made


def diffusers_flux(seed: int, patch: int = 3) -> State:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x_embedder.weight": (4, patch), "x_embedder.bias": (4,), "transformer_blocks.0.attn.to_q.weight": (4, 4),
              "single_transformer_blocks.0.attn.to_q.weight": (4, 4)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def diffusers_sd3(seed: int, channels: int = 3) -> State:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"pos_embed.proj.weight": (4, channels, 2, 2), "transformer_blocks.0.attn.add_q_proj.weight": (4, 4),
              "pos_embed.pos_embed": (1, 4, 4)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


CASES = [
    (flux, 18, "img_in.weight", "transformer"), (flux, 6, "img_in.weight", "transformer"),
    (diffusers_flux, 18, "x_embedder.weight", "transformer"), (sd3, 5, "x_embedder.proj.weight", "transformer"),
    (diffusers_sd3, 5, "pos_embed.proj.weight", "transformer"),
    *((unet(family), 9, CONV_IN, "unet") for family in ("sd1", "sd2", "sdxl")), (unet("sd1"), 8, CONV_IN, "unet")]


def ideal(key: str, wide: str, models: list[State], formula) -> torch.Tensor:
    a, *others = (model[key].double() for model in models)
    if key != wide:
        return formula(a, *others)
    count = others[0].shape[1]
    return torch.cat([formula(a[:, :count], *others), a[:, count:]], dim=1)


@pytest.mark.parametrize(("make", "channels", "wide", "part"), CASES)
def test_fill_plus_a_difference_keeps_the_further_channels_of_a(make, channels, wide, part, tmp_path):
    models = [make(1, channels), make(2), make(3)]
    for name, state in zip("abc", models, strict=True):
        write(tmp_path / f"{name}.safetensors", state)
    recipe = merge(method="add_difference", c="c.safetensors", alpha=1, parts=(part,))
    out = made_file(tmp_path, recipe)
    merged = [key for key in out if part == "transformer" or key.startswith(PREFIX)]
    for key in merged:
        expected = ideal(key, wide, models, lambda a, b, c: a + (b - c))
        assert torch.allclose(out[key].double(), expected, rtol=1e-6, atol=1e-6), key
    coverage = plan_recipe(recipe, Library(tmp_path)).parts[part].coverage
    assert len(coverage["merged_in_part"]) == 1


@pytest.mark.parametrize(("make", "channels", "wide", "part"), CASES)
def test_a_weighted_sum_keeps_them_too_and_the_wider_model_must_be_a(make, channels, wide, part, tmp_path):
    models = [make(1, channels), make(2)]
    for name, state in zip("ab", models, strict=True):
        write(tmp_path / f"{name}.safetensors", state)
    out = made_file(tmp_path, merge(parts=(part,)))
    expected = ideal(wide, wide, models, lambda a, b: 0.7 * a + 0.3 * b)
    assert torch.allclose(out[wide].double(), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(MaterialiseError, match="must be A"):
        made_file(tmp_path, merge(a="b.safetensors", b="a.safetensors", parts=(part,)))


def test_a_wider_model_merges_across_the_layouts(tmp_path):
    wide, narrow = flux(1, 18), diffusers_flux(2)
    write(tmp_path / "a.safetensors", wide)
    write(tmp_path / "b.safetensors", {key: narrow[key] for key in ("x_embedder.weight", "x_embedder.bias")})
    out = made_file(tmp_path, merge(parts=("transformer",), missing="keep_a"))
    first = 0.7 * wide["img_in.weight"][:, :3].double() + 0.3 * narrow["x_embedder.weight"].double()
    expected = torch.cat([first, wide["img_in.weight"][:, 3:].double()], dim=1)
    assert torch.allclose(out["img_in.weight"].double(), expected, atol=1e-6)
