"""Keys that a converter prefixed twice, wrapped or flattened are those of the usual spelling, and change the same weights."""

import pytest
import torch

from harness.adapters import AdapterError, read_changes, recognise_file
from harness.adapters.formats.spellings import usual_spelling
from tests.adapters import fixtures as fx

ATTENTION = "down_blocks_0_attentions_0_transformer_blocks_0_attn1"
ODD = {
    "lora_te2_transformer_resblocks_0_attn_in_proj.alpha": "lora_te2_transformer_resblocks_0_attn_in_proj.alpha",
    "lora_unet_unet_mid_block_attentions_0_proj_in.lora_down.weight": "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
    "lora_unet_lora_unet_mid_block_attentions_0_proj_in.alpha": "lora_unet_mid_block_attentions_0_proj_in.alpha",
    f"lora_unet_unet_{ATTENTION}_to_q_lora_down.weight": f"lora_unet_{ATTENTION}_to_q.lora_down.weight",
    f"lora_unet_unet_{ATTENTION}_processor_to_out_lora_up.weight": f"lora_unet_{ATTENTION}_to_out_0.lora_up.weight",
    f"lora_unet_{ATTENTION}_to_out_0_lora_up.weight": f"lora_unet_{ATTENTION}_to_out_0.lora_up.weight",
    f"lora_unet_{ATTENTION}_to_k_lora_A.weight": f"lora_unet_{ATTENTION}_to_k.lora_A.weight",
    "lora_te_text_encoder_text_model_encoder_layers_0_self_attn_to_q_lora_down.weight":
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
    "lora_unet_transformer_transformer_blocks_0_attn_to_q.lora_up.weight":
        "lora_unet_transformer_blocks_0_attn_to_q.lora_up.weight",
    "lora_unet_transformer_blocks_0_attn_to_q.lora_up.weight": "lora_unet_transformer_blocks_0_attn_to_q.lora_up.weight",
    "unet.unet.mid_block.x.lora_A.weight": "unet.mid_block.x.lora_A.weight",
    "transformer.transformer.transformer_blocks.0.a.lora_A.weight": "transformer.transformer_blocks.0.a.lora_A.weight",
    "diffusion_model.diffusion_model.img_in.lora_A.weight": "diffusion_model.img_in.lora_A.weight",
    "base_model.model.base_model.model.a.lora_A.weight": "base_model.model.a.lora_A.weight",
    "module.unet.a.lora_A.weight": "unet.a.lora_A.weight", "unet._orig_mod.a.lora_A.weight": "unet.a.lora_A.weight",
    "_orig_mod.module.unet.a.lora_A.weight": "unet.a.lora_A.weight",
    "model.model.diffusion_model.img_in.lora_B.weight": "model.diffusion_model.img_in.lora_B.weight",
    "model.base_model.model.a.lora_B.weight": "base_model.model.a.lora_B.weight",
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_key_has_a_usual_spelling(odd):
    assert usual_spelling(odd) == ODD[odd]
    assert usual_spelling(ODD[odd]) == ODD[odd]


FLAT = {"twice": ("lora_unet_", "lora_unet_unet_"), "with its own prefix": ("lora_unet_", "lora_unet_lora_unet_"),
        "flat ending": (".lora_", "_lora_")}
DOTTED = {"unet twice": ("unet.", "unet.unet."), "compiled": ("unet.", "unet._orig_mod."),
          "data-parallel": ("unet.", "module.unet.")}


@pytest.mark.parametrize(("base", "change"), [*((fx.kohya, c) for c in FLAT.values()), *(
    (lambda changes: fx.dotted(changes, "unet."), c) for c in DOTTED.values())], ids=[*FLAT, *DOTTED])
def test_the_odd_spelling_changes_the_same_weights_and_is_a_lora(tmp_path, base, change):
    shapes = {"unet": fx.sd1()["unet"]}
    changes = fx.loras(shapes, every=7, baked=base is not fx.kohya)
    tensors = base(changes)
    odd = {key.replace(*change, 1): tensor for key, tensor in tensors.items()}
    assert odd.keys() != tensors.keys()
    path = fx.save(tmp_path / "odd.safetensors", odd)
    assert recognise_file(path).kinds == ("lora",)
    plain = read_changes(fx.save(tmp_path / "plain.safetensors", tensors), shapes, "sd1").changes
    reading = read_changes(path, shapes, "sd1").changes
    assert plain.keys() == reading.keys()
    assert all(torch.equal(plain[place].tensors["down"], reading[place].tensors["down"]) for place in plain)


def test_a_matrix_called_weight_is_not_a_vector_of_ia3(tmp_path):
    key = "lora_unet_mid_block_attentions_0_proj_in.weight"
    with pytest.raises(AdapterError, match="format not recognised"):
        recognise_file(fx.save(tmp_path / "m.safetensors", {key: torch.ones(4, 4)}))
    vectors = {key: torch.ones(1, 4), key.replace(".weight", ".on_input"): torch.tensor(False)}
    assert recognise_file(fx.save(tmp_path / "v.safetensors", vectors)).kinds == ("ia3",)


def test_a_bare_row_is_named_an_aesthetic_gradient_and_a_file_without_tensors_says_so(tmp_path, capsys):
    from harness.cli import main

    torch.save(torch.ones(1, 768), tmp_path / "look.pt")
    fx.save(tmp_path / "none.safetensors", {})
    assert main(["inspect", str(tmp_path / "look.pt"), str(tmp_path / "none.safetensors")]) == 1
    said = capsys.readouterr()
    assert "aesthetic gradient" in said.out
    assert "AestheticGradient(path=" in said.out
    assert "it holds no tensors" in said.err
