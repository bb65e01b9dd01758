"""Every known architecture, in each of its spellings: merged with full coverage, replayed, and the difference of two taken as an
adapter and fused again."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Adapter, Alphas, Blocks, Fused, Gradient
from harness.adapters import AdapterError
from harness.cli import main
from harness.materialise.file_layout import place
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.saving import save
from harness.merge import MERGE_METHODS
from harness.weights.architectures import PREFIXES, recognise
from harness.weights.safetensors_header import StoredTensor
from harness.weights.structural import open_any
from tests.materialise.models import lerped, made_file, merge, numbers, write
from tests.weights.architecture_names import DIFFUSERS, SPELLINGS, Shapes, tensors_of
from tests.weights.tiny_families import State

FAMILIES = ("Flux.1", "Stable Diffusion 3")
SIZES = {"Wan 1.3B", "Wan 14B", "Wan 14B image-to-video", "Wan 2.2 5B", "Flux.2 klein 4B", "Flux.2 klein 9B"}
"""Models that one shape alone tells from another of the table."""
MODELS = [one for one in SPELLINGS if one[0] not in SIZES]
STRUCTURAL = [one for one in MODELS if not one[0].startswith(FAMILIES)]

EXACT = 0.3125
"""A share at which the sum of two bf16 numbers is exact in fp32 too, so that it is rounded once in both."""


@cache
def values(name: str, by: str, seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator).bfloat16() for key, shape in tensors_of(name, by).items()}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def layers_of(shapes: Shapes) -> list[str]:
    """The layers of a model in the order of its row, as "blocks.0"; an empty text for one whose number no name has."""
    match = recognise({key: StoredTensor(dtype="BF16", shape=shape) for key, shape in shapes.items()})
    assert match is not None
    layers = []
    for stack in match.names.layers:
        inside = {key[len(stack) + 1:].partition(".")[0] for key in shapes if key.startswith(f"{stack}.")}
        numbers = {int(number) for number in inside if number.isdigit()}
        layers += [f"{stack}.{number}" if number in numbers else "" for number in range(max(numbers, default=-1) + 1)]
        layers += [stack] if inside and not numbers else []
    return layers


@pytest.mark.parametrize(("name", "by"), MODELS)
def test_two_files_are_inspected_merged_and_replayed(
        name: str, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = values(name, by, 1), values(name, by, 2)
    number = MODELS.index((name, by))
    prefix, other = (("", *PREFIXES)[(number + shift) % 5] for shift in (0, 1 + number % 4))
    write(tmp_path / "a.safetensors", prefixed(a, prefix))
    write(tmp_path / "b.safetensors", prefixed(b, other))
    assert main(["inspect", f"{tmp_path}/a.safetensors"]) == 0
    shown = capsys.readouterr().out
    assert name in shown
    assert f"transformer    {len(a):>5} keys" in shown
    recipe = merge(parts=("transformer",), alpha=EXACT)
    library = Library(tmp_path)
    plan = plan_recipe(recipe, library)
    part = plan.parts["transformer"]
    assert {status: len(keys) for status, keys in part.coverage.items()} == {"merged": len(a)}
    assert (name, by) not in STRUCTURAL or f"transformer: {name}: {len(a)} of {len(a)} keys match" in part.notes
    out = load_file(save(place(plan), library, tmp_path / "out.safetensors", "").path)
    written = prefix if prefix != "net." else ""
    assert out.keys() == prefixed(a, written).keys()
    assert all(torch.equal(out[written + key], lerped(tensor, b[key], EXACT)) for key, tensor in a.items())
    assert main(["replay", f"{tmp_path}/out.safetensors", "--models", f"{tmp_path}"]) == 0


@pytest.mark.parametrize(("name", "by"), STRUCTURAL)
def test_alpha_is_given_by_layer_and_by_pattern(name: str, by: str, tmp_path: Path) -> None:
    for seed, file in enumerate("ab"):
        write(tmp_path / f"{file}.safetensors", values(name, by, seed))
    library = Library(tmp_path)
    layers = layers_of(tensors_of(name, by))

    def slots(alpha: Alphas | Gradient) -> dict[str, float]:
        part = plan_recipe(merge(alpha=alpha), library).parts["transformer"]
        return {slot: value for _, slot, value, _ in part.blocks}
    along = slots(Gradient(values=(0, 1)))
    assert {layer: along[layer] for layer in layers if layer} == {
        layer: pytest.approx(place / (len(layers) - 1)) for place, layer in enumerate(layers) if layer}
    assert along.keys() - set(layers) == {"no layer"}
    layers = [layer for layer in layers if layer]
    assert slots(Alphas(default=0, keys={f"{layers[1]}.*": 1, f"transformer.{layers[0]}.*": 0.5})) == {
        "all": 0, f"{layers[1]}.*": 1, f"transformer.{layers[0]}.*": 0.5}
    with pytest.raises(MaterialiseError, match="no map of the blocks") as refused:
        plan_recipe(merge(alpha=Blocks(preset="GRAD_V")), library)
    advised = str(refused.value).rpartition("like '")[2].rstrip("'")
    assert slots(Alphas(default=0, keys={advised: 1}))[advised] == 1


@pytest.mark.parametrize(("name", "by"), MODELS)
def test_a_method_takes_the_models_of_each_architecture(name: str, by: str, tmp_path: Path) -> None:
    methods = list(MERGE_METHODS)
    recipe = merge(parts=("transformer",), **numbers(methods[MODELS.index((name, by)) % len(methods)]))
    for seed, file in enumerate("abcd"):
        write(tmp_path / f"{file}.safetensors", values(name, by, seed))
    out = made_file(tmp_path, recipe)
    assert {key: tuple(tensor.shape) for key, tensor in out.items()} == tensors_of(name, by)
    assert all(bool(tensor.isfinite().all()) for tensor in out.values())


@pytest.mark.parametrize(("name", "by"), MODELS)
def test_the_difference_is_an_adapter_that_gives_the_other_model_when_it_is_fused(name: str, by: str, tmp_path: Path) -> None:
    base, tuned = values(name, by, 1), values(name, by, 2)
    write(tmp_path / "base.safetensors", base)
    write(tmp_path / "tuned.safetensors", tuned)
    layout = "peft" if by == DIFFUSERS and name.startswith(FAMILIES) else ("kohya", "comfyui")[MODELS.index((name, by)) % 2]
    words = ["adapter", "extract", "--base", f"{tmp_path}/base.safetensors", "--tuned", f"{tmp_path}/tuned.safetensors",
             "--rank", "99", "--dtype", "fp32", "--leave-out", "--layout", layout, "-o", f"{tmp_path}/l.safetensors"]
    assert main(words) == 0
    out = made_file(tmp_path, Fused(model="base.safetensors", adapters=(Adapter(path="l.safetensors"),)))
    assert out.keys() == base.keys()
    matrices = [key for key, tensor in base.items() if key.endswith(".weight") and tensor.ndim > 1]
    assert all(torch.allclose(out[key].float(), tuned[key].float(), atol=0.05) for key in matrices)


@pytest.mark.parametrize(("name", "by"), [one for one in MODELS if one[1] == DIFFUSERS])
def test_a_folder_is_merged_with_a_file_of_its_names(
        name: str, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = values(name, by, 1), values(name, by, 2)
    whole, bare = tmp_path / "whole" / "transformer", tmp_path / "bare"
    for folder in (whole, bare):
        folder.mkdir(parents=True)
        save_file(a, folder / "diffusion_pytorch_model.safetensors")
    write(tmp_path / "b.safetensors", prefixed(b, "model.diffusion_model."))
    library = Library(tmp_path)
    for model in ("whole", "bare"):
        assert main(["inspect", f"{tmp_path}/{model}"]) == 0
        assert name in capsys.readouterr().out
        part = plan_recipe(merge(a=model, parts=("transformer",)), library).parts["transformer"]
        assert {status: len(keys) for status, keys in part.coverage.items()} == {"merged": len(a)}
    out = made_file(tmp_path, merge(a="b.safetensors", b="bare", parts=("transformer",), alpha=EXACT))
    assert all(torch.equal(out[f"model.diffusion_model.{key}"], lerped(b[key], tensor, EXACT)) for key, tensor in a.items())


LORAS = {"kohya": ("lora_unet_{}.lora_up.weight", "lora_unet_{}.lora_down.weight"),
         "ComfyUI": ("diffusion_model.{}.lora_up.weight", "diffusion_model.{}.lora_down.weight"),
         "diffusers": ("transformer.{}.lora_B.weight", "transformer.{}.lora_A.weight")}


@pytest.mark.parametrize(("name", "by"), STRUCTURAL)
def test_a_lora_is_read_by_the_names_of_the_modules(name: str, by: str, tmp_path: Path) -> None:
    shapes = tensors_of(name, by)
    write(tmp_path / "m.safetensors", values(name, by, 1))
    model = open_any(tmp_path / "m.safetensors")
    library = Library(tmp_path)
    paths = [key.removesuffix(".weight") for key, shape in shapes.items() if key.endswith(".weight") and len(shape) == 2]
    for number, (up, down) in enumerate(LORAS.values()):
        def lora(file: str, *modules: str, up: str = up, down: str = down) -> str:
            flat = [path.replace(".", "_") if up.startswith("lora_unet_") else path for path in modules]
            rows = [shapes.get(f"{path}.weight", (8, 8)) for path in modules]
            return write(tmp_path / file, {
                **{up.format(path): torch.ones(shape[0], 2) for path, shape in zip(flat, rows, strict=True)},
                **{down.format(path): torch.ones(2, shape[1]) for path, shape in zip(flat, rows, strict=True)}})
        reading = library.adapter(lora(f"{number}.safetensors", *paths), model)
        assert {path for _, path in reading.changes} == set(paths)
        assert list(reading.keys) == ["transformer"]
        with pytest.raises(AdapterError, match=r"no_such"):
            library.adapter(lora(f"{number}x.safetensors", paths[0], "layers.99.no_such"), model)


FOREIGN = ("double_blocks.0.img_attn.qkv", "joint_blocks.0.x_block.mlp.fc2", "x_embedder", "img_in",
           "transformer_blocks.0.attn.to_q")
OF_ANOTHER = [(name, by, module) for name, by in STRUCTURAL for module in FOREIGN
              if not name.startswith(("Chroma", "Flux.2")) and f"{module}.weight" not in tensors_of(name, by)]


@pytest.mark.parametrize(("name", "by"), dict.fromkeys((name, by) for name, by, _ in OF_ANOTHER))
def test_a_lora_of_another_model_changes_no_module_that_is_only_like_its_own(
        name: str, by: str, tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors", values(name, by, 1))
    model = open_any(tmp_path / "m.safetensors")
    for module in [module for *row, module in OF_ANOTHER if row == [name, by]]:
        file = write(tmp_path / f"{module}.safetensors", {
            f"transformer.{module}.lora_B.weight": torch.ones(24, 2), f"transformer.{module}.lora_A.weight": torch.ones(2, 8)})
        with pytest.raises(AdapterError, match="names no module of transformer"):
            Library(tmp_path).adapter(file, model)
