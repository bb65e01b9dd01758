"""OpenCLIP's names of a text encoder's layers in adapter files, on models in either spelling: exact by rows, or refused."""

import pytest
import torch

from harness.adapters.kinds import plain_delta
from harness.adapters.live_plan import AdapterError
from harness.adapters.reading import read_changes
from tests.adapters import fixtures as fx

W = 12
LAYER = {"attn.in_proj": (3 * W, W), "attn.out_proj": (W, W), "mlp.c_fc": (2 * W, W), "mlp.c_proj": (W, 2 * W)}
THEIRS = {f"transformer.resblocks.{n}.{name}": shape for n in (0, 1) for name, shape in LAYER.items()}
PART = "text_encoder_2"


def deltas(folder, tensors, modules):
    reading = read_changes(fx.save(folder / "a.safetensors", tensors), {PART: modules}, "sdxl")
    fx.closes(reading, tensors)
    return {path: plain_delta(change, torch.zeros(modules[path])) for (_, path), change in reading.changes.items()}


@pytest.mark.parametrize("stem", ["text_model.", ""])
@pytest.mark.parametrize("prefix", [
    "lora_te2_transformer_resblocks_1_attn_in_proj", "lora_te2_model_transformer_resblocks_1_attn_in_proj",
    "text_encoder_2.transformer.resblocks.1.attn.in_proj"])
def test_a_fused_projection_of_the_file_is_split_by_rows(prefix, stem, tmp_path):
    up, down = torch.randn(3 * W, 2), torch.randn(2, W)
    found = deltas(tmp_path, {f"{prefix}.lora_up.weight": up, f"{prefix}.lora_down.weight": down}, fx.clip_shapes(W, prefix=stem))
    assert list(found) == [f"{stem}encoder.layers.1.self_attn.{part}_proj" for part in "qkv"]
    torch.testing.assert_close(torch.cat(list(found.values())), up @ down)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_single_projections_of_kohyas_file_join_onto_a_fused_one(prefix, tmp_path):
    modules = {prefix + path: shape for path, shape in THEIRS.items()}
    stem = "lora_te2_text_model_encoder_layers_0_self_attn_"
    pairs = {part: (torch.randn(W, 2), torch.randn(2, W)) for part in "qv"}
    tensors = {f"{stem}{part}_proj.{name}.weight": value for part, (up, down) in pairs.items()
               for name, value in (("lora_up", up), ("lora_down", down))}
    found = deltas(tmp_path, tensors, modules)[f"{prefix}transformer.resblocks.0.attn.in_proj"]
    torch.testing.assert_close(found[:W], pairs["q"][0] @ pairs["q"][1])
    assert not found[W:2 * W].any()
    torch.testing.assert_close(found[2 * W:], pairs["v"][0] @ pairs["v"][1])


def test_a_projection_and_a_part_of_it_are_an_error_that_names_both(tmp_path):
    tensors = {f"lora_te2_{name}.lora_{half}.weight": torch.ones(shape) for name, rows in (
        ("transformer_resblocks_0_attn_in_proj", 3 * W), ("text_model_encoder_layers_0_self_attn_k_proj", W))
        for half, shape in (("up", (rows, 1)), ("down", (1, W)))}
    with pytest.raises(AdapterError, match=r"(?=.*in_proj)(?=.*k_proj).*both change"):
        deltas(tmp_path, tensors, fx.clip_shapes(W))


def test_dora_over_columns_of_a_fused_projection_is_refused_by_name_and_the_rest_is_applied(tmp_path):
    stem = "lora_te2_transformer_resblocks_0_"
    tensors = {f"{stem}{name}.lora_{half}.weight": torch.ones(shape)
               for name, rows in (("attn_in_proj", 3 * W), ("attn_out_proj", W))
               for half, shape in (("up", (rows, 1)), ("down", (1, W)))} | {f"{stem}attn_in_proj.dora_scale": torch.ones(1, W)}
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), {PART: fx.clip_shapes(W)}, "sdxl")
    assert set(reading.changes) == {(PART, "text_model.encoder.layers.0.self_attn.out_proj")}
    assert all("in_proj" in key and "columns" in reading.reasons[key] for key in reading.keys[PART]["refused"])


def test_openclips_transposed_projection_is_refused_by_name(tmp_path):
    modules = fx.clip_shapes(W) | {"text_projection": (W, W)}
    tensors = {f"lora_te2_model_text_projection.lora_{half}.weight": torch.ones(shape)
               for half, shape in (("up", (W, 1)), ("down", (1, W)))}
    with pytest.raises(AdapterError, match="lora_te2_model_text_projection"):
        deltas(tmp_path, tensors, modules)


def test_block_diagonal_factors_of_a_text_encoder_have_the_alpha_of_the_whole(tmp_path):
    """Only transformers are trained in parts with the alpha of one of them."""
    stem = "lora_te2_transformer_resblocks_0_attn_in_proj"
    tensors = {f"{stem}.lora_up.weight": torch.block_diag(*[torch.ones(W, 1)] * 3), f"{stem}.lora_down.weight": torch.ones(3, W),
               f"{stem}.alpha": torch.tensor(1.5)}
    assert all(bool((delta == 0.5).all()) for delta in deltas(tmp_path, tensors, fx.clip_shapes(W)).values())
