"""What a sweep says of values that are not a list of numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import (
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
