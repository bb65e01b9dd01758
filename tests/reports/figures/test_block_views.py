"""Alphas by block are drawn as declared, and what one block does is the paired difference from the baseline."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.declare import Blocks, Candidate, Gradient, Merge
from harness.declare.sweeps import block_sweep
from reports.figures import FIGURES
from reports.figures.blocks import named_blocks
from reports.read.run import Run, load_run
from reports.verdict.recommending import recommend
from tests.reports import synthetic

BASE = Candidate(name="a", model=Merge(a="zoo:photo", b="zoo:anime", alpha=0))
RISING = tuple(round(i / 25, 2) for i in range(26))


def run_of(folder: Path, *candidates: Candidate) -> Run:
    return load_run(synthetic.write_run(folder, synthetic.merge_suite(
        candidates=(BASE, *candidates), baseline="a", gates=(), grid=synthetic.SMALL)))


def blocked(name: str, **alpha: object) -> Candidate:
    return Candidate(name=name, model=Merge(a="zoo:photo", b="zoo:anime", alpha=Blocks(**alpha)))  # type: ignore[arg-type]  # by row


@pytest.mark.parametrize(("count", "first", "last"), [(26, "BASE", "OUT11"), (25, "IN00", "OUT11"), (20, "BASE", "OUT08"),
                                                      (19, "IN00", "OUT08"), (61, "CLIP", "OUT")])
def test_blocks_have_the_names_of_the_trade(count: int, first: str, last: str) -> None:
    names = list(named_blocks(Blocks(values=[0.5] * count)))
    assert (len(names), names[0], names[-1]) == (count, first, last)


def test_a_base_that_is_given_beside_the_values_comes_first() -> None:
    assert next(iter(named_blocks(Blocks(values=RISING[:25], base=0.3)).items())) == ("BASE", 0.3)


def test_each_candidate_has_a_bar_per_block_with_its_declared_alpha(tmp_path: Path) -> None:
    run = run_of(tmp_path, blocked("rising", values=RISING), blocked("falling", values=RISING[::-1]))
    figure = FIGURES["blocks"].build(run, recommend(run))
    drawn = {trace.name.removesuffix(" ★"): tuple(trace.y) for trace in figure.data}
    assert drawn == {"rising": RISING, "falling": RISING[::-1]}
    assert figure.data[0].x[1] == "IN00"


def test_presets_and_gradients_are_named_beside_the_bars_and_never_invented(tmp_path: Path) -> None:
    deep = Candidate(name="deep", model=Merge(a="zoo:photo", b="zoo:anime", alpha=Gradient(values=(0, 1))))
    run = run_of(tmp_path, blocked("mine", values=RISING), blocked("known", preset="GRAD_V"), deep)
    figure = FIGURES["blocks"].build(run, recommend(run))
    said = " ".join(figure.layout.meta["says"])
    assert len(figure.data) == 1
    assert "known has the preset GRAD_V" in said
    assert "deep has alphas that change with depth, through 0, 1" in said


def test_a_block_s_effect_is_its_paired_difference_from_the_baseline(tmp_path: Path) -> None:
    run = run_of(tmp_path, *block_sweep(Merge(a="zoo:photo", b="zoo:anime"), ["IN04", "M00"], [0.5, 1]))
    figure = FIGURES["effects"].build(run, recommend(run))
    select = run.images[run.images["split"] == "select"].set_index(["candidate", "prompt"])["objective"]
    expected = (select["M00=1"] - select["a"]).mean()
    assert [t.name for t in figure.data] == ["alpha 0.5 in the block", "alpha 1 in the block"]
    assert list(figure.data[1].x) == ["IN04", "M00"]
    assert figure.data[1].y[1] == pytest.approx(expected)
    assert figure.data[1].error_y.array[1] > 0


def test_a_suite_without_blocks_has_neither_view(merge_run: Run) -> None:
    assert FIGURES["blocks"].build(merge_run, recommend(merge_run)) is None
    assert FIGURES["effects"].build(merge_run, recommend(merge_run)) is None
