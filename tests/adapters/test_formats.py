"""What is particular to a format: names, assumed strengths, headers, refusals."""

import json

import pytest
import torch

from harness.adapters import AdapterError, attach, detach, read_adapter, set_weight
from tests.adapters.conftest import kohya_tensors, peft_header, peft_tensors, random_factors

PATH = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
STEM = "lora_unet_" + PATH.replace(".", "_")


def one(module, path=PATH):
    return {path: random_factors(module)[path]}


def test_a_module_without_alpha_counts_as_alpha_equal_to_its_rank(modules, write):
    factors = random_factors(modules["unet"])
    tensors = kohya_tensors(factors)
    del tensors[f"{STEM}.alpha"]
    plan = read_adapter(write(tensors), modules)
    assert plan.factors["unet", PATH].scale == 1.0
    assert any("alpha = rank" in note for note in plan.notes)


def test_text_encoder_keys_apply_with_either_spelling(modules, write):
    factors = random_factors(modules["text_encoder"])
    short = {path.removeprefix("text_model."): values for path, values in factors.items()}
    for prefix in ("lora_te_", "lora_te1_", "lora_te_text_model_"):
        plan = read_adapter(write(kohya_tensors(short, prefix)), modules)
        assert {component for component, _ in plan.factors} == {"text_encoder"}
        assert len(plan.factors) == len(factors)
    attach(plan, modules, "words", 1.0)
    with torch.inference_mode():
        assert torch.isfinite(modules["text_encoder"](torch.tensor([[48, 3, 49]])).last_hidden_state).all()


def test_keys_of_an_absent_component_are_listed_with_a_reason(modules, write):
    tensors = kohya_tensors(one(modules["unet"])) | kohya_tensors({"encoder.layers.0.mlp.fc1": (
        torch.zeros(1, 4), torch.zeros(4, 1), 1.0)}, "lora_te2_text_model_")
    plan = read_adapter(write(tensors), modules)
    absent = plan.keys["text_encoder_2"]["absent_component"]
    assert len(absent) == 3
    assert plan.reasons[absent[0]] == "this model has no text_encoder_2"


def test_an_adapter_for_other_components_only_is_an_error(modules, write):
    tensors = kohya_tensors(one(modules["unet"]), "lora_te2_")
    with pytest.raises(AdapterError, match="nothing in it belongs"):
        read_adapter(write(tensors), modules)


def test_layers_that_take_no_factors_are_refused_with_a_reason(modules, write):
    tensors = kohya_tensors(one(modules["unet"])) | {"lora_unet_conv_norm_out.alpha": torch.tensor(1.0)}
    plan = read_adapter(write(tensors), modules)
    assert plan.keys["unet"]["refused"] == ("lora_unet_conv_norm_out.alpha",)
    assert "GroupNorm" in plan.reasons["lora_unet_conv_norm_out.alpha"]


def test_two_sources_for_one_target_are_an_error(modules, write):
    path = "encoder.layers.0.mlp.fc1"
    factors = random_factors(modules["text_encoder"])
    values = {path: factors[next(known for known in factors if known.endswith(path))]}
    tensors = kohya_tensors(values, "lora_te_") | kohya_tensors(values, "lora_te1_text_model_")
    with pytest.raises(AdapterError, match="both change"):
        read_adapter(write(tensors), modules)


def test_a_key_of_another_kind_among_known_ones_is_an_error(modules, write):
    tensors = kohya_tensors(one(modules["unet"])) | {"lora_unet_mid_block.surprise": torch.zeros(1)}
    with pytest.raises(AdapterError, match=r"unknown key 'lora_unet_mid_block\.surprise'"):
        read_adapter(write(tensors), modules)


def test_the_header_scales_and_rslora_divides_by_the_root(modules, write):
    factors = {PATH: (torch.ones(4, 32), torch.ones(32, 4), 2.0)}
    plain = read_adapter(write(peft_tensors(factors), peft_header(factors)), modules)
    assert plain.factors["unet", PATH].scale == 0.5
    root = read_adapter(write(peft_tensors(factors), peft_header(factors, use_rslora=True)), modules)
    assert root.factors["unet", PATH].scale == 1.0
    attach(root, modules, "root", 1.0)
    set_weight(modules, "root", 0.5)
    assert modules["unet"].get_submodule(PATH).scaling["root"] == 0.5


def test_alpha_patterns_match_name_ends_as_regular_expressions(modules, write):
    factors = {PATH: (torch.ones(4, 32), torch.ones(32, 4), 2.0)}
    header = {"lora_adapter_metadata": json.dumps(
        {"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_k": 1, r"attn\d\.to_q": 8}})}
    assert read_adapter(write(peft_tensors(factors), header), modules).factors["unet", PATH].alpha == 8.0


def test_a_file_without_header_is_taken_as_it_is(modules, write):
    plan = read_adapter(write(peft_tensors(one(modules["unet"]))), modules)
    assert plan.factors["unet", PATH].scale == 1.0
    assert any("no strength in the header" in note for note in plan.notes)


@pytest.mark.parametrize(("header", "words"), [
    ("{", "not JSON"), ("[]", "expected an object"), ('{"use_dora": true}', "DoRA"),
    ('{"r": 1, "alpha_pattern": {"(": 1}}', "no regular expression"),
])
def test_a_bad_header_is_an_error(modules, write, header, words):
    with pytest.raises(AdapterError, match=words):
        read_adapter(write(peft_tensors(one(modules["unet"])), {"lora_adapter_metadata": header}), modules)


@pytest.mark.parametrize(("key", "kind"), [
    (f"{STEM}.hada_w1_a", "LoHa"), (f"{STEM}.lokr_w1", "LoKr"), (f"{STEM}.dora_scale", "DoRA"),
    (f"unet.{PATH}.lora_magnitude_vector", "DoRA"), (f"{STEM}.lora_mid.weight", "Tucker"),
    (f"{STEM}.oft_blocks", "OFT"), (f"{STEM}.diff", "full weight differences"), ("emb_params", "textual inversion"),
    ("<token>", "textual inversion"), ("lora_unet_double_blocks_0_img_attn_qkv.alpha", "Flux"),
    ("transformer.blocks.0.lora_A.weight", "transformer"), ("base_model.model.to_q.lora_A.weight", "PEFT adapter folder"),
    ("diffusion_model.input.lora_A.weight", "original model's names"), ("control_model.zero_convs.0", "ControlNet"),
    ("model.diffusion_model.input_blocks.0.0.weight", "checkpoint"), ("image_proj.norm.weight", "IP-Adapter"),
])
def test_other_kinds_are_refused_by_their_name(modules, write, key, kind):
    extra = {} if kind == "textual inversion" else kohya_tensors(one(modules["unet"]))
    with pytest.raises(AdapterError, match=f"looks like .*{kind}.*not supported yet"):
        read_adapter(write(extra | {key: torch.zeros(2, 2)}), modules)


def test_a_file_like_nothing_known_is_refused_with_its_first_key(modules, write):
    with pytest.raises(AdapterError, match=r"not recognised.*'what\.is\.this'"):
        read_adapter(write({"what.is.this": torch.zeros(1), "what.was.that": torch.zeros(1)}), modules)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("adapter.pt", b"", "only .safetensors"), ("adapter.safetensors", b"torn", "not a whole"),
])
def test_pickles_and_torn_files_are_refused(modules, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AdapterError, match=words):
        read_adapter(tmp_path / name, modules)


def test_a_missing_file_is_said(modules, tmp_path):
    with pytest.raises(AdapterError, match="no such file"):
        read_adapter(tmp_path / "gone.safetensors", modules)


def test_names_are_checked_when_attaching_and_detaching(modules, write):
    plan = read_adapter(write(kohya_tensors(one(modules["unet"]))), modules)
    attach(plan, modules, "style", 1.0)
    with pytest.raises(AdapterError, match="attached already"):
        attach(plan, modules, "style", 1.0)
    with pytest.raises(AdapterError, match="without dots"):
        attach(plan, modules, "v1.5", 1.0)
    for act in (lambda: set_weight(modules, "other", 1.0), lambda: detach(modules, "other")):
        with pytest.raises(AdapterError, match="no adapter named 'other'"):
            act()
