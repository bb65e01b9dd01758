"""Noise depends on nothing but prompt and seed; a batch changes no picture by more than rounding; keys name all that matters."""

import numpy as np
import pytest

from harness import Grid
from harness.materialise import Prepared, Workbench
from harness.records import Cell, sample_key
from harness.samplers import SAMPLERS, build_scheduler
from harness.sampling import (
    Denoising,
    SamplingError,
    alone,
    batches,
    decode,
    embedded,
    encode,
    from_png,
    initial_noise,
    sample,
    setting,
    side_by_side,
    to_png,
)
from harness.weights import Pipeline
from tests.fakes import PROMPTS, plain_candidate, tiny_grid


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("root")).prepare(plain_candidate())


@pytest.fixture(scope="module")
def pipeline(prepared: Prepared) -> Pipeline:
    return prepared.pipeline


def images(prepared: Prepared, grid: Grid) -> dict[Cell, np.ndarray]:
    texts = embedded(prepared.phases, grid.prompts)
    return {cell: image for cells, made in sample(prepared.phases, grid, batches(grid), texts)
            for cell, image in zip(cells, made, strict=True)}


def test_every_cell_is_in_exactly_one_batch() -> None:
    cells = [cell for batch in batches(tiny_grid(seeds=(1, 2, 3))) for cell in batch]
    assert len(cells) == len(set(cells)) == 5 * 3 * 2


def test_cells_without_guidance_stand_apart() -> None:
    assert all(len({c.guidance == 1 for c in batch}) == 1 for batch in batches(tiny_grid()))


def test_the_noise_of_a_cell_does_not_depend_on_its_neighbours(pipeline: Pipeline) -> None:
    cells = [Cell(prompt=p.id, seed=1, guidance=4) for p in PROMPTS]
    together = initial_noise(pipeline, tiny_grid(), cells)
    alone = initial_noise(pipeline, tiny_grid(), cells[3:4])
    assert bool((together[3] == alone[0]).all())


def test_batched_pictures_equal_single_ones_within_one_level(prepared: Prepared) -> None:
    grid = tiny_grid(guidance_scales=(1, 3, 8), steps=4)
    batched = images(prepared, grid)
    single = images(prepared, tiny_grid(guidance_scales=(1, 3, 8), steps=4, batch_size=1))
    worst = max(int(np.abs(batched[c].astype(int) - single[c]).max()) for c in batched)
    assert worst <= 1


def test_the_same_batches_give_the_same_bits(prepared: Prepared) -> None:
    one, two = images(prepared, tiny_grid()), images(prepared, tiny_grid())
    assert all(np.array_equal(one[c], two[c]) for c in one)


def test_own_loop_agrees_with_the_diffusers_pipeline(pipeline: Pipeline) -> None:
    """An independent reference: the loop that everyone runs, with the same noise."""
    from diffusers import StableDiffusionPipeline

    grid = tiny_grid(guidance_scales=(4,), steps=5)
    theirs = StableDiffusionPipeline(
        vae=pipeline.vae, text_encoder=pipeline.text_encoder, tokenizer=pipeline.tokenizer, unet=pipeline.unet,
        scheduler=build_scheduler("dpmpp_2m", pipeline.scheduler_config), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    cell = Cell(prompt="star", seed=1, guidance=4)
    picture = theirs(PROMPTS[0].text, latents=initial_noise(pipeline, grid, [cell]), guidance_scale=4.0,
                     num_inference_steps=5, output_type="np", height=64, width=64).images[0]
    run = Denoising(pipeline, grid, (cell,))
    run.advance(alone(pipeline, encode(pipeline, PROMPTS[:1])))
    ours = decode(pipeline, run.latents).images()[0]
    assert np.abs(ours - picture * 255).max() <= 1.01


def test_a_latent_that_is_no_number_is_an_error_and_no_picture(pipeline: Pipeline) -> None:
    import torch

    latents = torch.full((2, pipeline.unet.config.in_channels, 8, 8), float("nan"))
    with pytest.raises(SamplingError, match="2 of 2 images hold NaN"):
        decode(pipeline, latents).images()


@pytest.mark.parametrize("change", [{"steps": 3}, {"sampler": "ddim"}, {"width": 128}, {"batch_size": 1}])
def test_the_key_of_an_image_changes_with_the_grid(change: dict[str, object]) -> None:
    cell = Cell(prompt="star", seed=1, guidance=4)
    keys = {sample_key("i", cell, ("a", ""), setting(grid, "cpu")) for grid in (tiny_grid(), tiny_grid(**change))}
    assert len(keys) == 2


def test_pictures_do_not_depend_on_how_many_batches_are_computed_at_once(prepared: Prepared, monkeypatch: pytest.MonkeyPatch,
                                                                         ) -> None:
    made = []
    for workers in (2, 3):
        monkeypatch.setattr("harness.sampling.at_once.side_by_side", lambda *_, n=workers: n)
        made.append(images(prepared, tiny_grid(seeds=(1, 2))))
    assert all(np.array_equal(made[0][c], made[1][c]) for c in made[0])


def test_large_pictures_are_computed_one_batch_at_a_time() -> None:
    assert side_by_side(tiny_grid(width=512, height=512), "cpu") == 1
    assert side_by_side(tiny_grid(), "cuda:0") == 1


def test_a_png_gives_back_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    assert np.array_equal(from_png(to_png(image)), image)


ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "beta_schedule": "scaled_linear",
            "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "leading", "steps_offset": 1}


@pytest.mark.parametrize("sampler", sorted(name for name, row in SAMPLERS.items() if row.zero_snr))
def test_a_model_of_zero_terminal_snr_begins_at_pure_noise(sampler: str) -> None:
    scheduler = build_scheduler(sampler, ZERO_SNR)
    scheduler.set_timesteps(4)
    assert scheduler.alphas_cumprod[-1] < 1e-6
    assert scheduler.timesteps[0] == 999
    assert scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("sampler", sorted(name for name, row in SAMPLERS.items() if not row.flow and not row.zero_snr))
def test_a_sampler_that_cannot_begin_at_pure_noise_refuses_such_a_model(sampler: str) -> None:
    with pytest.raises(ValueError, match=r"cannot sample a model with zero terminal SNR; expected .*'euler'"):
        build_scheduler(sampler, ZERO_SNR)
