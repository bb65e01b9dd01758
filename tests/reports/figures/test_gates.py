"""The figure of gates draws each interval where it was observed and the limit where it was declared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.declare import Gate
from reports.figures.gates import against_limits
from reports.gates import judge
from reports.gates.outcome import limits_of
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend


def test_every_judged_interval_has_a_row_and_counts_have_none(merge_run: Run, merge_verdict: Recommendation) -> None:
    figure = against_limits(merge_run, merge_verdict)
    judged = [v for v in judge(merge_run, merge_verdict) if v.low is not None and v.value != "coverage"]
    assert [t.x[0] for t in figure.data] == pytest.approx([v.observed for v in judged])
    lines = [shape.x0 for shape in figure.layout.shapes if shape.type == "line"]
    assert lines == pytest.approx([v.at_least if v.at_most is None else v.at_most for v in judged])
    assert [t.error_x.array[0] for t in figure.data] == pytest.approx([v.high - v.observed for v in judged])


@pytest.mark.parametrize(("gate", "at", "fewer"), [
    (Gate(value="clip_score", at_least=20.0), 20.0, False),
    (Gate(value="clipped_share", at_most=0.1), 0.1, True),
    (Gate(value="clip_score", not_worse_than="baseline", margin=0.5), -0.5, False),
    (Gate(value="seconds_per_image", not_worse_than="baseline", margin=0.5), 0.5, True),
    (Gate(value="peak_bytes", not_worse_than="baseline", ratio=1.1), 1.1, True),
    (Gate(value="clip_score", not_worse_than="baseline", ratio=0.95), 0.95, False)])
def test_the_limit_stands_where_the_gate_says(merge_run: Run, gate: Gate, at: float, fewer: bool) -> None:
    expected = (None, at) if fewer else (at, None)
    assert limits_of(gate, merge_run.row(gate.value)) == expected


def test_a_suite_without_gates_has_no_such_figure(quantization_run: Run) -> None:
    bare = replace(quantization_run, suite=replace(quantization_run.suite, gates=()))
    assert against_limits(bare, recommend(bare)) is None
