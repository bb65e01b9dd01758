"""What is refused of relays and ensembles before any file is opened, and sweeps over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Ensemble, Merge, Relay, ensemble_sweep, relay_sweep
from harness.check import problems
from tests.fakes import tiny_grid, tiny_suite

BOTH = ("zoo:photo", "zoo:anime")


def wrong(*models: object) -> str:
    suite = tiny_suite(candidates=tuple(Candidate(name=f"c{place}", model=model) for place, model in enumerate(models)),  # type: ignore[arg-type]
                       baseline="c0", grid=tiny_grid(steps=4))
    return " ".join(problems(suite, Path.cwd()))


@pytest.mark.parametrize(("model", "facts"), [
    (Relay(models=BOTH, at=()), ["2 models", "1 time", "0 values"]),
    (Relay(models=("zoo:photo",), at=()), ["1 model", "at least two"]),
    (Relay(models=BOTH, at=(0.0,)), ["(0.0,)", "between 0 and 1"]),
    (Relay(models=BOTH, at=(1.0,)), ["(1.0,)", "between 0 and 1"]),
    (Relay(models=(*BOTH, "zoo:photo"), at=(0.6, 0.3)), ["increasing"]),
    (Relay(models=(*BOTH, "zoo:photo"), at=(0.5, 0.5)), ["increasing"]),
    (Relay(models=BOTH, at=(float("nan"),)), ["between 0 and 1"]),
    (Relay(models=BOTH, at=(0.99,)), ["0.99 of", "model number 2"]),
    (Relay(models=BOTH, at=(0.5,), vae="frist"), ["'frist'", "first"]),
    (Ensemble(models=BOTH, weights=(1.0,)), ["2 models", "1 weight"]),
    (Ensemble(models=BOTH, weights=(0.4, 0.4)), ["0.8", "(0.5, 0.5)"]),
    (Ensemble(models=BOTH, weights=(1.5, -0.5)), ["from 0 to 1"]),
    (Ensemble(models=BOTH, weights=(0.0, 0.0)), ["add up to 0"]),
    (Ensemble(models=(), weights=()), ["0 models"]),
    (Ensemble(models=BOTH, weights=(0.5, 0.5), texts="frist"), ["'frist'", "first"]),
    (Ensemble(models=("zoo:photo", "zoo:anme"), weights=(0.5, 0.5)), ["'zoo:anme'"]),
    (Ensemble(models=("zoo:photo", Merge(a="zoo:photo", b="zoo:anime", alpha=2)), weights=(0.5, 0.5)), ["alpha"]),
])
def test_a_relay_or_an_ensemble_that_makes_no_sense_is_refused(model: Relay | Ensemble, facts: list[str]) -> None:
    said = wrong("zoo:photo", model)
    assert "'c1'" in said
    assert [fact for fact in facts if fact not in said] == []


@pytest.mark.parametrize("model", [Relay(models=BOTH, at=(0.5,)), Ensemble(models=BOTH, weights=(0.3, 0.7)),
                                   Ensemble(models=(*BOTH, "zoo:photo"), weights=(1 / 3, 1 / 3, 1 / 3)),
                                   Relay(models=(*BOTH, "zoo:photo"), at=(0.3, 0.6), vae="last")])
def test_what_makes_sense_is_not(model: Relay | Ensemble) -> None:
    assert wrong("zoo:photo", model) == ""


@pytest.mark.parametrize(("at", "alike"), [((0.3, 0.5), True), ((0.25, 0.3), False), ((0.5, 0.75), False)])
def test_relays_that_hand_over_at_the_same_step_are_alike(at: tuple[float, float], alike: bool) -> None:
    """Of 4 steps, 0.3 and 0.5 both hand over before step 2."""
    said = wrong(*(Relay(models=BOTH, at=(share,)) for share in at))
    assert ("'c1'" in said and "the same step as 'c0'" in said) == alike
    assert bool(said) == alike


def test_a_sweeps_ends_are_the_models_alone() -> None:
    alone, middle, other = ensemble_sweep(Path("a"), "b", (0, 0.25, 1))
    assert (alone.model, other.model, middle.axes) == ("a", "b", {"ensemble": 0.25})
    assert middle.model == Ensemble(models=("a", "b"), weights=(0.75, 0.25))
    late, early, at = relay_sweep("a", "b", (0, 1, 0.4), vae="last")
    assert (late.model, early.model, at.name) == ("b", "a", "at=0.4")
    assert at.model == Relay(models=("a", "b"), at=(0.4,), vae="last")


def test_the_manuals_candidates_are_sound(tmp_path: Path) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "several_models.md").read_text(encoding="utf-8")
    code = manual.split("## Relay")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("photo.safetensors", "zoo:photo").replace("anime.safetensors", "zoo:anime"), names)
    for candidates in ((names["relay"], names["both"]), names["turns"], names["shares"]):
        suite = tiny_suite(candidates=candidates, baseline=candidates[0].name, grid=tiny_grid(steps=4))
        assert problems(suite, tmp_path) == []
