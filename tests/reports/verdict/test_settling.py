"""What a report says of the prompts that would settle it: the same numbers on the page, in Markdown and in the terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from harness.declare import BASELINE, Gate, Grid
from reports import judge, load_run, recommend
from reports.gates import INCONCLUSIVE
from reports.page.build import render
from reports.page.summary import markdown, terminal_table
from reports.read.run import Run
from reports.statistics.settling import prompts_to_settle
from reports.verdict.settling import settling_sentences
from tests.reports import synthetic
from tests.reports.synthetic import Place, planted


def flat(place: Place) -> dict[str, float]:
    """As planted, but alphas hardly differ."""
    own = np.random.default_rng([round(1000 * place.x), int(place.rng.integers(1 << 30))])
    return {**planted(place), "clip_score": 28.0 + 0.3 * place.x + float(own.normal(0, 0.4))}


def run_of(folder: Path, split: tuple[int, int], *gates: Gate) -> Run:
    grid = Grid(prompts=synthetic.prompts(*split), seeds=(1,), guidance_scales=(3.0,), width=32, height=32)
    return load_run(synthetic.write_run(folder, replace(synthetic.merge_suite(), grid=grid, gates=gates), flat))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("tied") / "run", (8, 6), Gate(value="clip_score", not_worse_than=BASELINE, margin=0.1),
                  Gate(value="clip_score", at_most=28.1))


def test_every_tied_control_and_every_tied_cell_has_its_number(tied: Run) -> None:
    rec = recommend(tied)
    controls = [s for s in rec.settling if not s.chosen]
    assert [s.other for s in controls] == [c.other for c in rec.comparisons if c.value == "objective" and c.word == "tied"
                                           and c.other_guidance == c.guidance]
    assert controls
    for of in controls:
        assert of.needed == prompts_to_settle(of.difference)
    # Two controls are one family: of the less clear one of both tied the level is that of two.
    assert {round(of.difference.level, 4) for of in controls} == {0.975}
    cells = {(s.other, s.guidance) for s in rec.settling if s.chosen}
    assert cells == {(c.candidate, c.guidance) for c in rec.cells if c.tied} - {(rec.pick, rec.guidance)}
    assert all(s.difference.low <= 0 <= s.difference.high for s in rec.settling)  # type: ignore[operator]


def test_terminal_markdown_and_page_say_the_same(tied: Run) -> None:
    rec = recommend(tied)
    verdicts = judge(tied, rec)
    console = Console(file=io.StringIO(), width=1000, record=True)
    console.print(terminal_table(tied, rec, verdicts))
    page = re.sub(r"\s+", " ", render(tied, rec, verdicts).replace("&nbsp;", " "))
    texts = (console.export_text(), markdown(tied, rec, verdicts), page)
    sentences = settling_sentences(tied, rec.settling)
    assert len(sentences) == 3
    for sentence in sentences:
        (number, *_) = re.findall(r"[\d,]+ (?:confirm|select) prompts \(now \d\)|\(now \d\): [a-z ]+[\d,]+", sentence)
        assert all(number in text.replace("\\", "") for text in texts)


def test_an_open_gate_says_how_many_prompts_and_which_way(tied: Run) -> None:
    for verdict in judge(tied, recommend(tied)):
        assert verdict.status == INCONCLUSIVE
        assert verdict.observed is not None
        inside = verdict.observed >= verdict.at_least if verdict.at_least is not None else (
            verdict.observed <= (verdict.at_most or 0))
        assert f"to {'pass' if inside else 'fail'} it needs " in verdict.reason
        assert "(now 6)" in verdict.reason


def test_of_two_prompts_no_number_is_given(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", (2, 2), Gate(value="clip_score", not_worse_than=BASELINE, margin=0.1))
    rec = recommend(run)
    assert settling_sentences(run, rec.settling) == (
        "How many confirm or select prompts would settle what is tied cannot be said from 2.",)
    (verdict,) = judge(run, rec)
    assert "cannot be said from 2 prompts" in verdict.reason


def test_the_failure_rate_names_the_prompts_too(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", (8, 6), Gate(value="failure_rate", at_most=0.01))
    (verdict,) = judge(run, recommend(run))
    # 1.96^2 x 99 images, one for each prompt.
    assert verdict.status == INCONCLUSIVE
    assert "it needs very roughly 400 prompts (now 14)" in verdict.reason
