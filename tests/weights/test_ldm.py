"""Names go from diffusers to LDM and back without loss, for uneven models too, and agree with diffusers' own reader."""

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from harness.weights import ldm
from tests.weights.tiny import tiny

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
SHAPES = [(1, (CROSS, PLAIN)), (2, (CROSS, PLAIN)), (1, (PLAIN, CROSS)), (2, (CROSS, CROSS, PLAIN)), (3, (PLAIN, CROSS))]


@pytest.mark.parametrize(("layers", "down"), SHAPES)
def test_names_come_back_as_they_went(layers, down):
    model = tiny(layers, down)
    for keys, there, back in ((model.unet, ldm.unet_to_ldm, ldm.unet_to_diffusers),
                              (model.vae, ldm.vae_to_ldm, ldm.vae_to_diffusers),
                              (model.text_encoder, ldm.text_to_ldm, ldm.text_to_diffusers)):
        names = there(keys)
        assert {back(names.values())[theirs]: theirs for theirs in names.values()} == names
        assert list(names) == list(keys)


@pytest.mark.parametrize(("layers", "down"), SHAPES)
def test_diffusers_reads_the_exported_file_as_the_same_tensors(layers, down):
    model = tiny(layers, down)
    file = model.file()
    for ours, theirs in ((model.unet, convert_ldm_unet_checkpoint(dict(file), model.configs["unet"])),
                         (model.vae, convert_ldm_vae_checkpoint(dict(file), model.configs["vae"]))):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_known_names_of_stable_diffusion_1_map_as_published():
    names = ldm.unet_to_ldm(tiny(2, (CROSS, CROSS, PLAIN)).unet)
    assert names["conv_in.weight"] == "input_blocks.0.0.weight"
    assert names["down_blocks.1.resnets.0.conv_shortcut.weight"] == "input_blocks.4.0.skip_connection.weight"
    assert names["down_blocks.0.downsamplers.0.conv.bias"] == "input_blocks.3.0.op.bias"
    assert names["up_blocks.0.upsamplers.0.conv.weight"] == "output_blocks.2.1.conv.weight"
    assert names["up_blocks.1.upsamplers.0.conv.weight"] == "output_blocks.5.2.conv.weight"
    assert names["mid_block.attentions.0.norm.weight"] == "middle_block.1.norm.weight"


@pytest.mark.parametrize(("rename", "key"), [
    (ldm.unet_to_ldm, "down_blocks.0.resnets.0.conv9.weight"), (ldm.unet_to_diffusers, "input_blocks.1.0.in_layers.9.weight"),
    (ldm.unet_to_diffusers, "label_emb.1.0.weight"), (ldm.unet_to_ldm, "down_blocks.x.resnets.0.conv1.weight"),
    (ldm.unet_to_diffusers, "input_blocks.4294967296.0.op.weight"), (ldm.unet_to_diffusers, "out.2.scale"),
    (ldm.unet_to_ldm, "mid_block.attentions.0.transformer_blocks.0.attn3.to_q.weight"),
    (ldm.vae_to_diffusers, "decoder.up.4294967296.block.0.norm1.weight"), (ldm.vae_to_ldm, "encoder.conv_middle.weight"),
    (ldm.vae_to_diffusers, "decoder.up.0.attn.0.q.weight"), (ldm.text_to_ldm, "encoder.layers.0.mlp.fc3.weight"),
    (ldm.text_to_diffusers, "embeddings.position_ids")])
def test_a_name_without_a_place_is_refused_by_name(rename, key):
    with pytest.raises(KeyError, match=key.replace(".", r"\.")):
        rename([key])


def test_numbers_that_no_vae_has_are_not_counted_up_to():
    with pytest.raises(KeyError, match=r"decoder\.up\.999"):
        ldm.vae_to_diffusers(["decoder.up.999.block.999.norm1.weight"])


def test_text_names_are_known_with_and_without_their_old_prefix():
    names = ldm.text_to_ldm(["text_model.final_layer_norm.bias", "encoder.layers.0.mlp.fc1.weight"])
    assert list(names.values()) == ["final_layer_norm.bias", "encoder.layers.0.mlp.fc1.weight"]


def test_attention_names_of_early_diffusers_are_known():
    old = "decoder.mid_block.attentions.0.proj_attn.weight"
    assert ldm.vae_to_ldm([old]) == {old: "decoder.mid.attn_1.proj_out.weight"}


def test_export_writes_position_ids_as_integers_in_order():
    ids = tiny(dtype=torch.float16).file()[ldm.TEXT_PREFIX + ldm.POSITION_IDS]
    assert ids.dtype == torch.int64
    assert torch.equal(ids, torch.arange(77)[None])


def test_export_writes_the_vae_attention_as_convolutions():
    weight = tiny().file()[ldm.VAE_PREFIX + "encoder.mid.attn_1.q.weight"]
    assert weight.shape == (12, 12, 1, 1)
