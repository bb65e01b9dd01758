"""Two runs are held against each other pair by pair: known shifts are found, and what is no pair is refused with its reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from harness.declare import Candidate, Checkpoint, Gate, Grid, Merge, Objective, Penalty, Sampling, Suite
from harness.records import Cell, Measurement, Record, Weights
from reports.compare.costs import of_picks
from reports.compare.runs import Compared, compare
from reports.compare.views import headline, markdown, page, terminal
from reports.page.summary import MARKDOWN_LIMIT
from reports.read.run import load_run, with_derived
from tests.reports import synthetic
from tests.reports.synthetic import Place, planted, prompts, write_run

GRID = Grid(prompts=prompts(6, 2), seeds=(1,), guidance_scales=(3.0, 8.0), width=32, height=32)
Make = Callable[..., Compared]


def small(**changes: Any) -> Suite:
    """Two candidates on 8 prompts."""
    every = synthetic.merge_suite(grid=GRID)
    fields = {"candidates": (every.candidates[0], every.candidates[3]), "gates": (Gate(value="clip_score", at_least=20.0),)}
    return replace(every, **{**fields, **changes})


def shifted(**by: float) -> Callable[[Place], dict[str, float]]:
    """The planted truth with some values moved by a constant."""
    return lambda place: {k: v + by.get(k, 0.0) for k, v in planted(place).items()}


def noisy(place: Place) -> dict[str, float]:
    """The planted truth with fresh noise in the CLIP score, and half a point on top."""
    found = planted(place)
    own = np.random.default_rng([99, round(1000 * place.x), round(10 * place.guidance), int(place.rng.integers(1 << 30))])
    return {**found, "clip_score": found["clip_score"] + 0.5 + own.normal(0, 1.0)}


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "a", small())


@pytest.fixture
def made(tmp_path: Path, planted_run: Path) -> Make:
    """Writes A as planted and B as asked, and compares them. `head` and `texts` change B's files after they were written."""

    def make(truth: Callable[[Place], dict[str, float]] = planted, suite: Suite | None = None,
             before: Suite | None = None, **head: Any) -> Compared:
        a = write_run(tmp_path / "a", before) if before else planted_run
        b = write_run(tmp_path / "b", suite or small(), truth, **head)
        return compare(load_run(a), load_run(b))

    return make


def test_a_run_against_itself_is_the_same_everywhere_and_says_so(made: Make) -> None:
    of = made()
    assert {row.word for row in of.moved if row.value != "psnr_db"} == {"same"}
    assert all(row.difference.mean == 0 for row in of.moved if row.word == "same")
    assert not of.picks.changed
    assert {row.word for row in of.picks.rows if row.value != "psnr_db"} == {"same"}
    assert [(c.what, c.identical, c.common) for c in of.candidates] == [("same", 16, 16)] * 2
    assert not any(g.changed for g in of.gates)


def test_a_constant_shift_is_the_difference(made: Make) -> None:
    of = made(shifted(clip_score=1.0))
    rows = [row for row in of.moved if row.value == "clip_score"]
    assert len(rows) == 4
    assert all(row.word == "better" and row.difference.mean == pytest.approx(1.0) for row in rows)
    assert all((row.difference.prompts, row.difference.pairs) == (8, 8) for row in rows)


def test_the_words_follow_the_direction_of_the_value(made: Make) -> None:
    of = made(shifted(clipped_share=0.2, saturation=-0.1, clip_score=-3.0))
    assert {row.word for row in of.moved if row.value in ("clipped_share", "clip_score", "objective")} == {"worse"}
    assert {row.word for row in of.moved if row.value == "saturation"} == {"changed"}


def test_the_interval_of_a_single_row_is_that_of_scipys_t_test_on_prompt_means(made: Make) -> None:
    one = replace(GRID, guidance_scales=(3.0,))
    suites = (small(grid=one, candidates=small().candidates[:1]),) * 2
    of = made(noisy, suites[0], suites[1])
    row = next(r for r in of.moved if r.value == "clip_score")
    keys = ["prompt", "seed"]
    pairs = of.b.images.merge(of.a.images, on=keys, suffixes=("_b", "_a"))
    means = (pairs["clip_score_b"] - pairs["clip_score_a"]).groupby(pairs["prompt"]).mean()
    low, high = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert (row.difference.low, row.difference.high) == (pytest.approx(low), pytest.approx(high))


def test_rows_of_one_value_share_the_error(made: Make) -> None:
    of = made(noisy)
    rows = [r.difference for r in of.moved if r.value == "clip_score"]
    best = max(rows, key=lambda e: abs(e.mean or 0) / (e.error or 1))
    half = stats.t.ppf(1 - 0.05 / (2 * 4), 7) * best.error
    assert (best.high or 0) - (best.mean or 0) == pytest.approx(half)


def test_a_value_of_another_version_or_setting_is_refused_and_takes_the_objective_with_it(made: Make) -> None:
    metrics = {**synthetic.METRICS, "clipped_share": {**synthetic.METRICS["clipped_share"], "version": 2}}
    of = made(metrics=metrics)
    assert "version 1 and 2" in of.refused["clipped_share"]
    assert of.refused["objective"].startswith("clipped_share, a part of it")
    assert "clip_score" in {row.value for row in of.moved}


def test_another_clip_model_is_another_setting(made: Make) -> None:
    of = made(metric_settings={"clip_score": "another"})
    assert "another setting" in of.refused["clip_score"]


@pytest.mark.parametrize("change", [{"steps": 30}, {"sampler": "euler"}, {"width": 64}])
def test_other_sampling_settings_are_no_pairs_at_all(made: Make, change: dict[str, Any]) -> None:
    of = made(suite=small(grid=replace(GRID, **change)))
    assert not of.comparable
    assert next(iter(change)) in of.refused[""]
    assert headline(of).startswith("Nothing could be compared: sampled with other settings")


def test_a_candidate_that_says_another_way_of_sampling_is_left_out_and_said(made: Make) -> None:
    one, other = small().candidates
    before, after = (small(candidates=(one, replace(other, sampling=Sampling(steps=steps)))) for steps in (4, 8))
    of = made(before=before, suite=after)
    assert {row.candidate for row in of.moved} == {one.name}
    assert [note for note in of.notes if other.name in note and "steps 4 and 8" in note]
    assert {cost.why for cost in of.costs if cost.candidate == other.name} == {"not compared: not the same steps 4 and 8"}
    same = made(before=after, suite=after)
    assert {row.candidate for row in same.moved} == {one.name, other.name}


def test_a_prompt_with_another_text_is_left_out_and_said(made: Make) -> None:
    changed = (replace(GRID.prompts[0], text="something else"), *GRID.prompts[1:])
    of = made(suite=small(grid=replace(GRID, prompts=changed)))
    assert {row.difference.prompts for row in of.moved if row.value == "clip_score"} == {7}
    assert "1 prompt with the same identifier and another text: left out." in of.notes
    assert ("grid.prompts.p00" in {name for name, _, _ in of.declared})


def test_without_a_common_candidate_the_picks_alone_are_compared(made: Make) -> None:
    other = small(candidates=(Candidate(name="x", model="zoo:photo"), Candidate(name="y", model="zoo:anime")), baseline="x")
    of = made(suite=other)
    assert not of.moved
    assert of.comparable == of.picks.compared
    assert "no candidate of that name" in of.refused[""]
    assert [(c.candidate, c.what) for c in of.candidates] == [
        ("alpha=0", "removed"), ("alpha=0.45", "removed"), ("x", "added"), ("y", "added")]


def test_values_against_the_baselines_image_need_the_same_baseline(made: Make) -> None:
    of = made(suite=small(baseline="alpha=0.45"))
    assert "another baseline candidate" in of.refused["palette_drift"]
    assert "clip_score" not in of.refused


def test_another_objective_is_not_compared(made: Make) -> None:
    assert made(suite=small(objective=Objective(penalties=()))).refused["objective"] == "the suites declare another objective"


def test_other_weights_are_told_from_another_declaration_of_the_same(tmp_path: Path) -> None:
    before = small()
    merge = Merge(a=Checkpoint(path="zoo:photo"), b=Checkpoint(path="zoo:anime"), alpha=0.46)
    after = replace(before, candidates=(before.candidates[0], replace(before.candidates[1], model=merge)))
    a, b = (load_run(write_run(tmp_path / n, s)) for n, s in (("a", before), ("b", after)))
    assert [c.what for c in compare(a, b).candidates] == ["same", "declared"]
    changed = {**b.weights, "alpha=0.45": Weights(candidate="alpha=0.45", identity="other", inputs={})}
    assert [c.what for c in compare(a, replace(b, weights=changed)).candidates] == ["same", "weights"]
    assert [c.what for c in compare(a, replace(b, weights={})).candidates] == ["unknown", "unknown"]


def test_images_with_other_bytes_are_counted(made: Make, tmp_path: Path, planted_run: Path) -> None:
    made()
    journal = tmp_path / "b" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in [x for x in lines if x["kind"] == "sample" and x["candidate"] == "alpha=0"][:5]:
        line["sha256"] = "1" * 64
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    of = compare(load_run(planted_run), load_run(tmp_path / "b"))
    assert [(c.identical, c.common) for c in of.candidates] == [(11, 16), (16, 16)]


def test_costs_are_held_against_each_other_on_one_machine_and_one_torch_alone(made: Make) -> None:
    of = made()
    assert {(c.cost, c.ratio, c.word) for c in of.costs} == {
        (cost, None, "same") for cost in ("seconds_per_image", "peak_bytes", "weights_bytes")}
    assert all("the very same readings" in c.why for c in of.costs)
    timed = {name: replace(t, seconds={"total": tuple(s + 1e-5 for s in t.seconds["total"])}) for name, t in of.b.latency.items()}
    again = compare(of.a, replace(of.b, latency=timed)).costs
    assert {(c.cost, round(c.ratio or 0, 3)) for c in again} == {
        ("seconds_per_image", 1.0), ("peak_bytes", 1.0), ("weights_bytes", 1.0)}
    there = made(environment={"python": "3.11.9", "device": "cpu", "packages": {"torch": "2.10"}}).costs
    assert {(c.ratio, c.why) for c in there} == {(None, "not compared: not the same torch 2.9 and 2.10")}


def test_seconds_of_a_machine_that_was_busy_are_not_compared(made: Make) -> None:
    of = made()
    for yardstick, how in ((0.02, "2.00 times as slow as"), (0.005, "2.00 times as fast as")):
        paced = {name: replace(t, yardstick=(yardstick,) * 5) for name, t in of.b.latency.items()}
        again = compare(of.a, replace(of.b, latency=paced))
        assert {how in c.why for c in again.costs if c.cost == "seconds_per_image"} == {True}


def test_a_gate_that_changed_is_said_with_both_its_observations(made: Make) -> None:
    of = made(shifted(clip_score=-25.0))
    assert [g.changed for g in of.gates] == [True]
    assert "gate CLIP score at least 20.00 (the pick): passed 3" in markdown(of).replace("\\", "")
    assert "→ failed 5" in markdown(of)


def test_the_terminal_names_both_verdicts_and_the_rows_that_moved(made: Make) -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(terminal(made(shifted(clip_score=1.0))))
    said = text.getvalue()
    assert "A: " in said
    assert "B: " in said
    assert "better: alpha=0 at CFG 3, CLIP score +1.00 [1.00, 1.00], 8 prompts, 8 pairs" in said


def test_runs_of_one_prompt_have_a_page_without_a_figure(made: Make) -> None:
    suite = small(grid=replace(GRID, prompts=GRID.prompts[:1]))
    of = made(before=suite, suite=suite)
    assert not of.comparable
    assert "Nothing could be compared" in page(of)
    assert 'id="figure-moved"' not in page(of)


def test_the_page_asks_for_nothing_and_hostile_names_do_not_act(tmp_path: Path) -> None:
    suite = synthetic.hostile_suite()
    a, b = (load_run(write_run(tmp_path / n, suite, truth, extra=synthetic.failing("alpha=1")))
            for n, truth in (("a", planted), ("b", shifted(clip_score=1.0))))
    of = compare(a, b)
    text, said = page(of), markdown(of)
    assert "default-src &#39;none&#39;" in text
    assert "<script>document" not in text
    assert "<b>suite" not in text
    assert "\x1b" not in text + said
    assert "<b>" not in said
    assert len(said.encode()) <= MARKDOWN_LIMIT


def trio(**changes: Any) -> Suite:
    """Three alphas, of which 0.45 is best as planted."""
    every = synthetic.merge_suite(grid=replace(GRID, prompts=prompts(6, 4)))
    return replace(every, candidates=(every.candidates[0], every.candidates[3], every.candidates[5]), gates=(), **changes)


def uphill(place: Place) -> dict[str, float]:
    """The planted truth with the peak moved to alpha 0.8."""
    found = planted(place)
    return {**found, "clip_score": found["clip_score"] + 12 * (place.x - 0.45) - 10 * (place.x > 0.9)}


def test_the_old_pick_is_compared_with_the_new_one(made: Make) -> None:
    of = made(uphill, trio(), before=trio())
    assert ([v.pick for v in of.verdicts]) == ["alpha=0.45", "alpha=0.8"]
    row = of.picks.of("objective")
    assert row is not None
    assert of.picks.changed
    assert of.picks.held_out
    assert row.difference.prompts == 4
    mine, theirs = (run.images[(run.images["candidate"] == rec.pick) & (run.images["guidance"] == rec.guidance)
                               & (run.images["split"] == "confirm")].set_index(["prompt", "seed"])["objective"]
                    for run, rec in zip((of.b, of.a), of.verdicts[::-1], strict=True))
    assert row.difference.mean == pytest.approx(float((mine - theirs).mean()))
    assert row.word == "better"
    for text in (headline(of), markdown(of).replace("\\", ""), page(of)):
        assert "alpha 0.8 at CFG" in text
        assert "alpha 0.45 at CFG" in text


def test_a_new_pick_costs_so_many_times_the_old_one_by_the_run_that_timed_both(made: Make) -> None:
    """Rounds of alpha 0.45 and 0.8 are of two candidates: A's readings and B's are never taken for one another."""
    of = made(uphill, trio(), before=trio())
    seconds = next(cost for cost in of.picks.costs if cost.cost == "seconds_per_image")
    timed = {name: float(np.median(of.b.latency[name].seconds["total"])) for name in ("alpha=0.45", "alpha=0.8")}
    assert of.picks.within
    assert seconds.ratio == pytest.approx(timed["alpha=0.8"] / timed["alpha=0.45"])
    assert {cost.cost for cost in of.picks.costs} == {"seconds_per_image", "peak_bytes", "weights_bytes"}
    for text in (markdown(of).replace("\\", ""), page(of)):
        assert f"{seconds.ratio:.2f}×" in text
        assert "both taken in B" in text


def test_where_the_new_run_has_not_the_old_pick_each_run_brings_its_own_readings(made: Make) -> None:
    of = made(uphill, trio(), before=trio())
    alone = replace(of.b, latency={name: record for name, record in of.b.latency.items() if name != "alpha=0.45"})
    costs, within = of_picks(of.a, alone, "alpha=0.45", "alpha=0.8")
    assert not within
    assert costs[0].ratio is not None
    slower = replace(alone, latency={name: replace(record, yardstick=(0.03,) * 6) for name, record in alone.latency.items()})
    assert "not compared" in of_picks(of.a, slower, "alpha=0.45", "alpha=0.8")[0][0].why


def test_a_pick_that_stays_has_no_cost_over_itself(made: Make) -> None:
    assert made().picks.costs == ()


def test_a_new_pick_that_is_worse_is_the_headline(made: Make) -> None:
    """The new run misleads itself: on its own select prompts the pick looks good."""
    def misled(place: Place) -> dict[str, float]:
        found = planted(place)
        return {**found, "clip_score": found["clip_score"] + (-9.0 if place.x > 0.7 else -14.0)}

    of = made(misled, trio(), before=trio())
    row = of.picks.of("objective")
    assert row is not None
    assert row.word == "worse"
    assert "worse than" in headline(of).partition(";")[0]


@pytest.mark.parametrize(("limit", "said"), [(90.0, "B: Do not ship: 1 gate failed"), (1.0, "The new pick")])
def test_the_headline_of_a_comparison_does_not_stand_above_a_failed_gate(made: Make, limit: float, said: str) -> None:
    of = made(uphill, trio().__class__(**{**vars(trio()), "gates": (Gate(value="clip_score", at_least=limit),)}), before=trio())
    assert headline(of).startswith(said)


def test_cells_that_lack_images_are_not_compared_by_the_rest(made: Make) -> None:
    of = made(shifted(clip_score=-3.0))
    gone = (of.b.images["candidate"] == "alpha=0") & (of.b.images["prompt"] == "p00")
    again = compare(of.a, replace(of.b, images=of.b.images[~gone].reset_index(drop=True)))
    words = {(row.candidate, row.word) for row in again.moved if row.value == "clip_score"}
    assert words == {("alpha=0", "not measured"), ("alpha=0.45", "worse")}
    assert all("B: 1 of 8 images" in row.difference.why for row in again.moved
               if row.value == "clip_score" and row.candidate == "alpha=0")


def by_scale(suite: Suite) -> Callable[[Candidate], list[Record]]:
    """Every image at CFG 3 red, every other blue."""
    def again(c: Candidate) -> list[Record]:
        places = [(p, Cell(prompt=p.id, seed=seed, guidance=g)) for p in suite.grid.prompts for seed in suite.grid.seeds
                  for g in suite.grid.guidance_scales]
        return [Measurement(sample=synthetic.sample_key(synthetic.announced(c).identity, cell, (p.text, p.negative),
                                                        synthetic.sampling(suite)),
                            candidate=c.name, cell=cell, version=1, metric="palette", values={"palette_drift": 1.0},
                            labels={"dominant": "red" if cell.guidance == 3 else "blue"}) for p, cell in places]
    return again


@pytest.mark.parametrize("grid", [
    {"guidance_scales": (8.0, 12.0)}, {"guidance_scales": (8.0,)}, {"seeds": (1, 2), "guidance_scales": (3.0, 8.0, 12.0)}])
def test_equal_images_are_the_same_whatever_else_the_grids_hold(tmp_path: Path, grid: dict[str, Any]) -> None:
    """The off-colour share of a prompt is over all its images, so each run has its own for one and the same image."""
    wide = small(grid=replace(GRID, guidance_scales=(3.0, 8.0, 12.0)), gates=(),
                 objective=Objective(penalties=(Penalty(metric="palette_left", weight=5.0),)))
    other = replace(wide, grid=replace(wide.grid, **grid))
    runs = [load_run(write_run(tmp_path / name, suite, extra=by_scale(suite))) for name, suite in (("a", wide), ("b", other))]
    of = compare(*runs)
    assert {row.word for row in of.moved if row.value in ("objective", "palette_left", "clip_score")} == {"same"}
    assert sum(c.identical for c in of.candidates) == sum(c.common for c in of.candidates) > 0
    assert any("Off-colour images" in note for note in of.notes) == (runs[1].suite.grid.guidance_scales != (3.0, 8.0, 12.0)
                                                                  or len(runs[1].suite.grid.seeds) > 1)


@pytest.mark.parametrize("lacks", [0, 1])
@pytest.mark.parametrize("how", ["missing", "without a colour"])
def test_equal_images_are_the_same_where_one_run_lacks_an_image_at_another_scale(tmp_path: Path, how: str, lacks: int) -> None:
    """With the image at CFG 12, blue is usual; without it, red and blue are equally common."""
    suite = small(grid=replace(GRID, guidance_scales=(3.0, 8.0, 12.0)), gates=(),
                  objective=Objective(penalties=(Penalty(metric="palette_left", weight=5.0),)))
    runs = [load_run(write_run(tmp_path / name, suite, extra=by_scale(suite))) for name in ("a", "b")]
    images = runs[lacks].images.copy()
    gone = (images["candidate"] == "alpha=0") & (images["guidance"] == 12) & (images["prompt"] == "p00")
    images.loc[gone, "dominant"] = None
    table = images if how == "without a colour" else images[~gone].reset_index(drop=True)
    runs[lacks] = replace(runs[lacks], images=with_derived(table, suite.objective))
    at = {(row.candidate, row.guidance, row.value): row for row in compare(*runs).moved}
    assert {at["alpha=0", scale, value].word for scale in (3.0, 8.0) for value in ("objective", "palette_left")} == {"same"}
    assert at["alpha=0", 12.0, "palette_left"].word == "not measured"


def test_a_pick_at_a_scale_of_its_own_is_compared_in_what_does_not_depend_on_the_grid(tmp_path: Path) -> None:
    wide = small(grid=replace(GRID, guidance_scales=(3.0, 8.0)), gates=(),
                 objective=Objective(penalties=(Penalty(metric="palette_left", weight=5.0),)))
    low = replace(wide, grid=replace(wide.grid, guidance_scales=(3.0,)))
    of = compare(*(load_run(write_run(tmp_path / name, suite)) for name, suite in (("a", low), ("b", wide))))
    moved = {row.value: row for row in of.picks.rows}
    assert [rec.guidance for rec in of.verdicts] == [3.0, 8.0]
    assert moved["objective"].word == moved["palette_left"].word == "not measured"
    assert "CFG 8" in moved["objective"].difference.why
    assert moved["clip_score"].difference.mean is not None
