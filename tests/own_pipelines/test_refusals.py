"""Folders that are not sampled by their own pipeline, and why: before a weight is read, and without running their code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Candidate
from harness.materialise import MaterialiseError
from harness.weights import ModelFileError, shape_pipeline
from harness.weights.structural import open_any
from tests.own_pipelines.own_bench import grid_for, prepared, sampled

NAME = "PixArtSigmaPipeline"
Folder = Callable[[str], Path]


@pytest.fixture
def folder(tiny_pipeline: Folder, tmp_path: Path) -> Path:
    """A copy of a tiny folder."""
    copied = tmp_path / "model"
    shutil.copytree(tiny_pipeline(NAME), copied)
    return copied


def edit(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.mark.parametrize(("entry", "words"), [
    ({"vae": ["os", "system"]}, "os.system"), ({"text_encoder": ["transformers", "AutoModel"]}, "transformers.AutoModel"),
    ({"vae": ["diffusers", "hub_utils"]}, "hub_utils"), ({"tokenizer": ["my_code", "Tokenizer"]}, "my_code.Tokenizer"),
    ({"scheduler": ["diffusers", "PixArtSigmaPipeline"]}, "PixArtSigmaPipeline"), ({"transformer": ["diffusers", "_x"]}, "_x"),
    ({"vae": ["diffusers.models", "AutoencoderKL"]}, "diffusers.models"), ({"vae": ["builtins", "exec"]}, "exec"),
    ({"scheduler": ["pixart_alpha", "PixArtSigmaPipeline"]}, "pixart_alpha.PixArtSigmaPipeline"),
    ({"tokenizer": ["glm_image", "GlmImageProcessor"]}, "glm_image.GlmImageProcessor")])
def test_a_class_that_is_not_a_component_of_the_libraries_is_refused_by_name(folder: Path, entry: dict[str, Any],
                                                                              words: str) -> None:
    edit(folder / "model_index.json", **entry)
    with pytest.raises(ModelFileError, match="No other code is run") as error:
        shape_pipeline(open_any(folder))
    assert words in str(error.value)


@pytest.mark.parametrize(("name", "words"), [
    ("WanPipeline", "videos"), ("QwenImageEditPipeline", "changes a picture"), ("KolorsPipeline", "sentencepiece"),
    ("HunyuanImagePipeline", "guider"), ("FluxPriorReduxPipeline", "picture"), ("NobodysPipeline", "not one of diffusers'")])
def test_a_pipeline_that_is_not_text_to_image_is_refused_by_its_name_and_reason(folder: Path, name: str, words: str) -> None:
    edit(folder / "model_index.json", _class_name=name)
    with pytest.raises(ModelFileError, match=name) as error:
        shape_pipeline(open_any(folder))
    assert words in str(error.value)
    assert "merged" in str(error.value)


def test_a_denoiser_that_is_not_that_of_its_config_is_refused(folder: Path) -> None:
    edit(folder / "transformer" / "config.json", num_layers=1)
    with pytest.raises(ModelFileError, match="not in the config"):
        shape_pipeline(open_any(folder))


def test_weights_beside_the_denoiser_are_safetensors_alone(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(ModelFileError, match="no safetensors"):
        shape_pipeline(open_any(folder))


def test_a_component_that_lacks_a_tensor_is_not_filled_with_random_numbers(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if "layer_norm" in name))
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match="1 tensors"):
        prepared(Candidate(name="m", model=str(folder)), grid_for(NAME))


def test_a_text_encoder_with_more_layers_than_its_config_says_is_not_cut_off(folder: Path) -> None:
    config = folder / "text_encoder" / "config.json"
    edit(config, num_layers=json.loads(config.read_text())["num_layers"] - 1)
    with pytest.raises(ModelFileError, match=r"config\.json leaves out"):
        prepared(Candidate(name="m", model=str(folder)), grid_for(NAME))


def test_tensors_of_a_text_encoder_that_are_no_layers_of_it_are_left_alone(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = sampled(folder, grid_for(NAME, seeds=(0,)))
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    decoder = {name.replace("encoder.", "decoder."): tensor.clone() for name, tensor in tensors.items() if "encoder." in name}
    save_file({**tensors, **decoder, "lm_head.weight": tensors["shared.weight"].clone()}, file, metadata={"format": "pt"})
    after = sampled(folder, grid_for(NAME, seeds=(0,)))
    assert all((before[cell] == after[cell]).all() for cell in before)


@pytest.mark.parametrize("name", ["AuraFlowPipeline", "QwenImagePipeline", "SanaPipeline", NAME])
def test_a_tokenizer_of_more_tokens_than_its_encoder_knows_is_refused_before_the_first_image(name: str, tiny_pipeline: Folder,
                                                                                             tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = tmp_path / "whole"
    shutil.copytree(tiny_pipeline(name), whole)
    (file,) = (whole / "text_encoder").glob("*.safetensors")
    tensors = load_file(file)
    rows = next(tensor for key, tensor in tensors.items() if "embed_tokens" in key or key == "shared.weight").shape[0]
    save_file({key: tensor[:8].clone() if tensor.shape[:1] == (rows,) else tensor for key, tensor in tensors.items()}, file,
              metadata={"format": "pt"})
    config = whole / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace(f'"vocab_size": {rows}', '"vocab_size": 8'))
    with pytest.raises(MaterialiseError, match="text_encoder knows 8"):
        prepared(Candidate(name="m", model=str(whole)), grid_for(name))


def test_a_config_cannot_name_code_or_kernels_to_download(folder: Path) -> None:
    before = sampled(folder, grid_for(NAME, seeds=(0,)))
    edit(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "evil.Model"}, _attn_implementation="someone/kernel",
         attn_implementation="someone/kernel")
    after = sampled(folder, grid_for(NAME, seeds=(0,)))
    assert all((before[cell] == after[cell]).all() for cell in before)


def test_a_component_cannot_name_files_outside_its_folder(folder: Path) -> None:
    vae = folder / "vae"
    (vae / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {}, "weight_map": {"encoder.conv_in.weight": "../../outside.safetensors"}}))
    with pytest.raises(ModelFileError, match="same folder"):
        shape_pipeline(open_any(folder))


def test_a_scheduler_of_more_steps_than_fit_into_memory_is_refused(folder: Path) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=10**12)
    with pytest.raises(ModelFileError, match="num_train_timesteps"):
        shape_pipeline(open_any(folder))


def test_a_safety_checker_is_not_loaded_and_this_is_said(folder: Path) -> None:
    edit(folder / "model_index.json", feature_extractor=["transformers", "CLIPImageProcessor"])
    made = prepared(Candidate(name="m", model=str(folder)), grid_for(NAME))
    assert not any("feature_extractor" in note for row in made.coverage for note in row.notes)  # PixArt takes none at all


@pytest.mark.parametrize(("name", "part"), [
    ("HiDreamImagePipeline", "text_encoder_4"), ("HiDreamImagePipeline", "tokenizer_4"), ("PixArtSigmaPipeline", "text_encoder"),
    ("PixArtSigmaPipeline", "tokenizer"), ("HunyuanDiTPipeline", "text_encoder_2"), ("PRXPipeline", "vae"),
    ("QwenImagePipeline", "scheduler")])
@pytest.mark.parametrize("named", [False, True])
def test_a_part_that_the_folder_lacks_is_named_before_the_first_image(named: bool, name: str, part: str, tiny_pipeline: Folder,
                                                                      tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_pipeline(name), folder)
    shutil.rmtree(folder / part)
    if not named:
        edit(folder / "model_index.json", **{part: [None, None]})
    with pytest.raises(ModelFileError, match=f"no {part}") as error:
        shape_pipeline(open_any(folder))
    assert "publisher" in str(error.value)


def test_the_configs_of_another_pipeline_are_refused_and_those_of_another_folder_are_named(folder: Path,
                                                                                            tiny_pipeline: Folder) -> None:
    with pytest.raises(ModelFileError, match="QwenImagePipeline"):
        shape_pipeline(open_any(folder), tiny_pipeline("QwenImagePipeline"))
    pipeline = shape_pipeline(open_any(folder), tiny_pipeline(NAME))
    assert f"from {NAME}/, unchanged: " in pipeline.notes[0]
