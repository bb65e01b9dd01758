"""A file that lacks components is completed from a companion folder: a file of a denoiser alone is the folder's model, tensor for
tensor, and a folder of another architecture is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.weights import ModelFileError, build_pipeline, open_model, shape_pipeline
from harness.weights.companion import with_companion
from harness.weights.relayout import in_diffusers_names
from tests.weights.conftest import CopiedFolder, SavedFolder
from tests.weights.pipelines import FAMILIES, single_file_of

PREFIX = "model.diffusion_model."


def denoiser_of(folder: Path, path: Path, prefix: str = PREFIX, **markers: torch.Tensor) -> Path:
    """The denoiser of a folder alone, under the original code's names."""
    whole = load_file(single_file_of(folder, path.with_name("whole.safetensors")))
    own = {prefix + name.removeprefix(PREFIX): tensor for name, tensor in whole.items() if name.startswith(PREFIX)}
    save_file(own | markers, path)
    return path


def without_denoiser(folder: Path) -> Path:
    """The folder without the weights of its denoiser, as it may be kept to save 24 GB."""
    for weights in (folder / ("transformer" if (folder / "transformer").is_dir() else "unet")).glob("*.safetensors"):
        weights.unlink()
    return folder


@pytest.mark.parametrize(("family", "prefix"), [*((family, PREFIX) for family in FAMILIES), ("sd1", ""), ("flux", "")])
def test_a_denoiser_alone_with_its_folder_is_the_folders_model(family, prefix, copied_folder: CopiedFolder,
                                                               saved_folder: SavedFolder, tmp_path):
    file = denoiser_of(saved_folder(family), tmp_path / "unet.safetensors", prefix)
    folder = without_denoiser(copied_folder(family, tmp_path / "base"))
    model = in_diffusers_names(with_companion(open_model(file), folder))
    ours, theirs = build_pipeline(model, folder), build_pipeline(open_model(saved_folder(family)))
    assert model.family == family
    assert ours.parts.keys() == theirs.parts.keys()
    assert ours.scheduler_config == theirs.scheduler_config
    for part, module in theirs.parts.items():
        mine = ours.parts[part].state_dict()
        assert all(torch.equal(mine[name], tensor) for name, tensor in module.state_dict().items())
    assert list(model.own.components) == list(open_model(file).components)


def test_a_vae_alone_is_put_into_the_model_of_the_folder(saved_folder: SavedFolder, tmp_path):
    folder = saved_folder("flux")
    state = {name: tensor * 2 for name, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items()}
    save_file(state, tmp_path / "vae.safetensors")
    model = with_companion(open_model(tmp_path / "vae.safetensors"), folder)
    pipeline = build_pipeline(model, folder)
    assert (model.family, list(model.own.components)) == ("flux", ["vae"])
    assert torch.equal(pipeline.vae.decoder.conv_in.weight, state["decoder.conv_in.weight"])


@pytest.mark.parametrize(("family", "other", "word"), [
    ("sd1", "sdxl", "sdxl"), ("sdxl", "sd1", "sd1"), ("sd2", "sd1", "sd1"), ("flux", "sd3", "SD3Transformer2DModel"),
    ("sd3", "flux", "FluxTransformer2DModel"), ("flux", "sdxl", "has no transformer/"), ("sdxl", "sd3", "has no unet/")])
def test_a_folder_of_another_architecture_is_refused_by_name(family, other, word, copied_folder: CopiedFolder,
                                                             saved_folder: SavedFolder, tmp_path):
    file = denoiser_of(saved_folder(family), tmp_path / "m.safetensors")
    bases = (saved_folder(other), without_denoiser(copied_folder(other, tmp_path / "base")))
    for base in bases:  # by the names of its denoiser, and by its configs
        with pytest.raises(ModelFileError, match=f"base .*{word}.* is a model of the family {family}") as refused:
            shape_pipeline(with_companion(open_model(file), base), base)
        assert str(base) in str(refused.value)


def test_a_folder_of_another_size_is_refused_with_the_first_tensors(saved_folder: SavedFolder, tmp_path):
    file = denoiser_of(saved_folder("flux"), tmp_path / "m.safetensors")
    base = saved_folder("flux-schnell")
    with pytest.raises(ModelFileError, match=r"guidance_embedder.*same kind and size as base"):
        shape_pipeline(in_diffusers_names(with_companion(open_model(file), base)), base)


def test_what_is_no_folder_of_a_model_is_refused(saved_folder: SavedFolder, tmp_path):
    file = denoiser_of(saved_folder("sd1"), tmp_path / "m.safetensors")
    for base in (saved_folder("sd1") / "vae", tmp_path):
        with pytest.raises(ModelFileError, match=r"found no unet/ or transformer/"):
            with_companion(open_model(file), base)


def test_a_base_that_gives_nothing_is_refused_and_its_configs_may_be_given(saved_folder: SavedFolder, tmp_path):
    folder, file = saved_folder("sd1"), single_file_of(saved_folder("sd1"), tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"lacks no component .*give config='sd1'"):
        with_companion(open_model(file), folder)
    shape_pipeline(open_model(file), folder)


def test_a_component_that_neither_has_is_missing_by_name(copied_folder: CopiedFolder, saved_folder: SavedFolder, tmp_path):
    file = denoiser_of(saved_folder("sd1"), tmp_path / "m.safetensors")
    base = copied_folder("sd1", tmp_path / "base")
    shutil.rmtree(base / "vae")
    with pytest.raises(ModelFileError, match=r"has no vae, only unet, text_encoder.*base has none either"):
        shape_pipeline(with_companion(open_model(file), base), base)


def test_what_the_file_does_not_say_is_what_the_scheduler_of_the_folder_says(copied_folder: CopiedFolder,
                                                                             saved_folder: SavedFolder, tmp_path):
    base = copied_folder("sdxl", tmp_path / "base")
    scheduler = base / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))
    silent = with_companion(open_model(denoiser_of(saved_folder("sdxl"), tmp_path / "a.safetensors")), base)
    assert (silent.prediction, silent.sampling_markers) == ("v_prediction", ("v_pred",))
    assert build_pipeline(silent, base).scheduler_config["prediction_type"] == "v_prediction"
    marked = denoiser_of(saved_folder("sdxl"), tmp_path / "b.safetensors", v_pred=torch.ones(0))
    of_noise = saved_folder("sdxl")
    assert build_pipeline(with_companion(open_model(marked), of_noise), of_noise).scheduler_config["prediction_type"] == (
        "v_prediction")


def test_a_bare_folder_is_completed_too(saved_folder: SavedFolder, tmp_path):
    folder = saved_folder("flux")
    bare = Path(shutil.copytree(folder / "transformer", tmp_path / "mine"))
    pipeline = build_pipeline(with_companion(open_model(bare), folder), folder)
    assert set(pipeline.parts) == {"transformer", "vae", "text_encoder", "text_encoder_2"}
