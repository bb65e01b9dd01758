"""Candidates with guidance scales of their own in tables, strip and figures: each is shown at its own, and says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.declare import Candidate, Grid, Objective, Sampling, Suite
from reports import recommend, write_page
from reports.figures import FIGURES
from reports.page.summary import markdown
from reports.page.tables import candidate_rows, sampled_words
from reports.page.thumbnails import strip
from reports.read.run import Run, load_run
from tests.reports import synthetic
from tests.reports.synthetic import Place


def suite(*scales: float) -> Suite:
    many = tuple(Candidate(name=f"{steps} steps", model="zoo:photo", axes={"steps": float(steps)},
                           sampling=Sampling(sampler="euler", steps=steps)) for steps in (8, 16, 32))
    few = Candidate(name="few", model="zoo:photo", axes={"steps": 4.0}, sampling=Sampling(sampler="lcm", steps=4, guidance=1))
    grid = Grid(prompts=synthetic.prompts(), seeds=(1,), guidance_scales=scales, width=32, height=32)
    return synthetic.merge_suite(name="own", candidates=(*many, few), baseline="32 steps", grid=grid, gates=(),
                                 objective=Objective(penalties=()))


def planted(folder: Path, *scales: float, few_wins: bool) -> Run:
    def truth(place: Place) -> dict[str, float]:
        better = (place.guidance == 1) == few_wins
        return {"clip_score": (40.0 if better else 20.0) + place.rng.normal(0, 1), "clipped_share": 0.02, "saturation": 0.4,
                "palette_drift": 0.0}

    return load_run(synthetic.write_run(folder, suite(*scales), truth))


@pytest.mark.parametrize("scales", [(5.0,), (5.0, 7.0)])
@pytest.mark.parametrize("few_wins", [True, False])
def test_every_candidate_is_shown_at_a_scale_that_it_has(tmp_path: Path, scales: tuple[float, ...], few_wins: bool) -> None:
    run = planted(tmp_path, *scales, few_wins=few_wins)
    rec = recommend(run)
    assert (rec.pick == "few") == few_wins
    rows = candidate_rows(run, rec)
    assert {row["n"] for row in rows} == {"12 (12)"}
    assert {row["candidate"]: row["at"] == "1" for row in rows} == {c.name: c.name == "few" for c in run.suite.candidates}
    assert all(not cell["mean"].startswith("not measured") for row in rows for cell in row["values"])
    shown = strip(run, rec)
    assert shown is not None
    assert all("src" in cell for line in shown["lines"] for cell in line["cells"])
    table = markdown(run, rec, [])
    assert "| candidate | CFG |" in table


def test_the_strip_says_the_scale_of_each_picture(tmp_path: Path) -> None:
    run = planted(tmp_path, 5.0, few_wins=True)
    shown = strip(run, recommend(run))
    assert shown is not None
    assert "CFG 1" not in shown["at"]
    assert [column["label"] for column in shown["columns"]] == ["steps 4 at CFG 1", "steps 32 at CFG 5"]


def test_where_all_have_one_scale_it_is_in_the_caption_alone(merge_run: Run) -> None:
    rec = recommend(merge_run)
    assert f"| candidate at CFG {rec.guidance:g} |" in markdown(merge_run, rec, [])


def test_figures_show_all_candidates_where_few_steps_win(tmp_path: Path) -> None:
    run = planted(tmp_path, 5.0, few_wins=True)
    figure = FIGURES["candidates"].build(run, recommend(run))
    assert {x for trace in figure.data for x in (trace.x or ()) if x is not None} >= {4.0, 8.0, 16.0, 32.0}
    titles = [axis.title.text for axis in figure.select_xaxes() if axis.title.text]
    assert titles == ["steps, at each candidate's own CFG"]


def test_the_page_says_which_steps_were_sampled(tmp_path: Path) -> None:
    run = planted(tmp_path, 5.0, few_wins=False)
    assert sampled_words(run.suite) == "32 × 32 px, 4–32 steps"
    page = write_page(run.folder).read_text(encoding="utf-8")
    assert "32 × 32 px, 4–32 steps," in page
    assert f"{run.suite.grid.steps} steps," not in page
