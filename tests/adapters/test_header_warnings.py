"""What recognising a file says is odd about it: incomplete modules, and header texts that its shapes contradict."""

import json
import re

import pytest
import torch

from harness.adapters.reading import recognise_file
from tests.adapters import fixtures as fx

STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
WHOLE = {f"{STEM}.lora_down.weight": (4, 768), f"{STEM}.lora_up.weight": (320, 4), f"{STEM}.alpha": ()}
NAME = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
DOTTED = {f"unet.{NAME}.lora_A.weight": (4, 768), f"unet.{NAME}.lora_B.weight": (320, 4)}
MAGNITUDE = {f"unet.{NAME}.lora_magnitude_vector": (320,)}


def said(folder, shapes, header=None):
    tensors = {key: torch.full(shape, 2.0) for key, shape in shapes.items()}
    return recognise_file(fx.save(folder / "a.safetensors", tensors, header)).warnings


def test_nothing_is_odd_about_a_whole_file(tmp_path):
    header = {"ss_network_dim": "4", "ss_network_alpha": "2", "ss_base_model_version": "sd_v1", "ss_v2": "False"}
    assert said(tmp_path, WHOLE, header) == ()


@pytest.mark.parametrize(("shapes", "words"), [
    ({f"{STEM}.lora_down.weight": (4, 768)}, "its lora has down but no up"),
    ({f"{STEM}.lora_up.weight": (320, 4), f"{STEM}.alpha": ()}, "its lora has up but no down"),
    ({f"{STEM}.lora_down.weight": (4, 768), f"{STEM}.lora_up.weight": (320, 5)}, "ranks differ"),
    ({**WHOLE, "lora_unet_other.alpha": ()}, "'lora_unet_other.alpha' has no matching factors"),
    ({**WHOLE, f"{STEM}.diff": (320, 768)}, "a module of two kinds, full and lora"),
    ({f"{STEM}.hada_{role}": (4, 4) for role in ("w1_a", "w1_b", "w2_a")}, "its loha has w1_a, w1_b, w2_a but no w2_b"),
    ({f"{STEM}.rescale": (320, 1)}, "has no matching factors")])
def test_a_module_that_is_not_whole_is_said_with_a_key(shapes, words, tmp_path):
    found = said(tmp_path, shapes)
    assert len(found) == 1 and words in found[0] and "'lora_unet_" in found[0]


def test_many_such_modules_are_one_sentence_with_their_number(tmp_path):
    found = said(tmp_path, {f"lora_unet_{n}.lora_down.weight": (4, 8) for n in range(30)})
    assert len(found) == 1 and found[0].rpartition(" (")[2].startswith("30 modules ")


def test_biases_and_magnitudes_beside_factors_are_not_odd(tmp_path):
    assert said(tmp_path, {**WHOLE, f"{STEM}.diff_b": (320,), f"{STEM}.dora_scale": (320, 1), "lora_unet_b.diff_b": (4,)}) == ()


@pytest.mark.parametrize(("header", "words"), [
    ({"ss_base_model_version": "sdxl_base_v1-0"}, "ss_base_model_version = 'sdxl_base_v1-0', but .* Stable Diffusion 1"),
    ({"modelspec.architecture": "flux-1-dev/lora"}, "modelspec.architecture = 'flux-1-dev/lora', but"),
    ({"ss_v2": "True"}, "ss_v2 = 'True', but its names and shapes are of Stable Diffusion 1"),
    ({"ss_network_dim": "64"}, "ss_network_dim = 64, but its ranks are 4 to 4"),
    ({"ss_network_alpha": "16.0"}, r"ss_network_alpha = 16\.0, but its alphas are 2 to 2"),
    ({"lora_adapter_metadata": "{}"}, "lora_adapter_metadata is ignored"),
    ({"ss_network_module": "networks.dylora"}, "trained as DyLoRA"),
    ({"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "dylora", "unit": "4"}'}, "trained as DyLoRA")])
def test_a_header_text_that_the_shapes_contradict_is_said(header, words, tmp_path):
    found = said(tmp_path, WHOLE, header)
    assert len(found) == 1 and re.search(words, found[0])


def test_an_alpha_in_the_header_alone_is_said_not_to_count(tmp_path):
    factors = {key: shape for key, shape in WHOLE.items() if not key.endswith(".alpha")}
    assert "ss_network_alpha = 1, but it has no alpha tensors" in said(tmp_path, factors, {"ss_network_alpha": "1"})[0]
    assert said(tmp_path, factors, {"ss_network_alpha": "4"}) == ()


@pytest.mark.parametrize(("settings", "more", "words"), [
    ({"unet.r": 8}, {}, "has rank 4, its header lora_adapter_metadata says 8"),
    ({"unet.r": 4, "unet.rank_pattern": {"to_k": 2}}, {}, "has rank 4, its header lora_adapter_metadata says 2"),
    ({"unet.r": 4, "unet.use_dora": True}, {}, "says use_dora, but 1 of 1 modules have no magnitude"),
    ({"unet.r": 4, "unet.use_dora": False}, MAGNITUDE, "says use_dora = false, but 1 of 1 modules have a magnitude"),
    ({"unet.r": 4, "unet.alpha_pattern": {"to_z": 2}}, {}, "alpha_pattern .* 'to_z'"),
    ({"unet.r": 4, "text_encoder.r": 4}, {}, "has settings for 'text_encoder'"),
    ({"text_encoder.r": 4}, {}, "has no settings for unet")])
def test_settings_of_peft_that_the_tensors_contradict_are_said(settings, more, words, tmp_path):
    found = said(tmp_path, {**DOTTED, **more}, {"lora_adapter_metadata": json.dumps(settings)})
    assert any(re.search(words, text) for text in found)


def test_settings_that_fit_the_tensors_are_not_odd(tmp_path):
    settings = {"unet.r": 8, "unet.rank_pattern": {"to_k": 4}, "unet.alpha_pattern": {f"^{NAME}": 2}, "unet.use_dora": True}
    assert said(tmp_path, {**DOTTED, **MAGNITUDE}, {"lora_adapter_metadata": json.dumps(settings)}) == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"unet.r": "many"}', '{"unet.r": 4, "unet.rank_pattern": {"(a+)+$": 1}}'])
def test_settings_without_sense_are_said(text, tmp_path):
    assert said(tmp_path, DOTTED, {"lora_adapter_metadata": text})


def test_the_settings_of_a_peft_folder_are_compared_too(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 16, "lora_alpha": 16}))
    tensors = {key.replace("unet", "base_model.model"): torch.ones(shape) for key, shape in DOTTED.items()}
    fx.save(tmp_path / "adapter_model.safetensors", tensors)
    assert "has rank 4, its adapter_config.json says 16" in recognise_file(tmp_path).warnings[0]
