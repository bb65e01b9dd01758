"""Figures hold what was measured: every row of FIGURES draws on every kind of run, and its marks are where they belong."""

from __future__ import annotations

import html

import pytest

from reports.figures import FIGURES
from reports.figures.theme import folded, rows_height
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend

OF_OTHER_SUITES = {"plane", "blocks", "effects", "steps", "psnr_bytes"}
"""Figures of what a sweep of one alpha does not have; test_block_views, test_planes, verdict/test_steps and test_cost_figures
draw them."""


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - OF_OTHER_SUITES))
def test_every_figure_draws_and_asks_a_question(merge_run: Run, merge_verdict: Recommendation, name: str) -> None:
    assert FIGURES[name].question.endswith("?")
    assert len(FIGURES[name].build(merge_run, merge_verdict).data) > 0


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_figure_draws_or_stays_away_without_a_numeric_axis(quantization_run: Run, name: str) -> None:
    figure = FIGURES[name].build(quantization_run, recommend(quantization_run))
    assert figure is None or len(figure.data) > 0


def test_the_heatmap_switches_between_five_values_and_shows_the_first(merge_run: Run, merge_verdict: Recommendation) -> None:
    figure = FIGURES["heatmap"].build(merge_run, merge_verdict)
    choices = figure.layout.meta["switch"]["choices"]
    assert [c["label"] for c in choices] == ["Objective", "CLIP score", "Clipped pixels", "Saturation", "Off-colour images"]
    assert [t.visible for t in figure.data[:5]] == [True, False, False, False, False]


def test_the_star_stands_in_the_picked_cell(merge_run: Run, merge_verdict: Recommendation) -> None:
    figure = FIGURES["heatmap"].build(merge_run, merge_verdict)
    star = next(t for t in figure.data if t.name == "pick")
    row, column = 3, [1.0, 3.0, 5.0, 8.0, 12.0].index(merge_verdict.guidance or 0)
    assert (round(star.x[0]), round(star.y[0])) == (column, row)


def test_controls_are_named_on_the_axis(merge_run: Run, merge_verdict: Recommendation) -> None:
    ticks = FIGURES["heatmap"].build(merge_run, merge_verdict).layout.yaxis.ticktext
    assert "parent A" in ticks[0]
    assert "parent B" in ticks[-1]


def test_dominant_colours_are_counted_per_candidate_and_drawn_in_their_own_colour(
        merge_run: Run, merge_verdict: Recommendation) -> None:
    figure = FIGURES["colours"].build(merge_run, merge_verdict)
    first = figure.layout.meta["switch"]["choices"][0]["traces"]
    totals = [sum(figure.data[i].x[row] for i in first) for row in range(7)]
    assert totals == [2] * 7
    assert f"CFG {merge_verdict.guidance:g}" in figure.layout.xaxis.title.text
    assert {figure.data[i].name: figure.data[i].marker.color for i in first}["blue"] == "#2563eb"


@pytest.mark.parametrize("name", ["a_name_of_a_training_run_with_step_000500_and_weight_0.80", "x" * 70, "a & <b>bold</b> " * 4])
def test_long_names_are_folded_into_lines_that_leave_room_and_lose_nothing(name: str) -> None:
    lines = [html.unescape(line) for line in folded(name).split("<br>")]
    assert max(map(len, lines)) <= 22
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")


def test_short_names_stay_in_one_line() -> None:
    assert folded("alpha 0.45") == "alpha 0.45"


def test_rows_are_as_high_as_the_longest_label_needs() -> None:
    assert rows_height(["a", "b"], 40) == 80 < rows_height(["a", "b<br>c<br>d<br>e"], 40)
