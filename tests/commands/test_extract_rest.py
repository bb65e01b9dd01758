"""What an extracted adapter does not hold in factors: norms and biases as differences, or left out by choice and said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.cli import main
from tests.materialise.models import parent, write
from tests.materialise.tiny_dit import flux, sd3

MAKERS = {"flux": flux, "sd3": sd3}


def extract(root: Path, layout: str, *more: str) -> int:
    return main(["adapter", "extract", "--base", f"{root}/base.safetensors", "--tuned", f"{root}/tuned.safetensors",
                 "--rank", "99", "--dtype", "fp32", "--layout", layout, "-o", f"{root}/l.safetensors", *more])


def fused(root: Path) -> dict[str, torch.Tensor]:
    base, adapter, out = (f"{root}/{name}.safetensors" for name in ("base", "l", "o"))
    assert main(["merge", "--a", base, "--adapter", adapter, "-o", out]) == 0
    return load_file(out)


def two(root: Path, family: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    base, tuned = MAKERS[family](1), {name: tensor * 1.25 for name, tensor in MAKERS[family](1).items()}
    write(root / "base.safetensors", base)
    write(root / "tuned.safetensors", tuned)
    return base, tuned


@pytest.mark.parametrize("layout", ["kohya", "comfyui"])
@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_norms_and_biases_are_written_as_differences(layout, family, tmp_path):
    base, tuned = two(tmp_path, family)
    if family == "sd3":  # the table of positions is no module's weight, so it has no place in an adapter
        tuned["pos_embed"] = base["pos_embed"].clone()
        write(tmp_path / "tuned.safetensors", tuned)
    assert extract(tmp_path, layout) == 0
    out = fused(tmp_path)
    assert all(torch.allclose(out[name], tuned[name], atol=1e-5) for name in tuned)


def test_a_tensor_that_is_no_module_s_is_left_out_by_choice_and_said_with_its_size(tmp_path, capsys):
    base, tuned = two(tmp_path, "sd3")
    assert extract(tmp_path, "comfyui") == 1
    assert "--leave-out" in capsys.readouterr().err
    assert extract(tmp_path, "comfyui", "--leave-out") == 0
    said = capsys.readouterr()
    largest = float((tuned["pos_embed"] - base["pos_embed"]).abs().max())
    assert f"'pos_embed' differs between the models by up to {largest:.3g}" in said.out + said.err
    out = fused(tmp_path)
    assert torch.equal(out["pos_embed"], base["pos_embed"])
    assert all(torch.allclose(out[name], tuned[name], atol=1e-5) for name in tuned if name != "pos_embed")


def test_peft_holds_the_factors_alone_and_says_what_it_leaves_out(tmp_path, capsys):
    base, tuned = two(tmp_path, "flux")
    assert extract(tmp_path, "peft") == 1
    assert "--leave-out" in capsys.readouterr().err
    assert extract(tmp_path, "peft", "--leave-out", "--report") == 0
    said = capsys.readouterr()
    norm = "double_blocks.0.img_attn.norm.key_norm"
    largest = float((tuned[f"{norm}.scale"] - base[f"{norm}.scale"]).abs().max())
    assert f"{norm} (w_norm) changes by up to {largest:.3g}" in said.out + said.err
    out = fused(tmp_path)
    for name, tensor in tuned.items():
        expected = tensor if name.endswith(".weight") else base[name]
        assert torch.allclose(out[name], expected, atol=1e-5), name


@pytest.mark.parametrize("layout", ["peft", "kohya"])
def test_embeddings_are_left_out_by_choice_and_said_or_written_for_comfyui_as_the_refusal_says(layout, tmp_path, capsys):
    base = parent(1, torch.float32)
    key = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
    layer = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
    tuned = {name: tensor * 1.25 if name in (key, layer) else tensor for name, tensor in base.items()}
    for name, state in (("base", base), ("tuned", tuned)):
        write(tmp_path / f"{name}.safetensors", state)
    assert extract(tmp_path, layout) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in ("position_embedding", "--leave-out", "layout 'comfyui' has"))
    assert extract(tmp_path, layout, "--leave-out") == 0
    largest = float((tuned[key] - base[key]).abs().max())
    assert f"position_embedding (weight) changes by up to {largest:.3g}" in capsys.readouterr().out
    out = fused(tmp_path)
    assert torch.equal(out[key], base[key]) and torch.allclose(out[layer], tuned[layer], atol=1e-5)
    assert extract(tmp_path, "comfyui") == 0
    assert all(torch.allclose(fused(tmp_path)[name], tuned[name], atol=1e-5) for name in (key, layer))


@pytest.mark.parametrize("part", ["text_encoder_3", "text_encoder_2", None])
def test_a_t5_of_its_own_is_extracted_under_any_part_that_is_named(part, tmp_path):
    shapes = {"shared.weight": (9, 8), "encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8),
              "encoder.final_layer_norm.weight": (8,)}
    base = {name: torch.ones(shape) for name, shape in shapes.items()}
    write(tmp_path / "base.safetensors", base)
    write(tmp_path / "tuned.safetensors", {**base, "encoder.block.0.layer.0.SelfAttention.q.weight": torch.full((8, 8), 2.0)})
    assert extract(tmp_path, "kohya", *(("--parts", part) if part else ())) == 0
    assert {name.partition(".")[0] for name in load_file(tmp_path / "l.safetensors")} == {
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q"}
