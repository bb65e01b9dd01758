"""Kinds of gates: what is declared of each and how it judges are the same rows, and together they judge every value once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness.check import problems
from harness.declare import BASELINE, Gate
from harness.records import RUN_VALUES
from harness.records.gate_kinds import GATE_KINDS, IMAGES, LIMITS, gate_kind, kind_of
from harness.records.values import values_from
from reports.gates.judging import JUDGES
from tests.fakes import tiny_suite
from tests.rows import ROWS

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
