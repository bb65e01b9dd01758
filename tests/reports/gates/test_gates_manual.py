"""The manual of gates shows declarations that are sound, and says every kind and every word that there is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Gate, Objective, alpha_sweep
from harness.check import problems
from harness.metrics import METRICS
from harness.records.values import values_from
from reports.gates import FAILED, INCONCLUSIVE, NOT_MEASURED, PASSED
from tests.fakes import tiny_suite

ROOT = Path(__file__).parents[3]
MANUAL = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")


def shown() -> tuple[list[Gate], Objective]:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL):
        exec(code, names)
    return names["GATES"], names["OBJECTIVE"]


def test_the_declarations_shown_are_sound(tmp_path: Path) -> None:
    gates, objective = shown()
    candidates = alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 0.65, 1))
    suite = tiny_suite(gates=gates, objective=objective, candidates=candidates)
    assert problems(suite, tmp_path) == []
    assert problems(replace(suite, objective=Objective()), tmp_path) == []
    assert len({suite.gate_name(gate) for gate in gates}) == len(gates)


def test_every_kind_of_gate_is_shown_and_explained() -> None:
    gates, _ = shown()
    of_the_run = values_from("run")
    assert {gate.value for gate in gates} >= of_the_run.keys()
    paired = [spec.name for metric in METRICS.values() for spec in metric.values if spec.paired]
    for value in (*of_the_run, *paired):
        assert f"`{value}`" in MANUAL


def test_every_outcome_is_explained() -> None:
    for status in (PASSED, FAILED, INCONCLUSIVE, NOT_MEASURED):
        assert re.search(rf"^\| {status.replace('_', ' ')} \|", MANUAL, re.MULTILINE)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", MANUAL)
    assert links
    assert all((ROOT / "docs" / link).is_file() for link in links)
