"""A suite within a session: read back once for all who ask, and two closing lines whatever happened."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Gate
from harness.run.progress import Silent
from harness.run.suite_run import SuiteRun
from harness.session.session import Session
from harness.session.suite_session import SuiteSession
from harness.session.terminal import closing, tables
from reports.read.run import load_run
from tests.painted import paint_runs
from tests.race.painted import DeclaredBench, session_options, suite

GATES = (Gate(value="failures", at_most=0), Gate(value="saturation", at_least=1e-6))


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A painted suite whose candidates are done; nothing is judged yet."""
    paint_runs(monkeypatch, DeclaredBench)
    of = SuiteSession(suite(None, gates=GATES), "s.py", session_options(tmp_path), Silent())
    of.select(of.suite.candidates)
    for candidate in of.suite.candidates:
        assert of.candidate(candidate) == []
    yield of
    of.close()


@pytest.mark.parametrize("own_process", [False, True])
def test_what_a_suite_leaves_is_exempt_from_collection_only_in_a_process_of_its_own(
        ran: SuiteSession, own_process: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[str] = []
    monkeypatch.setattr("harness.run.suite_run.free_memory", lambda _: collected.append("models freed"))
    monkeypatch.setattr(gc, "freeze", lambda: collected.append("exempt"))
    ran.options = replace(ran.options, own_process=own_process)
    ran.release()
    assert collected == ["models freed", "exempt"][:1 + own_process]


def test_gates_page_and_closing_lines_come_of_one_reading(ran: SuiteSession, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr("reports.analysis.analysed_run.read_run", lambda folder: (read.append(folder), load_run(folder))[1])
    monkeypatch.setattr("reports.page.build.load_run", lambda folder: pytest.fail("the page reads for itself"))
    assert [[v.status for v in ran.verdicts(gate.name)] for gate in GATES] == [["passed"], ["passed"]]
    assert ran.report() is ran.analysis()
    tables([ran], colour=False)
    assert closing([ran])[1] == f"page: {ran.folder / 'report.html'}"
    assert read == [ran.folder]


def test_what_is_sampled_later_is_read_again(ran: SuiteSession) -> None:
    before = ran.analysis()
    ran.candidate(ran.suite.candidates[0])
    assert ran.analysis() is not before


def test_a_page_that_cannot_be_written_is_said_in_the_closing_line(ran: SuiteSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no room\x1b[31m")

    monkeypatch.setattr("reports.page.build.write_page", full)
    tables([ran], colour=False)
    (line,) = closing([ran])
    assert line.startswith("tiny: ")
    assert "no room" in line
    assert f"sweetspot report {ran.folder}" in line
    assert "\x1b" not in line


def test_two_suites_of_one_name_would_share_a_folder_and_both_are_refused(tmp_path: Path) -> None:
    session = Session(session_options(tmp_path), Silent())
    first, second = session.add(suite(None), "a.py"), session.add(suite(None), "b.py")
    assert first is not None
    assert second is not None
    assert any("b.py declares the name 'tiny'" in problem for problem in first.problems)
    assert any("a.py declares the name 'tiny'" in problem for problem in second.problems)
    assert second.preflight() == second.problems


def test_candidates_that_the_device_does_not_offer_are_not_selected(tmp_path: Path) -> None:
    half = Candidate(name="half", model="zoo:photo", quantization="fp16")
    declared = suite(None, candidates=(*suite(None).candidates, half))
    of = SuiteSession(declared, "s.py", session_options(tmp_path), Silent())
    of.select(declared.candidates)
    assert of.selected == ["alpha=0", "alpha=0.5", "alpha=1"]


class Recorder(Silent):
    """Remembers what was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, doing: str) -> None:
        self.begun.append(doing)


def test_the_display_hears_of_every_stage(tmp_path: Path, ran: SuiteSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SuiteRun, "costs", lambda *_: [])
    display = Recorder()
    of = SuiteSession(ran.suite, "s.py", session_options(tmp_path / "again"), display)
    try:
        of.go()
    finally:
        of.close()
    own = dict.fromkeys(text for text in display.begun if text.startswith("tiny alpha=0.5: "))
    stages = ("read the model files", "look for images", "materialise", "sample")
    assert list(own) == [f"tiny alpha=0.5: {stage}" for stage in stages]
    assert display.begun[-3:] == ["tiny: timing the candidates", "tiny: judging", "tiny: writing the page"]
