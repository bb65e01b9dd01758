"""What is particular to a format: names, assumed strengths, headers, refusals."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel

from harness.adapters import AdapterError, attach, detach, inspect_adapter, read_adapter, set_weight
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


@pytest.mark.parametrize(("half", "value"), [
    ("alpha", torch.ones(3)), ("alpha", torch.tensor(float("nan"))),
    ("lora_down.weight", torch.ones(2, 16, dtype=torch.int8)), ("lora_down.weight", torch.ones(0, 16)),
])
def test_numbers_that_are_no_factor_or_alpha_are_errors(modules, write, half, value):
    with pytest.raises(AdapterError, match=half):
        read_adapter(write(kohya_tensors(one(modules["unet"])) | {f"{STEM}.{half}": value}), modules)


def test_a_plan_is_not_attached_by_halves(modules, write):
    tensors = kohya_tensors(random_factors(modules["unet"])) | kohya_tensors(random_factors(modules["text_encoder"]), "lora_te_")
    plan = read_adapter(write(tensors), modules)
    with pytest.raises(AdapterError, match="changes text_encoder, which was not given"):
        attach(plan, {"unet": modules["unet"]}, "style", 1.0)
    with pytest.raises(AdapterError, match="no adapter named"):
        detach(modules, "style")


def test_half_precision_files_are_read_as_float32(modules, write):
    factors = random_factors(modules["unet"])
    half = {key: tensor.half() for key, tensor in kohya_tensors(factors).items()}
    plan = read_adapter(write(half), modules)
    assert all(planned.down.dtype == torch.float32 for planned in plan.factors.values())


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
    ('{"r": 1, "alpha_pattern": {"(": 1}}', "no regular expression"), ('{"lora_alpha": "much"}', "no number"),
    ('{"lora_alpha": 1, "alpha_pattern": [1]}', "no number"), ('{"lora_alpha": NaN}', "no number"),
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


def test_original_names_are_those_of_stable_diffusion():
    from harness.adapters.original_names import original_names

    paths = [f"down_blocks.{b}.resnets.{n}.conv1" for b in range(4) for n in range(2)]
    paths += [f"up_blocks.{b}.{kind}" for b in range(4) for kind in ("resnets.2.time_emb_proj", "upsamplers.0.conv")]
    paths += [f"up_blocks.{b}.attentions.1.proj_in" for b in range(1, 4)]
    paths += ["conv_in", "mid_block.resnets.1.conv2", "mid_block.attentions.0.proj_out", "time_embedding.linear_2",
              "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q", "down_blocks.0.downsamplers.0.conv"]
    names = original_names(paths)
    assert names["down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q"] == (
        "input_blocks.5.1.transformer_blocks.0.attn1.to_q")
    assert names["down_blocks.0.downsamplers.0.conv"] == "input_blocks.3.0.op"
    assert names["down_blocks.3.resnets.1.conv1"] == "input_blocks.11.0.in_layers.2"
    assert names["up_blocks.0.upsamplers.0.conv"] == "output_blocks.2.1.conv"
    assert names["up_blocks.1.upsamplers.0.conv"] == "output_blocks.5.2.conv"
    assert names["up_blocks.3.resnets.2.time_emb_proj"] == "output_blocks.11.0.emb_layers.1"
    assert names["mid_block.resnets.1.conv2"] == "middle_block.2.out_layers.3"
    assert names["mid_block.attentions.0.proj_out"] == "middle_block.1.proj_out"
    assert names["time_embedding.linear_2"] == "time_embed.2"


def test_original_and_diffusers_names_give_the_same_plan(modules, write):
    from harness.adapters.original_names import original_names

    factors = random_factors(modules["unet"])
    names = original_names(factors)
    assert set(names) == set(factors)
    renamed = read_adapter(write(kohya_tensors({names[path]: values for path, values in factors.items()})), modules)
    plain = read_adapter(write(kohya_tensors(factors)), modules)
    assert set(renamed.factors) == set(plain.factors)
    for target, planned in plain.factors.items():
        assert torch.equal(planned.delta(), renamed.factors[target].delta())


def test_a_name_that_means_two_layers_is_an_error(write):
    clash = torch.nn.ModuleDict({"a": torch.nn.ModuleDict({"b_c": torch.nn.Linear(2, 2)}),
                                 "a_b": torch.nn.ModuleDict({"c": torch.nn.Linear(2, 2)})})
    tensors = {"lora_unet_a_b_c.lora_down.weight": torch.ones(1, 2), "lora_unet_a_b_c.lora_up.weight": torch.ones(2, 1)}
    with pytest.raises(AdapterError, match=r"means both a\.b_c and a_b\.c"):
        read_adapter(write(tensors), {"unet": clash})


def test_original_names_come_back_through_diffusers_converter():
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    from harness.adapters.original_names import original_names

    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 16), layers_per_block=2, norm_num_groups=4, attention_head_dim=2, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), transformer_layers_per_block=(1, 1, 2),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True)
    state = unet.state_dict()
    names = original_names({key.rpartition(".")[0] for key in state})
    original = {f"model.diffusion_model.{names[path]}.{kind}": state[key]
                for key in state for path, _, kind in [key.rpartition(".")]}
    back = convert_ldm_unet_checkpoint(original, {**unet.config, "layers_per_block": 2})
    assert set(back) == set(state)
    assert all(back[key] is state[key] for key in state)


@pytest.mark.parametrize(("content", "words"), [
    (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    (b"PK\x03\x04" + bytes(60), "a pickle with the name"), (b"", "an empty file"), (b"\xff" * 100, "has no header"),
    (b"torn", "not a whole"), (b"\x99" + bytes(7) + b"{" + bytes(9), "not a whole")])
def test_what_is_no_adapter_file_is_named_in_clear_words_before_and_at_reading(modules, tmp_path, content, words):
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(content)
    for read in (inspect_adapter, lambda path: read_adapter(path, modules)):
        with pytest.raises(AdapterError, match=words):
            read(path)


def test_an_inspected_adapter_gives_its_format(modules, write):
    factors = random_factors(modules["unet"])
    assert inspect_adapter(write(kohya_tensors(factors))) == "kohya"
    assert inspect_adapter(write(peft_tensors(factors), peft_header(factors))) == "peft"


@pytest.mark.parametrize(("tensors", "words"), [
    ({}, "it has no tensors"), ({"model.diffusion_model.out.2.bias": torch.zeros(2)}, "a checkpoint, not an adapter"),
    ({f"{STEM}.lora_down.weight": torch.zeros(2, 2)}, "no up factor"), ({f"{STEM}.hada_w1_a": torch.zeros(2)}, "LoHa"),
    ({f"{STEM}.alpha": torch.ones(()), f"{STEM}.surprise": torch.ones(())}, "unknown key"),
])
def test_what_the_keys_show_is_said_without_the_model(write, tensors, words):
    with pytest.raises(AdapterError, match=words):
        inspect_adapter(write(tensors))


def test_a_missing_file_and_a_bad_header_are_said_without_the_model(modules, write, tmp_path):
    with pytest.raises(AdapterError, match="no such file"):
        inspect_adapter(tmp_path / "gone.safetensors")
    with pytest.raises(AdapterError, match="DoRA"):
        inspect_adapter(write(peft_tensors(one(modules["unet"])), {"lora_adapter_metadata": '{"use_dora": true}'}))


def test_an_alpha_of_zero_is_noted(modules, write):
    tensors = kohya_tensors(one(modules["unet"])) | {f"{STEM}.alpha": torch.tensor(0.0)}
    assert read_adapter(write(tensors), modules).notes == ("alpha is 0: no effect (1 of 1 modules)",)
