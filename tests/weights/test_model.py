"""Models open as components with diffusers names; nothing in a file is lost, and other families are refused by name."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from harness import zoo
from harness.weights import ModelFileError, content_hash, ldm, open_model
from tests.weights.tiny import tiny

TINY = tiny(2)


def states(model):
    return {"unet": model.unet, "vae": model.vae, "text_encoder": model.text_encoder}


def assert_holds(opened, model):
    for component, state in states(model).items():
        tensors = opened.tensors(component)
        assert tensors.keys() == state.keys()
        assert all(torch.equal(tensors[k], state[k]) and tensors[k].dtype == state[k].dtype for k in state)
        assert all(opened.components[component][k].shape == state[k].shape for k in state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_single_file_gives_back_every_tensor_bit_for_bit(tmp_path, dtype):
    model = tiny(dtype=dtype)
    opened = open_model(model.write(tmp_path))
    assert opened.layout == "ldm"
    assert_holds(opened, model)
    assert list(opened.other) == [ldm.TEXT_PREFIX + ldm.POSITION_IDS]


def test_a_ckpt_opens_as_the_same_model(tmp_path):
    torch.save({"state_dict": TINY.file(), "global_step": 1}, tmp_path / "m.ckpt")
    assert_holds(open_model(tmp_path / "m.ckpt"), TINY)


def write_folder(folder, model, **options):
    UNet2DConditionModel(**model.configs["unet"]).save_pretrained(folder / "unet", **options)
    AutoencoderKL(**model.configs["vae"]).save_pretrained(folder / "vae", **options)
    CLIPTextModel(CLIPTextConfig(**model.configs["text_encoder"])).save_pretrained(folder / "text_encoder")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


@pytest.mark.parametrize("options", [{}, {"variant": "fp16"}, {"max_shard_size": "20KB"}, {"safe_serialization": False}])
def test_a_diffusers_folder_opens_whole_sharded_or_pickled(tmp_path, options):
    opened = open_model(write_folder(tmp_path, TINY, **options))
    assert opened.layout == "diffusers"
    assert {c: set(opened.components[c]) for c in opened.components} == {c: set(s) for c, s in states(TINY).items()}
    assert opened.tensors("unet")["conv_in.weight"].shape == (8, 4, 3, 3)


def test_a_missing_shard_is_refused_by_name(tmp_path):
    shard = sorted(write_folder(tmp_path, TINY, max_shard_size="20KB").glob("unet/*-00002-*"))[0]
    shard.unlink()
    with pytest.raises(ModelFileError, match=shard.name):
        open_model(tmp_path)


def test_folders_of_earlier_years_open_under_todays_names(tmp_path):
    write_folder(tmp_path, TINY)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    vae = dict(TINY.vae)
    for now, then in old.items():
        vae = {name.replace(now, then) if "mid_block.attentions" in name else name: t for name, t in vae.items()}
    text = {f"text_model.{name}": tensor for name, tensor in TINY.text_encoder.items()}
    save_file(vae, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    save_file({**text, "text_model.embeddings.position_ids": torch.arange(77)[None]},
              tmp_path / "text_encoder" / "model.safetensors")
    save_file(TINY.unet, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    opened = open_model(tmp_path)
    assert_holds(opened, TINY)
    assert list(opened.other) == ["text_encoder/text_model.embeddings.position_ids"]


def test_text_encoders_without_text_model_in_their_names_are_known(tmp_path):
    file = {key.replace(ldm.TEXT_PREFIX, ldm.NAI_TEXT_PREFIX): tensor for key, tensor in TINY.file().items()}
    save_file(file, tmp_path / "nai.safetensors")
    assert_holds(open_model(tmp_path / "nai.safetensors"), TINY)


def test_nothing_in_a_file_is_lost(tmp_path):
    extra = {"model_ema.decay": torch.ones(()), "model_ema.diffusion_modeloutbias": torch.ones(3),
             "alphas_cumprod": torch.ones(4), "v_pred": torch.zeros(0), "somebody.elses": torch.ones(1),
             "first_stage_model.loss.logvar": torch.ones(()),
             "cond_stage_model.transformer.text_projection.weight": torch.ones(1)}
    path = TINY.write(tmp_path, **extra)
    opened = open_model(path)
    assert opened.ema
    assert opened.markers == ("v_pred",)
    assert set(opened.other) == {*extra, ldm.TEXT_PREFIX + ldm.POSITION_IDS}
    assert opened.strays == ("somebody.elses",)
    assert set(opened.known_extras) == set(opened.other) - {"somebody.elses"}
    assert any("'somebody.elses'" in warning for warning in opened.warnings)
    sources = {info.source for part in opened.components.values() for info in part.values()}
    assert sources | set(opened.other) == set(opened.files[path].stored)


@pytest.mark.parametrize("ids", [torch.arange(77.0)[None] * 0.9, torch.arange(77)[None].half()])
def test_averaged_position_ids_are_set_aside(tmp_path, ids):
    opened = open_model(TINY.write(tmp_path, **{ldm.TEXT_PREFIX + ldm.POSITION_IDS: ids}))
    assert ldm.POSITION_IDS not in opened.components["text_encoder"]


def test_a_misspelt_weight_is_refused_by_name(tmp_path):
    path = TINY.write(tmp_path, **{"model.diffusion_model.input_blocks.1.0.in_layer.0.weight": torch.ones(1)})
    with pytest.raises(ModelFileError, match=r"input_blocks\.1\.0\.in_layer\.0\.weight"):
        open_model(path)


@pytest.mark.parametrize(("key", "what"), [
    ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "a LoRA"),
    ("unet.down_blocks.0.attentions.0.proj_in.lora_A.weight", "a LoRA"),
    ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", "a LoRA"), ("lycoris_mid.lokr_w1", "a LyCORIS adapter"),
    ("control_model.input_hint_block.0.bias", "a ControlNet"), ("controlnet_cond_embedding.conv_in.bias", "a ControlNet"),
    ("image_proj.proj.weight", "an IP-Adapter"), ("emb_params", "a textual inversion"), ("clip_g", "a textual inversion"),
    ("<my-cat>", "a textual inversion"),
    ("distilled_guidance_layer.in_proj.weight", "none of its 1 tensors is a part of a known model"),
    ("dummy_weights", "none of its 1 tensors is a part of a known model"),
])
def test_what_is_no_model_is_refused_by_name(tmp_path, key, what):
    save_file({key: torch.zeros(100, 100)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=f"{what}.*Supported today"):
        open_model(tmp_path / "m.safetensors")


def test_a_pickle_with_a_config_and_a_dummy_weight_is_refused(tmp_path):
    torch.save({"config": {"r": 8}, "dummy_weights": torch.ones(100, 100)}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(ModelFileError, match=r"pytorch_lora_weights\.bin: none of its 1 tensors .*'dummy_weights'"):
        open_model(tmp_path / "pytorch_lora_weights.bin")


@pytest.mark.parametrize("folder", ["text_encoder_2", "prior", "vae"])
def test_a_folder_without_a_denoiser_is_refused(tmp_path, folder):
    (tmp_path / folder).mkdir()
    with pytest.raises(ModelFileError, match="expected a diffusers folder of a known model"):
        open_model(tmp_path)


def test_the_content_hash_follows_the_content_and_not_the_name(tmp_path):
    first, second = tmp_path / "a.bin", tmp_path / "b.bin"
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    before = content_hash(first)
    assert before == content_hash(second)
    second.write_bytes(b"three")
    assert content_hash(second) != before


def test_a_folder_hash_counts_names_and_contents_but_no_hidden_files(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "w").write_bytes(b"1")
    before = content_hash(tmp_path)
    (tmp_path / ".cache").write_bytes(b"download log")
    assert content_hash(tmp_path) == before
    (tmp_path / "unet" / "w").rename(tmp_path / "unet" / "v")
    assert content_hash(tmp_path) != before


@pytest.mark.parametrize("name", ["zoo:base", "zoo:photo", "zoo:anime"])
def test_the_zoo_has_no_strays(name):
    opened = open_model(zoo.resolve(name))
    assert opened.strays == ()
    assert set(opened.known_extras) == {ldm.TEXT_PREFIX + ldm.POSITION_IDS, "betas", "alphas_cumprod"}


def test_names_that_merely_begin_like_a_buffer_are_strays(tmp_path):
    extra = {"betas_of_mine": torch.ones(1), "sqrt_alphas_cumprod": torch.ones(1), "posterior_variance": torch.ones(1)}
    assert open_model(TINY.write(tmp_path, **extra)).strays == ("betas_of_mine",)
