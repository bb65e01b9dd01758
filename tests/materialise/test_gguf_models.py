"""GGUF files in recipes: as A, as B, as a part, with adapters and in extraction they are the float32 values that their blocks
stand for, and the coverage says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import harness
from harness import Adapter, Fused, Merge
from harness.cli import main
from harness.declare import Model
from harness.declare.ways_out import AS_FP16
from harness.first_suite.given_files import look
from harness.first_suite.questions import Options, question
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.plan_recipe import plan_recipe
from harness.weights import open_model, open_tensors
from harness.weights.relayout import in_diffusers_names
from tests.materialise.models import UNET, State, differing, lerped, made_file, merge, parent, saved, ulps, write
from tests.materialise.tiny_dit import flux
from tests.weights.gguf_files import write_city96

QKV = "double_blocks.0.img_attn.qkv.weight"


def values_of(path: Path) -> State:
    """All tensors of a GGUF file as they are read, which tests/weights/test_gguf.py compares with what was written."""
    file = open_tensors(path)
    return {name: tensor.clone() for name, tensor in file.read(file.stored).items()}


def unet(seed: int, prefix: str = "") -> State:
    return {prefix + name.removeprefix(UNET): tensor for name, tensor in parent(seed).items() if name.startswith(UNET)}


def said(root: Path, model: Model) -> list[str]:
    return [note for part in plan_recipe(model, Library(root)).parts.values() for note in part.notes]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q6_K"])
def test_a_gguf_unet_as_b_gives_what_its_values_give_and_the_coverage_names_its_formats(tmp_path, kind):
    write(tmp_path / "a.safetensors", parent(1))
    formats = write_city96(tmp_path / "b.gguf", unet(2), kind)
    count = sum(word == kind for word in formats.values())
    values = values_of(tmp_path / "b.gguf")
    out = made_file(tmp_path, merge(b="b.gguf"))
    for name, tensor in parent(1).items():
        if name.startswith(UNET):
            mean = (0.7 * tensor.double() + 0.3 * values[name.removeprefix(UNET)].double()).half()
            assert ulps(out[name], mean) <= 1, name
        else:
            assert torch.equal(out[name], tensor)
    assert count
    assert f"unet: of the {len(formats)} tensors of b.gguf, {count} dequantised from {kind}" in said(tmp_path, merge(b="b.gguf"))


def test_a_merge_into_a_gguf_file_says_that_its_format_is_not_written_and_the_way_out_works(tmp_path, capsys):
    write_city96(tmp_path / "a.gguf", unet(1))
    write(tmp_path / "b.safetensors", unet(2))
    recipe = merge(a="a.gguf")
    with pytest.raises(MaterialiseError, match=r"a\.gguf: unet: '.*' is in the GGUF format Q8_0") as refused:
        plan_recipe(recipe, Library(tmp_path))
    assert str(refused.value).endswith(f"Set {AS_FP16}")
    line = f"merge --a {tmp_path}/a.gguf --b {tmp_path}/b.safetensors --alpha 0.3 -o {tmp_path}/o.safetensors".split()
    assert main(line) == 1
    assert capsys.readouterr().err.strip().endswith("Set --dtype fp16")
    assert main([*line, "--dtype", "fp16"]) == 0
    values, out = values_of(tmp_path / "a.gguf"), load_file(tmp_path / "o.safetensors")
    assert {tensor.dtype for tensor in out.values()} == {torch.float16}
    assert all(ulps(out[name], lerped(values[name], unet(2)[name].float()).half()) <= 1 for name in values)


@pytest.mark.parametrize("where", ["alone", "a", "taken"])
def test_what_is_not_merged_of_a_gguf_file_is_written_as_its_values(tmp_path, where):
    write_city96(tmp_path / "g.gguf", parent(1))
    values = values_of(tmp_path / "g.gguf")
    write(tmp_path / "b.safetensors", parent(2))
    model: Model = {"alone": "g.gguf", "a": Merge(a="g.gguf", b="b.safetensors", alpha=0.0, dtype="fp32"),
                    "taken": Merge(a="b.safetensors", b="g.gguf", alpha=1.0, dtype="fp32",
                                   take={"vae": "g.gguf", "text_encoder": "g.gguf"})}[where]
    out = made_file(tmp_path, model)
    read, written = ({name: t.float() for name, t in state.items() if t.is_floating_point()} for state in (values, out))
    assert differing(read, written) == []


def test_a_merge_that_keeps_a_packed_part_of_a_asks_for_a_dtype_too(tmp_path):
    state = parent(1)
    write_city96(tmp_path / "vae.gguf", {name: tensor for name, tensor in state.items() if not name.startswith(UNET)}, row=32)
    write(tmp_path / "b.safetensors", {name: t for name, t in parent(2).items() if not name.startswith(UNET)})
    with pytest.raises(MaterialiseError, match=r"vae: .*Q8_0.*dtype=\"fp16\""):
        plan_recipe(Merge(a="vae.gguf", b="b.safetensors", alpha=0.5, parts=("text_encoder",)), Library(tmp_path))


def test_an_adapter_is_added_to_the_values(tmp_path):
    write_city96(tmp_path / "m.gguf", unet(1))
    key = "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    values = values_of(tmp_path / "m.gguf")
    write(tmp_path / "l.safetensors", {f"diffusion_model.{key.removesuffix('.weight')}.diff": torch.ones(values[key].shape)})
    out = made_file(tmp_path, Fused(model="m.gguf", adapters=(Adapter(path="l.safetensors", weight=1.0),)))
    assert torch.allclose(out[key], values[key] + 1, atol=1e-6)
    assert differing(values, out) == [key]


@pytest.mark.parametrize("spelled", ["ldm", "diffusers"])
def test_the_tensors_of_flux_are_read_under_both_names_whether_they_are_stacked_or_not(tmp_path, spelled):
    a, b = ({name: t.repeat((8,) * t.ndim) for name, t in flux(seed).items()} for seed in (1, 2))
    for name, state in (("a", a), ("b", b)):
        write(tmp_path / f"{name}.safetensors", state)
    names = in_diffusers_names(open_model(tmp_path / "b.safetensors"))
    formats = write_city96(tmp_path / "b.gguf", names.tensors("transformer") if spelled == "diffusers" else b, row=32)
    assert formats["transformer_blocks.0.attn.to_q.weight" if spelled == "diffusers" else QKV] == "Q8_0"
    out = made_file(tmp_path, merge(b="b.gguf", parts=("transformer",)))
    mean = 0.7 * a[QKV] + 0.3 * b[QKV]
    assert 0 < float((out[QKV] - mean).abs().max()) < 0.3 * 0.57 * float(b[QKV].abs().max()) / 127


def test_an_adapter_is_extracted_from_a_gguf_file_and_the_safetensors_file_of_its_values_alike(tmp_path):
    write_city96(tmp_path / "base.gguf", unet(1))
    write(tmp_path / "base.safetensors", values_of(tmp_path / "base.gguf"))
    write(tmp_path / "tuned.safetensors", unet(2))
    adapters = []
    for base in ("base.gguf", "base.safetensors"):
        out = tmp_path / f"{base}.lora.safetensors"
        line = f"adapter extract --base {tmp_path}/{base} --tuned {tmp_path}/tuned.safetensors --rank 2 --parts unet -o {out}"
        assert main(line.split()) == 0
        adapters.append(load_file(out))
    assert differing(*adapters) == []


def test_a_file_made_of_a_gguf_file_is_made_again_by_its_content(tmp_path, capsys):
    write_city96(tmp_path / "a.gguf", unet(1))
    write(tmp_path / "b.safetensors", unet(2))
    path = saved(tmp_path, merge(a="a.gguf", dtype="bf16")).path
    assert main(["replay", str(path), "--models", str(tmp_path)]) == 0
    write_city96(tmp_path / "a.gguf", unet(3))
    capsys.readouterr()
    assert main(["replay", str(path), "--models", str(tmp_path)]) == 1
    assert "a.gguf" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "dtype"), [("a.gguf", "fp16"), ("b.safetensors", "a")])
def test_the_suite_that_is_written_for_two_models_gives_a_merge_into_a_gguf_file_a_dtype(tmp_path, monkeypatch, first, dtype):
    monkeypatch.chdir(tmp_path)
    write_city96(tmp_path / "a.gguf", parent(1))
    write(tmp_path / "b.safetensors", parent(2))
    models, _ = look([first, *({"a.gguf", "b.safetensors"} - {first})], [])
    assert [model.packed for model in models] == [model.path == "a.gguf" for model in models]
    asked = question(models, [], Options())
    candidates = eval(asked.source((0, 0.5, 1)), {word: getattr(harness, word) for word in asked.words})
    assert [candidate.model.dtype for candidate in candidates] == [dtype] * 3
    assert all(plan_recipe(candidate.model, Library(tmp_path)).parts for candidate in candidates)


def test_inspect_says_formats_bytes_and_bits_per_weight(tmp_path, capsys):
    state = {"x.weight": torch.ones(2, 256), "y.weight": torch.ones(2, 256), "z.bias": torch.ones(32)}
    write_city96(tmp_path / "m.gguf", {f"blocks.{name}": tensor for name, tensor in state.items()}, "Q4_K")
    assert main(["inspect", str(tmp_path / "m.gguf")]) == 0
    assert "GGUF           5.33 bits per weight; all tensors: Q4_K x 2, F32 x 1" in capsys.readouterr().out
    assert main(["inspect", "--json", "--keys", str(tmp_path / "m.gguf")]) == 0
    [data] = json.loads(capsys.readouterr().out)
    size = 4 * 144 + 32 * 4
    assert data["gguf"] == {"formats": {"Q4_K": 2, "F32": 1}, "weight_bytes": size, "bits_per_weight": 8 * size / 1056}
    assert data["components"]["transformer"]["dtypes"] == {"Q4_K": 2, "F32": 1}
    assert data["keys"]["transformer"]["blocks.x.weight"]["packed"] == "Q4_K"
