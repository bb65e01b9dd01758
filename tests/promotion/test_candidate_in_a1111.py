"""Every field of a candidate shows in its exported pictures: in A1111's words, or as a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from harness import Adapter, AestheticGradient, Alphas, Candidate, Grid, Prompt, Sampling, Suite
from harness.declare import (
    Canny,
    ColourTransfer,
    Control,
    DeepCache,
    Emphasis,
    Ensemble,
    Inpaint,
    Lut,
    Reference,
    Relay,
    Stage,
    Temperature,
    Upscale,
)
from harness.declare.picture_parameters import to_parameters
from harness.promotion.candidate_in_a1111 import DIFFERENCES, candidate_differences
from harness.promotion.picture_of_image import as_a1111, differences_in_a1111, picture_of
from harness.records import Cell

PLAIN = Candidate(name="x", model="dir/photo.safetensors")
RELAY, ENSEMBLE = Relay(models=("a", "b"), at=(0.5,)), Ensemble(models=("a", "b"), weights=(0.5, 0.5))
STAGE = Stage(strength=0.5, sampling=Sampling(width=96, height=96))
CONTROL, CANNY = Control(path="dir/edges.safetensors", picture="map"), Canny(of="photo")
REFERENCE, INPAINT = Reference(path="dir/ip.bin", picture="face"), Inpaint(picture="photo", mask="hole")
GRADIENT, EMPHASIS = AestheticGradient(path="dir/mist.pt"), Emphasis(weights={"ball": 0.7})
ADAPTER = Adapter(path="dir/ink.safetensors")
OTHER: dict[type, dict[str, Any]] = {
    Candidate: {
        "model": RELAY, "adapters": (ADAPTER,), "quantization": "int8_weight_only", "precision": "fp16", "runtime": "compile",
        "emphasis": EMPHASIS, "aesthetic": GRADIENT, "sampling": Sampling(steps=7), "stages": (STAGE,), "controls": (CONTROL,),
        "references": (REFERENCE,), "inpaint": INPAINT, "post": (Lut("teal.cube"),),
        "savers": ("sdpa_math",), "step_cache": DeepCache()},
    Sampling: {
        "sampler": "euler", "schedule": "karras", "steps": 7, "guidance_rescale": 0.7, "guidance_start": 0.2, "guidance_end": 0.8,
        "clip_skip": 2, "eta": 0.5, "shift": 3.0, "width": 96, "height": 96},
    Stage: {
        "model": "b", "strength": 0.25, "prompt": "{prompt}, night", "negative": "blurred", "adapters": (ADAPTER,),
        "controls": (CONTROL,), "references": (REFERENCE,), "sampling": Sampling(sampler="euler", guidance=5),
        "through": "pixels", "resize": "nearest", "before": (Lut("teal.cube"),), "colour": "transfer"},
    Relay: {"models": ("a", "c"), "at": (0.25,), "vae": "last"},
    Ensemble: {"models": ("a", "c"), "weights": (0.25, 0.75), "texts": "first"},
    Control: {"path": "c", "picture": CANNY, "weight": 0.5, "start": 0.1, "end": 0.9, "guess": True, "kind": "depth"},
    Canny: {"of": "other", "low": 5.0, "high": 30.0, "sigma": 2.0},
    Reference: {"path": "c", "picture": "look", "weight": 0.5, "blocks": Alphas(default=0.5), "encoder": "ViT-H-14:h.safetensors",
                "start": 0.1, "end": 0.9},
    Inpaint: {"picture": "other", "mask": "other", "strength": 0.5},
    ColourTransfer: {"to": "b.png", "method": "histogram", "strength": 0.5},
    Lut: {"path": "b.cube", "strength": 0.5},
    Temperature: {"max_kelvin": 5000.0},
    Upscale: {"factor": 4.0, "method": "nearest"},
    Emphasis: {"weights": {"ball": 0.5}, "method": "comfyui"},
    AestheticGradient: {"path": "other.pt", "clip": "other", "weight": 0.5, "steps": 9, "rate": 0.5},
    Adapter: {"path": "other", "weight": 0.5, "blocks": Alphas(default=0.5), "start": 0.1, "end": 0.9},
}
"""By declaration and field: a value that makes other pictures."""
WITHIN: dict[type, Any] = {
    Candidate: (PLAIN, lambda one: one), Sampling: (Sampling(), lambda one: replace(PLAIN, sampling=one)),
    Stage: (STAGE, lambda one: replace(PLAIN, stages=(one,))), Relay: (RELAY, lambda one: replace(PLAIN, model=one)),
    Ensemble: (ENSEMBLE, lambda one: replace(PLAIN, model=one)), Control: (CONTROL, lambda one: replace(PLAIN, controls=(one,))),
    Canny: (CANNY, lambda one: replace(PLAIN, controls=(replace(CONTROL, picture=one),))),
    Reference: (REFERENCE, lambda one: replace(PLAIN, references=(one,))),
    Inpaint: (INPAINT, lambda one: replace(PLAIN, inpaint=one)),
    ColourTransfer: (ColourTransfer("a.png"), lambda one: replace(PLAIN, post=(one,))),
    Lut: (Lut("a.cube"), lambda one: replace(PLAIN, post=(one,))),
    Temperature: (Temperature(max_kelvin=6500), lambda one: replace(PLAIN, post=(one,))),
    Upscale: (Upscale(factor=2), lambda one: replace(PLAIN, post=(one,))),
    Emphasis: (EMPHASIS, lambda one: replace(PLAIN, emphasis=one)),
    AestheticGradient: (GRADIENT, lambda one: replace(PLAIN, aesthetic=one)),
    Adapter: (ADAPTER, lambda one: replace(PLAIN, stages=(replace(STAGE, adapters=(one,)),)))}
"""By declaration: one of it, and the candidate that holds one."""
NOT_SHOWN = {(Candidate, "name"), (Candidate, "axes"), (Sampling, "guidance"), (Control, "kind")}
"""Names, the scale that is the image's own, and what no version samples."""


def exported(candidate: Candidate) -> tuple[str, tuple[str, ...]]:
    """The `parameters` of a picture, and what differs in A1111."""
    grid = Grid(prompts=(Prompt(id="p", text="a ball"),), seeds=(1,), guidance_scales=(3.0,), width=64, height=64, steps=8)
    suite = Suite(name="s", candidates=(candidate,), baseline="x", grid=grid, metrics=("exposure",), gates=())
    picture = picture_of(suite, candidate, Cell(prompt="p", seed=1, guidance=3.0))
    return to_parameters(as_a1111(picture)), (*differences_in_a1111(picture), *candidate_differences(suite, candidate))


def every_field() -> Iterator[tuple[type, str]]:
    for declaration in OTHER:
        yield from ((declaration, spec.name) for spec in fields(declaration) if (declaration, spec.name) not in NOT_SHOWN)


@pytest.mark.parametrize(("declaration", "field"), list(every_field()), ids=lambda one: getattr(one, "__name__", one))
def test_every_field_shows_in_an_exported_picture(declaration: type, field: str) -> None:
    one, candidate_with = WITHIN[declaration]
    other = replace(one, **{field: OTHER[declaration][field]})
    assert exported(candidate_with(other)) != exported(candidate_with(one))


def test_every_field_of_a_candidate_has_its_row_of_differences() -> None:
    assert {*DIFFERENCES} == {spec.name for spec in fields(Candidate)} - {"name", "axes"}


def test_a_larger_second_stage_is_hires_fix_and_the_size_is_the_pictures_own() -> None:
    parameters, differences = exported(replace(PLAIN, stages=(replace(STAGE, model="dir/anime.safetensors"),)))
    for pair in ("Size: 96x96", "First pass size: 64x64", "Denoising strength: 0.5", "Hires upscale: 1.5", "Hires steps: 8",
                 "Hires checkpoint: anime", "Hires upscaler: Lanczos"):
        assert pair in parameters
    assert any("stage 2" in sentence and "anime" in sentence for sentence in differences)


@pytest.mark.parametrize(("candidate", "name"), [
    (replace(PLAIN, model=ENSEMBLE), "ensemble"), (replace(PLAIN, controls=(CONTROL,)), "control by"),
    (replace(PLAIN, references=(REFERENCE,)), "reference by"), (replace(PLAIN, post=(Lut("teal.cube"),)), "teal.cube"),
    (replace(PLAIN, post=(Temperature(max_kelvin=6500),)), "6500 K"), (replace(PLAIN, quantization="int8_weight_only"), "int8"),
    (replace(PLAIN, stages=(STAGE, STAGE)), "stage 3")])
def test_what_a1111_does_not_repeat_is_named(candidate: Candidate, name: str) -> None:
    assert any(name in sentence for sentence in exported(candidate)[1])


def test_only_the_size_of_an_enlarged_picture_tells_that_it_was_sampled_smaller() -> None:
    assert "First pass size" not in exported(PLAIN)[0]
    parameters, _ = exported(replace(PLAIN, post=(Upscale(factor=2),)))
    assert all(pair in parameters for pair in ("Size: 128x128", "First pass size: 64x64", "Postprocess upscale by: 2"))
