"""Where the time of several stages goes: every timed phase is in figures and tables, in words, in the pipeline's order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.records import Span, Timeline
from reports import load_run, recommend
from reports.figures.cost import seconds_by_phase
from reports.figures.memory import memory_over_time
from reports.formatting import phase, stage_and_phase
from reports.page.cost_table import cost_section
from reports.read.run import Run
from reports.verdict.costs import phases
from tests.reports import synthetic
from tests.reports.synthetic_schemes import costs, suite


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(synthetic.write_run(tmp_path_factory.mktemp("stages") / "run", suite(), extra=costs))


def test_phases_stand_in_the_order_of_the_pipeline(run: Run) -> None:
    latency = replace(run.latency["graded"], seconds=dict.fromkeys((
        "unheard of", "post", "decode", "stage 10 denoise", "stage 2 denoise", "stage 2 text", "stage 2 begin", "stage 2 switch",
        "denoise", "text", "switch", "total"), (1.0,)))
    assert phases(replace(run, latency={"graded": latency})) == (
        "switch", "text", "denoise", "stage 2 switch", "stage 2 begin", "stage 2 text", "stage 2 denoise", "stage 10 denoise",
        "decode", "post", "unheard of")


@pytest.mark.parametrize(("name", "stage", "text"), [
    ("stage 2 denoise", 2, "stage 2, denoise"), ("stage 12 begin", 12, "stage 12, picture handed over"),
    ("post", 1, "post-steps"), ("denoise", 1, "denoise"), ("stage x denoise", 1, "stage x denoise"), ("stage 2", 1, "stage 2")])
def test_a_phase_in_words_says_which_stage_it_is_of(name: str, stage: int, text: str) -> None:
    assert (stage_and_phase(name)[0], phase(name)) == (stage, text)


def test_the_bars_of_an_image_hold_every_phase_and_add_up_to_it(run: Run) -> None:
    figure = seconds_by_phase(run, recommend(run))
    bars = [trace for trace in figure.data if trace.type == "bar" and trace.visible is not False]
    assert [bar.name for bar in bars] == ["text", "denoise", "stage 2, picture handed over", "stage 2, text", "stage 2, denoise",
                                          "decode", "post-steps"]
    night = sum(x for bar in bars for y, x in zip(bar.y, bar.x, strict=True) if y == "night")
    assert night == pytest.approx(0.2725)


def test_candidates_stand_as_they_are_declared_whoever_has_the_first_phase(run: Run) -> None:
    figure = seconds_by_phase(run, recommend(run))
    assert [name.partition("<br>")[0] for name in figure.layout.yaxis.categoryarray] == [c.name for c in run.suite.candidates]


def test_the_table_has_the_stages_and_says_who_has_none(run: Run) -> None:
    section = cost_section(run, recommend(run))
    cells = {row["name"]: dict(zip(section["columns"], row["cells"], strict=True)) for row in section["rows"]}
    alone = next(row for name, row in cells.items() if name.startswith("alone"))
    assert cells["night"]["stage 2, denoise"].text == "68.1 ms"
    assert (alone["stage 2, denoise"].text, cells["night"]["post-steps"].text) == ("none", "none")
    assert cells["graded"]["post-steps"].text == "2.83 ms"


def test_memory_over_time_shades_the_phases_of_later_stages(run: Run) -> None:
    spans = tuple(Span(phase=name, start_seconds=at, end_seconds=at + 0.01) for name, at in (
        ("denoise", 0.03), ("stage 2 begin", 0.05), ("stage 2 denoise", 0.06), ("post", 0.08), ("<b>x</b>", 0.09)))
    timeline: Timeline = replace(run.timeline["night"], spans=spans)
    figure = memory_over_time(replace(run, timeline={"night": timeline}), recommend(run))
    assert [trace.name for trace in figure.data if trace.fill] == [
        "denoise", "stage 2, picture handed over", "stage 2, denoise", "post-steps"]
