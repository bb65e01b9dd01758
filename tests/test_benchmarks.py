"""The benchmark scripts run to their end, small; what they measure decides nothing here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_clock_of_a_sweep_runs_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "tests/benchmarks/sweep.py", "--rounds", "1", "--prompts", "1", "--steps", "2",
               "--plain-prompts", "1", "--batch", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                               "SWEETSPOT_CACHE": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(figures["images_per_second"]) == 5
    assert all(value > 0 for value in figures["images_per_second"].values())


def test_the_clock_of_workers_runs_to_its_end_and_kills_change_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "tests/benchmarks/workers.py", "--only", "simulated", "kills", "--cells", "2000", "--kills", "3",
               "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert [one["images"] for one in figures["simulated"]] == [2000] * 3
    assert figures["kills"]["as_unbroken"] and figures["kills"]["kills"] == 3
