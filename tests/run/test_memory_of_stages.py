"""The plan of memory of a candidate of several stages: the weights of all, and the most that any stage takes beside them."""

from __future__ import annotations

from pathlib import Path

from harness import Candidate, Sampling, Stage
from harness.materialise import Workbench
from harness.run.memory_plan import Footprint, planned
from tests.fakes import tiny_grid, tiny_suite

GRID = tiny_grid(steps=4, guidance_scales=(4,))


def footprints(*candidates: Candidate) -> list[tuple[Footprint, str]]:
    suite = tiny_suite(candidates=candidates, baseline=candidates[0].name, grid=GRID, metrics=("exposure",))
    rows = planned(suite, candidates, Workbench.for_grid(GRID, device="cpu", root=Path()))
    return [(row.footprint, row.size) for row in rows if isinstance(row.footprint, Footprint)]


def test_the_weights_of_all_stages_are_resident_and_the_largest_stage_counts() -> None:
    photo = Candidate(name="photo", model="zoo:photo")
    two = Candidate(name="two", model="zoo:photo", stages=(Stage(model="zoo:anime", strength=0.5),))
    hires = Candidate(name="hires", model="zoo:photo", stages=(Stage(strength=0.5, sampling=Sampling(width=128, height=128)),))
    large = Candidate(name="large", model="zoo:photo", sampling=Sampling(width=128, height=128))
    (of_one, _), (of_two, _), (of_hires, size), (of_large, _) = footprints(photo, two, hires, large)
    one = of_one.weights()
    assert sum(of_two.weights().values()) == 2 * sum(one.values())
    assert of_two.weights()["stage 2 unet"] == one["unet"]
    assert of_two.need(4).step - of_one.need(4).step == sum(one.values())
    assert of_hires.weights() == one  # the same model
    assert size == "128 x 128"
    assert of_hires.need(2).decode == of_large.need(2).decode


def test_the_encoder_counts_where_a_stage_begins_from_pictures() -> None:
    def two(**fields: object) -> Candidate:
        stage = Stage(**{"model": "zoo:anime", "strength": 0.5, **fields})  # type: ignore[arg-type]
        return Candidate(name=repr(fields), model="zoo:photo", stages=(stage,))

    large = Sampling(width=256, height=256)
    (pixels, _), (latents, _), (hires, _), (resized, _) = footprints(
        two(through="pixels"), two(), two(sampling=large), two(sampling=large, resize="latent"))
    assert (latents.need(4).encode, resized.need(4).encode) == (0, 0)
    assert latents.need(4).encode < latents.need(4).decode == pixels.need(4).decode
    resident = sum(pixels.weights().values())
    picture = 4 * 3 * 64 * 64
    assert pixels.need(4).encode - resident > 3 * 4 * picture  # the pictures in float32 alone, and what is made of them
    assert (hires.need(4).encode - resident) > 8 * (pixels.need(4).encode - resident)
    assert hires.need(1).peak == max(hires.need(1).step, hires.need(1).decode, hires.need(1).encode, hires.need(1).texts)
    assert pixels.need(40).encode > pixels.need(16).encode > pixels.need(8).encode


def test_the_memory_of_encoding_is_that_of_the_tensors_that_are_made(tmp_path: Path) -> None:
    """The largest activation of the encoder is counted: its first layer, of the full size, in and out."""
    candidate = Candidate(name="x", model="zoo:photo", stages=(Stage(strength=0.5, through="pixels"),))
    ((footprint, _),) = footprints(candidate)
    pipeline = Workbench.for_grid(GRID, device="cpu", root=tmp_path).prepare(candidate).pipeline
    channels = pipeline.vae.config.block_out_channels[0]
    activation = 4 * channels * 64 * 64
    resident = sum(footprint.weights().values())
    one, eight = (footprint.need(size).encode - resident for size in (1, 8))
    assert 2 * activation <= one
    assert 2 * 8 * activation <= eight <= 8 * one
