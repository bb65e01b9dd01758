"""Candidates of several models, and of pictures, as they are declared."""

from pathlib import Path

import pytest

from harness.check.field_types import type_problems
from harness.declare import (
    Candidate,
    Canny,
    ColourTransfer,
    Control,
    Ensemble,
    Inpaint,
    Lut,
    Merge,
    Prompt,
    Reference,
    Relay,
    Stage,
    Temperature,
    Upscale,
    plain,
    restore,
)
from harness.declare.stage_candidates import as_run
from harness.materialise import Workbench
from harness.materialise.phases import legs_of

RICH = Candidate(
    name="rich", model=Relay(models=("a", Merge(a="a", b="b", alpha=0.5)), at=(0.4,)),
    stages=(Stage(model=Ensemble(models=("a", "b"), weights=(0.5, 0.5)), strength=0.45, prompt="{prompt}, night",
                  before=(ColourTransfer("neon.png"),), controls=(Control(path="c", picture=Canny(of="stage before")),)),),
    references=(Reference(path="i", picture="face"),), inpaint=Inpaint(picture="photo", mask="mask"),
    post=(Lut("night.cube", strength=0.5), Temperature(max_kelvin=6500), Upscale(factor=2)))


def test_a_candidate_of_several_models_comes_back_from_its_plain_form() -> None:
    assert restore(plain(RICH)) == RICH


def test_all_stages_given_are_the_first_and_those_after_it() -> None:
    first = Stage(model="a", adapters=(), prompt="{prompt}")
    assert Candidate(name="n", stages=(first, Stage(model="b", strength=0.5))) == Candidate(
        name="n", model="a", stages=(Stage(model="b", strength=0.5),))


def test_a_candidate_without_any_of_it_keeps_its_plain_form() -> None:
    assert not {"stages", "controls", "references", "inpaint", "post"} & plain(Candidate(name="n", model="a")).keys()
    assert "pictures" not in plain(Prompt(id="p", text="a cat"))


@pytest.mark.parametrize("nested", [Merge(a=Relay(models=("a", "b"), at=(0.5,)), b="c", alpha=0.5),  # type: ignore[arg-type]
                                    Relay(models=(Ensemble(models=("a", "b"), weights=(0.5, 0.5)), "c"), at=(0.5,))])  # type: ignore[arg-type]
def test_a_relay_or_an_ensemble_within_another_model_is_refused(nested: Merge | Relay) -> None:
    assert list(type_problems(Candidate(name="n", model=nested)))


@pytest.mark.parametrize(("strength", "expected"), [(1, 8), (0.5, 3), (0.3, 1)])
def test_a_relay_of_a_later_stage_hands_over_at_the_noise_at_which_diffusers_denoising_end_does(
        strength: float, expected: int) -> None:
    """0.8 of 10 steps: the base runs the timesteps from 200 on, of those that image to image runs at all."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(steps_offset=1)
    scheduler.set_timesteps(10)
    run = scheduler.timesteps[10 - round(10 * strength):]
    assert int((run >= 1000 - round(0.8 * 1000)).sum()) == expected
    relay = Relay(models=("a", "b"), at=(0.8,))
    candidate = Candidate(name="x", model="m", stages=(Stage(model=relay, strength=strength),))
    _, stage = as_run(candidate, 10)
    (leg,) = [leg for leg in legs_of(stage, stage.sampling.steps) if leg.first]  # type: ignore[union-attr, arg-type]
    assert leg.first == expected
    inpainted = Candidate(name="x", model=relay, inpaint=Inpaint(picture="p", mask="m", strength=strength))
    assert [leg.first for leg in Workbench(device="cpu", root=Path(), steps=10).legs(inpainted)] == [0, expected]


def test_a_relay_of_which_a_model_runs_no_step_of_a_stage_is_refused_by_the_stage() -> None:
    candidate = Candidate(name="x", model="m", stages=(Stage(model=Relay(models=("a", "b"), at=(0.5,)), strength=0.4),))
    with pytest.raises(ValueError, match=r"stage 2: .*0\.5 of 10 steps, of which the last 4 are run.*number 1"):
        as_run(candidate, 10)
