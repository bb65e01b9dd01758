"""Names to which training tools added their words, or a prefix twice, are those of the same model without them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli import main
from harness.weights import ModelFileError, layout_of, open_model
from harness.weights.ema import flat_name
from harness.weights.structural import open_any
from tests.materialise.models import folder, made_file, merge, parent, two, write
from tests.materialise.tiny_dit import comfy, flux, sd3

U, V = "model.diffusion_model.", "first_stage_model."
State = dict[str, torch.Tensor]
MODELS: dict[str, Callable[[], State]] = {
    "sd1": lambda: parent(2), "sd2": lambda: parent(2, family="sd2"), "sdxl": lambda: parent(2, family="sdxl"),
    "flux bare": lambda: flux(2), "flux": lambda: {U + name: tensor for name, tensor in flux(2).items()},
    "flux of ComfyUI": lambda: comfy(flux(2)), "sd3": lambda: {U + name: tensor for name, tensor in sd3(2).items()}}
BLOCK = re.compile(r"((?:transformer|double|single|joint|down|up|input|output)_blocks\.[0-9]+\.)")
ENCODER = re.compile(r"^(cond_stage_model\.(?:transformer\.|model\.)?|conditioner\.embedders\.[01]\.)")
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "compiled": lambda name: f"_orig_mod.{name}", "parallel": lambda name: f"module.{name}",
    "compiled and parallel": lambda name: f"module._orig_mod.{name}",
    "a compiled U-Net": lambda name: name.replace(U, f"{U}_orig_mod."),
    "a compiled U-Net in its holder": lambda name: name.replace(U, "model._orig_mod.diffusion_model."),
    "a parallel U-Net": lambda name: name.replace(U, f"{U}module."),
    "a parallel U-Net in its holder": lambda name: name.replace(U, "model.module.diffusion_model."),
    "a compiled VAE": lambda name: name.replace(V, f"{V}_orig_mod."),
    "a parallel text encoder": lambda name: ENCODER.sub(r"\1module.", name),
    "compiled blocks": lambda name: BLOCK.sub(r"\1_orig_mod.", name),
    "sharded blocks": lambda name: BLOCK.sub(r"\1_fsdp_wrapped_module._checkpoint_wrapped_module.", name),
    "the U-Net's prefix twice": lambda name: name.replace(U, U + U),
    "half the U-Net's prefix twice": lambda name: name.replace(U, f"{U}diffusion_model."),
    "the holder twice": lambda name: name.replace(U, f"model.{U}"),
    "the VAE's prefix twice": lambda name: name.replace(V, V + V),
    "the text encoder's prefix twice": lambda name: re.sub(r"^(cond_stage_model\.|conditioner\.|text_encoders\.)", r"\1\1", name),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("model", MODELS)
def test_the_model_is_the_same_and_is_written_without_them(model, wrapping, tmp_path):
    state = MODELS[model]()
    write(tmp_path / "plain.safetensors", state)
    write(tmp_path / "wrapped.safetensors", {WRAPPINGS[wrapping](name): tensor for name, tensor in state.items()})
    plain, wrapped = (open_model(tmp_path / f"{name}.safetensors") for name in ("plain", "wrapped"))
    assert (wrapped.family, wrapped.layout, wrapped.strays) == (plain.family, plain.layout, ())
    assert {part: set(infos) for part, infos in wrapped.components.items()} == {
        part: set(infos) for part, infos in plain.components.items()}
    for part in plain.components:
        ours, theirs = wrapped.tensors(part), plain.tensors(part)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert {at.name for at in layout_of(wrapped)} == set(state)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("wrapping", ["a compiled U-Net", "the U-Net's prefix twice", "a parallel text encoder"])
def test_a_merge_with_such_a_file_is_that_of_the_plain_ones(side, wrapping, tmp_path):
    states = dict(zip("ab", two(tmp_path), strict=True))
    recipe = merge(parts=("unet", "text_encoder", "vae"))
    expected = made_file(tmp_path, recipe, "plain.safetensors")
    write(tmp_path / f"{side}.safetensors", {WRAPPINGS[wrapping](name): t for name, t in states[side].items()})
    out = made_file(tmp_path, recipe, "wrapped.safetensors")
    assert out.keys() == expected.keys()
    assert all(torch.equal(out[name], expected[name]) for name in expected)


def test_a_component_of_a_folder_saved_from_a_compiled_module_is_the_same(tmp_path):
    path = folder(tmp_path / "m", 1)
    before = open_model(path).tensors("unet")
    file = next((path / "unet").glob("*.safetensors"))
    shards = {"x-1.safetensors": {}, "x-2.safetensors": {}}
    for number, (name, tensor) in enumerate(load_file(file).items()):
        shards[f"x-{number % 2 + 1}.safetensors"][f"_orig_mod.{name}"] = tensor
    file.unlink()
    for shard, tensors in shards.items():
        save_file(tensors, path / "unet" / shard)
    (path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(
        {"weight_map": {name: shard for shard, tensors in shards.items() for name in tensors}}))
    after = open_model(path)
    assert not after.strays
    assert all(torch.equal(after.tensor("unet", key), tensor) for key, tensor in before.items())


def test_an_averaged_copy_of_a_compiled_model_is_known(tmp_path):
    state = parent(1)
    copies = {flat_name(name.removeprefix(U)).replace("diffusion_model", "diffusion_model_orig_mod"): tensor + 1
              for name, tensor in state.items() if name.startswith(U)}
    write(tmp_path / "m.safetensors", {**state, **copies})
    model = open_model(tmp_path / "m.safetensors", ema=True)
    assert torch.equal(model.tensor("unet", "conv_in.bias"), state[f"{U}input_blocks.0.0.bias"] + 1)


@pytest.mark.parametrize("second", ["module.", "_orig_mod.", U])
@pytest.mark.parametrize("command", ["inspect", "merge", "adapter"])
def test_one_tensor_under_two_names_is_refused_with_both(second, command, tmp_path, capsys):
    state, _ = two(tmp_path)
    name = f"{U}out.0.bias"
    write(tmp_path / "a.safetensors", {**state, second + name: state[name] + 1})
    words = {"inspect": ["inspect", f"{tmp_path}/a.safetensors"],
             "merge": ["merge", "--a", f"{tmp_path}/a.safetensors", "--b", f"{tmp_path}/b.safetensors", "--alpha", "0.5",
                       "--dry-run"],
             "adapter": ["adapter", "extract", "--base", f"{tmp_path}/a.safetensors", "--tuned", f"{tmp_path}/b.safetensors",
                         "--rank", "1", "-o", f"{tmp_path}/x.safetensors"]}
    assert main(words[command]) == 1
    assert f"'{name}' and '{second + name}' are one tensor" in capsys.readouterr().err


def test_a_module_of_this_name_in_an_unknown_architecture_keeps_it(tmp_path):
    state = {f"blocks.{n}.module.weight": torch.randn(2, 2) for n in range(4)}
    write(tmp_path / "m.safetensors", state)
    model = open_any(tmp_path / "m.safetensors")
    assert {at.name for at in layout_of(model)} == set(state)


def test_one_tensor_in_two_names_of_a_shard_is_refused(tmp_path):
    path = folder(tmp_path / "m", 1)
    file = next((path / "unet").glob("*.safetensors"))
    tensors = load_file(file)
    save_file({**tensors, "module.conv_in.bias": tensors["conv_in.bias"] + 1}, file)
    with pytest.raises(ModelFileError, match=r"'conv_in\.bias' and 'module\.conv_in\.bias' are one tensor"):
        open_model(path)


@pytest.mark.parametrize("model", ["sd1", "flux"])
def test_a_tensor_with_and_without_the_prefix_of_its_component_is_refused_with_both_names(model, tmp_path, capsys):
    state = MODELS[model]()
    name = next(name for name in state if name.startswith(U))
    write(tmp_path / "a.safetensors", {**state, name.removeprefix(U): state[name] + 1})
    write(tmp_path / "b.safetensors", state)
    words = ["merge", "--a", f"{tmp_path}/a.safetensors", "--b", f"{tmp_path}/b.safetensors", "--alpha", "0.5", "--dry-run"]
    assert main(words) == 1
    assert f"'{name.removeprefix(U)}' and '{name}' are one tensor" in capsys.readouterr().err
    assert main(["inspect", f"{tmp_path}/a.safetensors"]) == 0
    assert "1 of them" in capsys.readouterr().out
    assert main([*words, "--missing", "keep_a"]) == 0


@pytest.mark.parametrize("before", ["", "model.", "module."])
@pytest.mark.parametrize("components", [("unet", "vae", "text_encoder"), ("unet", "text_encoder"), ("vae",), ("text_encoder",)])
def test_components_behind_their_names_in_one_file_are_those_of_the_folder(before, components, tmp_path):
    path = folder(tmp_path / "m", 1)
    whole = open_model(path)
    state = {f"{before}{component}.{name}": tensor for component in components
             for file in (path / component).glob("*.safetensors") for name, tensor in load_file(file).items()}
    write(tmp_path / "one.safetensors", state)
    model = open_model(tmp_path / "one.safetensors")
    assert set(model.components) == set(components)
    for component in components:
        ours, theirs = model.tensors(component), whole.tensors(component)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key].reshape(ours[key].shape)) for key in theirs)


def test_a_merge_with_components_behind_their_names_keeps_the_names_of_a(tmp_path):
    path = folder(tmp_path / "m", 1)
    state = {f"{component}.{name}": tensor for component in ("unet", "vae", "text_encoder")
             for file in (path / component).glob("*.safetensors") for name, tensor in load_file(file).items()}
    write(tmp_path / "a.safetensors", state)
    write(tmp_path / "b.safetensors", parent(2))
    out = made_file(tmp_path, merge(parts=("unet", "vae", "text_encoder"), alpha=1.0))
    assert out.keys() == state.keys()
    assert torch.equal(out["unet.conv_in.weight"], parent(2)[f"{U}input_blocks.0.0.weight"])
