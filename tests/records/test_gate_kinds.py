"""Kinds of gates: what is declared of each and how it judges are the same rows, and together they judge every value once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness.check import problems
from harness.check.objective_and_gates import _limits
from harness.declare import BASELINE, Budget, Gate
from harness.records import RUN_VALUES, ValueSpec
from harness.records.gate_kinds import GATE_KINDS, IMAGES, LIMITS, GateKind, gate_kind, kind_of
from harness.records.values import values_from
from reports import judge, load_run, recommend
from reports.figures.gates import against_limits
from reports.gates import PASSED
from reports.gates.judging import JUDGES
from reports.gates.outcome import counted
from reports.page.tables import gate_rows
from reports.verdict.confirm_looks import confirm_looks
from reports.verdict.margins import Measured, margins
from tests.fakes import tiny_suite
from tests.reports import synthetic
from tests.rows import ROWS

WARNINGS = ValueSpec(name="warnings", title="Warnings", unit="warnings", better="lower", kind="count", origin="run", shown=(),
                     definition="warnings of the run")
GIVEN = {"at_least": 0.5, "at_most": 0.5, "not_worse_than": BASELINE}


def test_every_kind_that_is_declared_judges_and_no_other() -> None:
    assert JUDGES.keys() == GATE_KINDS.keys()


def test_no_value_has_two_kinds_and_every_one_of_them_is_known() -> None:
    judged = Counter(value for kind in GATE_KINDS.values() for value in kind.values)
    assert set(judged.values()) == {1}
    assert judged.keys() <= {*RUN_VALUES, *ROWS}


def test_every_value_of_the_run_has_a_kind_of_its_own_and_every_value_of_images_the_common_one() -> None:
    assert all(kind_of(name) != IMAGES for name in values_from("run"))
    assert {kind_of(name) for name in (*ROWS, "objective", "palette_left")} == {IMAGES}


@pytest.mark.parametrize("name", values_from("run"))
def test_an_exact_kind_judges_whole_numbers(name: str) -> None:
    assert gate_kind(name).exact == (RUN_VALUES[name].kind == "count")


@pytest.mark.parametrize("value", [name for kind in GATE_KINDS.values() for name in kind.values if name in values_from("run")])
@pytest.mark.parametrize("word", LIMITS)
def test_a_limit_is_accepted_exactly_where_the_kind_takes_it(value: str, word: str, tmp_path: Path) -> None:
    suite = tiny_suite(gates=(Gate(value=value, **{word: GIVEN[word]}),))
    said = [problem for problem in problems(suite, tmp_path) if value in problem and "takes no" in problem]
    assert bool(said) == (word not in gate_kind(value).limits)


def test_a_rate_of_failures_beyond_all_images_is_refused(tmp_path: Path) -> None:
    suite = tiny_suite(gates=(Gate(value="failure_rate", at_most=5),))
    assert any("at_most is 5" in problem and "from 0 to 1" in problem for problem in problems(suite, tmp_path))
    assert problems(replace(suite, gates=(Gate(value="failure_rate", at_most=0.05),)), tmp_path) == []


@pytest.fixture
def warnings_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of gate of this test's own: a row of a value, a row of the kind, and how it judges."""
    kind = GateKind(values=("warnings",), limits=("at_most",), why_limits="warnings are counted", exact=True, noise="none",
                    kept="Nothing was warned of")
    monkeypatch.setattr("harness.records.values.RUN_VALUES", {**RUN_VALUES, "warnings": WARNINGS})
    monkeypatch.setattr("harness.records.gate_kinds.GATE_KINDS", {**GATE_KINDS, "warnings": kind})
    monkeypatch.setitem(JUDGES, "warnings", lambda run, _, gate, name: counted(run, gate, name, 0, "none on record"))


@pytest.mark.usefixtures("warnings_kind")
def test_a_new_kind_is_judged_shown_and_calibrated_by_its_rows_alone(tmp_path: Path) -> None:
    suite = synthetic.merge_suite(gates=(Gate(value="warnings", at_most=0),), budget=Budget())
    run = load_run(synthetic.write_run(tmp_path, replace(suite, budget=None)))
    verdicts = judge(run, recommend(run))
    assert [(v.status, v.observed, v.limit) for v in verdicts] == [(PASSED, 0, "at most 0")]
    (row,) = gate_rows(run, verdicts)
    assert (row["value"], row["limit"], row["observed"]) == ("Nothing was warned of", "", "0")
    assert against_limits(run, recommend(run)) is None
    assert confirm_looks(suite) == (suite.grid.seeds,)
    of = Measured(run=run, names=("alpha=0", "alpha=0.15"), suite=run.suite, guidance=3.0)
    assert [row.source for row in margins(of) if row.gate] == ["exact"]


@pytest.mark.usefixtures("warnings_kind")
def test_a_new_kind_refuses_the_limits_it_does_not_take() -> None:
    said = list(_limits(Gate(value="warnings", at_least=1), WARNINGS))
    assert [("takes no at_least" in problem, "give at_most" in problem) for problem in said] == [(True, True)]
