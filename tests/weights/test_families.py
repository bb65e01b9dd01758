"""Every family opens under its own name, whole or in parts, and says what it is by its tensors, not by its header."""

import json

import pytest
import torch
from safetensors.torch import save_file

from harness.weights import ModelFileError, layout_of, naming, open_model, shape_pipeline, single_file_layout
from harness.weights.ldm import UNET_PREFIX, VAE_PREFIX, unet_to_ldm
from tests.weights.tiny import tiny
from tests.weights.tiny_families import made, states, write_folder

TINY = tiny()


def write(folder, tensors, metadata=None):
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "m.safetensors", metadata)
    return folder / "m.safetensors"


def flux(doubles=2, singles=3):
    """Names of a Flux transformer as Black Forest Labs wrote them, with tensors of one number."""
    both = ("weight", "bias")
    names = [f"{module}.{leaf}" for leaf in both for module in (
        "img_in", "txt_in", "final_layer.linear", "final_layer.adaLN_modulation.1",
        *(f"{where}_in.{layer}_layer" for where in ("time", "vector", "guidance") for layer in ("in", "out")))]
    for n in range(doubles):
        for side in ("img", "txt"):
            names += [f"double_blocks.{n}.{side}_{part}.{leaf}" for part in ("mod.lin", "attn.qkv", "attn.proj", "mlp.0", "mlp.2")
                      for leaf in both]
            names += [f"double_blocks.{n}.{side}_attn.norm.{part}_norm.scale" for part in ("query", "key")]
    for n in range(singles):
        names += [f"single_blocks.{n}.{part}.{leaf}" for part in ("linear1", "linear2", "modulation.lin") for leaf in both]
        names += [f"single_blocks.{n}.norm.{part}_norm.scale" for part in ("query", "key")]
    return {name: torch.ones(2, 5) if name.endswith("weight") else torch.ones(2) for name in names}


def sd3(blocks=2):
    """Names of a Stable Diffusion 3 transformer as Stability wrote them; the last block has no context output."""
    modules = ["x_embedder.proj", "context_embedder", "final_layer.linear", "final_layer.adaLN_modulation.1",
               *(f"{which}_embedder.mlp.{n}" for which in "ty" for n in (0, 2))]
    for n in range(blocks):
        for side in ("x", "context"):
            out = [] if (n, side) == (blocks - 1, "context") else ["attn.proj", "mlp.fc1", "mlp.fc2"]
            inside = ["adaLN_modulation.1", "attn.qkv", *out]
            modules += [f"joint_blocks.{n}.{side}_block.{part}" for part in inside]
    norms = [f"joint_blocks.{n}.{side}_block.attn.ln_{part}.weight" for n in range(blocks) for side in ("x", "context")
             for part in "qk"]
    tensors = {f"{m}.{leaf}": torch.ones(2, 3) for m in modules for leaf in ("weight", "bias")}
    return {**tensors, **{n: torch.ones(2) for n in norms}, "pos_embed": torch.ones(1, 4, 2)}


def test_flux_has_the_published_number_of_tensors():
    assert len(naming.locate("flux-bfl", list(flux(19, 38)))) == 780


@pytest.mark.parametrize("prefix", ["", UNET_PREFIX])
@pytest.mark.parametrize(("tensors", "family", "layout", "channels"), [(flux(), "flux", "bfl", 5), (sd3(), "sd3", "sai", 3)])
def test_a_transformer_opens_under_its_own_names(tmp_path, prefix, tensors, family, layout, channels):
    model = open_model(write(tmp_path, {prefix + name: t for name, t in tensors.items()}))
    assert (model.family, model.layout, model.channels, model.strays) == (family, layout, channels, ())
    assert {c: set(keys) for c, keys in model.components.items()} == {"transformer": set(tensors)}
    assert [p.name for p in layout_of(model)] == [p.name for p in single_file_layout(model)]


def test_a_whole_flux_file_has_its_encoders_and_vae(tmp_path):
    text = {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.ones(1), "shared.weight": torch.ones(2),
            "encoder.embed_tokens.weight": torch.ones(2)}
    file = {**{UNET_PREFIX + n: t for n, t in flux().items()}, **{f"vae.{n}": t for n, t in vae_ldm().items()},
            **{f"text_encoders.clip_l.transformer.text_model.{n}": t for n, t in TINY.text_encoder.items()},
            **{f"text_encoders.t5xxl.transformer.{n}": t for n, t in text.items()}}
    model = open_model(write(tmp_path, file))
    assert list(model.components) == ["transformer", "vae", "text_encoder", "text_encoder_2"]
    assert set(model.components["text_encoder_2"]) == {"encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"}
    assert model.strays == ()


def vae_ldm():
    return {n.removeprefix(VAE_PREFIX): t for n, t in TINY.file().items() if n.startswith(VAE_PREFIX)}


@pytest.mark.parametrize("name", ["FluxTransformer2DModel", "SD3Transformer2DModel"])
def test_diffusers_own_names_of_transformers_are_all_known(name):
    import diffusers
    from accelerate import init_empty_weights

    options = {"SD3Transformer2DModel": {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)},
               "FluxTransformer2DModel": {"guidance_embeds": True}}[name]
    with init_empty_weights():
        keys = list(getattr(diffusers, name)(**options).state_dict())
    assert set(naming.locate(name.split("Trans")[0].lower(), keys)) == set(keys)


def test_t5_names_of_transformers_are_all_known():
    from accelerate import init_empty_weights
    from transformers import T5Config, T5EncoderModel

    with init_empty_weights():
        keys = list(T5EncoderModel(T5Config(feed_forward_proj="gated-gelu", num_layers=2)).state_dict())
    assert set(naming.locate("t5", keys)) == set(keys) - {"encoder.embed_tokens.weight"}


def test_a_misspelt_transformer_weight_is_refused_by_name(tmp_path):
    with pytest.raises(ModelFileError, match=r"transformer: 'img_inn\.weight' is not a tensor of a Flux"):
        open_model(write(tmp_path, {**flux(), "img_inn.weight": torch.ones(1)}))


def test_a_flux_folder_with_a_part_of_a_fused_layer_keeps_its_names(tmp_path):
    write_folder(tmp_path, {"text_encoder": TINY.text_encoder})
    (tmp_path / "transformer").mkdir()
    tensors = {"single_transformer_blocks.0.proj_mlp.weight": torch.ones(2, 2), "x_embedder.weight": torch.ones(2, 64)}
    save_file(tensors, tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    model = open_model(tmp_path)
    assert (model.family, model.layout, model.channels, list(model.components)) == (
        "flux", "diffusers", 64, ["transformer", "text_encoder"])
    names = {placed.name for placed in single_file_layout(model) if placed.pieces and placed.pieces[0].component == "transformer"}
    assert names == {UNET_PREFIX + name for name in tensors}


PARTS = {"unet prefixed": UNET_PREFIX, "unet bare": ""}


@pytest.mark.parametrize("prefix", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl_refiner"])
def test_a_unet_alone_tells_its_family(tmp_path, prefix, family):
    unet = states(family)["unet"]
    model = open_model(write(tmp_path, {prefix + name: unet[key] for key, name in unet_to_ldm(unet).items()}))
    assert (model.family, list(model.components)) == (family, ["unet"])
    tensors = model.tensors("unet")
    assert all(torch.equal(tensors[key], unet[key]) for key in unet)


def test_a_unet_under_diffusers_names_in_one_file_opens_and_converts(tmp_path):
    unet = states("sdxl")["unet"]
    model = open_model(write(tmp_path, unet))
    assert (model.family, model.layout, model.is_folder) == ("sdxl", "diffusers", False)
    assert set(made(model, single_file_layout(model))) == {UNET_PREFIX + name for name in unet_to_ldm(unet).values()}
    assert set(made(model, layout_of(model))) == set(unet)


@pytest.mark.parametrize("prefix", [VAE_PREFIX, "", "vae."])
def test_a_vae_alone_opens_and_belongs_to_no_family(tmp_path, prefix):
    model = open_model(write(tmp_path, {**{prefix + n: t for n, t in vae_ldm().items()}, f"{prefix}loss.logvar": torch.ones(())}))
    assert (model.family, list(model.components), model.strays) == ("", ["vae"], ())
    assert all(torch.equal(model.tensor("vae", key), t) for key, t in TINY.vae.items())


def test_a_vae_under_diffusers_names_opens(tmp_path):
    model = open_model(write(tmp_path, TINY.vae))
    assert (model.layout, set(model.components["vae"])) == ("diffusers", set(TINY.vae))


def test_the_header_breaks_a_tie_between_families(tmp_path):
    path = write(tmp_path, vae_ldm(), {"modelspec.architecture": "stable-diffusion-xl-v1-base/vae"})
    assert open_model(path).family == "sdxl"


@pytest.mark.parametrize(("key", "value"), [
    ("modelspec.architecture", "stable-diffusion-xl-v1-base"), ("ss_base_model_version", "flux1"),
    ("modelspec.architecture", "stable-diffusion-v1/lora")])
def test_a_header_that_lies_is_reported_and_not_believed(tmp_path, key, value):
    model = open_model(write(tmp_path, TINY.file(), {key: value}))
    assert model.family == "sd1"
    assert [value in warning for warning in model.warnings] == [True]


@pytest.mark.parametrize(("markers", "metadata", "prediction", "warned"), [
    ((), {}, "", False), (("v_pred",), {}, "v_prediction", False), (("v_pred", "ztsnr"), {}, "v_prediction", False),
    (("edm_vpred.sigma_max", "edm_vpred.sigma_min"), {}, "v_prediction", False), (("ztsnr",), {}, "", False),
    ((), {"modelspec.prediction_type": "v"}, "v_prediction", False),
    ((), {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
    (("v_pred",), {"modelspec.prediction_type": "epsilon"}, "v_prediction", True),
    ((), {"modelspec.prediction_type": "nonsense"}, "", True)])
def test_the_prediction_is_that_of_markers_before_texts(tmp_path, markers, metadata, prediction, warned):
    model = open_model(write(tmp_path, {**TINY.file(), **{m: torch.zeros(0) for m in markers}}, metadata))
    assert (model.prediction, set(model.markers), bool(model.warnings)) == (prediction, set(markers), warned)


def test_a_folder_says_its_prediction_in_its_scheduler(tmp_path):
    write_folder(tmp_path, states("sd2"))
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"prediction_type": "v_prediction"}))
    assert open_model(tmp_path).prediction == "v_prediction"


def test_weights_in_a_folder_that_are_not_opened_are_mentioned(tmp_path):
    folder = write_folder(tmp_path, states("sd1"))
    for name in ("image_encoder", "safety_checker", "feature_extractor"):
        (folder / name).mkdir()
    save_file({"x": torch.ones(1)}, folder / "image_encoder" / "model.safetensors")
    save_file({"x": torch.ones(1)}, folder / "safety_checker" / "model.safetensors")
    assert open_model(folder).warnings == (
        "folders with weights that do not belong to this model are ignored: 'image_encoder'",)


@pytest.mark.parametrize("channels", [8, 5])
def test_wide_unets_open_and_are_not_sampled(tmp_path, channels):
    parts = states("sd1", in_channels=channels)
    model = open_model(write_folder(tmp_path, parts))
    assert (model.family, model.channels) == ("sd1", channels)
    with pytest.raises(ModelFileError, match=rf"{channels} input channels, 4 output.*can be merged and inspected"):
        shape_pipeline(model)


@pytest.mark.parametrize(("wrapper", "prefix"), [
    ("module.", ""), ("model.", "model."), ("_orig_mod.", ""), ("model.module.", "model.")])
def test_wrappers_before_all_names_are_taken_off(tmp_path, wrapper, prefix):
    torch.save({"state_dict": {wrapper + name: t for name, t in TINY.file().items()}}, tmp_path / "m.ckpt")
    model = open_model(tmp_path / "m.ckpt")
    assert (model.family, model.wrapper, model.strays) == ("sd1", prefix, ())
    assert model.components["unet"]["conv_in.weight"].source == f"{wrapper}{UNET_PREFIX}input_blocks.0.0.weight"
    assert torch.equal(model.tensor("unet", "conv_in.weight"), TINY.unet["conv_in.weight"])


def test_a_prefix_that_only_some_names_have_is_no_wrapper(tmp_path):
    model = open_model(write(tmp_path, {f"{UNET_PREFIX}out.2.weight": torch.ones(4, 4, 3, 3), "module.x": torch.ones(1)}))
    assert (model.wrapper, model.strays) == ("", ("module.x",))
