"""Which files of a repository make a model."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from harness.hub import HubError
from harness.hub.repository_files import chosen

INDEX = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
         "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
         "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "DDIMScheduler"],
         "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "image_encoder": [None, None]}
SMALL = ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json", "tokenizer/vocab.json",
         "tokenizer/merges.txt", "scheduler/scheduler_config.json", "safety_checker/config.json")
WHOLE = "diffusion_pytorch_model.safetensors"


def files(listed: tuple[str, ...], folder: str = "", index: Mapping[str, object] = INDEX, shards: object = None,
          weights: bool = True) -> tuple[set[str], tuple[str, ...], set[str]]:
    """The names that are taken without the small ones, those that are missing, and those that are left out."""
    def read(name: str) -> bytes:
        return json.dumps(index if name.endswith("model_index.json") else shards).encode()

    taken = chosen([folder + name for name in (*SMALL, *listed)], folder, read, weights=weights)
    assert {folder + name for name in SMALL} <= {*taken.names}
    return {*taken.names} - {folder + name for name in SMALL}, taken.missing, {*taken.left_out}


FULL = (f"unet/{WHOLE}", f"vae/{WHOLE}", "text_encoder/model.safetensors")


@pytest.mark.parametrize("folder", ["", "inner/"])
def test_a_pipeline_is_its_components_alone_each_once(folder: str) -> None:
    spare = ("sd.safetensors", "sd.ckpt", "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors",
             "safety_checker/model.safetensors", "other/model.safetensors", "pipeline.py", "README.md", "a.gguf")
    taken, missing, left_out = files((*FULL, *spare), folder)
    assert taken == {folder + name for name in FULL}
    assert missing == ()
    assert left_out == {folder + name for name in ("sd.safetensors", "sd.ckpt", "unet/diffusion_pytorch_model.bin",
                                                   "unet/diffusion_pytorch_model.fp16.safetensors", "safety_checker/",
                                                   "other/model.safetensors")}


def test_half_precision_is_taken_where_there_is_no_other() -> None:
    half = tuple(name.replace(".safetensors", ".fp16.safetensors") for name in FULL)
    assert files(half)[:2] == ({*half}, ())


def test_shards_are_those_of_their_index_and_one_that_lacks_is_named() -> None:
    index = f"unet/{WHOLE}.index.json"
    shards = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors",
                             "b": "diffusion_pytorch_model-00002-of-00002.safetensors"}}
    first, second = (f"unet/{name}" for name in shards["weight_map"].values())
    assert files((index, first, second, *FULL[1:]), shards=shards)[:2] == ({index, first, second, *FULL[1:]}, ())
    assert files((index, first, *FULL[1:]), shards=shards)[1] == (second,)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "a\\b.safetensors", ""])
def test_an_index_that_names_a_file_elsewhere_is_refused_by_name(name: str) -> None:
    with pytest.raises(HubError, match="names the shard"):
        files((f"unet/{WHOLE}.index.json", *FULL[1:]), shards={"weight_map": {"a": name}})


@pytest.mark.parametrize("index", [{"../x": ["diffusers", "X"]}, {"a/b": ["diffusers", "X"]}, [], 3])
def test_a_hostile_model_index_is_refused(index: Mapping[str, object]) -> None:
    with pytest.raises(HubError, match="model_index"):
        files(FULL, index=index)


def test_a_component_of_pickles_alone_is_missing() -> None:
    missing = files(("unet/diffusion_pytorch_model.bin", *FULL[1:]))[1]
    assert len(missing) == 1
    assert "diffusion_pytorch_model.bin, which is never fetched" in missing[0]


def test_a_component_that_the_repository_does_not_have_is_missing() -> None:
    missing = files(FULL, index=INDEX | {"text_encoder_2": ["transformers", "T5"]})[1]
    assert missing == ("text_encoder_2/ is not in the repository",)


def test_configs_alone_are_without_weights() -> None:
    assert files(FULL, weights=False)[:2] == (set(), ())


def test_a_folder_of_one_component_is_its_weights_and_config() -> None:
    listed = ("config.json", WHOLE, "diffusion_pytorch_model.bin", "canny/config.json", f"canny/{WHOLE}")
    taken = chosen(listed, "", lambda _: b"")
    assert {*taken.names} == {"config.json", WHOLE}
    assert {*chosen(listed, "canny/", lambda _: b"").names} == {"canny/config.json", f"canny/{WHOLE}"}


def test_a_repository_of_loose_files_is_not_used_as_a_whole_and_its_files_are_named() -> None:
    with pytest.raises(HubError, match=r"Name a file of it: a\.safetensors or b\.safetensors"):
        chosen(["a.safetensors", "b.safetensors", "c.ckpt"], "", lambda _: b"")
