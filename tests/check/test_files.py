"""What a declaration item says of files that a run could not open: the same as the run, and before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, AestheticGradient, Candidate, Checkpoint, Merge, zoo
from harness.check import model_problems, problems
from tests.fakes import tiny_suite

UNET = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3)}
LORA = {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.zeros(2, 8),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.zeros(8, 2)}


def said(root: Path, **candidate: object) -> str:
    suite = tiny_suite(gates=(), candidates=(Candidate(name="x", **candidate),), baseline="x")  # type: ignore[arg-type]
    return "\n".join(problems(suite, root))


@pytest.mark.parametrize(("data", "words"), [
    (b"", "an empty file"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"<!DOCTYPE html>", "web page"),
    (b"GGUF" + bytes(99), "GGUF"), (b"\x89PNG\r\n\x1a\n", "an image"), (b'{"a": 1}', "JSON"),
    (bytes(600), "unfinished download")])
@pytest.mark.parametrize("field", ["model", "merge", "adapter", "aesthetic"])
def test_a_file_that_is_not_of_tensors_is_named_at_the_declaration(tmp_path: Path, field: str, data: bytes, words: str) -> None:
    (tmp_path / "f.safetensors").write_bytes(data)
    given = {"model": {"model": "f.safetensors"}, "merge": {"model": Merge(a="zoo:photo", b="f.safetensors", alpha=0.5)},
             "adapter": {"model": "zoo:photo", "adapters": (Adapter(path="f.safetensors"),)},
             "aesthetic": {"model": "zoo:photo", "aesthetic": AestheticGradient(path="f.safetensors")}}[field]
    assert words in said(tmp_path, **given)


def test_a_link_without_suffix_to_a_model_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "584f0b").symlink_to(zoo.resolve("zoo:photo").resolve())
    assert model_problems("584f0b", tmp_path) == []


def test_a_lora_as_a_model_and_a_model_as_an_adapter_are_named(tmp_path: Path) -> None:
    save_file(LORA, tmp_path / "lora.safetensors")
    save_file(UNET, tmp_path / "unet.safetensors")
    assert "this is a LoRA" in said(tmp_path, model="lora.safetensors")
    assert "a checkpoint" in said(tmp_path, model="zoo:photo", adapters=(Adapter(path="unet.safetensors"),))
    assert said(tmp_path, model="zoo:photo", adapters=(Adapter(path="lora.safetensors"),)) == ""


def test_a_link_to_nowhere_is_said_not_to_exist(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").symlink_to(tmp_path / "blob")
    assert "does not exist" in said(tmp_path, model="m.safetensors")
    assert "m.safetensors" not in said(tmp_path, model="n.safetensors")  # nor is it offered for a name that is like it
    (tmp_path / "x.safetensors").touch()
    assert "'x.safetensors' does" in said(tmp_path, model="n.safetensors")


@pytest.mark.parametrize("name", ["~/m.safetensors", "$MODELS/m.safetensors"])
def test_a_path_with_a_word_of_the_shell_is_said_to_be_taken_as_it_is(tmp_path: Path, name: str) -> None:
    assert "~ and variables are not replaced" in said(tmp_path, model=name)


def test_a_link_in_a_circle_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").symlink_to(tmp_path / "m.safetensors")
    assert "symbolic links" in said(tmp_path, model="m.safetensors")


def test_the_folder_of_a_controlnet_is_named_at_the_declaration(tmp_path: Path) -> None:
    (tmp_path / "cn").mkdir()
    save_file({"controlnet_cond_embedding.conv_in.weight": torch.zeros(8, 3, 3, 3)},
              tmp_path / "cn" / "diffusion_pytorch_model.safetensors")
    assert "a ControlNet" in said(tmp_path, model="cn")


@pytest.mark.parametrize("size", ["the built-in models'", "another"])
def test_a_model_of_unusual_size_without_configs_is_refused_with_the_way_to_give_them(tmp_path: Path, size: str) -> None:
    if size == "another":
        save_file(UNET, tmp_path / "small.safetensors")
        (tmp_path / "FOLDER").mkdir()
    else:
        (tmp_path / "small.safetensors").symlink_to(zoo.resolve("zoo:photo").absolute())
    for model in ("small.safetensors", Merge(a="small.safetensors", b="zoo:anime", alpha=0.5)):
        problem = said(tmp_path, model=model)
        assert "'small.safetensors'" in problem
    way = problem[problem.index("Checkpoint("):problem.index(")", problem.index("Checkpoint(")) + 1]
    for model in (eval(way, {"Checkpoint": Checkpoint}), Merge(a="zoo:anime", b="small.safetensors", alpha=0.5)):
        suite = tiny_suite(gates=(), candidates=(Candidate(name="x", model=model),), baseline="x", clip="zoo:clip")
        assert problems(suite, tmp_path) == []
    assert model_problems("small.safetensors", tmp_path) == []
