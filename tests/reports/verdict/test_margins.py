"""Margins of a suite's gates from an A/A run: every gate gets a row, in the value's unit, for what it really looks at."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.declare import BASELINE, Budget, Gate
from reports.read.run import load_run
from reports.statistics.margin_size import Design, again, smallest_margin
from reports.verdict.margins import Margin, Measured, margins
from tests.reports import synthetic

SUITE = synthetic.merge_suite()
ONE = SUITE.candidates[0]
NAMES = (ONE.name, f"{ONE.name} again")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """An A/A run: the baseline under two names, on the declared seeds and as many others."""
    both = replace(SUITE, candidates=(ONE, replace(ONE, name=NAMES[1])), gates=(), grid=replace(SUITE.grid, seeds=(1, 2, 3, 4)))
    run = load_run(synthetic.write_run(tmp_path_factory.mktemp("aa"), both))
    return Measured(run=run, names=NAMES, suite=SUITE, guidance=5.0)


def rows(of: Measured, *gates: Gate) -> list[Margin]:
    return [row for row in margins(replace(of, suite=replace(of.suite, gates=gates))) if row.gate]


def row(of: Measured, **gate: object) -> Margin:
    (found,) = rows(of, Gate(**gate))  # type: ignore[arg-type]
    return found


def test_the_pick_is_judged_on_the_confirm_prompts_and_a_named_candidate_on_all(measured: Measured) -> None:
    pick = row(measured, value="clip_score", not_worse_than=BASELINE, margin=0.5)
    named = row(measured, value="clip_score", not_worse_than=BASELINE, margin=0.5, candidates=("alpha=1",))
    assert (pick.design, named.design) == (Design(prompts=4, seeds=2), Design(prompts=12, seeds=2))
    assert pick.smallest is not None
    assert named.smallest is not None
    assert pick.smallest > named.smallest


def test_the_margin_is_that_of_the_baselines_images_at_the_gates_guidance(measured: Measured) -> None:
    images = measured.run.images
    here = images[(images["candidate"] == NAMES[0]) & (images["guidance"] == 5.0)]
    spread = again(here, "clip_score")
    assert spread is not None
    found = row(measured, value="clip_score", not_worse_than=BASELINE, margin=0.5)
    assert found.smallest == pytest.approx(smallest_margin(spread, Design(prompts=4, seeds=2)))
    # Images of one prompt are planted with SDs of 0.6 and 0.5.
    assert spread.image == pytest.approx((2 * (0.6**2 + 0.5**2)) ** 0.5, rel=0.3)
    assert found.paste.startswith('Gate(value="clip_score", not_worse_than=BASELINE, margin=')


def test_a_margin_that_is_written_as_told_passes_as_often_as_asked(measured: Measured) -> None:
    told = row(measured, value="clip_score", not_worse_than=BASELINE, margin=0.1)
    pasted = eval(told.paste, {"Gate": Gate, "BASELINE": BASELINE})
    again_told = rows(measured, pasted)[0]
    assert told.passes is not None
    assert again_told.passes is not None
    assert told.passes < 0.95 <= again_told.passes < 0.99
    assert again_told.prompts is not None
    assert again_told.prompts <= 4


def test_a_ratio_counts_from_the_baselines_mean(measured: Measured) -> None:
    plain = row(measured, value="clip_score", not_worse_than=BASELINE, margin=0.1)
    ratio = row(measured, value="clip_score", not_worse_than=BASELINE, ratio=0.9)
    assert plain.observed is not None
    assert ratio.margin == pytest.approx(0.1 * plain.observed)
    # Of 0.92 times the other image the noise is 0.96 times that of a difference, and 0.08 of what prompts differ by comes in.
    assert ratio.smallest == pytest.approx(plain.smallest, rel=0.05)
    assert ratio.smallest != plain.smallest
    assert "ratio=0.9" in ratio.paste
    assert 0.9 < float(ratio.paste.partition("ratio=")[2].rstrip(")")) < 1


def test_a_limit_is_told_by_how_far_the_baseline_keeps_from_it_and_is_not_to_be_changed(measured: Measured) -> None:
    high = row(measured, value="clip_score", at_least=20.0)
    low = row(measured, value="clip_score", at_most=20.0)
    assert high.observed is not None
    assert high.margin == pytest.approx(high.observed - 20)
    assert low.margin == pytest.approx(20 - high.observed)
    assert high.passes == pytest.approx(1)
    assert low.passes == pytest.approx(0)
    assert (high.paste, high.source) == ("", "the baseline's images")


def test_a_budget_of_several_looks_widens_the_margin(measured: Measured) -> None:
    gate = {"value": "clip_score", "not_worse_than": BASELINE, "margin": 0.5}
    once = row(measured, **gate)
    looked = row(replace(measured, suite=replace(SUITE, budget=Budget())), **gate)
    assert once.smallest is not None
    assert looked.smallest is not None
    assert looked.smallest > once.smallest


def test_latency_is_told_from_the_rounds_of_both_and_memory_from_two_readings(measured: Measured) -> None:
    # Rounds of the one are 180 to 185 ms, of the other 182 to 187 ms; memory differs by 1 MB.
    seconds = row(measured, value="seconds_per_image", not_worse_than=BASELINE, margin=0.0025)
    peak = row(measured, value="peak_bytes", not_worse_than=BASELINE, margin=5e6)
    assert seconds.smallest is not None
    assert 0.005 <= seconds.smallest <= 0.007 + 1e-9
    # It passes when the faster one is mine and not both ends of its six rounds are among those drawn.
    assert seconds.passes == pytest.approx((2 * (5 / 6) ** 6 - (4 / 6) ** 6) / 2, abs=0.025)
    assert seconds.drop == pytest.approx(0.0095)
    assert (peak.smallest, peak.passes, peak.observed) == (1e6, 1.0, 8e8)
    ratio = row(measured, value="seconds_per_image", not_worse_than=BASELINE, ratio=1.1)
    assert ratio.passes == 1.0
    assert 1 < float(ratio.paste.partition("ratio=")[2].rstrip(")")) <= 1.02


@pytest.mark.parametrize("value", ["coverage", "identities", "failures", "failure_rate"])
def test_what_is_counted_needs_no_margin(measured: Measured, value: str) -> None:
    found = row(measured, value=value, at_most=0.0)
    assert (found.source, found.smallest, found.paste) == ("exact", None, "")
    assert "counted" in found.note


def test_a_finished_run_adds_the_noise_between_its_tied_cells_and_says_what_to_write(measured: Measured, tmp_path: Path) -> None:
    run = load_run(synthetic.write_run(tmp_path / "run", SUITE))
    cells = tuple((c.name, 5.0) for c in SUITE.candidates[:3])
    both = rows(replace(measured, tied=cells, images=run.images), Gate(value="clip_score", not_worse_than=BASELINE, margin=0.5))
    assert [found.source for found in both] == ["A/A, other seeds", "3 pairs of tied cells, same seeds"]
    assert [bool(found.paste) for found in both] == [False, True]
    # What candidates share is 0.6 of 0.78, and pairing takes it out.
    assert both[0].error is not None
    assert both[1].error is not None
    assert both[1].error < both[0].error


def test_every_value_with_a_direction_is_told_even_without_a_gate(measured: Measured) -> None:
    found = margins(replace(measured, suite=replace(SUITE, gates=(Gate(value="clip_score", not_worse_than=BASELINE),))))
    free = {one.value: one for one in found if not one.gate}
    assert {"objective", "clipped_share", "seconds_per_image", "peak_bytes"} <= set(free)
    assert "clip_score" not in free
    assert "saturation" not in free
    assert all(one.margin is None and one.passes is None for one in free.values())


def test_a_value_that_nothing_measured_is_not_told_as_zero(measured: Measured) -> None:
    found = row(measured, value="ssim", not_worse_than=BASELINE, margin=0.1)
    assert (found.smallest, found.passes, found.observed) == (None, None, None)
    assert "was not measured" in found.note
