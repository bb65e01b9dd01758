"""Of a folder that its own pipeline samples, exactly what the loader reads is fetched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.hub.repository_files import UNUSED, chosen
from harness.own_pipelines.declared import NOT_LOADED
from harness.own_pipelines.loading import own_shape
from harness.weights.structural import open_any

SPARE = ("pipeline.py", "transformer/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin", "whole.ckpt",
         "whole.safetensors", "safety_checker/model.safetensors", "image_encoder/model.safetensors", "other/model.safetensors")
FAMILIES = ("PixArtSigmaPipeline", "HiDreamImagePipeline", "Ideogram4Pipeline", "GlmImagePipeline", "Kandinsky3Pipeline",
            "ZImageOmniPipeline")
"""Of T5, of four encoders, of two denoisers, with processors, with a U-Net, and with an encoder of pictures."""


def fetched(folder: Path, target: Path) -> set[str]:
    """Copies what is chosen of a folder to another one; the names."""
    listed = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    files = chosen([*listed, *SPARE], "", lambda name: (folder / name).read_bytes())
    assert files.missing == ()
    for name in files.names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)
    return {*files.names}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_fetched_is_enough_to_load_a_folder(name: str, tiny_pipeline: Callable[[str], Path], tmp_path: Path) -> None:
    names = fetched(tiny_pipeline(name), tmp_path)
    assert not names & {*SPARE}
    assert not [file for file in names if file.endswith(".safetensors") and file.partition("/")[0] in NOT_LOADED]
    whole, copied = (own_shape(open_any(folder), folder) for folder in (tiny_pipeline(name), tmp_path))
    assert {*copied.parts} == {*whole.parts}
    assert copied.own is not None
    assert whole.own is not None
    for attribute, part in whole.own.beside.items():
        if hasattr(part, "get_vocab"):
            assert copied.own.beside[attribute].get_vocab() == part.get_vocab()


@pytest.mark.parametrize("variant", ["fp16", "sharded"])
def test_half_precision_and_shards_are_fetched_whole(variant: str, tiny_pipeline: Callable[[str], Path], tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(tiny_pipeline("PixArtSigmaPipeline"), source)
    for file in [*source.rglob("*.safetensors")]:
        if variant == "fp16":
            file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
        else:
            in_shards(file)
    names = fetched(source, target)
    assert {name for name in names if ".safetensors" in name} == {
        file.relative_to(source).as_posix() for file in source.rglob("*.safetensors*")}
    assert own_shape(open_any(target), target).own is not None


def in_shards(file: Path) -> None:
    """Puts the tensors of a file into two shards and their index."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    names = sorted(tensors)
    shards = {f"{file.stem}-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    for shard, of_shard in shards.items():
        save_file({name: tensors[name] for name in of_shard}, file.with_name(shard), metadata={"format": "pt"})
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({
        "metadata": {}, "weight_map": {name: shard for shard, of_shard in shards.items() for name in of_shard}}))
    file.unlink()


def test_the_components_that_are_never_fetched_are_those_that_are_never_loaded() -> None:
    assert {*UNUSED} == {*NOT_LOADED}
