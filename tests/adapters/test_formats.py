"""What is particular on the way from a file to live layers: names, strengths, what is left to the weights, refusals."""

import json

import pytest
import torch

from harness.adapters import AdapterError, attach, detach, live_plan, read_changes, recognise_file, set_weight
from harness.adapters.adapter_file import Stored
from harness.adapters.formats.headers import strength
from tests.adapters.conftest import (
    forward,
    kohya_tensors,
    live_shapes,
    new_text_encoder,
    peft_header,
    peft_tensors,
    planned,
    random_factors,
)

PATH = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
STEM = "lora_unet_" + PATH.replace(".", "_")
TABLE = "embeddings.token_embedding"


def one(module, path=PATH):
    return {path: random_factors(module)[path]}


def words(text_encoder):
    with torch.inference_mode():
        return text_encoder(torch.tensor([[48, 3, 49]])).last_hidden_state


@pytest.mark.parametrize("spelling", ["", "text_model."])
@pytest.mark.parametrize("name", ["lora_te_", "lora_te1_", "text_encoder"])
def test_text_encoder_keys_apply_with_either_spelling(modules, write, name, spelling):
    """Live modules of transformers 5 have no "text_model."; the files of older versions do."""
    own = random_factors(modules["text_encoder"])
    assert not any(path.startswith("text_model.") for path in own)
    spelt = {spelling + path: values for path, values in own.items()}
    file = (write(peft_tensors(spelt, name), peft_header(spelt, name)) if name == "text_encoder"
            else write(kohya_tensors(spelt, name)))
    plan = planned(file, modules)
    assert set(plan.factors) == {("text_encoder", path) for path in own}
    attach(plan, modules, "words", 0.6)
    by_hand = new_text_encoder()
    for path, (down, up, alpha) in own.items():
        by_hand.get_submodule(path).weight.data += 0.6 * alpha / down.shape[0] * (up @ down)
    assert (words(modules["text_encoder"]) - words(by_hand)).abs().max() < 1e-5


def test_two_spellings_of_one_layer_are_an_error(modules, write):
    values = one(modules["text_encoder"], "encoder.layers.0.mlp.fc1")
    tensors = kohya_tensors(values, "lora_te_") | kohya_tensors(values, "lora_te1_text_model_")
    with pytest.raises(AdapterError, match=r"(?=.*lora_te_encoder)(?=.*lora_te1_text_model).*both change encoder"):
        planned(write(tensors), modules)


def test_keys_of_an_absent_component_are_listed_with_a_reason_and_the_rest_is_attached(modules, write):
    tensors = kohya_tensors(one(modules["unet"])) | kohya_tensors({"encoder.layers.0.mlp.fc1": (
        torch.zeros(1, 4), torch.zeros(4, 1), 1.0)}, "lora_te2_text_model_")
    plan = planned(write(tensors), modules)
    absent = plan.keys["text_encoder_2"]["absent_component"]
    assert len(absent) == 3
    assert plan.reasons[absent[0]] == "this model has no text_encoder_2"
    assert set(plan.factors) == {("unet", PATH)}
    attach(plan, modules, "style", 1.0)
    assert modules["unet"].get_submodule(PATH).scaling["style"] == plan.factors["unet", PATH].scale


def test_a_plan_is_not_attached_by_halves(modules, write):
    tensors = kohya_tensors(random_factors(modules["unet"])) | kohya_tensors(random_factors(modules["text_encoder"]), "lora_te_")
    plan = planned(write(tensors), modules)
    with pytest.raises(AdapterError, match="changes text_encoder, "):
        attach(plan, {"unet": modules["unet"]}, "style", 1.0)
    with pytest.raises(AdapterError, match="no adapter named"):
        detach(modules, "style")


@pytest.mark.parametrize(("change", "words"), [
    (lambda unet: unet.set_submodule(PATH, torch.nn.Embedding(32, 32)), "is a Embedding; only linear layers"),
    (lambda unet: unet.set_submodule(PATH, torch.nn.Linear(1, 32)), r"shape \(32, 32\), the layer \(32, 1\)"),
    (lambda unet: unet.set_submodule("conv_out", torch.nn.Conv2d(16, 16, 3, groups=16)), "grouped convolution"),
    (lambda unet: delattr(unet, "conv_out"), "conv_out, which the live model does not have")])
def test_a_live_layer_that_a_plan_does_not_fit_is_an_error_before_any_is_attached(modules, write, change, words):
    plan = planned(write(kohya_tensors(random_factors(modules["unet"]))), modules)
    change(modules["unet"])
    with pytest.raises(AdapterError, match=words):
        attach(plan, modules, "style", 1.0)
    with pytest.raises(AdapterError, match="no adapter named"):
        detach(modules, "style")


def test_names_are_checked_when_attaching_and_detaching(modules, write):
    plan = planned(write(kohya_tensors(one(modules["unet"]))), modules)
    attach(plan, modules, "style", 1.0)
    with pytest.raises(AdapterError, match="attached already"):
        attach(plan, modules, "style", 1.0)
    with pytest.raises(AdapterError, match="without dots"):
        attach(plan, modules, "v1.5", 1.0)
    for act in (lambda: set_weight(modules, "other", 1.0), lambda: detach(modules, "other")):
        with pytest.raises(AdapterError, match="no adapter named 'other'"):
            act()


@pytest.mark.parametrize("extra", [
    {"dora_scale": torch.ones(32, 1)}, {"diff_b": torch.ones(32)}], ids=["dora", "bias"])
def test_what_live_layers_cannot_take_is_left_to_the_weights(modules, write, extra):
    path = PATH.replace("to_q", "to_out.0")
    tensors = kohya_tensors(one(modules["unet"]) | one(modules["unet"], path))
    tensors |= {f"lora_unet_{path.replace('.', '_')}.{ending}": value for ending, value in extra.items()}
    shapes = live_shapes(modules)
    reading = read_changes(write(tensors), shapes, "sd1")
    assert set(reading.changes) == {("unet", PATH), ("unet", path)}
    assert set(live_plan(reading, shapes).factors) == {("unet", PATH)}


def test_a_table_of_embeddings_is_no_linear_layer(modules, write):
    rows, width = live_shapes(modules)["text_encoder"][TABLE]
    factors = one(modules["unet"])
    tensors = kohya_tensors(factors) | kohya_tensors({TABLE: (torch.ones(2, width), torch.ones(rows, 2), 2.0)}, "lora_te_")
    shapes = live_shapes(modules)
    reading = read_changes(write(tensors), shapes, "sd1")
    assert ("text_encoder", TABLE) in reading.changes
    assert set(live_plan(reading, shapes).factors) == {("unet", PATH)}


def test_half_precision_files_are_attached_as_float32(modules, write):
    half = {key: tensor.half() for key, tensor in kohya_tensors(random_factors(modules["unet"])).items()}
    plan = planned(write(half), modules)
    assert all(found.down.dtype == found.up.dtype == torch.float32 for found in plan.factors.values())


def test_whole_numbers_are_no_factor(modules, write):
    tensors = kohya_tensors(one(modules["unet"])) | {f"{STEM}.lora_down.weight": torch.ones(2, 16, dtype=torch.int8)}
    with pytest.raises(AdapterError, match=rf"{STEM}.*int8, expected floating point"):
        planned(write(tensors), modules)


def test_the_header_scales_and_rslora_divides_by_the_root(modules, write):
    factors = {PATH: (torch.ones(4, 32), torch.ones(32, 4), 2.0)}
    plain = planned(write(peft_tensors(factors), peft_header(factors)), modules)
    assert plain.factors["unet", PATH].scale == 0.5
    root = planned(write(peft_tensors(factors), peft_header(factors, use_rslora=True)), modules)
    assert root.factors["unet", PATH].scale == 1.0
    attach(root, modules, "root", 1.0)
    set_weight(modules, "root", 0.5)
    assert modules["unet"].get_submodule(PATH).scaling["root"] == 0.5


def test_a_file_without_header_is_taken_as_it_is_and_says_so(modules, write):
    plan = planned(write(peft_tensors(one(modules["unet"]))), modules)
    assert plan.factors["unet", PATH].scale == 1.0
    assert any("no strength in the header" in note for note in plan.notes)


def test_an_alpha_of_zero_is_noted_and_changes_nothing(modules, write):
    plan = planned(write(kohya_tensors(one(modules["unet"])) | {f"{STEM}.alpha": torch.tensor(0.0)}), modules)
    assert "alpha is 0: no effect (1 of 1 modules)" in plan.notes
    bare = forward(modules["unet"])
    attach(plan, modules, "style", 1.0)
    assert torch.allclose(forward(modules["unet"]), bare, atol=1e-6)


@pytest.mark.parametrize(("header", "words"), [
    ("{", "not JSON"), ("[]", "expected an object"), ('{"use_dora": true}', "DoRA"),
    ('{"r": 1, "alpha_pattern": {"(": 1}}', "regular expression"), ('{"lora_alpha": "much"}', "expected a number"),
    ('{"lora_alpha": 1, "alpha_pattern": [1]}', "expected an object"), ('{"lora_alpha": NaN}', "expected a number"),
])
def test_a_bad_header_is_an_error(modules, write, header, words):
    with pytest.raises(AdapterError, match=words):
        planned(write(peft_tensors(one(modules["unet"])), {"lora_adapter_metadata": header}), modules)


def test_alpha_patterns_match_name_ends_as_regular_expressions(modules, write):
    factors = {PATH: (torch.ones(4, 32), torch.ones(32, 4), 2.0)}
    header = {"lora_adapter_metadata": json.dumps(
        {"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_k": 1, r"attn\d\.to_q": 8}})}
    assert planned(write(peft_tensors(factors), header), modules).factors["unet", PATH].alpha == 8.0


@pytest.mark.parametrize(("patterns", "alpha"), [
    ({"to_k": 1, "a.to_k": 2}, 1), ({"a.to_k": 2, "to_k": 1}, 2), ({r"a\.to_k": 2}, 2), ({"o_k": 2, "k": 2}, 4),
    ({"^to_k": 3, ".*k": 5, "to_k": 1}, 5), ({"to_k": 1, ".*k": 5}, 1), ({"^b.a.to_k": 3, "to_k": 1}, 3)])
def test_the_first_pattern_that_fits_a_module_counts(patterns, alpha):
    nothing = Stored(name="a", entries={}, metadata={}, number=float, load=dict)
    assert strength(nothing, {"r": 4, "lora_alpha": 4, "alpha_pattern": patterns}, "b.a.to_k", 4)[0] == alpha


def test_a_name_that_means_two_layers_is_an_error(write):
    clash = torch.nn.ModuleDict({"a": torch.nn.ModuleDict({"b_c": torch.nn.Linear(2, 2)}),
                                 "a_b": torch.nn.ModuleDict({"c": torch.nn.Linear(2, 2)})})
    tensors = {"lora_unet_a_b_c.lora_down.weight": torch.ones(1, 2), "lora_unet_a_b_c.lora_up.weight": torch.ones(2, 1)}
    with pytest.raises(AdapterError, match=r"'a_b_c' means two modules of this model, one of them a_b\.c"):
        planned(write(tensors), {"unet": clash})


@pytest.mark.parametrize(("content", "words"), [
    (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
    (b"PK\x03\x04" + bytes(60), "archive is damaged"), (b"", "an empty file"), (b"\xff" * 100, "ff ff ff"),
    (b"torn", "a text, .*torn"), (b"\x99" + bytes(7) + b"{" + bytes(9), "the header alone is 153 bytes, the file 18")])
def test_what_is_no_adapter_file_is_named_in_clear_words_before_and_at_reading(modules, tmp_path, content, words):
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(content)
    for read in (recognise_file, lambda path: planned(path, modules)):
        with pytest.raises(AdapterError, match=words):
            read(path)


@pytest.mark.parametrize(("tensors", "words"), [
    ({"model.diffusion_model.out.2.bias": torch.zeros(2)}, "a checkpoint"),
    ({f"{STEM}.lora_down.weight": torch.zeros(2, 2), f"{STEM}.surprise": torch.ones(())}, "unknown key"),
])
def test_what_the_keys_show_is_said_without_the_model(write, tensors, words):
    with pytest.raises(AdapterError, match=words):
        recognise_file(write(tensors))
