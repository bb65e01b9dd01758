"""Samplers and schedules are those that A1111 and ComfyUI publish where their rows say so, and every row can be sampled."""

import re
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.samplers import SAMPLERS, SCHEDULES, begin_at, build_scheduler, evaluations, first_evaluation, noised, set_steps
from tests.sampling import k_diffusion

MANUAL = (Path(__file__).parents[2] / "docs" / "sampling.md").read_text(encoding="utf-8")
LEVELS = k_diffusion.sd_levels()
SD = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
      "prediction_type": "epsilon", "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False}
STEPS = 8
U_NET = [name for name, row in SAMPLERS.items() if not row.flow]


def answer(scaled: Tensor, timestep: float) -> Tensor:
    """A denoiser that bends, so that samplers of different order differ."""
    return torch.tanh(1.3 * scaled + timestep / 700) + 0.2 * scaled


def nearest(level: float) -> int:
    return int(np.argmin(np.round(np.abs(np.log(LEVELS) - np.log(level)), 9)))


def predicted_image(x: Tensor, level: float) -> Tensor:
    """k-diffusion's denoiser of an epsilon model, with ComfyUI's timestep."""
    return x - level * answer(x / sqrt(level**2 + 1), nearest(level))


def sampled(scheduler: Any, sampler: str, first: Tensor, seed: int = 5, output: Callable[[Tensor, float], Tensor] = answer,
            ) -> Tensor:
    """The loop of every diffusers pipeline."""
    drawing = [torch.Generator().manual_seed(seed + place) for place in range(len(first))]
    options = {"generator": drawing} if SAMPLERS[sampler].ancestral else {}
    x = first * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        x = scheduler.step(output(scheduler.scale_model_input(x, timestep), float(timestep)), timestep, x, **options).prev_sample
    return x


def noise(images: int = 1) -> Tensor:
    return torch.randn((images, 4, 4, 4), generator=torch.Generator().manual_seed(1))


def ready(sampler: str, steps: int = STEPS, schedule: str = "", **config: Any) -> Any:
    scheduler = build_scheduler(sampler, {**SD, **config}, schedule=schedule)
    set_steps(scheduler, sampler, steps, schedule)
    return scheduler


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_has_the_published_noise_levels(schedule: str) -> None:
    scheduler = ready("euler", schedule=schedule)
    expected = k_diffusion.schedule(schedule, LEVELS, STEPS)
    assert scheduler.sigmas.tolist() == pytest.approx([*expected, 0], rel=1e-4)
    assert scheduler.timesteps.tolist() == [nearest(level) for level in expected]


def test_the_beta_schedule_of_a1111_is_another_one() -> None:
    assert "A1111" not in SCHEDULES["beta"].same_as
    assert k_diffusion.beta_of_a1111(LEVELS, STEPS)[1] != pytest.approx(k_diffusion.schedule("beta", LEVELS, STEPS)[1], rel=0.1)


def test_the_levels_of_stable_diffusion_are_those_that_everyone_quotes() -> None:
    assert (round(LEVELS[0], 4), round(LEVELS[-1], 4)) == (0.0292, 14.6146)


@pytest.mark.parametrize("schedule", ["karras", "normal", "sgm_uniform"])
@pytest.mark.parametrize("sampler", [name for name, row in SAMPLERS.items() if row.same_as and row.schedules])
def test_a_sampler_takes_the_published_steps(sampler: str, schedule: str) -> None:
    """A1111 and ComfyUI leave out the last level but one for some samplers."""
    row = SAMPLERS[sampler]
    levels = k_diffusion.schedule(schedule, LEVELS, STEPS + row.discards)
    levels = [*(levels[:-1] if row.discards else levels), 0.0]
    first = noise().double()
    expected = k_diffusion.SAMPLERS[sampler](predicted_image, first * sqrt(levels[0] ** 2 + 1), levels,
                                             k_diffusion.standard(first, 5))
    made = sampled(ready(sampler, schedule=schedule), sampler, noise())
    assert float((made - expected).abs().max()) < 2e-3 * float(expected.abs().max())


def test_every_sampler_that_claims_a_tool_has_a_written_out_reference() -> None:
    assert {name for name, row in SAMPLERS.items() if row.same_as} - {"dpmpp_2m_karras"} == set(k_diffusion.SAMPLERS)


def test_dpmpp_2m_with_the_karras_schedule_is_the_sampler_of_that_name() -> None:
    made = [sampled(ready(sampler, schedule=schedule), sampler, noise())
            for sampler, schedule in (("dpmpp_2m_karras", ""), ("dpmpp_2m", "karras"))]
    assert torch.allclose(*made, atol=1e-5)


def test_lcm_renews_the_noise_as_in_comfyui_at_whole_timesteps() -> None:
    scheduler = ready("lcm", 4, "sgm_uniform", timestep_scaling=1e6)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    levels = [LEVELS[timestep] for timestep in (999, 749, 499, 249)]
    first = noise().double()
    expected = k_diffusion.lcm(predicted_image, first * sqrt(levels[0] ** 2 + 1), [*levels, 0.0], k_diffusion.standard(first, 5))
    assert torch.allclose(sampled(scheduler, "lcm", noise()).double(), expected, atol=1e-3)


@pytest.mark.parametrize("sampler", ["ddim", "tcd", "lcm", "ddpm", "plms"])
def test_samplers_of_whole_timesteps_begin_at_the_last_with_sgm_uniform(sampler: str) -> None:
    times = ready(sampler, 4, "sgm_uniform").timesteps.tolist()
    assert sorted(set(times), reverse=True) == [999, 749, 499, 249]


@pytest.mark.parametrize("schedule", ["", *SCHEDULES])
@pytest.mark.parametrize("sampler", U_NET)
def test_every_sampler_removes_the_noise_of_a_known_image(sampler: str, schedule: str) -> None:
    """A denoiser that knows the image: all samplers and schedules must end there."""
    if schedule and schedule not in SAMPLERS[sampler].schedules:
        return
    scheduler = ready(sampler, 12, schedule)
    kept = scheduler.alphas_cumprod
    image = torch.full((2, 4, 4, 4), 0.7)

    def output(scaled: Tensor, timestep: float) -> Tensor:
        a = kept[round(timestep)]
        return (scaled - a.sqrt() * image) / (1 - a).sqrt()

    assert float((sampled(scheduler, sampler, noise(2), output=output) - image).abs().max()) < 0.25


@pytest.mark.parametrize("sampler", U_NET)
def test_models_of_both_predictions_give_one_image(sampler: str) -> None:
    scheduler = ready(sampler, 6, prediction_type="v_prediction")
    kept = scheduler.alphas_cumprod

    def velocity(scaled: Tensor, timestep: float) -> Tensor:
        epsilon, a = answer(scaled, timestep), kept[round(timestep)]
        return (epsilon - (1 - a).sqrt() * scaled) / a.sqrt()

    expected = sampled(ready(sampler, 6), sampler, noise(), output=lambda x, t: answer(x, round(t)))
    assert torch.allclose(sampled(scheduler, sampler, noise(), output=velocity), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("sampler", U_NET)
def test_evaluations_are_counted_as_they_happen(sampler: str, steps: int) -> None:
    scheduler = ready(sampler, steps)
    assert len(scheduler.timesteps) == evaluations(sampler, steps) == first_evaluation(sampler, steps, steps)
    assert first_evaluation(sampler, steps, 0) == 0


@pytest.mark.parametrize("sampler", U_NET)
def test_noise_drawn_on_the_way_depends_on_the_image_alone(sampler: str) -> None:
    together = sampled(ready(sampler), sampler, noise(3))
    drawing_of_the_third = 5 + 2
    alone = sampled(ready(sampler), sampler, noise(3)[2:], drawing_of_the_third)
    assert torch.allclose(together[2:], alone, atol=1e-5)


@pytest.mark.parametrize("sampler", [name for name in U_NET if SAMPLERS[name].ancestral])
def test_ancestral_samplers_draw(sampler: str) -> None:
    one, other = (sampled(ready(sampler), sampler, noise(), seed) for seed in (1, 2))
    assert not torch.allclose(one, other, atol=1e-3)


def test_too_many_steps_of_the_beta_schedule_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match="different timesteps for 400 steps"):
        ready("euler", 400, "beta")


def test_the_third_order_of_diffusers_is_still_wrong() -> None:
    """When this fails, `ThirdOrderSde` may go."""
    import diffusers

    first = noise().double()
    levels = [*k_diffusion.schedule("karras", LEVELS, STEPS), 0.0]
    expected = k_diffusion.dpmpp_3m_sde(predicted_image, first * sqrt(levels[0] ** 2 + 1), levels, k_diffusion.standard(first, 5))
    scheduler = diffusers.DPMSolverMultistepScheduler.from_config({**SD, **SAMPLERS["dpmpp_3m_sde"].settings})
    set_steps(scheduler, "dpmpp_3m_sde", STEPS, "karras")
    assert float((sampled(scheduler, "dpmpp_3m_sde", noise()) - expected).abs().max()) > 0.05 * float(expected.abs().max())


def test_the_half_way_noise_of_dpmpp_sde_is_a_part_of_the_whole() -> None:
    """Increments of a Brownian motion to the middle and to the end of a step correlate by the root of the middle's share."""
    from harness.samplers.midpoint import MidpointScheduler

    scheduler = ready("dpmpp_sde", 4, "karras")
    assert isinstance(scheduler, MidpointScheduler)
    draw = [torch.Generator().manual_seed(1)]
    x = torch.zeros(1, 4, 100, 100)
    half = scheduler.step(x, None, x, draw).prev_sample
    whole = scheduler.step(x, None, half, draw).prev_sample
    step = k_diffusion.schedule("karras", LEVELS, 4)[:2]
    share = (step[0] - sqrt(step[0] * step[1])) / (step[0] - step[1])
    # The first part is the noise of `half`; the end is half the predicted image of it, which is the noise again, and the rest.
    down, up = k_diffusion.ancestral(*step)
    rest = (whole - (1 - down / step[0]) * half) / up
    noises = torch.stack([(half / half.std()).flatten(), rest.flatten()])
    assert float(torch.corrcoef(noises)[0, 1]) == pytest.approx(sqrt(share), abs=0.02)
    assert float(rest.std()) == pytest.approx(1, abs=0.02)


def test_the_manual_says_of_every_sampler_what_its_row_says() -> None:
    counts = {"once": "n", "twice": "2n - 1", "plms": "n + 1"}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in MANUAL.splitlines() if line.startswith("| `")]
    listed = [(row[0].strip("`"), row[3], row[4]) for row in rows if len(row) == 7]
    assert listed == [(name, ", ".join(row.same_as) or "no", counts[row.evaluations]) for name, row in SAMPLERS.items()]
    assert [row[0].strip("`") for row in rows if len(row) == 3] == list(SCHEDULES)


def test_the_manual_names_the_schedules_that_a_sampler_takes() -> None:
    for line in MANUAL.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0].strip("`") in SAMPLERS:
            expected = {"all": tuple(SCHEDULES), "none": (), "its own": ()}.get(cells[5], (cells[5].strip("`"),))
            assert SAMPLERS[cells[0].strip("`")].schedules == expected, cells[0]


def test_the_manual_names_the_samplers_that_cannot_begin_at_pure_noise() -> None:
    sentence = MANUAL[MANUAL.index("cannot be sampled by"):]
    named = re.findall(r"`(\w+)`", sentence)
    assert set(named) == {name for name in U_NET if not SAMPLERS[name].zero_snr}


@pytest.mark.parametrize("sampler", U_NET)
def test_the_most_steps_of_a_sampler_can_be_sampled(sampler: str) -> None:
    scheduler = ready(sampler, SAMPLERS[sampler].most_steps)
    assert max(scheduler.timesteps) <= 999
    assert torch.isfinite(sampled(scheduler, sampler, noise(), output=lambda scaled, _: scaled / 2)).all()


@pytest.mark.parametrize("sampler", [name for name in U_NET if SAMPLERS[name].most_steps < 1000])
def test_more_steps_than_that_cannot(sampler: str) -> None:
    try:
        scheduler = ready(sampler, SAMPLERS[sampler].most_steps + 1)
        image = sampled(scheduler, sampler, noise(), output=lambda scaled, _: scaled / 2)
    except (ArithmeticError, IndexError, ValueError):
        return
    assert not torch.isfinite(image).all()


@pytest.mark.parametrize("sampler", [name for name in U_NET if SAMPLERS[name].levels == "midpoint"])
@pytest.mark.parametrize("first", [0, 3, STEPS - 1])
def test_a_run_from_the_middle_takes_every_published_step_of_a_sampler_with_midpoints(sampler: str, first: int) -> None:
    levels = [*k_diffusion.schedule("karras", LEVELS, STEPS), 0.0]
    image, drawn = 0.5 * noise().double(), noise(2)[1:].double()
    scheduler = ready(sampler, schedule="karras")
    begin = begin_at(scheduler, sampler, STEPS, first)
    x, draw = noised(scheduler, begin, image.float(), drawn.float()), [torch.Generator().manual_seed(5)]
    for step in range(first, STEPS):
        for place in range(first_evaluation(sampler, STEPS, step), first_evaluation(sampler, STEPS, step + 1)):
            timestep = scheduler.timesteps[place]
            x = scheduler.step(answer(scheduler.scale_model_input(x, timestep), float(timestep)), timestep, x,
                               generator=draw).prev_sample
        expected = k_diffusion.SAMPLERS[sampler](predicted_image, image + levels[first] * drawn, levels[first:step + 2],
                                                 k_diffusion.standard(image, 5))
        assert float((x - expected).abs().max()) < 2e-3 * float(expected.abs().max()), step
