"""Flux and Stable Diffusion 3 as trainers leave them, folders of shards, written as single files in the original code's names;
and folders of one component."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Checkpoint
from harness.cli import main
from harness.materialise.library import Library
from harness.weights import ModelFileError, open_model, shape_pipeline
from harness.weights.dit import TIED_EMBEDDING
from tests.materialise.models import made_file, merge, planned, write
from tests.weights.real_names import drawn, in_diffusers, original_shapes
from tests.weights.tiny import tiny

State = dict[str, torch.Tensor]
FAMILIES = ("flux", "sd3")
PREFIX = "model.diffusion_model."


def shards(folder: Path, state: State, stem: str = "diffusion_pytorch_model", count: int = 3) -> Path:
    folder.mkdir(parents=True)
    files = {name: f"{stem}-{number % count + 1:05d}-of-{count:05d}.safetensors" for number, name in enumerate(state)}
    for file in set(files.values()):
        save_file({name: state[name].contiguous() for name in state if files[name] == file}, folder / file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def two(root: Path, family: str) -> tuple[State, State]:
    """Writes the folders a and b with the transformer in shards; returns it in the original code's names."""
    models = [drawn(original_shapes(family), seed) for seed in (1, 2)]
    for name, state in zip("ab", models, strict=True):
        shards(root / name / "transformer", in_diffusers(family, state))
    return models[0], models[1]


def check(out: State, a: State, b: State, alpha: float = 0.3) -> None:
    assert set(out) == set(a)
    for name in a:
        ideal = (1 - alpha) * a[name].double() + alpha * b[name].double()
        assert torch.allclose(out[name].double(), ideal, rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("inside", ["", "/transformer"])
def test_folders_of_shards_become_one_file_in_the_original_names(family, inside, tmp_path):
    a, b = two(tmp_path, family)
    recipe = merge(a=f"a{inside}", b=f"b{inside}", parts=("transformer",))
    check(made_file(tmp_path, recipe), a, b)
    # A method that needs the whole tensor gets the halves right too, which diffusers has in the other order.
    for name, state in (("x", a), ("y", b)):
        write(tmp_path / f"{name}.safetensors", state)
    folders, files = (made_file(tmp_path, merge(a=one, b=other, parts=("transformer",), method="slerp")) for one, other in (
        (f"a{inside}", f"b{inside}"), ("x.safetensors", "y.safetensors")))
    swapped = "final_layer.adaLN_modulation.1.weight"
    assert torch.allclose(folders[swapped], files[swapped], rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_merges_with_a_file_of_the_original_names(family, tmp_path):
    a, b = two(tmp_path, family)
    write(tmp_path / "b.safetensors", {PREFIX + name: tensor for name, tensor in b.items()})
    check(made_file(tmp_path, merge(a="a", b="b.safetensors", parts=("transformer",))), a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_alone_becomes_a_file_that_opens_as_the_same_model(family, tmp_path):
    a, _ = two(tmp_path, family)
    key = "txt_in.weight" if family == "flux" else "context_embedder.weight"
    write(tmp_path / "l.safetensors", {"diffusion_model.context_embedder.diff": torch.ones(a[key].shape)})
    out = tmp_path / "out.safetensors"
    assert main(["merge", "--a", f"{tmp_path}/a", "--adapter", f"{tmp_path}/l.safetensors=1", "-o", str(out), "--dry-run"]) == 0
    assert not out.exists()
    assert main(["merge", "--a", f"{tmp_path}/a", "--adapter", f"{tmp_path}/l.safetensors=1", "-o", str(out)]) == 0
    check(load_file(out), {**a, key: a[key] + 1}, {**a, key: a[key] + 1})
    assert open_model(out).family == family


def text_encoders(seed: int) -> dict[str, State]:
    generator = torch.Generator().manual_seed(seed)
    clip = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in tiny().text_encoder.items()
            if "token_embedding" not in name}
    t5 = {"shared.weight": torch.randn(3, 4, generator=generator),
          "encoder.block.0.layer.0.SelfAttention.q.weight": torch.randn(4, 4, generator=generator)}
    return {"text_encoder": clip, "text_encoder_2": {**t5, TIED_EMBEDDING: t5["shared.weight"].clone()}}


def test_a_whole_flux_folder_has_the_prefixes_of_comfyui(tmp_path):
    a, b = two(tmp_path, "flux")
    vae = tiny().vae
    for seed, name in enumerate("ab"):
        for component, state in text_encoders(seed).items():
            shards(tmp_path / name / component, state, "model", 1)
        shards(tmp_path / name / "vae", {key: tensor + seed for key, tensor in vae.items()})
    out = made_file(tmp_path, merge(a="a", b="b", parts=("transformer", "text_encoder_2")))
    check({name.removeprefix(PREFIX): tensor for name, tensor in out.items() if name.startswith(PREFIX)}, a, b)
    assert {name.split(".")[0] for name in out} == {"model", "vae", "text_encoders"}
    assert torch.equal(out["vae.decoder.conv_in.weight"], vae["decoder.conv_in.weight"])
    shared = [text_encoders(seed)["text_encoder_2"]["shared.weight"] for seed in (0, 1)]
    assert torch.allclose(out["text_encoders.t5xxl.transformer.shared.weight"], 0.7 * shared[0] + 0.3 * shared[1])
    assert f"text_encoders.t5xxl.transformer.{TIED_EMBEDDING}" not in out
    model = open_model(tmp_path / "out.safetensors")
    assert (model.family, list(model.components), model.strays) == (
        "flux", ["transformer", "vae", "text_encoder", "text_encoder_2"], ())


def test_both_names_of_an_embedding_are_merged_in_a_file(tmp_path):
    for seed, name in enumerate("ab"):
        write(tmp_path / f"{name}.safetensors", text_encoders(seed)["text_encoder_2"])
    out = made_file(tmp_path, merge(parts=("text_encoder_2",)))
    assert torch.equal(out["shared.weight"], out[TIED_EMBEDDING])
    assert not torch.equal(out["shared.weight"], text_encoders(0)["text_encoder_2"]["shared.weight"])


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_the_folder_of_one_component_opens_merges_and_is_not_sampled(component, tmp_path, capsys):
    state = getattr(tiny(), component)
    stem = "model" if component == "text_encoder" else "diffusion_pytorch_model"
    for name, factor in (("a", 1), ("b", 3)):
        shards(tmp_path / name / component, {key: tensor * factor for key, tensor in state.items()}, stem)
    assert main(["inspect", f"{tmp_path}/a/{component}"]) == 0
    assert component in capsys.readouterr().out
    made_file(tmp_path, merge(a=f"a/{component}", b=f"b/{component}", alpha=0.5, parts=(component,)))
    merged = open_model(tmp_path / "out.safetensors").tensors(component)
    expected = open_model(tmp_path / "a" / component).tensors(component)
    assert set(merged) == set(expected)
    assert all(torch.allclose(merged[key], 2 * expected[key]) for key in expected)
    with pytest.raises(ModelFileError, match="folder above"):
        shape_pipeline(Library(tmp_path).open(Checkpoint(path=f"a/{component}")))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("inside", ["", "/transformer"])
def test_a_part_of_a_transformer_keeps_diffusers_names_and_says_why(family, inside, tmp_path):
    models = [in_diffusers(family, drawn(original_shapes(family), seed)) for seed in (1, 2)]
    for name, state in zip("ab", models, strict=True):
        del state["transformer_blocks.0.attn.to_k.weight"]
        shards(tmp_path / name / "transformer", state)
    recipe = merge(a=f"a{inside}", b=f"b{inside}", parts=("transformer",))
    check(made_file(tmp_path, recipe), *models)
    assert any("transformer_blocks.0.attn.to_k.weight" in note for note in planned(tmp_path, recipe).notes)
    assert open_model(tmp_path / "out.safetensors").family == family
