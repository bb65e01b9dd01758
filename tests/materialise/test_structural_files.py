"""Whole files of architectures that are not known by name, their parts, and the prefixes that tools add to a denoiser's names."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from harness import Adapter, Fused
from harness.cli import main
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.plan_recipe import plan_recipe
from tests.materialise.models import made_file, merge, write
from tests.materialise.test_structural import CHROMA, MODELS, PREFIX, WAN, new
from tests.materialise.tiny_dit import flux

VAE = {"encoder.conv_in.weight": (8, 3, 3, 3), "decoder.conv_in.weight": (8, 4, 3, 3), "decoder.conv_in.bias": (8,)}
WAN_VAE = {"encoder.conv1.weight": (8, 3, 3, 3, 3), "decoder.head.0.gamma": (8, 1, 1, 1)}
TEXT = {"shared.weight": (9, 8), "encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)}
BESIDE = {
    "as ComfyUI writes it": ("vae.", VAE, "text_encoders.t5xxl.transformer."),
    "a VAE of an unknown kind": ("vae.", WAN_VAE, "text_encoders.umt5xxl.transformer."),
    "as the original code writes it": ("first_stage_model.", VAE, "cond_stage_model.transformer."),
    "as XL's code writes it": ("first_stage_model.", VAE, "conditioner.embedders.0.transformer."),
}


def whole(shapes, seed, beside="as ComfyUI writes it"):
    vae, vae_shapes, text = BESIDE[beside]
    return {**new(shapes, seed, PREFIX), **new(vae_shapes, seed + 10, vae), **new(TEXT, seed + 20, text)}


def part_of(name):
    return "transformer" if name.startswith(PREFIX) else "vae" if name.startswith(("vae.", "first_stage")) else "text_encoder"


@pytest.mark.parametrize("which", ["Chroma", "Wan", "Z-Image"])
@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("parts", [("denoiser",), ("vae",), ("text_encoder",), ("all",)])
def test_of_a_whole_file_the_asked_parts_alone_are_merged(which, beside, parts, tmp_path):
    a, b = whole(MODELS[which], 1, beside), whole(MODELS[which], 2, beside)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    out = made_file(tmp_path, merge(alpha=0.25, parts=parts))
    asked = {"denoiser": ("transformer",), "all": ("transformer", "vae", "text_encoder")}.get(parts[0], parts)
    assert set(out) == set(a)
    for name, one in a.items():
        ideal = 0.75 * one.double() + 0.25 * b[name].double() if part_of(name) in asked else one.double()
        assert torch.allclose(out[name].double(), ideal, rtol=4e-3, atol=1e-6), name


@pytest.mark.parametrize("which", ["Chroma", "Wan"])
def test_a_whole_file_and_its_denoiser_alone_are_merged(which, tmp_path):
    a, b = whole(MODELS[which], 1), new(MODELS[which], 2)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    out = made_file(tmp_path, merge(alpha=1))
    assert set(out) == set(a)
    assert all(torch.equal(out[name], b.get(name.removeprefix(PREFIX), tensor)) for name, tensor in a.items())
    out = made_file(tmp_path, merge(a="b.safetensors", b="a.safetensors", alpha=1))
    assert set(out) == set(b)
    assert all(torch.equal(out[name], a[PREFIX + name]) for name in b)


def test_a_vae_is_taken_under_the_names_of_the_file(tmp_path):
    a, b, vae = whole(CHROMA, 1), whole(CHROMA, 2), new(VAE, 3)
    for name, tensors in (("a", a), ("b", b), ("v", vae)):
        write(tmp_path / f"{name}.safetensors", tensors)
    out = made_file(tmp_path, merge(alpha=0, take={"vae": "v.safetensors"}))
    assert set(out) == set(a)
    assert all(torch.equal(out[f"vae.{name}"], tensor) for name, tensor in vae.items())
    assert all(torch.equal(out[name], tensor) for name, tensor in a.items() if not name.startswith("vae."))


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_vae_that_the_file_has_no_place_for_is_refused(prefix, tmp_path):
    write(tmp_path / "a.safetensors", new(CHROMA, 1, prefix))
    write(tmp_path / "b.safetensors", new(CHROMA, 2, prefix))
    write(tmp_path / "v.safetensors", new(VAE, 3))
    with pytest.raises(MaterialiseError, match="Give an A that has a vae"):
        made_file(tmp_path, merge(take={"vae": "v.safetensors"}))


@pytest.mark.parametrize("prefix", ["", PREFIX, "net."])
def test_markers_and_schedules_are_copied_from_a(prefix, tmp_path):
    aside = {"edm_vpred.sigma_max": torch.tensor(120.0), "v_pred": torch.tensor([]), "ztsnr": torch.tensor([]),
             "betas": torch.ones(4), "logvar": torch.ones(4), "model_ema.decay": torch.tensor(0.5)}
    a, b = new(WAN, 1, prefix), new(WAN, 2, prefix)
    write(tmp_path / "a.safetensors", a | aside)
    write(tmp_path / "b.safetensors", b | {"edm_vpred.sigma_max": torch.tensor(2.0), "betas": torch.zeros(4)})
    out = made_file(tmp_path, merge(alpha=1))
    written = "" if prefix == "net." else prefix
    assert {name: out[written + name] for name in WAN}.keys() | aside.keys() - {"model_ema.decay"} == {
        name.removeprefix(written) for name in out}
    assert all(torch.equal(out[written + name], b[prefix + name]) for name in WAN)
    assert all(torch.equal(out[name], aside[name]) for name in aside if name != "model_ema.decay")


WRAPPERS = ("diffusion_model.", "transformer.", "dit.", "model.diffusion_model.model.", "module.diffusion_model.")


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("which", ["Flux", "Chroma", "Wan", "Z-Image"])
def test_prefixes_of_a_denoiser_are_read_and_those_of_a_written(wrapper, which, tmp_path):
    a, b = (flux(1), flux(2)) if which == "Flux" else (new(MODELS[which], 1), new(MODELS[which], 2))
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", {wrapper + name: tensor for name, tensor in b.items()})
    out = made_file(tmp_path, merge(alpha=1))
    assert set(out) == set(a)
    assert all(torch.equal(out[name], tensor) for name, tensor in b.items())
    out = made_file(tmp_path, merge(a="b.safetensors", b="a.safetensors", alpha=1))
    assert out.keys() == {wrapper.removeprefix("module.") + name for name in a}
    assert all(torch.equal(out[wrapper.removeprefix("module.") + name], tensor) for name, tensor in a.items())


def test_a_part_that_looks_like_one_of_a_known_family_is_merged_by_its_names(tmp_path):
    a, b = new(CHROMA, 1), new(CHROMA, 2)
    part = {name: tensor for name, tensor in b.items() if name.startswith("double_blocks.0.")}
    assert len(part) > 2
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", part)
    out = made_file(tmp_path, merge(alpha=1, missing="keep_a"))
    assert all(torch.equal(out[name], part.get(name, tensor)) for name, tensor in a.items())


def test_a_part_of_another_size_stays_one_of_another_family(tmp_path):
    write(tmp_path / "a.safetensors", new(CHROMA, 1))
    write(tmp_path / "b.safetensors", {name: torch.ones(3, 3) for name in CHROMA if name.startswith("double_blocks.0.")})
    with pytest.raises(MaterialiseError, match="different families"):
        plan_recipe(merge(missing="keep_a"), Library(tmp_path))


@pytest.mark.parametrize("prefix", [PREFIX, "diffusion_model.", "all-in-one"])
def test_a_lora_changes_the_denoiser_alone(prefix, tmp_path):
    a = whole(CHROMA, 1) if prefix == "all-in-one" else new(CHROMA, 1, prefix)
    before = PREFIX if prefix == "all-in-one" else prefix
    layer = next(name for name, shape in CHROMA.items() if len(shape) == 2 and name.endswith(".weight"))
    rows, columns = CHROMA[layer]
    up, down = torch.randn(rows, 2), torch.randn(2, columns)
    path = f"diffusion_model.{layer.removesuffix('.weight')}"
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "l.safetensors", {f"{path}.lora_A.weight": down, f"{path}.lora_B.weight": up})
    out = made_file(tmp_path, Fused(model="a.safetensors", adapters=(Adapter(path="l.safetensors"),)))
    ideal = a[before + layer].double() + up.double() @ down.double()
    error = (out[before + layer].double() - ideal).norm() / ideal.norm()
    assert float(error) < math.ldexp(1, -8)
    assert set(out) == set(a)
    assert all(torch.equal(out[name], tensor) for name, tensor in a.items() if name != before + layer)


def test_inspect_lists_the_parts_of_a_whole_file(tmp_path, capsys):
    write(tmp_path / "a.safetensors", whole(CHROMA, 1))
    assert main(["inspect", f"{tmp_path}/a.safetensors"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("transformer", "vae", "text_encoder"))


def test_the_command_takes_the_vae_of_a_whole_file(tmp_path):
    write(tmp_path / "a.safetensors", whole(CHROMA, 1))
    write(tmp_path / "b.safetensors", whole(CHROMA, 2))
    a, b, out = (f"{tmp_path}/{name}.safetensors" for name in ("a", "b", "out"))
    assert main(["merge", "--a", a, "--b", b, "--alpha", "1", "--take", f"vae={b}", "-o", out]) == 0
    merged, other = load_file(out), load_file(b)
    assert all(torch.equal(tensor, other[name]) != name.startswith("text_encoders.") for name, tensor in merged.items())


def test_the_difference_of_whole_files_is_that_of_their_denoisers(tmp_path, capsys):
    for seed, name in enumerate("ab"):
        write(tmp_path / f"{name}.safetensors", whole(CHROMA, seed))
    words = ["adapter", "extract", "--base", f"{tmp_path}/a.safetensors", "--tuned", f"{tmp_path}/b.safetensors", "--rank", "4",
             "--layout", "comfyui", "--leave-out", "-o", f"{tmp_path}/l.safetensors"]
    assert main([*words, "--parts", "text_encoder"]) == 1
    assert "text_encoder" in capsys.readouterr().err
    assert main(words) == 0
    assert "not compared: text_encoder, vae" in "".join(capsys.readouterr())
    assert not any("text_encoders" in name or "vae" in name for name in load_file(tmp_path / "l.safetensors"))
