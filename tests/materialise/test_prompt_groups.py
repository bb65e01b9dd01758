"""Prompts that bring adapters of their own are sampled with these: the same pictures as of a candidate that has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Alphas, Candidate, Grid, Prompt, Stage
from harness.materialise import MaterialiseError, Workbench
from harness.records import Coverage, Finished, Journal
from harness.run.memory_plan import planned
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.run_folder.ledger import Ledger
from tests.fakes import tiny_grid, tiny_suite

SKETCH = Adapter(path="zoo:sketch", weight=0.8)
WORD = Adapter(path="zoo:sketch-word")
PLAIN = Candidate(name="c", model="zoo:base")


def grid(*adapters: tuple[Adapter, ...]) -> Grid:
    """One prompt for each, which brings these adapters."""
    return tiny_grid(prompts=[Prompt(id=f"p{n}", text=f"a red star {n}", adapters=own) for n, own in enumerate(adapters)])


def pictures(root: Path, candidate: Candidate, of: Grid) -> dict[tuple[str, float], str]:
    """By prompt and guidance, the SHA-256 of the picture."""
    job = SuiteRun(tiny_suite(candidates=(candidate,), baseline="c", metrics=("exposure",), gates=(), grid=of), "s.py",
                   Options(root=root, runs=root / "runs"), Silent())
    try:
        assert isinstance(done := job.candidate(candidate), Finished), done
        return {(s.cell.prompt, s.cell.guidance): s.sha256 for s in job.gallery.present("c")}
    finally:
        job.close()


def test_a_prompt_is_drawn_as_by_a_candidate_with_its_adapters(tmp_path: Path) -> None:
    together = pictures(tmp_path / "together", PLAIN, grid((SKETCH,), (), (SKETCH,), (replace(SKETCH, weight=0.3),)))
    for own, prompts in (((SKETCH,), ("p0", "p2")), ((), ("p1",)), ((replace(SKETCH, weight=0.3),), ("p3",))):
        alone = pictures(tmp_path / f"alone {prompts}", replace(PLAIN, adapters=own), grid((), (), (), ()))
        assert {place: sha for place, sha in alone.items() if place[0] in prompts} == {
            place: sha for place, sha in together.items() if place[0] in prompts}
    assert len(set(together.values())) == len(together)


def test_the_rows_of_groups_that_read_alike_are_all_on_record(tmp_path: Path) -> None:
    """Two groups have other block weights of one file: neither's rows replace the other's."""
    own = [replace(SKETCH, blocks=Alphas(default=1.0, parts={"unet": weight})) for weight in (0.5, 0.25)]
    pictures(tmp_path, PLAIN, grid((), (own[0],), (own[1],), (own[0],)))
    ledger = Ledger(tmp_path / "runs" / "tiny")
    try:
        assert ledger.covered("c")
    finally:
        ledger.close()
    records = Journal(tmp_path / "runs/tiny/journal.jsonl").read()[0]
    rows = [(row.stage, row.component) for row in records if isinstance(row, Coverage) and row.of]
    assert len(set(rows)) == len(rows)
    assert [stage for stage, _ in rows if "adapter zoo:sketch" in stage] == [
        "with zoo:sketch 0.8 by part: adapter zoo:sketch", "with zoo:sketch 0.8 by part, also: adapter zoo:sketch"]


def test_an_adapter_of_some_prompts_that_adds_words_is_refused_and_of_all_is_not(tmp_path: Path) -> None:
    def bench(*adapters: tuple[Adapter, ...]) -> Workbench:
        return Workbench.for_grid(grid(*adapters), device="cpu", root=tmp_path)

    with pytest.raises(MaterialiseError, match=r"zoo:sketch-word.*prompt 'p1' brings.*Give it to the candidates"):
        bench((), (WORD,)).inspect(PLAIN)
    bench((), ()).inspect(replace(PLAIN, adapters=(WORD,)))


def test_the_plan_of_memory_counts_the_largest_group_in_the_stages_that_read_the_prompt(tmp_path: Path) -> None:
    def weights(own: tuple[Adapter, ...], candidate: Candidate) -> dict[str, int]:
        of = grid((), own)
        suite = tiny_suite(candidates=(candidate,), baseline="c", grid=of)
        (row,) = planned(suite, [candidate], Workbench.for_grid(of, device="cpu", root=tmp_path))
        assert not isinstance(row.footprint, str)
        return dict(row.footprint.weights())

    staged = replace(PLAIN, stages=(Stage(model="zoo:anime", strength=0.5, prompt="more detail"),))
    for candidate in (PLAIN, staged):
        assert weights((SKETCH,), candidate) == weights((), replace(candidate, adapters=(SKETCH,))) != weights((), candidate)


def test_a_candidate_is_equal_to_one_that_declares_what_every_prompt_brings(tmp_path: Path) -> None:
    brought, declared = (Workbench.for_grid(grid(own, own), device="cpu", root=tmp_path) for own in ((SKETCH,), ()))
    assert brought.weights(PLAIN) == declared.weights(replace(PLAIN, adapters=(SKETCH,)))
