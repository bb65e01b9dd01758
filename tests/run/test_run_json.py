"""run.json says the suite as it is now, and keeps what an earlier race added until this one has ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.declare import Budget, Suite
from harness.run.run_json import RunJson, Session, race_of
from tests.fakes import tiny_suite

SESSION = Session(suite_file="s.py", command=(), environment={"cpu": "x"}, sampling={}, metric_settings={}, not_offered={})
DECLARED = tiny_suite(budget=Budget(first_prompts=2))
NEW = replace(DECLARED.candidates[1], name="alpha=0.25", axes={"alpha": 0.25})


def opened(folder: Path, declared: Suite = DECLARED) -> RunJson:
    file = folder / "run.json"
    session = replace(SESSION, race=race_of(declared, {}))
    return RunJson(folder, declared, session, json.loads(file.read_text()) if file.exists() else {})


def said(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return {"added": facts["added"], "names": [c["name"] for c in facts["suite"]["candidates"]]}


def test_a_candidate_that_is_added_stands_behind_the_one_that_is_named(tmp_path: Path) -> None:
    run_json = opened(tmp_path)
    run_json.grow({"alpha=0": (NEW,)})
    assert said(tmp_path) == {"added": ["alpha=0.25"], "names": ["alpha=0", "alpha=0.25", "alpha=0.5", "alpha=1"]}
    assert [c.name for c in run_json.suite.candidates] == said(tmp_path)["names"]


def test_the_file_keeps_what_an_earlier_session_added_until_the_race_has_settled(tmp_path: Path) -> None:
    opened(tmp_path).grow({"alpha=0": (NEW,)})
    again = opened(tmp_path)
    again.as_declared()
    assert again.suite == DECLARED
    assert said(tmp_path)["added"] == ["alpha=0.25"]
    again.settled()
    assert said(tmp_path)["added"] == []


def test_another_declaration_forgets_what_was_added(tmp_path: Path) -> None:
    opened(tmp_path).grow({"alpha=0": (NEW,)})
    assert opened(tmp_path, replace(DECLARED, budget=Budget(first_prompts=3))).suite.candidates == DECLARED.candidates


def test_a_fact_is_noted_in_its_place(tmp_path: Path) -> None:
    run_json = opened(tmp_path)
    before = list(run_json.facts)
    run_json.note(not_selected=["alpha=1"])
    assert json.loads((tmp_path / "run.json").read_text())["not_selected"] == ["alpha=1"]
    assert list(run_json.facts) == before


def test_no_password_of_the_command_line_is_written(tmp_path: Path) -> None:
    words = ("pytest", "suites/", "--benchmark", "--shared-cache", "redis://ci:hunter2secret@cache/0",
             "--shared-cache=rediss://:hunter2secret@cache/0")
    RunJson(tmp_path, DECLARED, replace(SESSION, command=words), {})
    written = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert "hunter2secret" not in written
    assert "redis://cache/0" in written
