"""Who is a control of whom: by the ends of an axis, or by what the other candidates are merged from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.declare import Blocks, Candidate, Merge, Suite
from reports.read import run as run_module
from reports.read.roles import axis_values
from reports.read.run import Run
from reports.verdict.candidates import controls, label, label_with_role, parents
from tests.reports import synthetic

A, B = "zoo:photo", "zoo:anime"
BY_BLOCK = Candidate(name="search 7", model=Merge(a=A, b=B, alpha=Blocks(preset="GRAD_V")))


def test_the_ends_of_an_axis_are_the_parents() -> None:
    assert controls(synthetic.merge_suite()) == {"alpha=0": "parent A", "alpha=1": "parent B"}


def test_without_an_axis_plain_models_that_others_merge_are_the_parents() -> None:
    made = (Candidate(name="A", model=A), Candidate(name="B", model=B), BY_BLOCK)
    suite = synthetic.merge_suite(candidates=made, baseline="A")
    assert controls(suite) == {"A": "parent A", "B": "parent B"}
    assert parents(suite) == ("A", "B")


def test_without_an_axis_merges_at_the_ends_are_the_parents() -> None:
    ends = tuple(Candidate(name=f"alpha={x:g}", model=Merge(a=A, b=B, alpha=x), axes={"alpha": x}) for x in (0.0, 0.5, 1.0))
    suite = synthetic.merge_suite(candidates=(*ends, BY_BLOCK))
    assert controls(suite) == {"alpha=0": "parent A", "alpha=1": "parent B"}


def test_a_quantized_or_adapted_model_is_nobodys_parent() -> None:
    made = (Candidate(name="A", model=A, quantization="bf16"), BY_BLOCK)
    assert controls(synthetic.merge_suite(candidates=made, baseline="A")) == {"A": "baseline"}


def test_a_label_is_the_axis_value_where_that_tells_the_candidate_apart(merge_run: Run) -> None:
    first, *others = merge_run.suite.candidates
    twin = Candidate(name="twin", model=first.model, axes=first.axes)
    run = replace(merge_run, suite=replace(merge_run.suite, candidates=(first, *others, twin)))
    assert (label(run, first.name), label(run, "twin")) == (first.name, "twin")
    assert label(run, others[0].name) == f"alpha {others[0].axes['alpha']:g}"
    assert label_with_role(merge_run, first.name) == "alpha 0 (parent A)"
    with pytest.raises(KeyError, match="nobody"):
        label(run, "nobody")


def test_an_axis_value_that_is_not_a_number_tells_nobody_apart() -> None:
    made = [Candidate(name=f"c{x}", model=A, axes={"weight": x}) for x in (0.0, float("nan"), 1.0, 1.0)]
    assert axis_values(synthetic.merge_suite(candidates=tuple(made[:3]), baseline="c0.0")) == {"c0.0": 0.0, "c1.0": 1.0}


def test_the_axis_is_looked_for_once_in_a_run(merge_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Suite] = []

    def counting(suite: Suite) -> dict[str, float]:
        asked.append(suite)
        return axis_values(suite)

    monkeypatch.setattr(run_module, "axis_values", counting)
    run = replace(merge_run)
    labels = [label(run, candidate.name) for candidate in run.suite.candidates for _ in range(3)]
    assert (len(set(labels)), len(asked)) == (len(run.suite.candidates), 1)
