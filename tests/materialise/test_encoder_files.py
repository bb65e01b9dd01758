"""Text encoders that are files or folders of their own: merged with each other, merged with a model's, and taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.materialise.library import MaterialiseError
from harness.weights import open_model
from tests.materialise.models import CONV_IN, made_file, merge, two, write

State = dict[str, torch.Tensor]
OPENCLIP = {"transformer.resblocks.0.attn.in_proj_weight": (24, 8), "transformer.resblocks.0.attn.in_proj_bias": (24,),
            "transformer.resblocks.0.mlp.c_fc.weight": (32, 8), "token_embedding.weight": (9, 8), "positional_embedding": (7, 8),
            "ln_final.weight": (8,), "text_projection": (8, 8), "logit_scale": ()}
T5 = {"shared.weight": (9, 8), "encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8), "encoder.final_layer_norm.weight": (8,),
      "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (4, 2),
      "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": (16, 8)}


def clip(prefix: str = "text_model.", layers: int = 1, projection: bool = False) -> dict[str, tuple[int, ...]]:
    names = {"embeddings.token_embedding.weight": (20, 8), "embeddings.position_embedding.weight": (7, 8),
             "final_layer_norm.weight": (8,)}
    for layer in range(layers):
        names |= {f"encoder.layers.{layer}.self_attn.q_proj.weight": (8, 8), f"encoder.layers.{layer}.mlp.fc1.weight": (32, 8),
                  f"encoder.layers.{layer}.layer_norm1.weight": (8,)}
    whole = {prefix + name: shape for name, shape in names.items()}
    return {**whole, **({"text_projection.weight": (8, 8)} if projection else {})}


def new(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


FILES = {"clip_l": clip(), "clip_l without text_model": clip(""), "clip_l with projection": clip(projection=True),
         "clip_g": clip(layers=32, projection=True), "openclip": OPENCLIP, "t5xxl": T5,
         "of ComfyUI": {f"text_encoders.clip_l.transformer.{name}": shape for name, shape in clip().items()}}


@pytest.mark.parametrize("which", FILES)
@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "text_encoder_3"])
def test_encoders_of_their_own_merge_under_any_part_that_the_recipe_names(which, part, tmp_path):
    a, b = new(FILES[which], 1), new(FILES[which], 2)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    out = made_file(tmp_path, merge(parts=(part,)))
    assert set(out) == set(a)
    for name in a:
        ideal = a[name].double() if name == "logit_scale" else 0.7 * a[name].double() + 0.3 * b[name].double()
        assert torch.allclose(out[name].double(), ideal, rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize(("which", "component"), [
    ("clip_l", "text_encoder"), ("clip_g", "text_encoder_2"), ("openclip", "text_encoder_2"), ("t5xxl", "text_encoder_2")])
def test_an_encoder_of_its_own_is_inspected(which, component, tmp_path, capsys):
    write(tmp_path / "m.safetensors", new(FILES[which], 1))
    assert main(["inspect", f"{tmp_path}/m.safetensors"]) == 0
    assert component in capsys.readouterr().out
    assert open_model(tmp_path / "m.safetensors").strays == ()


def standalone(root: Path, model: State, prefix: str) -> State:
    """Writes a model's text encoder as clip.safetensors, with other values."""
    encoder = {name.removeprefix(prefix): tensor * 3 if tensor.is_floating_point() else tensor
               for name, tensor in model.items() if name.startswith(prefix)}
    width = next(iter(tensor.shape[0] for name, tensor in encoder.items() if name.endswith("final_layer_norm.weight")), 2)
    write(root / "clip.safetensors", {**encoder, "text_projection.weight": torch.ones(width, width)})
    return encoder


@pytest.mark.parametrize(("family", "prefix"), [
    ("sd1", "cond_stage_model.transformer."), ("sdxl", "conditioner.embedders.0.transformer.")])
def test_an_encoder_is_taken_and_merged_into_a_model(family, prefix, tmp_path):
    a, _ = two(tmp_path, family=family)
    encoder = standalone(tmp_path, a, prefix)
    taken = made_file(tmp_path, merge(take={"text_encoder": "clip.safetensors"}))
    merged = made_file(tmp_path, merge(b="clip.safetensors", alpha=0.5, parts=("text_encoder",)))
    assert set(taken) == set(merged) == set(a)
    for name, tensor in encoder.items():
        if tensor.is_floating_point():
            assert torch.equal(taken[prefix + name], tensor), name
            assert torch.allclose(merged[prefix + name].double(), 2 * a[prefix + name].double(), rtol=2e-3), name
    assert torch.equal(merged[CONV_IN], a[CONV_IN])


def test_an_encoder_of_another_size_is_refused_by_name(tmp_path):
    two(tmp_path, family="sdxl")
    write(tmp_path / "clip.safetensors", new(clip(), 1))
    with pytest.raises(MaterialiseError, match=r"take text_encoder_2: .*clip\.safetensors"):
        made_file(tmp_path, merge(take={"text_encoder_2": "clip.safetensors"}))
