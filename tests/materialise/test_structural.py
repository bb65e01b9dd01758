"""Models of architectures that are not known by name are merged by the names and shapes of their tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Blocks, Checkpoint
from harness.cli import main
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.plan_recipe import plan_recipe
from harness.weights import ModelFileError, open_model, shape_pipeline
from tests.materialise.models import made_file, merge, parent, write
from tests.materialise.tiny_dit import flux
from tests.weights.architecture_names import Shapes, tensors_of

PREFIX = "model.diffusion_model."
WAN, CHROMA, ZIMAGE = map(tensors_of, ("Wan", "Chroma", "Z-Image"))
MODELS = {name: tensors_of(name) for name in ("Wan", "Qwen-Image", "Z-Image", "Chroma", "Flux.2 klein", "AuraFlow")} | {
    "": {"body.0.weight": (8, 3, 3, 3), "body.1.weight": (8, 8, 3, 3), "tail.bias": (3,)}}


def new(shapes: Shapes, seed: int, prefix: str = "") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {prefix + name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize(("prefix_a", "prefix_b"), [("", ""), (PREFIX, PREFIX), (PREFIX, ""), ("", f"net.{PREFIX}")])
def test_same_names_and_shapes_are_merged(which, prefix_a, prefix_b, tmp_path):
    a, b = new(MODELS[which], 1, prefix_a), new(MODELS[which], 2, prefix_b)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", b)
    out = made_file(tmp_path, merge())
    assert set(out) == set(a)
    for (name, one), two in zip(a.items(), b.values(), strict=True):
        ideal = 0.7 * one.double() + 0.3 * two.double()
        assert torch.allclose(out[name].double(), ideal, rtol=4e-3, atol=1e-6), name
    notes = plan_recipe(merge(parts=("transformer",)), Library(tmp_path)).parts["transformer"].notes
    assert sum("keys match" in note for note in notes) == 1


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_inspect_lists_what_is_there(which, prefix, tmp_path, capsys):
    write(tmp_path / "m.safetensors", new(MODELS[which], 1, prefix))
    assert main(["inspect", f"{tmp_path}/m.safetensors"]) == 0
    said = capsys.readouterr().out
    count = sum(torch.Size(shape).numel() for shape in MODELS[which].values())
    assert "BF16" in said
    assert f"{count:,} parameters" in said
    assert which in said
    assert (PREFIX in said) == bool(prefix)
    assert "U-Net" not in said
    assert "Stable Diffusion 3" not in said


def test_a_norm_of_another_spelling_is_merged_here_too(tmp_path):
    a, b = new(CHROMA, 1), new(CHROMA, 2)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", {name.replace("norms.0.scale", "norms.0.weight"): tensor for name, tensor in b.items()})
    out = made_file(tmp_path, merge(alpha=1))
    assert all(torch.equal(out[name], b[name]) for name in a)


def test_other_names_or_shapes_are_refused_by_name(tmp_path):
    write(tmp_path / "a.safetensors", new(WAN, 1))
    write(tmp_path / "b.safetensors", new({**WAN, "patch_embedding.weight": (8, 36, 1, 2, 2)}, 2))
    with pytest.raises(MaterialiseError, match=r"patch_embedding\.weight' has different shapes"):
        made_file(tmp_path, merge())
    write(tmp_path / "b.safetensors", new({**WAN, "blocks.3.ffn.0.weight": (32, 8)}, 2))
    with pytest.raises(MaterialiseError, match=r"blocks\.3\.ffn\.0\.weight' is missing in A"):
        made_file(tmp_path, merge())
    write(tmp_path / "b.safetensors", flux(1))
    with pytest.raises(MaterialiseError, match="different families"):
        made_file(tmp_path, merge())


def test_block_weights_and_parts_are_refused_by_name(tmp_path):
    write(tmp_path / "a.safetensors", new(WAN, 1))
    write(tmp_path / "b.safetensors", new(WAN, 2))
    with pytest.raises(MaterialiseError, match="block weights"):
        made_file(tmp_path, merge(alpha=Blocks(values=(0.5,) * 26)))
    with pytest.raises(MaterialiseError, match="vae"):
        made_file(tmp_path, merge(parts=("vae",)))


def test_a_folder_of_an_unknown_family_becomes_a_file_of_its_names(tmp_path):
    for seed, name in enumerate("ab"):
        (tmp_path / name / "transformer").mkdir(parents=True)
        (tmp_path / name / "text_encoder").mkdir()
        save_file(new(ZIMAGE, seed), tmp_path / name / "transformer" / "diffusion_pytorch_model.safetensors")
        encoder = new({"model.layers.0.mlp.up_proj.weight": (8, 8)}, seed)
        save_file(encoder, tmp_path / name / "text_encoder" / "model.safetensors")
    out = made_file(tmp_path, merge(a="a", b="b", alpha=1))
    expected = new(ZIMAGE, 1)
    assert set(out) == set(expected)
    assert all(torch.equal(out[name], tensor) for name, tensor in expected.items())
    notes = plan_recipe(merge(a="a", b="b", parts=("transformer",)), Library(tmp_path)).parts["transformer"].notes
    assert any("text_encoder" in note for note in notes)


def test_scaled_codes_are_multiplied_out_here_too(tmp_path):
    a, b = new(WAN, 1), new(WAN, 2)
    codes = b["blocks.0.ffn.0.weight"].to(torch.float8_e4m3fn)
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", {**b, "blocks.0.ffn.0.weight": codes, "blocks.0.ffn.0.weight_scale": torch.tensor(0.5)})
    out = made_file(tmp_path, merge(alpha=1))
    assert set(out) == set(a)
    assert torch.equal(out["blocks.0.ffn.0.weight"], (codes.float() * 0.5).bfloat16())


def test_it_is_not_sampled_and_says_why(tmp_path):
    write(tmp_path / "a.safetensors", new(WAN, 1))
    with pytest.raises(ModelFileError, match=r"Wan.*not sampled"):
        shape_pipeline(Library(tmp_path).open(Checkpoint(path="a.safetensors")))


@pytest.mark.parametrize("extra", [{"blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 8)},
                                   {"blocks.0.self_attn.q.weight.absmax": torch.ones(2)}])
def test_adapters_and_quantized_files_are_no_such_models(extra, tmp_path):
    write(tmp_path / "a.safetensors", {**new(WAN, 1), **extra})
    with pytest.raises(ModelFileError):
        Library(tmp_path).open(Checkpoint(path="a.safetensors"))


def test_one_misspelt_name_makes_no_unknown_architecture(tmp_path: Path) -> None:
    model = parent(1)
    wrong = {name.replace("middle_block.1.proj_in.weight", "middle_block.1.proj_inn.weight"): t for name, t in model.items()}
    write(tmp_path / "a.safetensors", wrong)
    with pytest.raises(ModelFileError, match="proj_inn"):
        open_model(tmp_path / "a.safetensors")
    assert not Library(tmp_path).open(Checkpoint(path="a.safetensors")).structural


def test_the_command_of_the_manual_merges_two_files(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", new(WAN, 1))
    write(tmp_path / "b.safetensors", new(WAN, 2))
    a, b, out = (f"{tmp_path}/{name}.safetensors" for name in ("a", "b", "out"))
    assert main(["merge", "--a", a, "--b", b, "--alpha", "0.3", "-o", out]) == 0
    assert set(load_file(out)) == set(WAN)


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize(("layout", "stem"), [("comfyui", "diffusion_model."), ("kohya", "lora_unet_")])
def test_a_difference_is_extracted_under_the_names_of_the_file(which, layout, stem, tmp_path):
    base, tuned = new(MODELS[which], 1), new(MODELS[which], 2)
    write(tmp_path / "base.safetensors", base)
    write(tmp_path / "tuned.safetensors", tuned)
    words = ["adapter", "extract", "--base", f"{tmp_path}/base.safetensors", "--tuned", f"{tmp_path}/tuned.safetensors",
             "--rank", "99", "--dtype", "fp32", "--leave-out", "-o", f"{tmp_path}/l.safetensors"]
    assert main([*words, "--layout", "peft"]) == 1
    assert main([*words, "--layout", layout]) == 0
    names = load_file(tmp_path / "l.safetensors").keys()
    path = next(name for name, shape in MODELS[which].items() if len(shape) in (2, 4) and ".weight" in name)[:-len(".weight")]
    assert stem + (path.replace(".", "_") if layout == "kohya" else path) + ".lora_up.weight" in names
