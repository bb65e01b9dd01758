"""Whatever number a declaration may hold can be read back from the run folder, and numbers that only make noise are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import (
    Adapter,
    Alphas,
    Budget,
    Candidate,
    Emphasis,
    Fused,
    Gate,
    Gradient,
    Merge,
    Objective,
    Sampling,
    Search,
    Suite,
)
from harness.check import problems
from harness.declare import Constraint, Desirability, Penalty, plain, restore
from harness.declare.models import AestheticGradient
from reports.read.field_types import trouble
from tests.fakes import plain_candidate, tiny_grid, tiny_suite

HUGE = (1e300, -1e300, float("inf"), float("-inf"), float("nan"), 2 ** 63, -(2 ** 63))
BLOCKS = Alphas(default=1.0, parts={"unet": Gradient(values=(0.5, 1.0))}, keys={"*attn2*": 0.5})
ADAPTER = Adapter(path="zoo:sketch", blocks=BLOCKS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


def everything() -> Suite:
    """A suite with every field that is a number, where it can be told from its default."""
    sampling = Sampling(sampler="ddim", steps=3, guidance=(2.0, 3.0), guidance_rescale=0.1, guidance_start=0.1, guidance_end=0.9,
                        clip_skip=2, eta=0.5, width=64, height=64)
    flow = Sampling(sampler="flow_euler", shift=3.0)
    weighed = Merge(a="zoo:photo", b="zoo:anime", c="zoo:base", method="ties", alpha=0.5, weights=(0.5, 0.5),
                    settings={"density": 0.5})
    searched = Merge(a="zoo:photo", b="zoo:anime")
    candidates = (
        plain_candidate(sampling=sampling, adapters=(ADAPTER,), emphasis=Emphasis(weights={"red": 1.2}),
                        aesthetic=AestheticGradient(path="zoo:clip"), axes={"alpha": 0.5}),
        Candidate(name="merged", model=Fused(model=weighed, adapters=(ADAPTER,))), plain_candidate("flow", sampling=flow))
    return tiny_suite(
        candidates=candidates, baseline="photo", grid=tiny_grid(sampling=Sampling(guidance_rescale=0.1)),
        objective=Objective(penalties=(Penalty(metric="clipped_share", weight=1.0, allowance=0.1),),
                            constraints=(Constraint(metric="clip_score", at_least=1.0),
                                         Constraint(metric="clipped_share", at_most=0.5)),
                            desirabilities=(Desirability(metric="clip_score", worst=1.0, best=2.0),)),
        gates=(Gate(value="clip_score", at_least=1.0), Gate(value="clipped_share", at_most=0.5),
               Gate(value="clip_score", not_worse_than="photo", margin=0.5),
               Gate(value="seconds_per_image", not_worse_than="photo", ratio=1.1)),
        budget=Budget(), search=Search(merge=searched, guidance=4.0), latency_budget_seconds=1.0, largest_batch=2)


def numbers(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every number in a declaration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield place
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from numbers(getattr(value, field.name), (*place, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from numbers(item, (*place, index))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from numbers(item, (*place, key))


def changed(value: Any, place: tuple[Any, ...], number: Any) -> Any:
    """The declaration with another number at a place."""
    if not place:
        return number
    first, *rest = place
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{first: changed(getattr(value, first), tuple(rest), number)})  # type: ignore[type-var]
    if isinstance(value, tuple):
        return tuple(changed(item, tuple(rest), number) if at == first else item for at, item in enumerate(value))
    return {key: changed(item, tuple(rest), number) if key == first else item for key, item in value.items()}


PLACES = tuple(numbers(everything()))


def test_the_suite_has_numbers_of_all_declarations() -> None:
    assert len(PLACES) > 60
    assert {place[0] for place in PLACES} >= {"candidates", "grid", "objective", "gates", "budget", "search"}


@pytest.mark.parametrize("number", HUGE, ids=str)
def test_no_number_is_accepted_that_cannot_be_read_from_the_run(number: Any, root: Path) -> None:
    fine, of_itself = everything(), set(problems(everything(), root))
    unreadable = []
    for place in PLACES:
        suite = changed(fine, place, number)
        if set(problems(suite, root)) <= of_itself and trouble(restore(json.loads(json.dumps(plain(suite))))):
            unreadable.append(place)
    assert unreadable == []


@pytest.mark.parametrize(("candidate", "expected"), [
    ({"sampling": Sampling(guidance=1001.0)}, "guidance scale 1001.0: expected at most 1000"),
    ({"adapters": (Adapter(path="zoo:sketch", weight=-1001.0),)}, "weight is -1001.0; expected a number from -1000 to 1000"),
    ({"adapters": (Adapter(path="zoo:sketch", blocks=Alphas(default=1e6)),)}, "blocks: default is 1000000.0"),
    ({"emphasis": Emphasis(weights={"red": 1e6})}, "emphasis of 'red' is 1000000.0"),
    ({"model": Fused(model="zoo:photo", adapters=(Adapter(path="zoo:sketch", weight=1e6),))}, "weight is 1000000.0"),
], ids=["guidance", "weight", "blocks", "emphasis", "fused"])
def test_a_number_that_only_makes_noise_is_refused_with_what_is_expected(candidate: dict[str, Any], expected: str,
                                                                         root: Path) -> None:
    suite = tiny_suite(candidates=(plain_candidate(), plain_candidate("other", **candidate)), baseline="photo")
    assert any(expected in problem for problem in problems(suite, root))


def test_the_largest_numbers_are_accepted(root: Path) -> None:
    adapters = (Adapter(path="zoo:sketch", weight=-1000.0),)
    suite = tiny_suite(candidates=(plain_candidate(), plain_candidate("other", sampling=Sampling(guidance=1000.0),
                                                                      adapters=adapters)), baseline="photo")
    assert not any("1000" in problem for problem in problems(suite, root))


COUNTS: Mapping[str, int] = {"latency_rounds": 10_000, "largest_batch": 4096, "latency_budget_seconds": 604_800,
                             "grid.batch_size": 4096, "grid.steps": 1000, "grid.width": 16_376, "grid.height": 16_376}
"""The largest value of each count that costs time or memory."""


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("more", [1, 8, 10 ** 12])
def test_a_count_beyond_all_use_is_refused_with_its_limit(field: str, more: int, root: Path) -> None:
    name = field.removeprefix("grid.")

    def of(value: int) -> list[str]:
        grid = tiny_grid(sampler="euler", **{name: value}) if field != name else tiny_grid()
        said = problems(tiny_suite(grid=grid, **({} if field != name else {name: value})), root)
        return [one for one in said if f"{name} is" in one]

    assert of(COUNTS[field]) == []
    (refusal,) = of(COUNTS[field] + more)
    assert f"{COUNTS[field]:,}" in refusal or str(COUNTS[field]) in refusal or "multiple of 8" in refusal
