"""fp8 codes with a scale, in every spelling that ComfyUI and other tools write, against codes times scale in float64."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from harness.cli import main
from harness.materialise.library import MaterialiseError
from harness.weights import ModelFileError, open_model
from tests.materialise.models import header, made_file, merge, write
from tests.materialise.tiny_dit import flux

PREFIX = "model.diffusion_model."
T5 = "text_encoders.t5xxl.transformer."
LAYERS = ("img_in", "double_blocks.0.img_attn.qkv", "single_blocks.0.linear1")
FORMATS = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
State = dict[str, torch.Tensor]


def described(said: object) -> torch.Tensor:
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def quantized(model: State, scale: str, how: str, word: str = "float8_e4m3fn") -> tuple[State, State, dict[str, str]]:
    """The file, the values that it stands for, and its header."""
    file, values = dict(model), dict(model)
    for number, layer in enumerate(LAYERS):
        codes = model[f"{layer}.weight"].to(FORMATS[word])
        one = torch.tensor(0.5 + number)
        rows = torch.arange(1, len(codes) + 1).float() / 8
        scales = {"number": one, "one": one[None], "column": rows[:, None], "rows": rows}[scale]
        values[f"{layer}.weight"] = codes.double() * (one if scales.numel() == 1 else rows[:, None])
        file |= {f"{layer}.weight": codes, f"{layer}.weight_scale": scales, f"{layer}.input_scale": torch.tensor(7.0)}
        if how == "tensors":
            file[f"{layer}.comfy_quant"] = described({"format": word, "full_precision_matrix_mult": True})
    layers = {layer: {"format": word} for layer in LAYERS}
    text = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})} if how == "header" else {}
    return file, values, text


def check_mean(out: State, a: State, values: State) -> None:
    assert set(out) == set(a)
    for name in a:
        ideal = ((1 - 0.3) * a[name].double() + 0.3 * values[name].double()).to(a[name].dtype)
        assert torch.allclose(out[name], ideal, rtol=2e-2 if a[name].dtype == torch.bfloat16 else 1e-6, atol=1e-6), name


@pytest.mark.parametrize("how", ["tensors", "header", "scales alone"])
@pytest.mark.parametrize(("scale", "word"), [
    ("number", "float8_e4m3fn"), ("one", "float8_e5m2"), ("column", "float8_e4m3fn"), ("rows", "float8_e4m3fn")])
@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_codes_are_multiplied_by_their_scales(how, scale, word, prefix, tmp_path):
    a = flux(1, dtype=torch.bfloat16)
    file, values, text = quantized(flux(2, dtype=torch.bfloat16), scale, how, word)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", {prefix + name: tensor for name, tensor in file.items()}, text)
    check_mean(made_file(tmp_path, merge(parts=("transformer",))), a, values)


@pytest.mark.parametrize("how", ["tensors", "header"])
def test_an_adapter_is_added_to_the_values_and_no_scale_is_left(how, tmp_path):
    file, values, text = quantized(flux(1), "number", how)
    write(tmp_path / "m.safetensors", file, text)
    write(tmp_path / "l.safetensors", {"diffusion_model.img_in.diff": torch.ones(4, 3)})
    out = tmp_path / "out.safetensors"
    assert main(["merge", "--a", f"{tmp_path}/m.safetensors", "--adapter", f"{tmp_path}/l.safetensors=1", "-o", str(out)]) == 0
    written = load_file(out)
    assert set(written) == set(values)
    assert "_quantization_metadata" not in header(out)["__metadata__"]
    assert torch.allclose(written["img_in.weight"].double(), values["img_in.weight"] + 1, atol=2e-3)


@pytest.mark.parametrize("how", ["tensors", "header"])
def test_codes_that_are_not_merged_are_copied_with_all_that_describes_them(how, tmp_path):
    file, values, text = quantized(flux(1), "number", how)
    whole = {PREFIX + name: tensor for name, tensor in file.items()}
    text = {key: said.replace('"double', f'"{PREFIX}double') for key, said in text.items()}
    a, b = ({**whole, "vae.decoder.conv_in.weight": torch.full((2, 2, 1, 1), value)} for value in (0.0, 1.0))
    write(tmp_path / "a.safetensors", a, text)
    write(tmp_path / "b.safetensors", b, text)
    out = made_file(tmp_path, merge(parts=("vae",), alpha=0.5))
    assert torch.equal(out["vae.decoder.conv_in.weight"], torch.full((2, 2, 1, 1), 0.5))
    assert set(out) == set(a)
    again = open_model(tmp_path / "out.safetensors").tensors("transformer")
    assert all(torch.allclose(again[name].double(), values[name].double(), atol=1e-6) for name in values)
    if how == "header":
        layers = json.loads(header(tmp_path / "out.safetensors")["__metadata__"]["_quantization_metadata"])["layers"]
        assert {name.removeprefix(PREFIX) for name in layers} == set(LAYERS)


def test_a_text_encoder_in_codes_is_read_too(tmp_path):
    q = "encoder.block.0.layer.0.SelfAttention.q"
    codes = torch.randn(4, 4).to(torch.float8_e4m3fn)
    write(tmp_path / "m.safetensors", {
        **{PREFIX + name: tensor for name, tensor in flux(1).items()}, f"{T5}shared.weight": torch.ones(3, 4),
        f"{T5}{q}.weight": codes, f"{T5}{q}.weight_scale": torch.tensor(0.25),
        f"{T5}{q}.comfy_quant": described({"format": "float8_e4m3fn"})})
    model = open_model(tmp_path / "m.safetensors")
    assert torch.equal(model.tensor("text_encoder_2", f"{q}.weight"), codes.float() * 0.25)
    assert model.strays == ()


def test_a_negative_scale_gives_codes_times_scale_and_one_that_is_not_finite_names_tensor_and_file(tmp_path):
    file, values, _ = quantized(flux(2), "number", "scales alone")
    write(tmp_path / "a.safetensors", flux(1))
    write(tmp_path / "b.safetensors", {**file, "img_in.weight_scale": torch.tensor(-0.5)})
    read = open_model(tmp_path / "b.safetensors").tensor("transformer", "img_in.weight")
    assert torch.equal(read.double(), -values["img_in.weight"])
    for scale in (float("nan"), float("inf")):
        write(tmp_path / "b.safetensors", {**file, "img_in.weight_scale": torch.tensor(scale)})
        with pytest.raises(MaterialiseError, match=r"'img_in.weight' holds NaN or infinite values in .*b.safetensors"):
            made_file(tmp_path, merge())


@pytest.mark.parametrize(("said", "word"), [
    ({"format": "nvfp4"}, "nvfp4"), ({"format": "mxfp8"}, "mxfp8"),
    ({"format": "int8_tensorwise", "convrot": True}, "int8_tensorwise"),
    ({"format": "float8_e4m3fn", "convrot": True}, "convrot"), ({}, "None"), ({"format": ["float8_e4m3fn"]}, "float8_e4m3fn")])
@pytest.mark.parametrize("how", ["tensors", "header"])
def test_other_formats_are_refused_by_their_name(said, word, how, tmp_path):
    file = {**flux(1), "img_in.weight": torch.zeros(4, 3).to(torch.float8_e4m3fn), "img_in.weight_scale": torch.tensor(1.0)}
    if how == "tensors":
        file["img_in.comfy_quant"] = described(said)
    text = {"_quantization_metadata": json.dumps({"layers": {"img_in": said}})} if how == "header" else {"format": "pt"}
    write(tmp_path / "m.safetensors", file, text)
    with pytest.raises(ModelFileError, match=rf"img_in.*{word}"):
        open_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("changes", "word"), [
    ({"img_in.weight": torch.zeros(4, 3, dtype=torch.int8)}, "I8"),
    ({"img_in.weight_scale_2": torch.tensor(1.0)}, "nvfp4"),
    ({"img_in.scale_weight": torch.tensor(1.0)}, "both scale"),
    ({"img_in.comfy_quant": described({"format": "float8_e5m2"})}, "float8_e5m2"),
    ({"img_in.comfy_quant": torch.zeros(9, dtype=torch.uint8)}, "comfy_quant"),
    ({"img_in.comfy_quant": torch.zeros(2 ** 13, dtype=torch.uint8)}, "comfy_quant"),
    ({"guidance_in.weight_scale": torch.tensor(1.0)}, "lacks"),
    ({"txt_in.weight": torch.zeros(4, 3).to(torch.float8_e4m3fn)}, "m.safetensors: .*'txt_in.weight' .*without a scale"),
    ({"img_in.weight_scale": torch.zeros(0)}, "'img_in.weight_scale' is F32"),
    ({"img_in.weight_scale": torch.ones(3)}, "one per row")])
def test_what_does_not_fit_together_is_refused_by_name(changes, word, tmp_path):
    file = {**flux(1), "img_in.weight": torch.zeros(4, 3).to(torch.float8_e4m3fn), "img_in.weight_scale": torch.tensor(1.0)}
    write(tmp_path / "m.safetensors", {**file, **changes})
    with pytest.raises((ModelFileError, MaterialiseError), match=word):
        open_model(tmp_path / "m.safetensors")

