"""Files in their authors' names are read as diffusers' own converter of single files reads them, tensor for tensor; a converter
that does more than to rename, take and join rows is refused, and so is a file that it does not take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_model
from safetensors.torch import save_file

from harness.weights import ModelFileError, open_tensors
from harness.weights.converted_names import converted
from harness.weights.model import ModelFile, TensorInfo, stored_info
from tests.weights.architecture_names import AUTHORS, DIFFUSERS, MODELS, Shapes, tensors_of

State = dict[str, torch.Tensor]
KINDS = {
    "Flux.1 dev or Kontext": "FluxTransformer2DModel", "Flux.1 schnell": "FluxTransformer2DModel",
    "Chroma": "ChromaTransformer2DModel", "Flux.2 dev": "Flux2Transformer2DModel", "Flux.2 klein": "Flux2Transformer2DModel",
    "Stable Diffusion 3 Medium": "SD3Transformer2DModel", "Stable Diffusion 3.5 Medium": "SD3Transformer2DModel",
    "Stable Diffusion 3.5 Large": "SD3Transformer2DModel", "Qwen-Image": "QwenImageTransformer2DModel",
    "Qwen-Image 2.1": "QwenImage21Transformer2DModel", "Z-Image": "ZImageTransformer2DModel",
    "Lumina 2": "Lumina2Transformer2DModel", "Sana": "SanaTransformer2DModel", "LTX-Video": "LTXVideoTransformer3DModel",
    "AuraFlow": "AuraFlowTransformer2DModel", "HiDream-I1": "HiDreamImageTransformer2DModel", "Wan": "WanTransformer3DModel",
    "Wan VACE": "WanVACETransformer3DModel", "Cosmos-Predict2": "CosmosTransformer3DModel",
}
OTHERS = {
    "ErnieImageTransformer2DModel": "it takes a prefix off, as that of HiDream",
    "MotifVideoTransformer3DModel": "it changes no name, as that of Qwen-Image",
    "SkyReelsV2Transformer3DModel": "the converter of Wan", "ChronoEditTransformer3DModel": "the converter of Wan",
    "WanAnimateTransformer3DModel": "the converter of Wan", "WanAnimate2Transformer3DModel": "the converter of Wan, with names",
    "LTX2VideoTransformer3DModel": "the renaming of LTX-Video, with more names",
    "MochiTransformer3DModel": "videos; halves and thirds as in Chroma",
    "HunyuanVideoTransformer3DModel": "videos; splits as in Flux.1, into fixed numbers of rows",
    "Krea2Transformer2DModel": "below", "Flux3Transformer2DModel": "the swap of Flux.2, with other names",
    "MiniMaxH3Transformer3DModel": "thirds and swapped halves as in Flux.2, with other names",
}
"""Converters of transformers of which no file is made here, and why."""


def of_full_height(name: str, shapes: Shapes) -> Shapes:
    """The shapes with as many rows as the converter divides them into, where it does not ask the tensor."""
    rows = {"Flux.1": ("linear1", 7 * 3072), "Chroma": ("linear1", 7 * 3072), "Lumina 2": ("qkv", 3840)}
    ending, height = next((row for start, row in rows.items() if name.startswith(start)), ("", 0))
    return {key: (height, *shape[1:]) if ending and key.rpartition(".")[0].endswith(ending) else shape
            for key, shape in shapes.items()}


def drawn(shapes: Shapes) -> State:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def read(path: Path, kind: str, state: State) -> tuple[State, tuple[str, ...]]:
    """What is read of a file with these tensors under the names of the module, and what is not used."""
    save_file(state, path)
    file = open_tensors(path)
    infos, unused = converted(path, kind, {name: stored_info(file, name) for name in file.stored})
    model = ModelFile(path=path, family="", layout="", metadata={}, components={"transformer": infos}, other={},
                      files={path: file})
    return model.tensors("transformer"), unused


@pytest.mark.parametrize("name", KINDS)
def test_every_tensor_is_the_one_that_diffusers_own_converter_gives(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    state = drawn(of_full_height(name, tensors_of(name, AUTHORS)))
    convert = single_file_model.SINGLE_FILE_LOADABLE_CLASSES[kind]["checkpoint_mapping_fn"]
    theirs = {key: tensor for key, tensor in convert(checkpoint=dict(state), config={}).items() if tensor is not None}
    ours, unused = read(tmp_path / "m.safetensors", kind, state)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    assert ours.keys() == tensors_of(name, DIFFUSERS if DIFFUSERS in MODELS[name] else AUTHORS).keys()
    assert set(unused) == {"Sana": {"pos_embed", "y_embedder.y_embedding"}, "Lumina 2": {"norm_final.weight"}}.get(name, set())


def test_every_converter_of_a_transformer_is_tried_or_named() -> None:
    transformers = {kind for kind, row in single_file_model.SINGLE_FILE_LOADABLE_CLASSES.items()
                    if row.get("default_subfolder") == "transformer"}
    assert transformers == {*KINDS.values(), *OTHERS}


def test_a_model_of_another_width_is_divided_in_the_proportion_of_the_published_one(tmp_path: Path) -> None:
    shapes = {name: (56, *shape[1:]) if "linear1" in name else shape for name, shape in tensors_of("Chroma", AUTHORS).items()}
    state = drawn(shapes)
    ours, _ = read(tmp_path / "m.safetensors", "ChromaTransformer2DModel", state)
    whole = state["single_blocks.0.linear1.weight"]
    parts = [f"single_transformer_blocks.0.{part}.weight" for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    assert [len(ours[part]) for part in parts] == [8, 8, 8, 32]
    assert torch.equal(torch.cat([ours[part] for part in parts]), whole)


def test_a_vector_that_becomes_a_table_is_read_as_one(tmp_path: Path) -> None:
    state = {"blocks.0.mod.lin": torch.randn(48), "blocks.0.attn.wq.weight": torch.randn(8, 8)}
    ours, _ = read(tmp_path / "m.safetensors", "Krea2Transformer2DModel", state)
    assert torch.equal(ours["transformer_blocks.0.scale_shift_table"], state["blocks.0.mod.lin"].reshape(6, 8))


Convert = Callable[..., dict[str, torch.Tensor]]
DO_MORE: dict[str, Convert] = {
    "twice as much": lambda checkpoint, **_: {"x": checkpoint["a"] * 2},
    "one more": lambda checkpoint, **_: {"x": checkpoint["a"] + 1},
    "in another dtype": lambda checkpoint, **_: {"x": checkpoint["a"].float()},
    "transposed": lambda checkpoint, **_: {"x": checkpoint["a"].T.contiguous()},
    "axes exchanged": lambda checkpoint, **_: {"x": checkpoint["conv"].permute(0, 2, 1, 3)},
    "joined by columns": lambda checkpoint, **_: {"x": torch.cat([checkpoint["a"], checkpoint["b"]], dim=1)},
    "a row left out": lambda checkpoint, **_: {"x": checkpoint["a"][:3]},
    "used twice": lambda checkpoint, **_: {"x": checkpoint["a"], "y": checkpoint["a"]},
    "overlapping": lambda checkpoint, **_: {"x": checkpoint["a"], "y": checkpoint["a"][2:]},
    "no tensor": lambda checkpoint, **_: {"x": 1.0},
    "another name of one": lambda checkpoint, **_: {"x": [checkpoint[name] for name in checkpoint if name in "ab"][-1]},
    "an error": lambda checkpoint, **_: {"x": checkpoint["missing"]},
    "no memory": lambda checkpoint, **_: {"x": torch.empty(2 ** 60)},
}


@pytest.mark.parametrize("what", DO_MORE)
def test_a_converter_that_does_more_than_to_take_rows_is_refused_with_the_file(what: str, tmp_path: Path,
                                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, Any] = {"Made": {"checkpoint_mapping_fn": DO_MORE[what]}}
    monkeypatch.setattr(single_file_model, "SINGLE_FILE_LOADABLE_CLASSES", table)
    state = {"a": torch.randn(4, 4), "b": torch.randn(4, 4), "conv": torch.randn(4, 6, 8, 1)}
    with pytest.raises(ModelFileError, match=r"m\.safetensors: read by diffusers' converter of single files for Made: "):
        read(tmp_path / "m.safetensors", "Made", state)


def test_rows_in_any_order_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(checkpoint: State, **_: Any) -> State:
        first, second = checkpoint["a"].chunk(2)
        return {"x": torch.cat([second, checkpoint["b"], first]), "y": checkpoint["conv"][:, :, 0, 0]}

    monkeypatch.setattr(single_file_model, "SINGLE_FILE_LOADABLE_CLASSES", {"Made": {"checkpoint_mapping_fn": convert}})
    state = {"a": torch.randn(4, 4), "b": torch.randn(2, 4), "conv": torch.randn(4, 6, 1, 1)}
    ours, _ = read(tmp_path / "m.safetensors", "Made", state)
    assert torch.equal(ours["x"], torch.cat([state["a"][2:], state["b"], state["a"][:2]]))
    assert torch.equal(ours["y"], state["conv"][:, :, 0, 0])


@pytest.mark.parametrize(("shape", "said"), [((2 ** 40, 1), "more than"), ((2, 0), "no parameter"), ((1,) * 9, "no parameter")])
def test_shapes_of_no_model_are_refused_before_anything_is_made(shape: tuple[int, ...], said: str, tmp_path: Path) -> None:
    info = TensorInfo(source="a", file=tmp_path / "m", dtype="F8_E4M3", shape=shape)
    with pytest.raises(ModelFileError, match=said):
        converted(tmp_path / "m", "QwenImageTransformer2DModel", {"a": info})


@pytest.mark.parametrize("kind", ["PixArtTransformer2DModel", "no class\x1b[31m"])
def test_a_class_without_a_converter_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="has no converter for this class") as refused:
        converted(tmp_path / "m", kind, {})
    assert "\x1b" not in str(refused.value)
