"""What a race spent is said in full, and what it never asked for is no gap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.declare import Budget, Suite
from harness.records import Dropped, Journal, Latency, Look, Memory, Record
from reports import load_run, recommend
from reports.page.build import render
from reports.page.summary import markdown
from reports.read.interim_looks import exits, last_candidates
from reports.read.run import Run
from reports.verdict.costs import seconds_per_image
from reports.verdict.race_summary import drop_rows, exit_words, look_rows, spending_section, spent
from tests.reports import synthetic

GONE = "alpha=0.15"
SUITE = synthetic.merge_suite(budget=Budget(first_prompts=4, step_prompts=4), gates=(), grid=replace(
    synthetic.merge_suite().grid, guidance_scales=(3.0, 8.0)))
PROMPTS = [p.id for p in SUITE.grid.prompts]


def look(number: int, **changes: Any) -> Look:
    fields: dict[str, Any] = {"race": "r", "number": number, "stage": "select", "guidances": SUITE.grid.guidance_scales,
                              "candidates": tuple(c.name for c in SUITE.candidates), "prompts": tuple(PROMPTS[:4]),
                              "seeds": SUITE.grid.seeds, "images": 112, "level": 0.975, "why": "look 1 of 2"}
    return Look(**{**fields, **changes})


LOST = tuple(Dropped(candidate=GONE, guidance=g, mean=-g, low=-9.0, high=-1.0) for g in (3.0, 8.0))
LOOKS = (look(1, dropped=LOST),
         look(2, candidates=tuple(c.name for c in SUITE.candidates if c.name != GONE), prompts=tuple(PROMPTS[4:8]), images=208))


def written(folder: Path, suite: Suite = SUITE, looks: tuple[Look, ...] = LOOKS, **head: Any) -> Run:
    """A run whose journal has all images, of which the looks asked for some; GONE was not timed."""
    synthetic.write_run(folder, suite, **{"race": "r", "added": [], **head})
    journal = Journal(folder / "journal.jsonl")
    kept: list[Record] = [r for r in journal.read()[0] if not (r.candidate == GONE and isinstance(r, Latency | Memory))]
    journal.path.unlink()
    journal.add([*kept, *looks])
    return load_run(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return written(tmp_path_factory.mktemp("runs") / "dress")


def test_only_what_the_looks_asked_for_counts(run: Run) -> None:
    counts = run.images.groupby("candidate").size().to_dict()
    assert counts == {c.name: 16 if c.name == GONE else 32 for c in SUITE.candidates}
    assert set(run.images["prompt"]) == {*PROMPTS[:8]}


def test_what_was_never_asked_for_is_no_gap(run: Run) -> None:
    assert not [gap for gap in run.missing if gap.value == "image"]
    why = "dropped at interim look 1; only what stays to the end is timed"
    told = [(gap.value, gap.why) for gap in run.missing if gap.candidate == GONE and gap.value != "psnr_db"]
    assert told == [("seconds_per_image", why), ("peak_bytes", why)]
    assert seconds_per_image(run, GONE).why == why


def test_an_image_that_was_asked_for_and_is_not_there_is_a_gap(tmp_path: Path) -> None:
    whole = written(tmp_path, looks=(*LOOKS, look(3, stage="confirm", candidates=("alpha=0",), prompts=("p08",))))
    assert len(whole.images) == len(written(tmp_path).images) + 4
    folder = tmp_path / "journal.jsonl"
    folder.write_text("".join(line for line in folder.read_text().splitlines(keepends=True)
                              if not ('"kind":"sample"' in line and '"p08"' in line and '"alpha=0"' in line)))
    Journal(folder).add([look(3, stage="confirm", candidates=("alpha=0",), prompts=("p08",))])
    assert [(g.candidate, g.count) for g in load_run(tmp_path).missing if g.value == "image"] == [("alpha=0", 4)]


def test_looks_of_another_declaration_count_for_nothing(tmp_path: Path) -> None:
    run = written(tmp_path, race="another")
    assert run.looks == ()
    assert len(run.images) == len(SUITE.candidates) * len(PROMPTS) * 4
    assert spent(run) is None
    assert spending_section(run) is None


def test_the_sentence_says_how_much_of_the_whole_grid_was_made(run: Run) -> None:
    total = spent(run)
    assert total is not None
    assert (total.images, total.whole) == (208, 7 * 12 * 2 * 2)
    assert total.summary == "208 images in 2 interim looks, 62 % of the 336 of the whole grid."


def test_candidates_added_on_the_way_belong_to_no_whole_grid(tmp_path: Path) -> None:
    total = spent(written(tmp_path, added=["alpha=0.45"]))
    assert total is not None
    assert total.summary == (
        "208 images in 2 interim looks, 1 candidate added during the sweep; the whole grid of the declared candidates has 288.")
    assert "%" not in total.summary, "a share of a grid that they are no part of"


def test_every_look_and_every_dropped_cell_has_a_row(run: Run) -> None:
    assert [(row.number, row.prompts, row.dropped, row.images) for row in look_rows(run)] == [
        (1, "4 × 2 seeds", "alpha 0.15 at CFG 3, 8", "112"), (2, "4 × 2 seeds", "–", "208")]
    assert [(row.candidate, row.guidance, row.look, row.behind) for row in drop_rows(run)] == [
        ("alpha 0.15", "3", 1, "−3.00 [−9.00, −1.00]"), ("alpha 0.15", "8", 1, "−8.00 [−9.00, −1.00]")]


RULED = "Clipped pixels 25.0 % [20.0 %, 30.0 %], at most 5.0 % was asked for"


def test_what_a_constraint_ruled_out_is_not_called_worse(tmp_path: Path) -> None:
    lost = (replace(LOST[0], why=RULED), replace(LOST[1], mean=2.0, low=1.0, high=3.0, why=RULED))
    run = written(tmp_path, looks=(look(1, dropped=lost), LOOKS[1]))
    assert [row.behind for row in drop_rows(run)] == [RULED, RULED]
    assert exit_words(run) == {GONE: f"ruled out at interim look 1: {RULED}"}
    said = recommend(run).caveats
    assert not any("worse than the best" in c for c in said)
    assert (f"Not ranked, because an interim look ruled them out by a constraint: alpha 0.15 at CFG 3 ({RULED}) and "
            f"alpha 0.15 at CFG 8 ({RULED}).") in said


def test_a_drop_without_numbers_says_that_nothing_was_compared(tmp_path: Path) -> None:
    lost = tuple(replace(one, mean=None, low=None, high=None) for one in LOST)
    run = written(tmp_path, looks=(look(1, dropped=lost), LOOKS[1]))
    assert {row.behind for row in drop_rows(run)} == {"not measured"}
    assert exit_words(run) == {GONE: "dropped at interim look 1, not measured"}


def test_verdict_and_section_name_the_same_share_of_the_same_grid(tmp_path: Path) -> None:
    run = written(tmp_path, added=["alpha=0.45"])
    total = spent(run)
    assert total is not None
    assert any("208 images were sampled; the whole grid of the declared candidates has 288." in r for r in recommend(run).reasons)


def test_a_candidate_is_out_when_its_last_cell_is(run: Run) -> None:
    assert exit_words(run) == {GONE: "dropped at interim look 1, −3.00 [−9.00, −1.00]"}
    assert exits(SUITE, [look(1, dropped=LOST[:1])]) == {}


def test_the_last_candidates_are_those_of_the_last_common_look_and_after() -> None:
    late = look(3, stage="gate", candidates=(GONE,))
    assert GONE not in last_candidates(LOOKS)
    assert GONE in last_candidates((*LOOKS, late))
    assert last_candidates((look(1, stage="search", candidates=("search 1",)), *LOOKS)) == LOOKS[1].candidates


def test_page_and_markdown_say_what_was_spent(run: Run) -> None:
    rec = recommend(run)
    page = render(run, rec, [])
    assert "What was spent" in page
    assert "dropped at interim look 1, −3.00 [−9.00, −1.00]" in page
    assert "Spent: 208 images in 2 interim looks" in markdown(run, rec, [])


def test_a_run_without_looks_has_no_such_section(merge_run: Run, merge_page: Path) -> None:
    assert "What was spent" not in merge_page.read_text()
    assert exit_words(merge_run) == {}


def test_trials_of_a_search_are_only_in_the_looks(tmp_path: Path) -> None:
    tried = look(1, stage="search", candidates=("search 1", "search 2"), images=8)
    run = written(tmp_path, looks=(tried, *(replace(one, number=one.number + 1) for one in LOOKS)))
    assert look_rows(run)[0].candidates == "2: search 1 and search 2"
    assert "search 1" not in set(run.images["candidate"])
