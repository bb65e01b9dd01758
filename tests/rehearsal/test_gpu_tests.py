"""The tests that need a GPU run on the simulated device as they are written, all but those that say why they cannot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rehearsal.as_gpu import CANNOT, SHAPES_ONLY

ROOT = Path(__file__).parents[2]


def test_make_runs_every_file_with_tests_of_a_gpu_and_names_no_other_test() -> None:
    listed = re.search(r"GPU_TESTS := (.*)", (ROOT / "Makefile").read_text())
    assert listed
    places = [ROOT / word for word in listed[1].split()]
    files = {file for file in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text() and file != Path(__file__)}
    assert files
    assert all(any(file == place or place in file.parents for place in places) for file in files)
    text = "".join(file.read_text() for file in files)
    assert all(f"def {name}(" in text for name in (*CANNOT, *SHAPES_ONLY))


@pytest.mark.slow
def test_the_probes_tests_of_a_gpu_pass_and_those_that_cannot_are_skipped_by_name() -> None:
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "tests.rehearsal.as_gpu", "-m", "gpu", "-rs", "-q",
                           "-p", "no:cacheprovider", "tests/probes"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{len(CANNOT)} skipped" in done.stdout
    assert "not on the simulated device" in done.stdout
