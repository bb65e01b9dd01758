"""The scale of a norm is one tensor, whether a tool calls it `.scale` or `.weight`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.cli import main
from harness.materialise.library import MaterialiseError
from harness.weights import ModelFileError
from harness.weights.norm_scales import other_spelling
from tests.materialise.models import made_file, merge, write
from tests.materialise.tiny_dit import comfy, flux, sd3

PREFIX = "model.diffusion_model."
KEY = "double_blocks.0.img_attn.norm.key_norm.scale"


def _sd3_scales(seed: int) -> dict[str, torch.Tensor]:
    return {(name.replace(".weight", ".scale") if ".ln_" in name else name): t for name, t in sd3(seed).items()}


@pytest.mark.parametrize(("a", "b"), [
    (flux(1), comfy(flux(2))), (comfy(flux(1)), flux(2)), (flux(1), {PREFIX + n: t for n, t in comfy(flux(2)).items()}),
    (sd3(1), _sd3_scales(2)), (_sd3_scales(1), sd3(2))])
@pytest.mark.parametrize("missing", ["error", "keep_a"])
def test_norms_of_another_spelling_are_merged_under_the_names_of_a(a, b, missing, tmp_path):
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    out = made_file(tmp_path, merge(parts=("transformer",), missing=missing))
    assert list(out) == sorted(out)
    assert set(out) == set(a)
    values = list(b.values())
    for number, name in enumerate(a):
        ideal = 0.7 * a[name].double() + 0.3 * values[number].double()
        assert torch.allclose(out[name].double(), ideal, rtol=1e-6, atol=1e-7), name


def test_a_scale_under_both_names_is_refused_with_both(tmp_path):
    write(tmp_path / "a.safetensors", flux(1))
    write(tmp_path / "b.safetensors", {**flux(2), other_spelling(KEY): torch.ones(2)})
    with pytest.raises((ModelFileError, MaterialiseError), match=r"key_norm\.scale.*key_norm\.weight"):
        made_file(tmp_path, merge(parts=("transformer",)))


@pytest.mark.parametrize("model", [flux(1), comfy(flux(1))])
def test_an_adapter_changes_a_norm_under_either_name(model, tmp_path):
    write(tmp_path / "m.safetensors", model)
    delta = torch.full((2,), 0.25)
    write(tmp_path / "l.safetensors", {f"diffusion_model.{KEY.removesuffix('.scale')}.diff": delta})
    out = tmp_path / "out.safetensors"
    assert main(["merge", "--a", f"{tmp_path}/m.safetensors", "--adapter", f"{tmp_path}/l.safetensors=2", "-o", str(out)]) == 0
    key = KEY if KEY in model else other_spelling(KEY)
    assert torch.allclose(load_file(out)[key], model[key] + 2 * delta)


@pytest.mark.parametrize("key", [KEY, "transformer_blocks.0.attn.norm_added_q.weight", "joint_blocks.0.x_block.attn2.ln_k.weight",
                                 "distilled_guidance_layer.norms.3.scale"])
def test_the_other_spelling_leads_back(key):
    assert other_spelling(key) != key
    assert other_spelling(other_spelling(key)) == key


@pytest.mark.parametrize("key", ["img_in.weight", "blocks.0.norm.linear.weight", "x.scale", "conv_norm_out.bias"])
def test_other_tensors_have_one_name(key):
    assert other_spelling(key) == ""


def test_norms_are_extracted_across_the_spellings(tmp_path: Path) -> None:
    write(tmp_path / "base.safetensors", flux(1))
    write(tmp_path / "tuned.safetensors", comfy(flux(2)))
    assert main(["adapter", "extract", "--base", f"{tmp_path}/base.safetensors", "--tuned", f"{tmp_path}/tuned.safetensors",
                 "--rank", "99", "--dtype", "fp32", "--layout", "comfyui", "-o", f"{tmp_path}/l.safetensors"]) == 0
    out = tmp_path / "out.safetensors"
    assert main(["merge", "--a", f"{tmp_path}/base.safetensors", "--adapter", f"{tmp_path}/l.safetensors", "-o", str(out)]) == 0
    fused, tuned = load_file(out), flux(2)
    assert all(torch.allclose(fused[name], tuned[name], atol=1e-5) for name in tuned)
