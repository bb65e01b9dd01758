"""Sweeps over the strength of a stage."""

import pytest

from harness import Candidate, Stage, alpha_sweep, strength_sweep

ANIME = Stage(model="zoo:anime")


def test_one_candidate_per_strength_and_the_first_stage_alone_at_zero() -> None:
    sweep = strength_sweep("zoo:photo", ANIME, (0, 0.3, 0.5))
    assert [(c.name, dict(c.axes), [s.strength for s in c.stages]) for c in sweep] == [
        ("strength=0", {"strength": 0.0}, []), ("strength=0.3", {"strength": 0.3}, [0.3]),
        ("strength=0.5", {"strength": 0.5}, [0.5])]
    assert sweep[0].key == Candidate(name="photo", model="zoo:photo").key


def test_strength_times_alpha_is_a_sweep_of_two_axes() -> None:
    sweep = strength_sweep(alpha_sweep("zoo:photo", "zoo:anime", (0, 1)), ANIME, (0.3, 0.5))
    assert [c.name for c in sweep] == [f"alpha={alpha} strength={strength}" for alpha in (0, 1) for strength in (0.3, 0.5)]
    assert dict(sweep[2].axes) == {"alpha": 1.0, "strength": 0.3}


def test_a_sweep_comes_after_the_stages_that_are_there() -> None:
    (candidate,) = strength_sweep(Candidate(name="two", model="zoo:photo", stages=(Stage(strength=0.4),)), ANIME, (0.3,))
    assert [stage.strength for stage in candidate.stages] == [0.4, 0.3]


def test_a_stage_with_a_strength_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.4 in the stage"):
        strength_sweep("zoo:photo", Stage(strength=0.4), (0.3,))


def test_the_strength_is_swept_once() -> None:
    with pytest.raises(ValueError, match="'strength' already"):
        strength_sweep(strength_sweep("zoo:photo", ANIME, (0.3,)), ANIME, (0.5,))
