"""A declaration may name rows of the user's own; what is wrong with them is said with all other problems."""

from pathlib import Path

import pytest

from harness import Candidate, Fused, Merge, Suite
from harness.check import load_rows, problems
from tests.fakes import tiny_suite
from tests.own_code import clean_imports, write

pytestmark = pytest.mark.usefixtures(clean_imports.__name__)

ROWS = """
from dataclasses import replace
from harness.merge import MERGE_METHODS
from harness.metrics import METRICS, ValueSpec
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES
METHOD, METRIC = MERGE_METHODS["weighted_sum"], METRICS["exposure"]
MODE, RUNTIME = QUANTIZATION_MODES["bf16"], RUNTIMES["eager"]
def own(name):
    return replace(METRIC, values=(ValueSpec(name=name, title="Own", unit="points", better="higher", definition="own"),))
WARMTH, SEED, AGAIN = own("warmth"), own("seed"), own("warmth")
"""


def suite(module: str = "mine", **changes: object) -> Suite:
    """A suite that names rows of one's own in every place there is."""
    merge = Merge(a="zoo:photo", b=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, method=f"{module}:METHOD"), alpha=0.5)
    candidates = (Candidate(name="alpha=0", model=merge, quantization=f"{module}:MODE", runtime=f"{module}:RUNTIME"),
                  Candidate(name="other", model="zoo:anime", axes={"alpha": 1}))
    metrics = ("clip_score", "palette", "exposure", f"{module}:WARMTH")
    return tiny_suite(**{"candidates": candidates, "metrics": metrics, **changes})


def said(tmp_path: Path, of: Suite) -> list[str]:
    load_rows(of, [tmp_path / "suites", tmp_path])
    return problems(of, tmp_path)


def test_rows_beside_the_suite_are_no_problem(tmp_path: Path) -> None:
    write(tmp_path, "suites/mine.py", ROWS)
    assert said(tmp_path, suite()) == []


def test_a_quantization_of_ones_own_takes_no_precision_and_both_ways_out_work(tmp_path: Path) -> None:
    write(tmp_path, "suites/mine.py", ROWS)

    def declared(**changes: str) -> Suite:
        return tiny_suite(candidates=(Candidate(name="x", model="zoo:photo", **changes),), baseline="x")  # type: ignore[arg-type]

    (problem,) = said(tmp_path, declared(quantization="mine:MODE", precision="bf16"))
    assert "remove precision, or measure bf16 without quantization" in problem
    for mended in ({"quantization": "mine:MODE"}, {"precision": "bf16"}):
        assert said(tmp_path, declared(**mended)) == []


def test_problems_of_all_rows_are_said_at_once(tmp_path: Path) -> None:
    phrases = said(tmp_path, suite("absent_module"))
    for row in ("METHOD", "MODE", "RUNTIME", "WARMTH"):
        assert sum(f"absent_module:{row}" in phrase for phrase in phrases) == 1


def test_a_check_by_itself_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "hostile.py", "from pathlib import Path\nPath(__file__).with_name('ran').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(problems(suite("hostile"), tmp_path)) == 4
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("metrics", "facts"), [
    (("clip_score", "palette", "exposure", "mine:METRIC"), ["'exposure'", "'mine:METRIC'", "clipped_share"]),
    (("clip_score", "palette", "exposure", "mine:WARMTH", "mine:AGAIN"), ["'mine:WARMTH'", "'mine:AGAIN'", "'warmth'"]),
    (("clip_score", "palette", "exposure", "mine:SEED"), ["'mine:SEED'", "'seed'"])])
def test_a_value_that_has_the_name_of_something_else_is_a_problem(tmp_path: Path, metrics: tuple[str, ...],
                                                                 facts: list[str]) -> None:
    write(tmp_path, "suites/mine.py", ROWS)
    phrases = said(tmp_path, suite(metrics=metrics))
    assert any(all(fact in phrase for fact in facts) for phrase in phrases), phrases


def test_an_axis_that_has_the_name_of_a_value_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "suites/mine.py", ROWS)
    candidate = Candidate(name="alpha=0", model="zoo:photo", axes={"warmth": 1})
    assert any("'my_warmth'" in phrase for phrase in said(tmp_path, suite(candidates=(candidate,))))


def test_a_gate_and_an_objective_may_ask_for_a_value_of_ones_own(tmp_path: Path) -> None:
    from harness import Gate, Objective

    write(tmp_path, "suites/mine.py", ROWS)
    assert said(tmp_path, suite(gates=(Gate(value="warmth", at_least=0.1),), objective=Objective(maximise="warmth"))) == []


@pytest.mark.parametrize("declared", [
    None, 3, Suite(name=3, candidates=7, baseline=None, grid=None, metrics=4, search=5),  # type: ignore[arg-type]
    Suite(name="x", candidates=(3, None), baseline="", grid=None, metrics=(3, None)),  # type: ignore[arg-type]
    Merge(a=3, b=None, more=4, take=5, method=6),  # type: ignore[arg-type]
    Fused(model=3, adapters=4)])  # type: ignore[arg-type]
def test_whatever_stands_in_a_declaration_loading_its_rows_raises_nothing(declared: object, tmp_path: Path) -> None:
    load_rows(declared, [tmp_path])
