"""Between two candidates lies one in which every number is the same share of the way, and nothing where a file differs."""

from dataclasses import replace
from typing import Any

import pytest

from harness import (
    Adapter,
    Alphas,
    Blocks,
    Candidate,
    Checkpoint,
    Ensemble,
    Merge,
    Sampling,
    adapter_sweep,
    alpha_sweep,
    control_sweep,
    ensemble_sweep,
    reference_sweep,
    relay_sweep,
    sampling_sweep,
    strength_sweep,
)
from harness.declare import AestheticGradient, Control, Reference, Stage
from harness.declare.interpolate import RefiningError, between, refined
from tests.fakes import tiny_grid, tiny_suite


def two(**models: object) -> tuple[Candidate, Candidate]:
    return tuple(Candidate(name=name, model=model, axes={"alpha": at})  # type: ignore[arg-type, return-value]
                 for (name, model), at in zip(models.items(), (0.0, 1.0), strict=True))


@pytest.mark.parametrize("value", [0.36, 0.4, 0.425, 0.4999])
def test_between_two_of_a_sweep_lies_what_the_sweep_itself_would_declare(value: float) -> None:
    (expected,) = alpha_sweep("zoo:photo", "zoo:anime", (value,))
    low, high = alpha_sweep("zoo:photo", "zoo:anime", (0.35, 0.5))
    assert between(low, high, "alpha", value) == expected
    assert between(low, high, "alpha", value).key == expected.key


def test_an_adapters_weight_is_refined_like_an_alpha() -> None:
    low, high = adapter_sweep("zoo:base", "zoo:sketch", (0.5, 1))
    assert between(low, high, "weight", 0.75) == adapter_sweep("zoo:base", "zoo:sketch", (0.75,))[0]


@pytest.mark.parametrize("values", [(0, 0.5), (0.2, 0.4), (0.5, 1)])
@pytest.mark.parametrize("sweep", [ensemble_sweep, relay_sweep])
def test_between_relays_and_ensembles_lies_what_their_sweep_would_declare(sweep: Any, values: tuple[float, float]) -> None:
    """Also between a model alone, at an end, and the next."""
    middle = round(sum(values) / 2, 9)
    low, high = sweep("zoo:photo", "zoo:anime", values)
    assert between(low, high, *middle_of(low, middle)) == sweep("zoo:photo", "zoo:anime", (middle,))[0]


@pytest.mark.parametrize(("sweep", "what"), [
    (strength_sweep, Stage(model="zoo:anime", prompt="{prompt}, night")), (control_sweep, Control(path="c", picture="edges")),
    (reference_sweep, Reference(path="r", picture="face"))])
@pytest.mark.parametrize("values", [(0, 0.4), (0.4, 0.8)])
def test_between_nothing_and_something_lies_what_its_sweep_would_declare(sweep: Any, what: Any,
                                                                         values: tuple[float, float]) -> None:
    middle = round(sum(values) / 2, 9)
    low, high = sweep("zoo:photo", what, values)
    assert between(low, high, *middle_of(low, middle)) == sweep("zoo:photo", what, (middle,))[0]


@pytest.mark.parametrize(("steps", "values", "value", "why"), [
    (10, (0, 0.4), 0.2, ""), (4, (0, 0.4), 0.2, "none of its steps"), (10, (0.4, 0.5), 0.45, "as many steps as 'strength=0.4'"),
    (20, (0.4, 0.5), 0.45, "")])
def test_a_strength_that_runs_no_steps_of_its_own_is_not_added(steps: int, values: tuple[float, float], value: float,
                                                              why: str) -> None:
    low, high = strength_sweep("zoo:photo", Stage(model="zoo:anime"), values)
    suite = tiny_suite(candidates=(low, high), baseline=low.name, grid=tiny_grid(steps=steps))
    if not why:
        assert refined(suite, low, high, "strength", value).axes == {"strength": value}
        return
    with pytest.raises(RefiningError, match=why):
        refined(suite, low, high, "strength", value)


def test_the_field_in_which_two_candidates_differ_is_named_without_a_dump() -> None:
    low, high = (replace(candidate, axes={"alpha": alpha}) for alpha, candidate in enumerate(
        strength_sweep("zoo:photo", Stage(model="zoo:anime"), (0, 0.5)), 1))
    with pytest.raises(RefiningError, match="stages is not given for one and a list of 1 for the other"):
        between(low, high, "alpha", 1.5)


def middle_of(candidate: Candidate, value: float) -> tuple[str, float]:
    (axis,) = candidate.axes
    return axis, value


def test_a_model_that_is_in_no_ensemble_of_the_other_is_no_end_of_it() -> None:
    low, high = two(low="c", high=Ensemble(models=("a", "b"), weights=(0.5, 0.5)))
    with pytest.raises(RefiningError, match="model is"):
        between(low, high, "alpha", 0.5)


def test_blocks_go_the_same_share_of_the_way() -> None:
    low, high = two(low=Merge(a="a", b="b", alpha=Alphas(default=Blocks(values=(0.0, 0.2, 1.0)), keys={"x*": 0.0})),
                    high=Merge(a="a", b="b", alpha=Alphas(default=Blocks(values=(1.0, 0.4, 0.0)), keys={"x*": 0.5})))
    made = between(low, high, "alpha", 0.25).model
    assert made == Merge(a="a", b="b", alpha=Alphas(default=Blocks(values=(0.25, 0.25, 0.75)), keys={"x*": 0.125}))


@pytest.mark.parametrize(("one", "other", "said"), [
    (Merge(a="a", b="b", alpha=0.0), Merge(a="a", b="c", alpha=1.0), "model.b is 'b' for one and 'c' for the other"),
    (Merge(a="a", b="b", alpha=0.0), Checkpoint(path="b"), "model is"),
    (Merge(a="a", b="b", alpha=0.0), Merge(a="a", b="b", alpha=1.0, method="slerp"), "model.method"),
    (Merge(a="a", b="b", settings={"seed": 1}), Merge(a="a", b="b", settings={"seed": 2}), "model.settings.seed"),
    (Checkpoint(path="a"), Checkpoint(path="a", ema=True), "model.ema is False"),
])
def test_only_numbers_are_interpolated(one: object, other: object, said: str) -> None:
    low, high = two(low=one, high=other)
    with pytest.raises(RefiningError, match="between 'low' and 'high'") as refused:
        between(low, high, "alpha", 0.5)
    assert said in str(refused.value)


def test_counts_and_different_adapters_are_not_interpolated() -> None:
    first = Candidate(name="1", model="zoo:base", axes={"alpha": 0}, aesthetic=AestheticGradient(path="x", steps=2))
    more = (Candidate(name="2", model="zoo:base", axes={"alpha": 1}, aesthetic=AestheticGradient(path="x", steps=5)),
            Candidate(name="2", model="zoo:base", axes={"alpha": 1}, aesthetic=first.aesthetic, adapters=(Adapter(path="y"),)))
    for other in more:
        with pytest.raises(RefiningError, match=r"steps|adapters"):
            between(first, other, "alpha", 0.5)


@pytest.mark.parametrize("value", [0.35, 0.5, 0.1, float("nan")])
def test_a_value_that_is_not_between_is_refused(value: float) -> None:
    low, high = alpha_sweep("zoo:photo", "zoo:anime", (0.35, 0.5))
    with pytest.raises(RefiningError, match="there is no alpha="):
        between(low, high, "alpha", value)


def test_a_second_axis_that_differs_is_interpolated_too() -> None:
    low = Candidate(name="l", model=Merge(a="a", b="b", alpha=0.0, beta=0.0), axes={"alpha": 0.0, "beta": 0.0, "kind": "x"})
    high = Candidate(name="h", model=Merge(a="a", b="b", alpha=1.0, beta=0.5), axes={"alpha": 1.0, "beta": 0.5, "kind": "x"})
    assert between(low, high, "alpha", 0.5).axes == {"alpha": 0.5, "beta": 0.25, "kind": "x"}


@pytest.mark.parametrize(("value", "steps"), [(6, 6), (5, 5), (7, 7)])
def test_steps_are_interpolated_to_whole_numbers(value: float, steps: int) -> None:
    few, many = sampling_sweep("zoo:base", steps=(4, 8))
    middle = between(few, many, "steps", value)
    assert middle.sampling == Sampling(steps=steps)
    assert type(middle.sampling.steps) is int
    assert (middle.name, middle.key) == (f"steps={steps}", sampling_sweep("zoo:base", steps=(4, steps))[1].key)


@pytest.mark.parametrize(("sampling", "value"), [(("steps", 4, 8), 6.5), (("width", 64, 128), 96.0), (("clip_skip", 1, 3), 2.0)])
def test_no_fraction_of_a_step_and_no_size_or_layer_is_interpolated(sampling: tuple[str, int, int], value: float) -> None:
    field, *ends = sampling
    low, high = (Candidate(name=str(end), model="zoo:base", sampling=Sampling(**{field: end}), axes={"x": end}) for end in ends)
    with pytest.raises(RefiningError, match=field):
        between(low, high, "x", value)
