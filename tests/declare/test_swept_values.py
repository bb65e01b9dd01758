"""What a sweep says of values that are not a list of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness import (
    Adapter,
    Merge,
    adapter_files,
    adapter_grid,
    adapter_sweep,
    alpha_sweep,
    block_sweep,
    checkpoint_sweep,
    sampling_sweep,
    sweep,
)
from harness.declare import Candidate

MERGE = Merge(a="zoo:photo", b="zoo:anime")
SWEEPS: dict[str, Callable[[object], tuple[Candidate, ...]]] = {
    "alpha_sweep: alphas": lambda values: alpha_sweep("zoo:photo", "zoo:anime", values),  # type: ignore[arg-type]
    "sweep: alphas": lambda values: sweep(MERGE, values),  # type: ignore[arg-type]
    "block_sweep: values": lambda values: block_sweep(MERGE, ("M00",), values),  # type: ignore[arg-type]
    "adapter_sweep: weights": lambda values: adapter_sweep("zoo:base", "zoo:sketch", values),  # type: ignore[arg-type]
    "adapter_files: weights": lambda values: adapter_files("zoo:base", {1: "zoo:sketch"}, values),  # type: ignore[arg-type]
    "adapter_grid: weights": lambda values: adapter_grid("zoo:base", {"ink": "zoo:sketch"}, values),  # type: ignore[arg-type]
    "sampling_sweep: steps": lambda values: sampling_sweep("zoo:base", steps=values),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("odd", [0.5, 4, None, "0.5", ["0.5"], [True], [None]], ids=repr)
@pytest.mark.parametrize("what", SWEEPS)
def test_what_is_not_a_list_of_numbers_is_refused_by_the_argument(what: str, odd: object) -> None:
    with pytest.raises(ValueError, match=f"^{what} (is|holds) "):
        SWEEPS[what](odd)


def test_a_number_in_place_of_a_list_of_weights_is_refused_before_files_are_opened() -> None:
    with pytest.raises(ValueError, match=r"^checkpoint_sweep: weights is 0\.5"):
        checkpoint_sweep("zoo:base", "style-*.safetensors", weights=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", SWEEPS)
def test_every_kind_of_listing_gives_the_same_candidates(what: str) -> None:
    values = (1, 2)
    assert SWEEPS[what](iter(values)) == SWEEPS[what](list(values)) == SWEEPS[what](values)


@pytest.mark.parametrize("what", SWEEPS)
def test_an_empty_list_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"is empty|no steps and no samplers"):
        SWEEPS[what]([])


GIVEN: dict[str, Callable[[Any], tuple[Candidate, ...]]] = {
    "alpha_sweep: a": lambda it: alpha_sweep(it, "zoo:anime", (0, 1)),
    "alpha_sweep: b": lambda it: alpha_sweep("zoo:photo", it, (0, 1)),
    "sweep: merge": lambda it: sweep(it, (0, 1)),
    "block_sweep: merge": lambda it: block_sweep(it, ("M00",), (0, 1)),
    "adapter_sweep: model": lambda it: adapter_sweep(it, "zoo:sketch", (0, 1)),
    "adapter_sweep: adapter": lambda it: adapter_sweep("zoo:base", it, (0, 1)),
    "adapter_files: model": lambda it: adapter_files(it, {1: "zoo:sketch"}),
    "adapter_files: 1": lambda it: adapter_files("zoo:base", {1: it}),
    "adapter_grid: model": lambda it: adapter_grid(it, {"ink": "zoo:sketch"}, (0, 1)),
    "adapter_grid: adapters": lambda it: adapter_grid("zoo:base", it, (0, 1)),
    "adapter_grid: 'ink'": lambda it: adapter_grid("zoo:base", {"ink": it}, (0, 1)),
    "sampling_sweep: model": lambda it: sampling_sweep(it, steps=(4, 8)),
    "sampling_sweep: sampling": lambda it: sampling_sweep("zoo:base", steps=(4, 8), sampling=it),
}


@pytest.mark.parametrize("odd", [3, {}, (), object()], ids=["number", "dict", "tuple", "object"])
@pytest.mark.parametrize("what", GIVEN)
def test_something_else_than_a_model_or_an_adapter_is_refused_by_the_argument(what: str, odd: object) -> None:
    with pytest.raises(ValueError, match=f"^{what} is .*; expected "):
        GIVEN[what](odd)


@pytest.mark.parametrize("sweep_of_nothing", [
    lambda: adapter_files("zoo:base", []), lambda: block_sweep(MERGE, (), (0, 1)), lambda: sampling_sweep((), steps=(4, 8))])
def test_a_sweep_over_nothing_is_refused(sweep_of_nothing: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        sweep_of_nothing()


def test_the_weight_of_an_adapter_is_replaced() -> None:
    swept = adapter_sweep("zoo:base", Adapter(path="zoo:sketch", end=0.5), (0, 1))
    assert [(c.adapters[0].weight, c.adapters[0].end) for c in swept] == [(0.0, 0.5), (1.0, 0.5)]
