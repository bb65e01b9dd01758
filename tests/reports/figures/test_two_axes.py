"""Two axes of candidates: the planes through the pick hold what was measured there, and slices cut along one axis alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.declare.sweeps import adapter_grid
from reports.figures import FIGURES
from reports.figures.heatmap import outline
from reports.figures.two_axes import through
from reports.read.roles import numeric_axes
from reports.read.run import Run, load_run
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend
from tests.reports import synthetic

INK, DETAIL = (0, 0.5, 1), (0, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = adapter_grid("zoo:base", {"ink": "zoo:sketch", "detail": "zoo:detail"}, {"ink": INK, "detail": DETAIL})
    suite = synthetic.merge_suite(candidates=made, baseline="ink=0 detail=0", gates=(),
                                  grid=replace(synthetic.merge_suite().grid, guidance_scales=(3.0, 8.0)))
    return load_run(synthetic.write_run(tmp_path_factory.mktemp("runs") / "grid", suite))


@pytest.fixture(scope="module")
def rec(run: Run) -> Recommendation:
    return recommend(run)


def mean(run: Run, ink: float, detail: float, guidance: float, value: str) -> float:
    rows = run.images[(run.images["ink"] == ink) & (run.images["detail"] == detail) & (run.images["guidance"] == guidance)
                      & (run.images["split"] == "select")]
    return float(rows.groupby("prompt")[value].mean().mean())


def test_every_two_of_the_axes_and_guidance_are_offered(run: Run, rec: Recommendation) -> None:
    assert numeric_axes(run.suite) == ("ink", "detail")
    labels = [c["label"] for c in FIGURES["plane"].build(run, rec).layout.meta["switch"]["choices"]]
    assert [label for label in labels if label.endswith(": Objective")] == [
        "ink × detail: Objective", "ink × CFG: Objective", "detail × CFG: Objective"]


def test_each_place_of_a_plane_holds_the_mean_that_was_measured_there(run: Run, rec: Recommendation) -> None:
    figure = FIGURES["plane"].build(run, rec)
    guidance = float(rec.guidance or 0)
    first, clip = figure.data[0], figure.data[3]
    expected = [[pytest.approx(mean(run, x, y, guidance, "objective")) for x in INK] for y in DETAIL]
    assert [list(row) for row in first.z] == expected
    assert clip.z[1][2] == pytest.approx(mean(run, 1, 2, guidance, "clip_score"))


def test_a_plane_with_guidance_is_cut_at_the_picks_other_axis(run: Run, rec: Recommendation) -> None:
    figure = FIGURES["plane"].build(run, rec)
    choice = next(c for c in figure.layout.meta["switch"]["choices"] if c["label"] == "ink × CFG: CLIP score")
    detail = float(run.candidate(str(rec.pick)).axes["detail"])
    assert figure.data[choice["traces"][0]].z[1][0] == pytest.approx(mean(run, 0, detail, 8.0, "clip_score"))
    assert choice["layout"]["xaxis.title.text"] == f"ink, at detail {detail:g}"


def test_the_star_stands_at_the_pick(run: Run, rec: Recommendation) -> None:
    star = FIGURES["plane"].build(run, rec).data[2]
    picked = run.candidate(str(rec.pick)).axes
    assert (INK[round(star.x[0])], DETAIL[round(star.y[0])]) == (picked["ink"], picked["detail"])


def test_the_outline_of_two_neighbours_has_six_edges_and_none_between_them() -> None:
    drawn = outline({(0, 0), (1, 0)})
    edges = {tuple(zip(drawn.x[i:i + 2], drawn.y[i:i + 2], strict=True)) for i in range(0, len(drawn.x), 3)}
    assert len(edges) == 6
    assert ((0.5, -0.5), (0.5, 0.5)) not in edges


def test_a_slice_goes_through_the_pick_and_not_through_the_mean_of_the_other_axis(run: Run, rec: Recommendation) -> None:
    picked = run.candidate(str(rec.pick)).axes
    kept = through(run, str(rec.pick), ("ink",))
    assert [run.candidate(n).axes for n in kept] == [{"ink": x, "detail": picked["detail"]} for x in INK]
    figure = FIGURES["candidates"].build(run, rec)
    choices = figure.layout.meta["switch"]["choices"]
    assert [c["label"] for c in choices] == ["ink", "detail"]
    line = next(t for t in figure.data if t.name == "CLIP score")
    assert list(line.y) == [pytest.approx(mean(run, x, picked["detail"], float(rec.guidance or 0), "clip_score")) for x in INK]


def test_the_parents_are_level_lines_in_the_slices(merge_run: Run, merge_verdict: Recommendation) -> None:
    figure = FIGURES["candidates"].build(merge_run, merge_verdict)
    rows = merge_run.images[(merge_run.images["candidate"] == "alpha=1") & (merge_run.images["split"] == "select")
                            & (merge_run.images["guidance"] == merge_verdict.guidance)]
    line = next(t for t in figure.data if t.name == "alpha 1 (parent B)")
    assert list(line.y) == [pytest.approx(float(rows.groupby("prompt")["objective"].mean().mean()))] * 2


def test_one_axis_has_no_plane(merge_run: Run, merge_verdict: Recommendation) -> None:
    assert FIGURES["plane"].build(merge_run, merge_verdict) is None


def test_the_sentence_of_what_did_as_well_names_both_axes(run: Run) -> None:
    close = replace(run, images=run.images.assign(objective=run.images["objective"].sample(frac=1, random_state=0).to_numpy()))
    worst = (close.images["candidate"] == "ink=1 detail=0") & (close.images["guidance"] == close.images["guidance"].max())
    one_apart = close.images["objective"].where(~worst, close.images["objective"].min() - 30)
    assert "ink/detail/CFG combination" in recommend(replace(close, images=close.images.assign(objective=one_apart))).sentence
