"""No interval of a value leaves the range that its row gives, whatever the data, and no difference is wider than the range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.records import RUN_VALUES, ValueSpec
from reports.statistics.intervals import Estimate, cluster_mean, holm, paired_difference
from tests.rows import ROWS

PLANTED = ValueSpec(name="planted", title="Planted", unit="levels", better="higher", low=-3.0, high=250.0, definition="a test's")
BOUNDED = {name: spec for name, spec in {**ROWS, **RUN_VALUES, "planted": PLANTED}.items()
           if spec.low is not None or spec.high is not None}
SHARES = {"saturation", "edge_jaggedness", "style_certainty", "ssim"}
FAR = 40.0
"""How far from its one end data of a half-bounded value are drawn."""


def ends(spec: ValueSpec) -> tuple[float, float]:
    low = spec.low if spec.low is not None else (spec.high or 0.0) - FAR
    return low, spec.high if spec.high is not None else low + FAR


def table(spec: ValueSpec, numbers: Any) -> pd.DataFrame:
    """Two images of each prompt, which have the numbers one after another."""
    values = np.asarray(numbers, dtype=float)
    at = np.arange(len(values))
    return pd.DataFrame({"prompt": [f"p{i // 2}" for i in at], "seed": at % 2, "guidance": 3.0, spec.name: values})


def data(spec: ValueSpec, rng: np.random.Generator) -> list[Any]:
    """Numbers within the range, of 2, 3 and 12 prompts: all at an end, half at either, constant, skewed to an end, at random."""
    low, high = ends(spec)
    made = []
    for prompts in (2, 3, 12):
        n = 2 * prompts
        share = [np.zeros(n), np.ones(n), np.arange(n) // 2 % 2, np.full(n, 0.25), rng.beta(0.1, 4.0, n), rng.beta(4.0, 0.1, n),
                 rng.random(n), np.concatenate([np.ones(n - 1), [0.0]]), np.concatenate([np.zeros(n - 1), [1.0]])]
        made += [(np.round(s) if spec.kind == "flag" else s) for s in share]
    return [low + (high - low) * s for s in made]


def inside(of: Estimate, low: float | None, high: float | None) -> bool:
    assert of.mean is not None
    assert of.low is not None
    assert of.high is not None
    near = 1e-9 * max(1.0, abs(low or 0.0), abs(high or 0.0))
    return (of.low <= of.mean + near and of.mean <= of.high + near and (low is None or of.low >= low - near)
            and (high is None or of.high <= high + near))


@pytest.mark.parametrize("spec", BOUNDED.values(), ids=BOUNDED)
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_interval_of_a_mean_stays_within_the_range(spec: ValueSpec, level: float) -> None:
    for numbers in data(spec, np.random.default_rng(1)):
        assert inside(cluster_mean(table(spec, numbers), spec, level), spec.low, spec.high), numbers


@pytest.mark.parametrize("spec", BOUNDED.values(), ids=BOUNDED)
def test_the_interval_of_a_difference_is_never_wider_than_the_range(spec: ValueSpec) -> None:
    width = None if spec.low is None or spec.high is None else spec.high - spec.low
    drawn = data(spec, np.random.default_rng(2))
    for one, other in zip(drawn, drawn[::-1], strict=True):
        n = min(len(one), len(other))
        apart = paired_difference(table(spec, one[:n]), table(spec, other[:n]), spec)
        for found in (apart, *holm([apart, apart, apart], spec)):
            assert inside(found, None if width is None else -width, width)


@pytest.mark.parametrize("name", sorted(SHARES))
def test_a_share_close_to_its_end_has_an_interval_that_the_end_bounds(name: str) -> None:
    rare = np.repeat([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3], 2)
    low, high = cluster_mean(table(ROWS[name], rare), ROWS[name]), cluster_mean(table(ROWS[name], 1 - rare), ROWS[name])
    assert 0 < (low.low or 0) < 0.0375 < (low.high or 0) < 1
    assert (high.low, high.high) == pytest.approx((1 - (low.high or 0), 1 - (low.low or 0)))


def test_a_value_without_a_range_keeps_the_t_interval() -> None:
    spec = RUN_VALUES["objective"]
    of = cluster_mean(table(spec, [0.0, 0.0, 1.0, 1.0]), spec)
    assert (of.mean, of.low, of.high) == pytest.approx((0.5, -5.853102, 6.853102), abs=1e-6)
