"""Models that other tools quantized, as parents of merges, for adapters, and to sample: their values take part, and what is
written has 16 bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness import Merge
from harness.cli import main
from harness.weights import open_model
from tests.materialise.models import UNET, header, made_file, merge, parent, write
from tests.materialise.tiny_dit import flux
from tests.weights.coded_files import State, by_formula, described, four_bits

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
PREFIX = "model.diffusion_model."
LAYERS = ("img_in", "double_blocks.0.img_attn.qkv", "single_blocks.0.linear1")


def nf4(model: State, layers: tuple[str, ...] = LAYERS) -> tuple[State, State]:
    """The file of bitsandbytes, and its values."""
    file, values = dict(model), dict(model)
    for layer in layers:
        name = f"{layer}.weight"
        codes = four_bits(name, model[name])
        file |= codes
        values[name] = by_formula(name, codes)
    return file, values


def int8(model: State) -> tuple[State, State]:
    """The file of ComfyUI, and its values."""
    file, values = dict(model), dict(model)
    for layer in LAYERS:
        weight = model[f"{layer}.weight"].float()
        scales = weight.abs().amax(dim=1, keepdim=True) / 127
        codes = (weight / scales).round().to(torch.int8)
        file |= {f"{layer}.weight": codes, f"{layer}.weight_scale": scales,
                 f"{layer}.comfy_quant": described({"format": "int8_tensorwise"})}
        values[f"{layer}.weight"] = codes.float() * scales
    return file, values


FORMATS = {"nf4": nf4, "int8_tensorwise": int8}


def is_mean(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether it is the formula in float64, up to the last place of its dtype."""
    step = torch.finfo(dtype).eps
    return out.dtype == dtype and torch.allclose(out.double(), 0.7 * a.double() + 0.3 * b.double(), rtol=step, atol=step / 1024)


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_values_of_b_are_merged_and_rounded_once(kind, prefix, tmp_path):
    a = flux(1, dtype=torch.bfloat16)
    file, values = FORMATS[kind](flux(2, dtype=torch.bfloat16))
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", {prefix + name: tensor for name, tensor in file.items()})
    out = made_file(tmp_path, merge(parts=("transformer",)))
    assert set(out) == set(a)
    assert all(is_mean(out[name], a[name], values[name], torch.bfloat16) for name in a)
    notes = header(tmp_path / "out.safetensors")["__metadata__"]["sweetspot.coverage"]
    assert f"{len(LAYERS)} dequantised from {kind}" in notes


@pytest.mark.parametrize(("kind", "dtype"), [("nf4", torch.float16), ("nf4", torch.bfloat16), ("nf4", torch.float32),
                                             ("int8_tensorwise", torch.bfloat16)])
def test_a_merge_into_a_file_of_codes_is_written_in_16_bits(kind, dtype, tmp_path):
    file, values = FORMATS[kind](flux(1, dtype=dtype))
    b = flux(2, dtype=dtype)
    write(tmp_path / "a.safetensors", file)
    write(tmp_path / "b.safetensors", b)
    out = made_file(tmp_path, merge(parts=("transformer",)))
    written = torch.bfloat16 if kind == "nf4" and dtype == torch.bfloat16 else torch.float16
    assert set(out) == set(values)
    for name in values:
        assert is_mean(out[name], values[name], b[name], written if name.removesuffix(".weight") in LAYERS else dtype), name
    notes = header(tmp_path / "out.safetensors")["__metadata__"]["sweetspot.coverage"]
    assert f"dequantised from {kind} (what keeps its dtype is {'BF16' if written == torch.bfloat16 else 'F16'})" in notes


def test_a_dtype_that_is_declared_holds_for_codes_too(tmp_path):
    file, values = nf4(flux(1))
    write(tmp_path / "a.safetensors", file)
    write(tmp_path / "b.safetensors", flux(2))
    out = made_file(tmp_path, Merge(a="a.safetensors", b="b.safetensors", alpha=0.0, parts=("transformer",), dtype="fp32"))
    assert all(torch.equal(out[name], values[name].float()) for name in values)


def test_what_is_not_merged_of_a_file_of_codes_is_written_as_its_values(tmp_path):
    file, values = nf4(flux(1, dtype=torch.bfloat16))
    for name, number in (("a", 0.0), ("b", 1.0)):
        write(tmp_path / f"{name}.safetensors", {**{PREFIX + key: tensor for key, tensor in file.items()},
                                                 "vae.decoder.conv_in.weight": torch.full((2, 2, 1, 1), number)})
    out = made_file(tmp_path, merge(parts=("vae",), alpha=0.5))
    assert {name.removeprefix(PREFIX) for name in out} == {*values, "vae.decoder.conv_in.weight"}
    assert all(torch.equal(out[PREFIX + name], tensor) for name, tensor in values.items())


@pytest.mark.parametrize("layers", [("blocks.0.attn.q", "blocks.0.ffn.w1"), ()])
def test_a_model_of_unknown_architecture_in_codes_is_merged_by_its_names(layers, tmp_path):
    names = ("blocks.0.attn.q.weight", "blocks.0.ffn.w1.weight", "blocks.0.norm.weight", "head.weight")
    a, b = ({name: torch.randn(*((8,) if "norm" in name else (8, 16)), generator=torch.Generator().manual_seed(seed))
             .bfloat16() for name in names} for seed in (1, 2))
    file, values = nf4(b, layers)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", file)
    out = made_file(tmp_path, merge(parts=("transformer",)))
    assert all(is_mean(out[name], a[name], values[name], torch.bfloat16) for name in names)


def test_the_scales_of_codes_may_be_in_another_shard(tmp_path):
    """Shards are filled in the order of the names, whatever belongs together."""
    names = ("blocks.0.attn.q.weight", "blocks.0.ffn.w1.weight", "head.weight")
    file, values = nf4({name: torch.randn(8, 16, generator=torch.Generator().manual_seed(1)) for name in names},
                       ("blocks.0.attn.q", "blocks.0.ffn.w1"))
    shards = {name: f"diffusion_pytorch_model-0000{1 + (number > 1)}-of-00002.safetensors" for number, name in enumerate(file)}
    folder = tmp_path / "a"
    folder.mkdir()
    for shard in set(shards.values()):
        write(folder / shard, {name: file[name] for name in file if shards[name] == shard})
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    write(tmp_path / "b.safetensors", values)
    assert main(["merge", "--a", str(folder), "--b", f"{tmp_path}/b.safetensors", "--alpha", "0.5", "--dtype", "fp32", "-o",
                 f"{tmp_path}/out.safetensors"]) == 0
    out = load_file(tmp_path / "out.safetensors")
    assert out.keys() == values.keys()
    assert all(torch.equal(out[name], values[name]) for name in values)
    (folder / shards["blocks.0.attn.q.weight.absmax"]).unlink()
    assert main(["inspect", str(folder)]) == 1


def test_inspect_names_the_format_and_the_shape_of_the_values(tmp_path, capsys):
    file, values = nf4(flux(1))
    write(tmp_path / "m.safetensors", file)
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--keys"]) == 0
    text = capsys.readouterr().out
    assert "nf4" in text
    assert f"img_in.weight'  nf4 {list(values['img_in.weight'].shape)}" in text
    assert "absmax" not in text
    assert "belong to no component" not in text


def test_an_adapter_is_extracted_from_codes_and_from_their_values_alike(tmp_path):
    file, values = nf4(flux(1))
    write(tmp_path / "codes.safetensors", file)
    write(tmp_path / "values.safetensors", values)
    write(tmp_path / "tuned.safetensors", flux(2))
    adapters = []
    for base in ("codes", "values"):
        out = tmp_path / f"{base}.lora.safetensors"
        assert main(["adapter", "extract", "--base", f"{tmp_path}/{base}.safetensors", "--tuned", f"{tmp_path}/tuned.safetensors",
                     "--rank", "2", "-o", str(out)]) == 0
        adapters.append(load_file(out))
    assert adapters[0].keys() == adapters[1].keys()
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])


def test_an_adapter_is_added_to_the_values(tmp_path):
    file, values = nf4(flux(1))
    write(tmp_path / "m.safetensors", file)
    write(tmp_path / "l.safetensors", {"diffusion_model.img_in.diff": torch.ones(4, 3)})
    out = tmp_path / "out.safetensors"
    assert main(["merge", "--a", f"{tmp_path}/m.safetensors", "--adapter", f"{tmp_path}/l.safetensors=1", "-o", str(out)]) == 0
    assert torch.equal(load_file(out)["img_in.weight"], (values["img_in.weight"].double() + 1).half())


def test_a_merge_of_codes_is_made_again(tmp_path, capsys):
    file, _ = nf4(flux(1))
    write(tmp_path / "a.safetensors", file)
    write(tmp_path / "b.safetensors", flux(2))
    out = tmp_path / "out.safetensors"
    assert main(["merge", "--a", f"{tmp_path}/a.safetensors", "--b", f"{tmp_path}/b.safetensors", "--alpha", "0.3", "--parts",
                 "transformer", "-o", str(out)]) == 0
    assert main(["replay", str(out), "--models", str(tmp_path)]) == 0
    capsys.readouterr()


def test_a_unet_of_stable_diffusion_in_nf4_has_its_values(tmp_path):
    """ForgeUI's files have whole checkpoints with linear layers in nf4."""
    model = parent(1)
    layers = tuple(name.removesuffix(".weight") for name in model if name.startswith(UNET) and ".attn1.to_" in name
                   and name.endswith("weight"))
    file, values = nf4(model, layers)
    write(tmp_path / "m.safetensors", file)
    write(tmp_path / "v.safetensors", values)
    codes, plain = open_model(tmp_path / "m.safetensors"), open_model(tmp_path / "v.safetensors")
    assert codes.family == plain.family == "sd1"
    assert codes.strays == plain.strays
    for part in plain.components:
        read, wanted = codes.tensors(part), plain.tensors(part)
        assert read.keys() == wanted.keys()
        assert all(torch.equal(read[key], wanted[key]) for key in wanted)


def test_a_broken_file_of_codes_names_file_and_tensor(tmp_path: Path, capsys):
    file, _ = nf4(flux(1))
    write(tmp_path / "a.safetensors", {**file, "img_in.weight.absmax": torch.tensor([torch.nan])})
    write(tmp_path / "b.safetensors", flux(2))
    assert main(["merge", "--a", f"{tmp_path}/a.safetensors", "--b", f"{tmp_path}/b.safetensors", "--alpha", "0.3", "--parts",
                 "transformer", "-o", f"{tmp_path}/out.safetensors"]) == 1
    text = capsys.readouterr().err
    assert "a.safetensors" in text
    assert "'img_in.weight.absmax' gives NaN" in text
    assert not (tmp_path / "out.safetensors").exists()
