"""What page, Markdown and terminal say of workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.records.worker_sessions import WORKERS, with_session
from reports import judge, load_run, recommend
from reports.page import worker_table
from reports.page.build import render
from reports.page.summary import markdown
from reports.page.worker_table import together, worker_section, workers_of_session
from reports.read.run import Run
from tests.records.test_worker_sessions import session, work
from tests.reports import synthetic


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(synthetic.write_run(tmp_path_factory.mktemp("workers") / "run", synthetic.merge_suite()))


@pytest.fixture(scope="module")
def run(plain: Run) -> Run:
    """One in whose last session a worker was lost."""
    lost = work(1, images=8, seconds_busy=2.0, seconds_waiting=0.0, repeated=4, lost="ended by <i>SIGKILL")
    head = {**plain.head, WORKERS: with_session(plain.head, session("earlier"))}
    return replace(plain, head={**head, WORKERS: with_session(head, session(str(plain.head["started"]), work(0), lost))})


def test_a_run_without_workers_says_nothing_of_them(plain: Run) -> None:
    assert worker_section(plain) is None
    assert workers_of_session(plain) == ""
    assert "h-workers" not in render(plain, recommend(plain), [])


def test_each_session_says_what_its_workers_did_the_last_one_first(run: Run) -> None:
    section = worker_section(run)
    assert section is not None
    assert [one["title"].partition(",")[0] for one in section["sessions"]] == ["--workers local:2", "--workers local:2"]
    assert section["sessions"][1]["title"].endswith("earlier")
    (first, second) = section["sessions"][0]["rows"]
    assert first["cells"] == ["cuda:0", "30", "9.00 s", "1.00 s", "0"]
    assert (second["cells"][1:], second["lost"]) == (["8", "2.00 s", "0.00 ms", "4"], "ended by <i>SIGKILL")
    assert len(section["columns"]) == len(first["cells"]) + 1


def test_pace_busy_share_and_losses_are_in_one_sentence(run: Run) -> None:
    assert workers_of_session(run) == ("2 workers made 38 images in 10.00 s, 3.8 a second. They were busy 92% of their time. "
                                       "1 worker lost; 4 images that it was given went to others.")
    assert together(replace(session(), workers=(work(0, images=0),))) == "1 worker made no image."


def test_a_session_of_an_earlier_day_is_not_told_in_the_terminal(plain: Run) -> None:
    assert workers_of_session(replace(plain, head={**plain.head, WORKERS: with_session({}, session("earlier"))})) == ""


def test_more_workers_than_rows_are_summed(plain: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_table, "ROWS", 2)
    many = replace(plain, head={**plain.head, WORKERS: with_session({}, session("x", *map(work, range(5))))})
    section = worker_section(many)
    assert section is not None
    assert (len(section["sessions"][0]["rows"]), section["sessions"][0]["more"]) == (2, "3 more workers made 90 images.")


def test_page_and_markdown_show_them_escaped(run: Run, tmp_path: Path) -> None:
    rec = recommend(run)
    page = render(run, rec, judge(run, rec))
    assert 'href="#h-workers"' in page
    assert "ended by &lt;i&gt;SIGKILL" in page
    assert page.count("<details><summary>Earlier sessions (1)") == 1
    assert "Workers: 2 workers made 38 images" in markdown(run, rec, [])
