"""The suites that are run by name are sound, and the built-in job leaves them out."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.check import problems
from harness.declare.load_suite import load_suite
from harness.runtimes import RUNTIMES

ROOT = Path(__file__).parent.parent
EXTRA = sorted((ROOT / "suites" / "extra").glob("*.py"))


@pytest.mark.parametrize("file", EXTRA, ids=lambda file: file.stem)
def test_a_suite_that_is_run_by_name_is_sound_and_in_the_readme(file: Path) -> None:
    assert problems(load_suite(file), ROOT) == []
    assert f"pytest suites/extra/{file.name} --benchmark" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_suite_of_runtimes_tries_every_built_in_one_with_changing_weights() -> None:
    suite = load_suite(ROOT / "suites" / "extra" / "runtimes.py")
    alphas = {runtime: [c.axes["alpha"] for c in suite.candidates if c.runtime == runtime] for runtime in RUNTIMES}
    assert {c.runtime for c in suite.candidates} == {*RUNTIMES}
    assert set(map(tuple, alphas.values())) == {(0.0, 0.5)}


def test_the_built_in_job_leaves_them_out() -> None:
    listed = subprocess.run([sys.executable, "-m", "pytest", "suites", "--collect-only", "-q", "-p", "no:cacheprovider"],
                            cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "alpha_cfg.py" in listed
    assert EXTRA
    assert not [file.name for file in EXTRA if file.name in listed]
