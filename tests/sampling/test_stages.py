"""A later stage begins from the noised picture of the stage before, as diffusers' image-to-image pipeline does, whatever else is
sampled beside it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Adapter, Candidate, Grid, Sampling
from harness.declare import Stage, Temperature
from harness.materialise import Prepared, Workbench
from harness.probes.clock import Stopwatch
from harness.records import Cell
from harness.samplers import SAMPLERS, begin_at, build_scheduler, set_steps
from harness.sampling import Denoising, Later, alone, batches, embedded, encode, generators, lengths_of, pack, sample, time_one
from harness.sampling.denoise import Start
from harness.sampling.hand_over import from_latents, from_pictures, resized_pictures
from harness.weights import Pipeline
from tests.fakes import PROMPTS, plain_candidate, tiny_grid

CELL = Cell(prompt="star", seed=1, guidance=4)
THEIRS = [name for name, row in SAMPLERS.items() if not row.flow and row.levels != "midpoint" and name not in ("lms", "plms")]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("root")).prepare(plain_candidate()).pipeline


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    down, across = np.mgrid[0:64, 0:64]
    return np.stack([4 * down, 4 * across, 255 - 2 * (down + across)], axis=-1).astype(np.uint8)


def ours(pipeline: Pipeline, picture: np.ndarray, sampler: str, steps: int, run: int) -> torch.Tensor:
    latents = from_pictures(pipeline, picture[None], (64, 64), "lanczos", 8)
    of = Denoising(pipeline, tiny_grid(sampler=sampler, steps=run), (CELL,), Start(latents=latents, stage=1, of_steps=steps))
    of.advance(alone(pipeline, encode(pipeline, PROMPTS[:1])))
    return of.latents


@pytest.mark.parametrize("case", [
    *((name, 6, 0.6, 3) for name in THEIRS), ("euler", 4, 1.0, 4), ("dpmpp_2m", 4, 1.0, 4), ("heun", 5, 0.2, 1)])
def test_a_stage_is_diffusers_image_to_image_pipeline_with_the_mean_of_the_posterior(
        pipeline: Pipeline, picture: np.ndarray, case: tuple[str, int, float, int], monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from PIL import Image

    sampler, steps, strength, run = case
    scheduler = build_scheduler(sampler, pipeline.scheduler_config)
    set_timesteps = scheduler.set_timesteps  # ours of DPM2 takes no device
    monkeypatch.setattr(scheduler, "set_timesteps", lambda steps, device=None: set_timesteps(steps))
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda posterior, generator=None: posterior.mean)
    theirs = StableDiffusionImg2ImgPipeline(
        vae=pipeline.vae, text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer, unet=pipeline.unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(PROMPTS[0].text, image=Image.fromarray(picture), strength=strength, num_inference_steps=steps,
                      guidance_scale=4.0, eta=SAMPLERS[sampler].eta or 0.0, generator=generators([CELL], 1),
                      output_type="latent").images
    assert (ours(pipeline, picture, sampler, steps, run) - expected).abs().max() < 2e-4


@pytest.mark.parametrize(("sampler", "plain"), [("lms", "euler"), ("plms", "ddim"), ("dpmpp_2s_a", "euler_a")])
def test_samplers_with_a_history_begin_without_one(pipeline: Pipeline, picture: np.ndarray, sampler: str, plain: str) -> None:
    last = [ours(pipeline, picture, name, 8, 1) for name in (sampler, plain)]
    assert (last[0] - last[1]).abs().max() < 1e-4  # a single step down to no noise is the same for all of them
    several = [ours(pipeline, picture, name, 20, 10) for name in (sampler, plain)]
    assert 0 < (several[0] - several[1]).abs().mean() < 0.15 or sampler == "dpmpp_2s_a"


@pytest.mark.parametrize(("first", "distinct"), [(0, [0, 1, 1, 2, 3, 4]), (2, [2, 3, 3, 4]), (4, [4])])
def test_plms_evaluates_the_second_of_its_own_timesteps_twice(pipeline: Pipeline, first: int, distinct: list[int]) -> None:
    scheduler, whole = (build_scheduler("plms", pipeline.scheduler_config) for _ in range(2))
    set_steps(whole, "plms", 5)
    levels = list(dict.fromkeys(whole.timesteps.tolist()))
    set_steps(scheduler, "plms", 5)
    begin_at(scheduler, "plms", 5, first)
    assert scheduler.timesteps.tolist() == [levels[place] for place in distinct]


def test_the_noise_of_a_stage_is_no_other_stages_and_the_same_for_all_batches() -> None:
    other = Cell(prompt="car", seed=1, guidance=4)
    assert len({CELL.noise_seed, CELL.stage_seed(1), CELL.stage_seed(2), other.stage_seed(1)}) == 4
    assert CELL.stage_seed(1) == Cell(prompt="star", seed=1, guidance=7).stage_seed(1)


def test_a_picture_comes_back_from_its_latents_and_grows_as_pillow_resizes_it(pipeline: Pipeline, picture: np.ndarray) -> None:
    from PIL import Image

    grown = resized_pictures(picture[None], (128, 96), "bicubic")
    assert np.array_equal(grown[0], np.asarray(Image.fromarray(picture).resize((128, 96), Image.Resampling.BICUBIC)))
    assert from_pictures(pipeline, picture[None], (128, 96), "bicubic", 8).shape[2:] == (12, 16)
    latents = from_pictures(pipeline, picture[None], (64, 64), "lanczos", 8)
    assert torch.equal(from_latents(pipeline, latents, (64, 64)), latents)
    assert from_latents(pipeline, latents, (128, 96)).shape[2:] == (12, 16)


GRID = tiny_grid(steps=4, prompts=PROMPTS[:2], guidance_scales=(1, 4), batch_size=2)
SEVERAL = replace(GRID, seeds=(1, 2))


@cache
def bench(seeds: int) -> Workbench:
    """One for all tests: model files are opened once."""
    return Workbench.for_grid(SEVERAL if seeds > 1 else GRID, device="cpu", root=Path())


def prepared(*stages: Stage, grid: Grid = GRID) -> Prepared:
    return bench(len(grid.seeds)).prepare(Candidate(name="two", stages=stages, model="zoo:photo"))


@cache
def pictures_of(*stages: Stage) -> dict[Cell, np.ndarray]:
    """The images of a candidate of these stages, made once."""
    return images(prepared(*stages))


def images(made: Prepared, grid: Grid = GRID, size: int = 2, cells: tuple[Cell, ...] | None = None,
           beside: Any = None) -> dict[Cell, np.ndarray]:
    texts = embedded(made.phases, grid.prompts, steps=grid.steps, stages=made.stages)
    wanted = cells or tuple(cell for batch in batches(grid) for cell in batch)
    todo = pack(grid, wanted, size, lengths_of(made.phases, texts, grid, made.stages))
    return {cell: image for batch, pictures in sample(made.phases, grid, todo, texts,
                                                      later=Later(stages=made.stages, beside=beside))
            for cell, image in zip(batch, pictures, strict=True)}


@pytest.mark.parametrize("stage", [
    Stage(model="zoo:anime", strength=0.5), Stage(model="zoo:anime", strength=0.5, through="pixels"),
    Stage(strength=0.75, sampling=Sampling(sampler="dpmpp_2m_sde", width=128, height=96), prompt="{prompt}, night")])
def test_stages_in_any_batches_and_order_give_equal_bits(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    made = prepared(stage, grid=SEVERAL)
    whole = images(made, SEVERAL)
    monkeypatch.setattr("harness.sampling.staged.BATCHES_PER_SWITCH", 1)
    assert all(np.array_equal(whole[cell], image) for cell, image in images(made, SEVERAL).items())
    some = tuple(reversed(tuple(whole)))[:3]
    assert all(np.array_equal(whole[cell], image) for cell, image in images(made, SEVERAL, cells=some).items() if cell in some)


def test_through_latents_is_through_pixels_but_for_rounding_and_the_autoencoder() -> None:
    direct, decoded = (pictures_of(Stage(model="zoo:anime", strength=0.5, through=word)) for word in ("latents", "pixels"))
    errors = [np.mean((direct[cell].astype(float) - decoded[cell]) ** 2) for cell in direct]
    assert 0 < np.mean(errors) < 255**2 / 10**2.5  # 25 dB


def test_the_pictures_of_earlier_stages_are_those_of_the_stage_alone() -> None:
    kept: dict[Cell, np.ndarray] = {}

    def keep(batch: tuple[Cell, ...], name: str, pictures: np.ndarray) -> None:
        assert name == "stage 1"
        kept.update(zip(batch, pictures, strict=True))

    final = images(prepared(Stage(model="zoo:anime", strength=0.5)), beside=keep)
    plain = pictures_of()
    assert all(np.array_equal(kept[cell], plain[cell]) for cell in plain)
    assert any(not np.array_equal(final[cell], plain[cell]) for cell in plain)


def test_a_stage_reads_its_own_prompt_with_its_own_guidance_and_adapters() -> None:
    same = pictures_of(Stage(model="zoo:anime", strength=0.75))
    for other in (Stage(model="zoo:anime", strength=0.75, prompt="a green fish"), Stage(model="zoo:photo", strength=0.75),
                  Stage(model="zoo:anime", strength=0.75, adapters=(Adapter(path="zoo:sketch"),)),
                  Stage(model="zoo:anime", strength=0.75, sampling=Sampling(guidance=9))):
        assert any(not np.array_equal(same[cell], image) for cell, image in pictures_of(other).items())


def test_a_stage_with_one_scale_makes_one_second_stage_of_every_guidance() -> None:
    stage = Stage(model="zoo:anime", strength=0.5, sampling=Sampling(guidance=4))
    ended, plain = pictures_of(stage), pictures_of(replace(stage, sampling=None))
    guided = [cell for cell in plain if cell.guidance == 4]
    assert all(np.array_equal(ended[cell], plain[cell]) for cell in guided)
    assert all(not np.array_equal(ended[cell], plain[cell]) for cell in plain if cell.guidance == 1)


def test_what_is_timed_is_all_of_both_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    made, steps, original = prepared(Stage(model="zoo:anime", strength=0.5)), [], Denoising._evaluate

    def counted(run: Denoising, *args: Any, **options: Any) -> None:
        steps.append(run._in_part)
        original(run, *args, **options)

    monkeypatch.setattr(Denoising, "_evaluate", counted)
    for _ in range(2):
        time_one(made.phases, GRID, CELL, Stopwatch("cpu"), made.stages)
    assert steps == [*[False] * 4, *[True] * 2] * 2


def test_the_grid_of_a_stage_counts_the_steps_that_it_runs() -> None:
    (stage,) = prepared(Stage(strength=0.58, sampling=Sampling(steps=50))).stages
    assert (stage.grid.steps, stage.of_steps, stage.through) == (29, 50, "latents")


def test_colour_transfer_gives_a_picture_the_colours_of_the_one_that_it_began_from() -> None:
    from harness.metrics.lab import lab_from_srgb

    kept: dict[Cell, np.ndarray] = {}

    def keep(batch: tuple[Cell, ...], _: str, pictures: np.ndarray) -> None:
        kept.update(zip(batch, pictures, strict=True))

    stage = Stage(model="zoo:anime", strength=0.75)
    plain, coloured = pictures_of(stage), images(prepared(replace(stage, colour="transfer")), beside=keep)

    def means(of: dict[Cell, np.ndarray]) -> np.ndarray:
        return np.array([lab_from_srgb(of[cell]).mean((0, 1)) for cell in kept])

    def apart(of: dict[Cell, np.ndarray]) -> float:
        return float(np.abs(means(of) - means(kept)).mean())

    assert apart(coloured) < apart(plain) / 2


def test_post_steps_before_a_stage_change_what_it_begins_from() -> None:
    stage = Stage(model="zoo:anime", strength=0.25, through="pixels")
    warm = replace(stage, before=(Temperature(max_kelvin=4000),))
    plain, warmer = pictures_of(stage), pictures_of(warm)
    assert prepared(replace(warm, through="")).stages[0].through == "pixels"
    redder = [image[..., 0].mean() - image[..., 2].mean() - (plain[cell][..., 0].mean() - plain[cell][..., 2].mean())
              for cell, image in warmer.items()]
    assert np.mean(redder) > 2


def test_a_stage_after_one_that_changes_its_picture_is_handed_pixels() -> None:
    first, second = prepared(Stage(model="zoo:anime", strength=0.5, colour="transfer"), Stage(strength=0.5)).stages
    assert (first.through, second.through) == ("latents", "pixels")
