"""Candidates of several models, and of pictures, as they are declared."""

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
