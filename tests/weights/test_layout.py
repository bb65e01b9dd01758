"""Folders and single files of one model are the same tensors under the same names, both ways and bit for bit."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from harness.weights import ModelFileError, layout_of, naming, open_model, single_file_layout
from tests.weights.tiny import tiny
from tests.weights.tiny_families import _VAE, FAMILIES, made, states, text_config, unet_config, write_folder

TOWERS = {"sdxl": "conditioner.embedders.1.model.", "sdxl_refiner": "conditioner.embedders.0.model.",
          "sd2": "cond_stage_model.model."}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """The family's name, its states, its folder and the single file made of the folder."""
    place = tmp_path_factory.mktemp(request.param)
    parts = states(request.param)
    folder = open_model(write_folder(place / "folder", parts))
    save_file(made(folder, single_file_layout(folder)), place / "model.safetensors")
    return request.param, parts, folder, place / "model.safetensors"


def assert_same(model, parts):
    assert model.components.keys() == parts.keys()
    for component, state in parts.items():
        tensors = model.tensors(component)
        assert tensors.keys() == state.keys()
        assert all(torch.equal(tensors[name], state[name]) for name in state)
        assert {n: i.shape for n, i in model.components[component].items()} == {n: tuple(t.shape) for n, t in state.items()}


def test_a_folder_opens_as_what_was_saved(family):
    name, parts, folder, _ = family
    assert (folder.family, folder.layout, folder.is_folder) == (name, "diffusers", True)
    assert_same(folder, parts)


def test_the_single_file_of_a_folder_opens_as_the_same_tensors(family):
    name, parts, _, path = family
    model = open_model(path)
    assert (model.family, model.is_folder) == (name, False)
    assert model.layout == ("sgm" if name.startswith("sdxl") else "ldm")
    assert model.warnings == ()
    assert model.strays == ()
    assert_same(model, parts)


def test_the_layout_of_a_single_file_makes_the_same_file(family):
    model = open_model(family[3])
    file = model.files[model.path]
    again = made(model, layout_of(model))
    assert list(again) == list(file.stored)
    assert all(torch.equal(tensor, file.read([name])[name]) for name, tensor in again.items())


def test_diffusers_reads_the_single_file_as_the_same_unet_and_vae(family):
    name, parts, folder, _ = family
    file = made(folder, single_file_layout(folder))
    for component, theirs in (("unet", convert_ldm_unet_checkpoint(dict(file), unet_config(name))),
                              ("vae", convert_ldm_vae_checkpoint(dict(file), _VAE))):
        assert theirs.keys() == parts[component].keys()
        assert all(torch.equal(theirs[key], tensor) for key, tensor in parts[component].items())


@pytest.mark.parametrize("name", ["sdxl", "sdxl_refiner"])
def test_diffusers_reads_the_fused_tower_as_the_same_encoder(tmp_path, name):
    parts = states(name)
    folder = open_model(write_folder(tmp_path, parts))
    file = made(folder, single_file_layout(folder))
    module = CLIPTextModelWithProjection(CLIPTextConfig(**text_config(20, 3, projection_dim=20)))
    theirs = convert_open_clip_checkpoint(module, file, prefix=TOWERS[name])
    theirs = {key.removeprefix("text_model."): tensor for key, tensor in theirs.items()}
    ours = parts["text_encoder_2"]
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


def test_the_offset_of_every_tensor_leads_to_its_first_value(family):
    model = open_model(family[3])
    data = model.path.read_bytes()
    for component, infos in model.components.items():
        for key, info in infos.items():
            tensor = model.tensor(component, key)
            stored = (tensor.T if info.transposed else tensor).contiguous().reshape(-1)
            assert data[info.offset:info.offset + info.bytes] == stored.numpy().tobytes(), (component, key)


def test_query_key_and_value_are_thirds_of_one_stored_tensor(family):
    name, _, _, path = family
    if name == "sd1":
        pytest.skip("SD1's encoder is not fused")
    component = "text_encoder" if name == "sd2" else "text_encoder_2"
    infos = open_model(path).components[component]
    query, key, value = (infos[f"encoder.layers.0.self_attn.{part}_proj.weight"] for part in "qkv")
    width = query.shape[0]
    assert query.source == key.source == value.source
    assert [i.rows for i in (query, key, value)] == [(0, width), (width, 2 * width), (2 * width, 3 * width)]
    assert key.offset - query.offset == width * width * 4


def whole_tower(file, layers):
    """An SD2 file as Stability wrote it: one layer more than diffusers keeps, a projection and a temperature."""
    last = {name.replace("resblocks.0.", f"resblocks.{layers}."): tensor + 1 for name, tensor in file.items()
            if "resblocks.0." in name}
    return {**file, **last, "cond_stage_model.model.text_projection": torch.ones(12, 12),
            "cond_stage_model.model.logit_scale": torch.ones(())}


def test_sd2_files_keep_the_layer_that_diffusers_drops_beside_the_encoder(tmp_path):
    parts = states("sd2")
    folder = open_model(write_folder(tmp_path / "folder", parts))
    file = whole_tower(made(folder, single_file_layout(folder)), 3)
    save_file(file, tmp_path / "m.safetensors")
    model = open_model(tmp_path / "m.safetensors")
    assert_same(model, parts)
    assert len(model.other) == 12 + 2
    assert model.strays == ()
    again = made(model, layout_of(model))
    assert all(torch.equal(again[name], tensor) for name, tensor in file.items())


def test_a_projection_is_transposed_though_it_is_square(tmp_path):
    parts = states("sdxl")
    folder = open_model(write_folder(tmp_path / "folder", parts))
    placed = next(p for p in single_file_layout(folder) if p.name.endswith("text_projection"))
    assert placed.transposed
    assert torch.equal(made(folder, (placed,))[placed.name], parts["text_encoder_2"]["text_projection.weight"].T)


def test_position_ids_are_made_anew_as_integers(tmp_path):
    placed = [p for p in single_file_layout(open_model(write_folder(tmp_path, states("sdxl")))) if p.role == "position_ids"]
    assert [(p.name, p.dtype, p.shape, p.source, p.pieces) for p in placed] == [
        ("conditioner.embedders.0.transformer.text_model.embeddings.position_ids", "I64", (1, 77), None, ())]


def test_a_fused_tensor_of_three_dtypes_is_stored_wide_enough(tmp_path):
    parts = states("sdxl", torch.float16)
    key = "encoder.layers.0.self_attn.{}_proj.bias"
    parts["text_encoder_2"][key.format("k")] = parts["text_encoder_2"][key.format("k")].bfloat16()
    layout = single_file_layout(open_model(write_folder(tmp_path, parts)))
    dtypes = {p.name: p.dtype for p in layout}
    assert dtypes[TOWERS["sdxl"] + "transformer.resblocks.0.attn.in_proj_bias"] == "F32"
    assert dtypes[TOWERS["sdxl"] + "transformer.resblocks.1.attn.in_proj_bias"] == "F16"


def test_a_folder_without_one_third_of_a_fused_tensor_is_refused(tmp_path):
    parts = states("sdxl")
    del parts["text_encoder_2"]["encoder.layers.1.self_attn.v_proj.weight"]
    with pytest.raises(ModelFileError, match=r"resblocks\.1\.attn\.in_proj_weight.*query, key and value"):
        single_file_layout(open_model(write_folder(tmp_path, parts)))


def test_a_folder_has_no_layout_of_its_own(tmp_path):
    with pytest.raises(ModelFileError, match="is a folder"):
        layout_of(open_model(write_folder(tmp_path, states("sd1"))))


def test_wrapped_names_are_written_without_the_wrapper(tmp_path):
    file = tiny().file()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in file.items()}}, tmp_path / "m.ckpt")
    model = open_model(tmp_path / "m.ckpt")
    assert {p.name for p in layout_of(model)} == set(file)


FULL = {
    "sd1": ({}, {"unet": 686, "text_encoder": 196, "vae": 248}),
    "sd2": ({"cross_attention_dim": 1024, "use_linear_projection": True, "attention_head_dim": [5, 10, 20, 20]},
            {"unet": 686, "vae": 248}),
    "sdxl": ({"cross_attention_dim": 2048, "use_linear_projection": True, "attention_head_dim": [5, 10, 20],
              "block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10],
              "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
              "projection_class_embeddings_input_dim": 2816,
              "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
              "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]},
             {"unet": 1680, "vae": 248}),
}
"""Each family's U-Net where it differs from SD1's, and how many tensors its single files have."""


@pytest.mark.parametrize("name", FULL)
def test_full_size_models_have_the_published_numbers_of_tensors(name):
    from accelerate import init_empty_weights

    from harness.weights import ldm
    from harness.weights.live_pipeline import SD1_CONFIGS, _empty

    changes, counts = FULL[name]
    with init_empty_weights():
        config = UNet2DConditionModel.load_config(SD1_CONFIGS / "unet")
        config = {k: v for k, v in config.items() if not k.startswith("_")} | changes
        unet = UNet2DConditionModel(**config).state_dict()
        vae = _empty("vae", SD1_CONFIGS / "vae" / "config.json").state_dict()
    names = ldm.unet_to_ldm(unet)
    assert len(set(names.values())) == counts["unet"]
    assert ldm.unet_to_diffusers(names.values()) == {theirs: ours for ours, theirs in names.items()}
    assert len(set(ldm.vae_to_ldm(vae).values())) == counts["vae"]
    if name == "sd1":
        text = _empty("text_encoder", SD1_CONFIGS / "text_encoder" / "config.json").state_dict()
        assert len(naming.locate("clip", list(text))) == counts["text_encoder"]


@pytest.mark.parametrize(("layers", "kept", "stored", "naming_of"), [
    (32, 32, 390, "openclip"), (24, 23, 294, "openclip-penultimate"), (23, 23, 282, "openclip-penultimate")])
def test_full_size_towers_have_the_published_numbers_of_tensors(layers, kept, stored, naming_of):
    inside = ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "attn.in_proj_weight", "attn.in_proj_bias",
              "attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight",
              "mlp.c_proj.bias")
    names = [f"transformer.resblocks.{n}.{part}" for n in range(layers) for part in inside]
    names += ["token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection",
              "logit_scale"]
    assert len(names) == stored
    spots = naming.locate(naming_of, names)
    assert len(spots) == kept * 16 + 4 + (naming_of == "openclip")
    assert {naming.openclip_name(key) for key in spots} == set(spots.values())


@pytest.mark.parametrize("key", ["encoder.layers.0.final_layer_norm.bias", "layer_norm1.bias", "self_attn.q_proj.bias",
                                 "encoder.layers.0.self_attn.r_proj.bias"])
def test_a_tensor_that_openclip_lacks_is_refused_by_name(key):
    with pytest.raises(KeyError, match=key.replace(".", r"\.")):
        naming.openclip_name(key)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_matrices_and_1x1_convolutions_of_one_family_are_one_shape(tmp_path, family):
    parts = states(family)
    folder = open_model(write_folder(tmp_path / "folder", parts))
    file = made(folder, single_file_layout(folder))
    turned = {name: (tensor[..., None, None] if tensor.ndim == 2 else tensor[..., 0, 0]).contiguous()
              for name, tensor in file.items() if name.endswith((".proj_in.weight", ".1.proj_out.weight", "attn_1.q.weight"))}
    assert len(turned) > 4
    save_file({**file, **turned}, tmp_path / "m.safetensors")
    model = open_model(tmp_path / "m.safetensors")
    assert_same(model, parts)
    again = made(model, layout_of(model))
    assert all(torch.equal(again[name], tensor) for name, tensor in turned.items())


def test_a_part_of_an_openclip_tower_keeps_all_its_layers():
    layer = "transformer.resblocks.{}.ln_1.weight"
    ours = "encoder.layers.{}.layer_norm1.weight"
    part = naming.locate("openclip-penultimate", [*(layer.format(n) for n in range(6)), "text_projection", "ln_final.weight"])
    assert {ours.format(n) for n in range(6)} < set(part)
    assert ours.format(23) not in naming.locate("openclip-penultimate", [layer.format(22), layer.format(23)])
