"""Every pipeline class of the installed diffusers is either sampled, or refused by name for a reason."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from harness import Candidate, Grid, Prompt
from harness.own_pipelines import AS_BUILT_IN, BUILT_IN, OWN, reason
from harness.weights import ModelFileError
from harness.weights.structural import open_any
from tests.models_page.page import classes
from tests.own_pipelines.own_bench import apart, diffusers_pipeline, grid_for, prepared, sampled
from tests.tiny_pipelines import BUILDERS, TINY
from tests.tiny_pipelines.row import class_of

Folder = Callable[[str], Path]

SAMPLED = {*OWN, *BUILT_IN, *AS_BUILT_IN}
UNKNOWN = reason("SomethingNewPipeline")
# diffusers counts these among text-to-image, and they are refused all the same. Look at each before it is added.
REFUSED_TEXT_TO_IMAGE = {
    "CogView4ControlPipeline", "FluxControlNetPipeline", "FluxControlPipeline", "HeliosPipeline",
    "HeliosPyramidPipeline", "HunyuanDiTPAGPipeline", "KandinskyCombinedPipeline", "KandinskyV22CombinedPipeline",
    "PixArtSigmaPAGPipeline", "QwenImageControlNetPipeline", "SanaPAGPipeline", "StableCascadeCombinedPipeline",
    "StableDiffusion3ControlNetPipeline", "StableDiffusionControlNetPAGPipeline", "StableDiffusionControlNetPipeline",
    "StableDiffusionXLControlNetPAGPipeline", "StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetUnionPipeline",
    "WuerstchenCombinedPipeline", "ZImageControlNetInpaintPipeline", "ZImageControlNetPipeline"}


def text_to_image() -> set[str]:
    """What diffusers' AutoPipelineForText2Image makes, read from its file."""
    source = (Path(diffusers.__path__[0]) / "pipelines" / "auto_pipeline.py").read_text(encoding="utf-8")
    table = source.partition("AUTO_TEXT2IMAGE_PIPELINES_MAPPING = ")[2].partition("\n)\n")[0]
    return {*re.findall(r"(\w+Pipeline)\),", table)}


def test_no_pipeline_of_diffusers_is_unknown() -> None:
    # After an update of diffusers: make a row of OWN and a tiny pipeline, or give the reason against it.
    assert [name for name in sorted(classes()) if reason(name) == UNKNOWN] == []


def test_text_to_image_classes_are_sampled_but_for_these() -> None:
    assert len(text_to_image()) > 50
    assert {name for name in text_to_image() if reason(name)} == REFUSED_TEXT_TO_IMAGE


def test_what_is_sampled_is_in_diffusers_and_has_a_tiny_pipeline() -> None:
    assert not SAMPLED - classes()
    assert not SAMPLED - {class_of(name) for name in BUILDERS}


def test_a_class_without_a_tiny_pipeline_is_refused() -> None:
    lacking = [name for name, row in TINY.items() if row.reason]
    assert [name for name in lacking if not reason(class_of(name))] == []


@pytest.mark.parametrize("name", sorted(name for name in BUILDERS if reason(class_of(name))))
def test_the_folder_of_another_class_is_refused_by_its_name(name: str, tiny_pipeline: Folder) -> None:
    with pytest.raises(ModelFileError, match=f"the pipeline {class_of(name)}, and ") as error:
        prepared(Candidate(name="m", model=str(tiny_pipeline(name))), grid_for("PixArtSigmaPipeline"))
    assert reason(class_of(name)) in str(error.value)
    assert "can be merged" in str(error.value)


@pytest.mark.parametrize("name", sorted(name for name in BUILDERS if class_of(name) in {*BUILT_IN, *AS_BUILT_IN}))
def test_a_folder_of_a_built_in_family_gives_the_images_of_its_class(name: str, tiny_pipeline: Folder) -> None:
    kind = getattr(diffusers, AS_BUILT_IN.get(class_of(name), class_of(name)))
    sampler = "flow_euler" if kind.__name__ in ("FluxPipeline", "StableDiffusion3Pipeline") else "ddim"
    negative = "" if kind.__name__ == "FluxPipeline" else "blur"
    grid = Grid(prompts=(Prompt(id="p", text="a cat", negative=negative),), seeds=(0, 1), steps=2, width=32, height=32,
                batch_size=2, guidance_scales=(1.0 if "schnell" in name else 3.0,), sampler=sampler)
    images = sampled(tiny_pipeline(name), grid)
    pipe = diffusers_pipeline(kind.__name__, tiny_pipeline(name))
    # Its publisher's model card gives schnell 256 positions for the text; diffusers' default is 512.
    given: dict[str, Any] = ({"negative_prompt": negative} if negative else {}) | (
        {"max_sequence_length": 256} if "schnell" in name else {})
    for cell, image in images.items():
        theirs = pipe("a cat", num_inference_steps=2, width=32, height=32, guidance_scale=cell.guidance, output_type="np",
                      generator=torch.Generator().manual_seed(cell.noise_seed), **given)[0]
        assert abs((theirs[0] * 255).round() - image).max() <= 1


def test_the_way_out_of_a_class_with_perturbed_guidance_works(tiny_pipeline: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_pipeline("PixArtSigmaPAGPipeline"), folder)
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("PixArtSigmaPAGPipeline", "PixArtSigmaPipeline"))
    grid = grid_for("PixArtSigmaPipeline", seeds=(0,))
    assert apart(sampled(folder, grid), sampled(tiny_pipeline("PixArtSigmaPipeline"), grid)) == 0


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_denoiser_of_each_class_is_read_as_a_model_in_its_folder_and_alone(name: str, tiny_pipeline: Folder) -> None:
    folder = tiny_pipeline(name)
    file = next(path for part in ("transformer", "unet") for path in (folder / part).glob("*.safetensors"))
    for path in (folder, file):  # OmniGen and Kandinsky have an image_proj, as IP-Adapters do
        assert {"transformer", "unet"} & open_any(path).components.keys()


@pytest.mark.parametrize(("name", "structural"), [
    ("IFPipeline", True), ("KandinskyV22CombinedPipeline", True), ("DreamLitePipeline", True), ("Kandinsky3Pipeline", True),
    ("StableDiffusionPipeline", False), ("StableDiffusionXLPipeline", False), ("LatentConsistencyModelPipeline", False)])
def test_a_unet_alone_that_shares_names_with_stable_diffusion_is_not_taken_for_one(
        name: str, structural: bool, tiny_pipeline: Folder, tmp_path: Path) -> None:
    unet = next(tiny_pipeline(name).glob("**/unet/*.safetensors"))
    shutil.copyfile(unet, tmp_path / "unet.safetensors")
    opened = open_any(tmp_path / "unet.safetensors")
    assert opened.structural == structural
    assert structural or len(opened.odd.get("unet", ())) < 2
