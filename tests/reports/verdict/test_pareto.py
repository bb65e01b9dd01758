"""Fronts with uncertainty: beaten beyond doubt, by the means alone, or not at all."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from harness.records.costs import STORED
from reports.read.run import Run
from reports.statistics.intervals import paired_difference
from reports.verdict.pareto import BEATEN, BYTES, FRONT, MAYBE, _differences, _gaps, front, front_of
from tests.reports import synthetic

AT_THREE = dict.fromkeys((c.name for c in synthetic.merge_suite().candidates), 3.0)

QUALITY = {"a": 3.0, "b": 2.0, "c": 1.0}


def exact(values: dict[str, float], doubt: float = 0.0):  # type: ignore[no-untyped-def]
    return lambda one, other: (values[one] - values[other] - doubt, values[one] - values[other] + doubt)


def statuses(cost: dict[str, float], doubt: float = 0.0, cost_doubt: float = 0.0) -> list[str]:
    return [p.status for p in front(QUALITY, cost, exact(QUALITY, doubt), exact(cost, cost_doubt))]


def test_what_costs_more_for_more_stays_on_the_front() -> None:
    assert statuses({"a": 3.0, "b": 2.0, "c": 1.0}) == [FRONT, FRONT, FRONT]


def test_worse_at_the_same_cost_is_beaten() -> None:
    assert statuses({"a": 1.0, "b": 1.0, "c": 0.5}) == [FRONT, BEATEN, FRONT]


def test_a_difference_within_doubt_beats_nobody_for_sure() -> None:
    assert statuses({"a": 1.0, "b": 1.0, "c": 0.5}, doubt=1.5) == [FRONT, MAYBE, FRONT]


def test_a_cost_that_may_be_higher_leaves_doubt() -> None:
    assert statuses({"a": 1.0, "b": 1.1, "c": 0.5}, cost_doubt=0.2) == [FRONT, MAYBE, FRONT]


def test_two_that_are_equal_in_everything_are_both_on_the_front() -> None:
    equal = {"x": 1.0, "y": 1.0}
    assert [p.status for p in front(equal, equal, exact(equal), exact(equal))] == [FRONT, FRONT]


def test_what_cannot_be_compared_is_never_beaten_for_sure() -> None:
    cost = dict.fromkeys(QUALITY, 1.0)
    placed = front(QUALITY, cost, exact(QUALITY), lambda one, other: None)
    assert [p.status for p in placed] == [FRONT, MAYBE, MAYBE]


def test_the_beaten_one_names_who_beats_it() -> None:
    placed = front(QUALITY, dict.fromkeys(QUALITY, 1.0), exact(QUALITY), exact(dict.fromkeys(QUALITY, 1.0)))
    assert [p.by for p in placed] == ["", "a", "a"]


def test_of_a_planted_run_the_far_parent_is_beaten_in_memory_by_a_better_mixture(merge_run: Run) -> None:
    placed = {p.candidate: p for p in front_of(_exact_memory(merge_run), "objective", AT_THREE, BYTES)}
    assert placed["alpha=1"].status == BEATEN
    assert placed["alpha=0.45"].status == FRONT


def test_nothing_is_placed_where_memory_was_only_the_process(merge_run: Run) -> None:
    peaks = {name: replace(m, readings=tuple(r for r in m.readings if r.name != STORED)) for name, m in merge_run.memory.items()}
    assert front_of(replace(merge_run, memory=peaks), "objective", AT_THREE, BYTES) == ()


def test_a_front_of_memory_holds_equal_readings_alone(merge_run: Run) -> None:
    run = _exact_memory(merge_run)
    other = synthetic.Reading(name="nvml_process_peak_bytes", unit="bytes", value=1e9)
    memory = {**run.memory, "alpha=1": replace(run.memory["alpha=1"], readings=(other,))}
    placed = {p.candidate for p in front_of(replace(run, memory=memory), "objective", AT_THREE, BYTES)}
    assert placed == {p.candidate for p in front_of(run, "objective", AT_THREE, BYTES)} - {"alpha=1"}


def test_less_is_better_where_the_metric_says_so(merge_run: Run) -> None:
    run = _exact_memory(merge_run)
    drift = replace(run.row("palette_drift"), better="lower")
    placed = front_of(replace(run, values={**run.values, "palette_drift": drift}), "palette_drift", AT_THREE, BYTES)
    best = min(placed, key=lambda p: p.quality)
    assert best.candidate == "alpha=0"
    assert best.status == FRONT
    assert best.quality == pytest.approx(0.0)


def test_a_value_without_a_better_side_has_no_front(merge_run: Run) -> None:
    assert front_of(_exact_memory(merge_run), "saturation", AT_THREE, BYTES) == ()


def _exact_memory(run: Run) -> Run:
    readings = synthetic.Reading(name="torch_reserved_peak_bytes", unit="bytes", value=4e9)
    return replace(run, memory={name: replace(m, readings=(readings,)) for name, m in run.memory.items()})


@pytest.mark.parametrize("gone", [0, 1])
def test_all_pairs_at_once_are_the_paired_differences_one_by_one(merge_run: Run, gone: int) -> None:
    """Also where one candidate lacks an image, and pairs have different images."""
    rows = {name: table[table["guidance"] == 8.0] for name, table in merge_run.images.groupby("candidate")}
    rows["alpha=0"] = rows["alpha=0"].iloc[gone:]
    pairs = list(combinations(rows, 2))
    value = merge_run.row("clip_score")
    one_by_one = [paired_difference(rows[a], rows[b], value, by=("prompt", "seed")) for a, b in pairs]
    for mine, expected in zip(_differences(rows, pairs, value), one_by_one, strict=True):
        assert (mine.prompts, mine.pairs) == (expected.prompts, expected.pairs)
        assert (mine.mean, mine.error) == pytest.approx((expected.mean, expected.error))


def test_a_front_of_many_candidates_compares_the_best_of_them(merge_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.verdict.pareto.MOST_COMPARED", 3)
    rows = {name: table[table["guidance"] == 8.0] for name, table in merge_run.images.groupby("candidate")}
    compared = {name for pair in _gaps(rows, merge_run.row("clip_score")) for name in pair}
    assert compared == {"alpha=0.3", "alpha=0.45", "alpha=0.6"}


def test_thousands_of_candidates_are_placed_by_one_pass_as_by_all_pairs() -> None:
    rng = np.random.default_rng(3)
    names = [f"c{i}" for i in range(400)]
    quality = dict(zip(names, rng.integers(0, 20, 400).astype(float).tolist(), strict=True))
    cost = dict(zip(names, rng.integers(1, 20, 400).astype(float).tolist(), strict=True))
    asked: list[str] = []

    def nothing(one: str, other: str) -> None:
        asked.extend((one, other))

    placed = front(quality, cost, nothing, nothing, compared=names[:3])
    for place in placed:
        ahead = [n for n in names if quality[n] >= quality[place.candidate] and cost[n] <= cost[place.candidate]
                 and (quality[n], cost[n]) != (quality[place.candidate], cost[place.candidate])]
        assert place.status == (MAYBE if ahead else FRONT)
        assert (place.by in ahead) if ahead else place.by == ""
    assert set(asked) == set(names[:3])
