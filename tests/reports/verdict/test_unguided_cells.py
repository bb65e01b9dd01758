"""A grid of CFG 1 and other scales: prompts that differ in the negative alone are one question where CFG 1 takes part."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Candidate, Objective, Prompt
from harness.check import problems
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from reports.analysis import load_run
from reports.page.tables import candidate_rows
from reports.statistics.intervals import CLUSTER, clustered
from tests.fakes import tiny_grid, tiny_suite
from tests.painted import paint_runs

PROMPTS = (Prompt(id="a", text="a red ball", negative="blurry"), Prompt(id="b", text="a red ball", negative="dark"),
           Prompt(id="c", text="a blue car"), Prompt(id="d", text="a white house"))


def suite(*scales: float, prompts: tuple[Prompt, ...] = PROMPTS):
    candidates = tuple(Candidate(name=name, model=f"zoo:{name}") for name in ("photo", "anime"))
    return tiny_suite(candidates=candidates, baseline="photo", gates=(), metrics=("exposure",),
                      objective=Objective(maximise="saturation", penalties=()),
                      grid=tiny_grid(prompts=prompts, guidance_scales=scales, width=16, height=16))


@pytest.fixture
def run_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paint_runs(monkeypatch)

    def made(*scales: float):
        declared, root = suite(*scales), tmp_path / "-".join(map(str, scales))
        run = SuiteRun(declared, "s.py", Options(root=tmp_path, runs=root), Silent())
        for candidate in declared.candidates:
            run.candidate(candidate)
        run.close()
        return load_run(root / "tiny")

    return made


def test_each_cell_counts_the_questions_that_its_scale_tells_apart(run_of):
    run = run_of(1, 4)
    counts = {at: clustered(run.images[run.images["guidance"] == at])[CLUSTER].nunique() for at in (1, 4)}
    assert counts == {1: 3, 4: 4}
    assert clustered(run.images)[CLUSTER].nunique() == 3
    assert {cell.objective.prompts for cell in run.recommendation.cells} == {3}


@pytest.mark.parametrize(("scales", "words"), [
    ((1, 4), "the same text count as one at CFG 1, where negatives have no effect, and wherever this scale is compared"),
    ((1,), "the same text count as one: a = b"), ((4,), "")])
def test_it_is_said_where_prompts_count_as_one(scales, words, run_of):
    run = run_of(*scales)
    sentences = [text for text in run.recommendation.caveats if "count as one" in text]
    assert len(sentences) == bool(words)
    assert all(words in text and text.endswith("a = b.") for text in sentences)
    counts = [row["n"] for row in candidate_rows(run, run.recommendation)]
    assert counts == [f"4 ({4 if scales == (4,) or run.recommendation.guidance == 4 else 3})"] * 2


@pytest.mark.parametrize(("scales", "refused"), [((1, 4), True), ((1,), True), ((4,), False)])
def test_a_negative_alone_does_not_hold_a_prompt_out(scales, refused, tmp_path):
    held_out = Prompt(id="e", text="a red ball", negative="grey", split="confirm")
    listed = [text for text in problems(suite(*scales, prompts=(*PROMPTS, held_out)), tmp_path) if "confirmed on what" in text]
    assert len(listed) == refused
    assert all("'a' (select) and 'e' (confirm) have the same text" in text for text in listed)
