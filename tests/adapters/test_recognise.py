"""What a file is, from its header alone; what is refused by name; and files made to do harm."""

import json
import struct
import subprocess
import sys

import pytest
import torch

from harness.adapters.formats import FORMATS
from harness.adapters.live_plan import AdapterError
from harness.adapters.reading import read_changes, recognise_file
from tests.adapters import cases
from tests.adapters import fixtures as fx

EXPECTED = {
    "kohya_sd1": "kohya", "kohya_sd1_te": "kohya", "kohya_sdxl_sgm": "kohya", "kohya_sdxl_diffusers": "kohya",
    "kohya_flux": "kohya", "kohya_sd3": "kohya", "lycoris_wrapper": "lycoris", "onetrainer": "onetrainer",
    "diffusers_header": "diffusers", "diffusers_without_header": "diffusers", "legacy_with_unet": "diffusers-2023",
    "legacy_without_unet": "diffusers-2023", "legacy_middle": "diffusers-2023", "ai_toolkit_new": "comfyui",
    "bare_original": "bare", "omi": "omi", "xlabs": "xlabs", "cloneofsimo": "cloneofsimo"}
BASES = {"kohya_sd1": "a U-Net for text of width 24", "kohya_sdxl_sgm": "Stable Diffusion XL",
         "kohya_sdxl_diffusers": "Stable Diffusion XL", "kohya_flux": "Flux.1", "kohya_sd3": "Stable Diffusion 3",
         "onetrainer": "Flux.1", "xlabs": "Flux.1", "bare_original": "Flux.1", "diffusers_header": "Stable Diffusion XL"}


@cases.by_case
def test_every_format_is_recognised_by_its_header(made, tmp_path):
    _, _, changes, tensors, metadata = made()
    said = recognise_file(fx.save(tmp_path / "a.safetensors", tensors, metadata))
    assert said.format == EXPECTED[made.__name__]
    assert said.base == BASES.get(made.__name__, said.base)
    assert said.kinds == ("lora",)
    assert said.ranks == (min(change.rank for change in changes.values()), max(change.rank for change in changes.values()))
    assert sum(said.modules.values()) == len(changes)


def test_every_row_of_the_table_is_recognised_by_a_test():
    assert set(EXPECTED.values()) | {"peft", "cloneofsimo-list"} == set(FORMATS)


def test_recognising_a_safetensors_file_needs_no_torch(tmp_path):
    file = fx.save(tmp_path / "a.safetensors", cases.kohya_sd1()[3])
    code = ("import sys; from pathlib import Path; from harness.adapters.reading import recognise_file; "
            f"recognise_file(Path({str(file)!r})); print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_alphas_are_read_in_every_dtype(dtype, tmp_path):
    tensors = {"lora_unet_a.lora_down.weight": torch.ones(2, 4), "lora_unet_a.lora_up.weight": torch.ones(4, 2),
               "lora_unet_a.alpha": torch.tensor(3, dtype=dtype), "lora_unet_b.lora_down.weight": torch.ones(5, 4),
               "lora_unet_b.lora_up.weight": torch.ones(4, 5)}
    said = recognise_file(fx.save(tmp_path / "a.safetensors", tensors))
    assert (said.ranks, said.alphas, said.alphas_missing) == ((2, 5), (3.0, 3.0), 1)


@pytest.mark.parametrize(("width", "base"), [
    (768, "Stable Diffusion 1"), (1024, "Stable Diffusion 2"), (2048, "Stable Diffusion XL")])
@pytest.mark.parametrize("endings", [("lora_down.weight", "lora_up.weight"), ("hada_w1_b", "hada_w1_a")])
def test_the_width_of_the_text_tells_the_base(width, base, endings, tmp_path):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{name}.{endings[0]}": torch.ones(2, width), f"{name}.{endings[1]}": torch.ones(8, 2)}
    assert recognise_file(fx.save(tmp_path / "a.safetensors", tensors)).base == base


def test_a_header_that_lies_about_the_base_is_a_warning(tmp_path):
    """A real AI-Toolkit file for Flux said sd_1.5."""
    _, _, _, tensors, _ = cases.ai_toolkit_new()
    header = {"ss_base_model_version": "sd_1.5", "software": json.dumps({"name": "ai-toolkit"}), "ss_network_dim": "64"}
    said = recognise_file(fx.save(tmp_path / "a.safetensors", tensors, header))
    assert (said.base, said.tool) == ("Flux.1", "ai-toolkit")
    assert "ss_base_model_version = 'sd_1.5', but its names and shapes are of Flux.1" in said.warnings[0]
    assert "ranks are 1 to 3" in said.warnings[1]


@pytest.mark.parametrize(("header", "tool"), [
    ({"ss_network_module": "networks.lora"}, "kohya sd-scripts (networks.lora)"),
    ({"ss_network_module": "lycoris.kohya"}, "LyCORIS with kohya sd-scripts (lycoris.kohya)"),
    ({"ot_revision": "1"}, "OneTrainer"), ({}, "kohya sd-scripts, by its names")])
def test_the_header_tells_the_tool(header, tool, tmp_path):
    assert recognise_file(fx.save(tmp_path / "a.safetensors", cases.kohya_sd1()[3], header)).tool == tool


REFUSED = {
    "T-LoRA": {"lora_unet_a.q_layer.weight": 1, "lora_unet_a.p_layer.weight": 1, "lora_unet_a.lambda_layer": 1},
    "control LoRA of Black Forest Labs": {"single_blocks.0.norm.key_norm.scale": 1, "img_in.lora_A.weight": 1},
    "ControlLoRA of Stability": {"lora_controlnet": 1, "input_hint_block.0.weight": 1},
    "AdaLoRA": {"base_model.model.a.lora_E": 1, "base_model.model.a.ranknum": 1},
    "LLLite": {"lllite_unet_input_blocks_4_1.conditioning1.0.weight": 1},
    "IP-Adapter": {"image_proj.proj.weight": 1, "ip_adapter.1.to_k_ip.weight": 1},
    "a ControlNet": {"control_model.zero_convs.0.0.weight": 1},
    "T2I-Adapter": {"adapter.body.0.resnets.0.block1.weight": 1},
    "OFT or BOFT saved by PEFT": {"base_model.model.a.oft_R.weight": 1},
    "early LyCORIS": {"lora_unet_a.oft_diag": 1},
    "which scales biases": {"base_model.model.a.ia3_l": 1},
    "ComfyUI patch": {"diffusion_model.img_in.set_weight": 1},
    "a checkpoint": {"model.diffusion_model.input_blocks.0.0.weight": 1},
    "a model's component": {"down_blocks.0.resnets.0.conv1.weight": 1, "conv_in.weight": 1},
    "dummy weights": {"dummy_weights": 1},
    "modules_to_save": {"base_model.model.a.modules_to_save.weight": 1},
    "not recognised": {"something.else.altogether": 1},
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_files_are_refused_by_their_name(what, tmp_path):
    file = fx.save(tmp_path / "a.safetensors", {key: torch.ones(3, 3) for key in REFUSED[what]})
    with pytest.raises(AdapterError, match=rf"a\.safetensors.*{what}"):
        recognise_file(file)


@pytest.mark.parametrize("kind", ["ADALORA", "VERA", "OFT", "IA3", "", "PeftType.BOFT"])
def test_peft_folders_of_other_kinds_are_refused_by_name(kind, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    fx.save(tmp_path / "adapter_model.safetensors", {"base_model.model.a.lora_A.weight": torch.ones(1, 1)})
    with pytest.raises(AdapterError, match=f"a PEFT folder of kind '{kind.rpartition('.')[2]}'; supported are LORA"):
        recognise_file(tmp_path)


@pytest.mark.parametrize("config", ["[", "[1]", '{"peft_type": "LORA", "modules_to_save": ["a"]}', "[" * 100_000])
def test_peft_folders_without_sense_are_an_error(config, tmp_path):
    (tmp_path / "adapter_config.json").write_text(config)
    fx.save(tmp_path / "adapter_model.safetensors", {"base_model.model.a.lora_A.weight": torch.ones(1, 1)})
    with pytest.raises(AdapterError):
        recognise_file(tmp_path)


@pytest.mark.parametrize("settings", [
    {"r": 2, "lora_alpha": "much"}, {"r": 0, "lora_alpha": True}, {"r": 2, "lora_alpha": 4, "alpha_pattern": {"(a+)+$": 1}},
    {"r": 2, "lora_alpha": 4, "alpha_pattern": {"(.|..)*x": 1}}, {"r": 2, "lora_alpha": 4, "alpha_pattern": {".*" * 9: 1}},
    {"r": 2, "lora_alpha": 4, "alpha_pattern": {"(": 1}}, {"r": 2, "lora_alpha": 4, "alpha_pattern": [1]},
    {"r": 2, "lora_alpha": float("nan")}])
def test_strengths_without_sense_are_an_error(settings, tmp_path):
    tensors = {f"unet.{cases.LINEAR}.lora_A.weight": torch.ones(2, 16), f"unet.{cases.LINEAR}.lora_B.weight": torch.ones(16, 2)}
    file = fx.save(tmp_path / "a.safetensors", tensors, {"lora_adapter_metadata": json.dumps(settings)})
    with pytest.raises(AdapterError, match="settings"):
        read_changes(file, fx.sd1(), "sd1")


def raw(path, header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)
    return path


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
KEY = "lora_unet_a.alpha"
HOSTILE = {
    "a header longer than the file": ({KEY: ENTRY}, b"\0" * 4, 2**62),
    "no JSON": (b"{nonsense", b"", None),
    "no text": (b"{\"\xff\": 1}", b"", None),
    "a list": (b"{}, []", b"", None),
    "deep nesting": (b'{"a":' + b"[" * 200_000, b"", None),
    "a huge rank over little data": ({KEY: ENTRY | {"shape": [2**40, 2**40]}}, b"\0" * 4, None),
    "a negative shape": ({KEY: ENTRY | {"shape": [-1]}}, b"\0" * 4, None),
    "shape of truth values": ({KEY: ENTRY | {"shape": [True]}}, b"\0" * 4, None),
    "an entry that is no object": ({KEY: [1]}, b"\0" * 4, None),
    "an entry without shape": ({KEY: {"dtype": "F32"}}, b"\0" * 4, None),
    "an unknown dtype": ({KEY: ENTRY | {"dtype": "F4"}}, b"\0" * 4, None),
    "offsets beyond the file": ({KEY: ENTRY | {"data_offsets": [4, 8]}}, b"\0" * 4, None),
    "data left over": ({KEY: ENTRY}, b"\0" * 9, None),
    "tensors on top of each other": ({KEY: ENTRY, "lora_unet_b.alpha": ENTRY}, b"\0" * 4, None),
    "a name twice": (b'{"a": 1, "a": 2}', b"", None),
    "metadata that are no text": ({"__metadata__": {"a": {"b": 1}}, KEY: ENTRY}, b"\0" * 4, None),
    "no tensors": ({}, b"", None),
    "control characters in a name": ({"lora_unet_\x1b[31m\n\0.weird": ENTRY}, b"\0" * 4, None),
    "a name of megabytes": ({"lora_unet_" + "a" * 3_000_000 + ".weird": ENTRY}, b"\0" * 4, None),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("call", [recognise_file, lambda path: read_changes(path, fx.sd1(), "sd1")], ids=["recognise", "read"])
def test_files_made_to_do_harm_are_an_error_in_clean_words(name, call, tmp_path):
    header, data, size = HOSTILE[name]
    with pytest.raises(AdapterError) as error:
        call(raw(tmp_path / "a.safetensors", header, data, size))
    assert len(str(error.value)) < 2000 and "\x1b" not in str(error.value) and "\0" not in str(error.value)


def test_odd_names_in_every_format_are_an_error_in_clean_words(tmp_path):
    for prefix in ("lora_unet_", "unet.", "diffusion_model.", "base_model.model.", "lycoris_", "lora_transformer_"):
        for name in ("\x1b[2J", "a" * 100_000, "..", "\u202e"):
            tensors = {f"{prefix}{name}.{half}": torch.ones(1, 1) for half in ("lora_A.weight", "lora_B.weight")}
            with pytest.raises(AdapterError) as error:
                read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.sd1(), "sd1")
            assert "\x1b" not in str(error.value) and "\u202e" not in str(error.value) and len(str(error.value)) < 2000


@pytest.mark.parametrize(("content", "match"), [
    (b"", "an empty file"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"<!DOCTYPE html>", "a web page"),
    (b"PK\x03\x04" + b"\0" * 60, "archive is damaged")])
def test_what_is_no_safetensors_file_says_what_it_is(content, match, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(AdapterError, match=match):
        recognise_file(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x80\x02}q\0.", b"<html>"])
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt", ".pti"])
def test_what_is_no_pickle_of_tensors_is_an_error(content, suffix, tmp_path):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(AdapterError):
        recognise_file(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("content", [
    {"lora_unet_a.alpha": torch.ones(1).expand(10**12)}, {"a": object}, [torch.ones(1), "text"], {"a": {"b": {"c": {"d": {"e": {
        "f": {"g": torch.ones(1)}}}}}}}, {1: torch.ones(1), "1": torch.ones(1)}, 5, {"a": torch.ones(2).to_sparse()}])
def test_pickles_of_odd_things_are_an_error(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(AdapterError):
        recognise_file(tmp_path / "a.pt")


def test_missing_files_and_other_endings_are_an_error(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"")
    for name, match in (("none.safetensors", "no such file"), ("a.zip", "an empty file"), ("", "folder without adapter_config")):
        with pytest.raises(AdapterError, match=match):
            recognise_file(tmp_path / name)


@pytest.mark.parametrize(("settings", "said"), [
    ({"lora_alpha": 10 ** 400}, "expected a number"), ({"r": -(10 ** 400)}, "expected a number"),
    ({"use_rslora": "false"}, "use_rslora of its settings is 'false', expected true or false"),
    ({"use_dora": "no"}, "use_dora of its settings is 'no', expected true or false")])
def test_settings_that_are_no_number_or_no_truth_are_refused_and_said(settings, said, tmp_path):
    model = fx.sd1()
    changes = fx.loras(model, only={"unet"})
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, **settings}))
    fx.save(folder / "adapter_model.safetensors", fx.dotted(changes, "base_model.model.", alpha=None))
    with pytest.raises(AdapterError, match=said):
        read_changes(folder, model, "sd1")
    assert any(said in warning for warning in recognise_file(folder).warnings)


def test_the_alphas_of_settings_are_told_and_a_contradicted_rank_is_said_once(tmp_path):
    model = fx.sd1()
    changes = fx.loras(model, only={"unet"})
    path = fx.save(tmp_path / "a.safetensors", fx.dotted(changes, alpha=None), fx.header(changes, use_rslora=True))
    said = recognise_file(path)
    alphas = [change.alpha for change in changes.values()]
    assert (said.alphas, said.alphas_missing) == ((min(alphas), max(alphas)), 0)
    assert said.strength == "the header's lora_adapter_metadata, alpha / sqrt(rank) (use_rslora)"
    wrong = fx.header(changes, rank_pattern={}, r=7)
    notes = read_changes(fx.save(tmp_path / "b.safetensors", fx.dotted(changes, alpha=None), wrong), model, "sd1").notes
    assert sum("header's rank is wrong" in note for note in notes) == 1


@pytest.mark.parametrize("name", ["state_dict", "other"])
def test_a_dictionary_that_holds_itself_is_refused_and_not_walked_for_ever(name, tmp_path):
    loop = {}
    loop[name] = loop
    torch.save(loop, tmp_path / "loop.pt")
    with pytest.raises(AdapterError, match=r"loop\.pt: .*contain themselves"):
        recognise_file(tmp_path / "loop.pt")
