"""What fewer steps give up and save, of runs with planted quality and seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.declare import Candidate, Grid, Objective, Sampling, Suite
from harness.records import Latency, Record
from reports import write_page
from reports.figures import FIGURES
from reports.read.run import Run, load_run
from reports.verdict.costs import speed
from reports.verdict.pareto import FRONT, MAYBE, front_of
from reports.verdict.recommending import recommend
from reports.verdict.steps import lines_of, savings, steps_reasons
from tests.reports import synthetic
from tests.reports.synthetic import Place

STEPS = (4, 8, 32)
SAMPLERS = ("euler", "heun")


def suite() -> Suite:
    made = tuple(Candidate(name=f"{sampler} {steps}", model="zoo:photo", axes={"steps": float(steps), "sampler": sampler},
                           sampling=Sampling(sampler=sampler, steps=steps)) for sampler in SAMPLERS for steps in STEPS)
    grid = Grid(prompts=synthetic.prompts(), seeds=(1, 2), guidance_scales=(5.0,), width=32, height=32)
    return synthetic.merge_suite(name="steps", candidates=made, baseline="euler 32", grid=grid, gates=(),
                                 objective=Objective(penalties=(), prefer={"steps": "lowest"}))


def truth(place: Place) -> dict[str, float]:
    """As good from 8 steps on."""
    steps = round(40 * place.x)
    own = np.random.default_rng([steps, int(place.rng.integers(1 << 30))])
    score = (30.0 if steps >= 8 else 20.0) + place.rng.normal(0, 2) + own.normal(0, 0.3)
    return {"clip_score": score, "clipped_share": 0.02, "saturation": 0.4, "palette_drift": 0.0}


def timed(candidate: Candidate, yardstick: float = 0.01) -> list[Record]:
    assert candidate.sampling is not None
    pace = (candidate.sampling.steps or 0) * (2 if candidate.sampling.sampler == "heun" else 1) / 100
    return [Latency(candidate=candidate.name, batch_size=1, warmup_rounds=1, guidance=5.0, setting=synthetic.TIMED,
                    seconds={"total": tuple(pace * (1 + 0.01 * i) for i in range(5))}, yardstick=(yardstick,) * 5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_run(tmp_path_factory.mktemp("runs") / "steps", suite(), truth, extra=timed)


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


def test_candidates_that_differ_in_steps_alone_are_one_line(run: Run) -> None:
    assert [(line.name, [steps for steps, _ in line.places]) for line in lines_of(run)] == [
        ("euler", list(STEPS)), ("heun", list(STEPS))]


def test_the_fewest_tied_steps_are_named_with_how_much_faster_they_are(run: Run) -> None:
    found = {saving.line.name: saving for saving in savings(run, recommend(run))}
    assert {name: (s.fewest, s.most) for name, s in found.items()} == {"euler": (8, 32), "heun": (8, 32)}
    for saving in found.values():
        assert saving.faster is not None
        assert saving.faster == pytest.approx((4.0, 32 / (8 * 1.04), 32 * 1.04 / 8))
        assert saving.difference.word == "tied"


def test_the_sentence_is_among_the_reasons_with_both_intervals(run: Run) -> None:
    rec = recommend(run)
    sentence = next(one for one in rec.reasons if one.startswith("With euler, 8 steps are tied with 32"))
    assert "4.0 times faster [3.8, 4.2]" in sentence
    assert "8 prompts" in sentence


def test_of_timings_that_cannot_be_compared_no_ratio_is_given(tmp_path: Path) -> None:
    slow = synthetic.write_run(tmp_path / "steps", suite(), truth,
                               extra=lambda c: timed(c, 0.03 if c.name == "euler 32" else 0.01))
    run = load_run(slow)
    euler, heun = steps_reasons(run, recommend(run))
    assert "how much faster is not known (not comparable" in euler
    assert "4.0 times faster" in heun


def test_a_line_whose_best_is_its_most_steps_saves_nothing(tmp_path: Path) -> None:
    def rising(place: Place) -> dict[str, float]:
        return {**truth(place), "clip_score": 20 + 10 * place.x + place.rng.normal(0, 0.1)}

    run = load_run(synthetic.write_run(tmp_path / "steps", suite(), rising, extra=timed))
    assert savings(run, recommend(run)) == ()


def test_the_figure_has_a_line_for_each_sampler_with_its_steps_from_left_to_right(run: Run) -> None:
    figure = FIGURES["steps"].build(run, recommend(run))
    assert [trace.name for trace in figure.data] == ["euler", "heun"]
    assert [label.removesuffix(" ★") for label in figure.data[0].text] == ["4", "8", "32"]
    assert list(figure.data[0].x) == sorted(figure.data[0].x)
    assert all(up > 0 for up in figure.data[0].error_y.array)
    assert figure.data[0].error_x.array[0] == pytest.approx(0.04 * 0.02)


def test_without_steps_of_their_own_candidates_have_no_such_figure(merge_run: Run) -> None:
    assert lines_of(merge_run) == ()
    assert FIGURES["steps"].build(merge_run, recommend(merge_run)) is None


def test_untimed_candidates_are_left_out_of_the_figure(run: Run) -> None:
    without = replace(run, latency={name: record for name, record in run.latency.items() if name.startswith("heun")})
    assert [trace.name for trace in FIGURES["steps"].build(without, recommend(run)).data] == ["heun"]


def test_the_page_shows_the_figure(folder: Path) -> None:
    assert 'id="figure-steps"' in write_page(folder).read_text(encoding="utf-8")


def test_what_is_tied_is_named_at_the_guidance_that_it_was_sampled_at(tmp_path: Path) -> None:
    candidates = (Candidate(name="long", model="zoo:photo"),
                  *(Candidate(name=name, model="zoo:photo", sampling=Sampling(sampler=name, steps=4, guidance=1))
                    for name in ("lcm", "tcd")))
    alike = replace(suite(), candidates=candidates, baseline="long", objective=Objective(penalties=()),
                    grid=replace(suite().grid, guidance_scales=(5.0, 9.0)))
    run = load_run(synthetic.write_run(tmp_path / "tied", alike, lambda place: {
        **truth(place), "clip_score": (10.0 if place.guidance == 9 else 30.0) + place.rng.normal(0, 2)}))
    sentence = recommend(run).sentence
    assert "lcm and tcd at CFG 1" in sentence
    assert "long at CFG 1" not in sentence
    assert "long and" not in sentence


def test_one_timed_round_does_not_show_which_is_faster(tmp_path: Path) -> None:
    def once(candidate: Candidate) -> list[Record]:
        return [replace(record, seconds={"total": record.seconds["total"][:1]}, yardstick=(0.01,))
                for record in timed(candidate) if isinstance(record, Latency)]

    run = load_run(synthetic.write_run(tmp_path / "steps", suite(), truth, extra=once))
    sentence = steps_reasons(run, recommend(run))[0]
    assert "how much faster is not known (one timed round" in sentence
    assert "times faster" not in sentence
    assert speed(run, "euler 4", "euler 32")[1] == "no clear difference"
    assert {place.status for place in front_of(run, "objective", {c.name: 5.0 for c in run.suite.candidates})} <= {FRONT, MAYBE}
