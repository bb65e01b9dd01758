"""A sweep that is killed a few times ends like an unbroken one; `make chaos` kills one that samples fifty times."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the chaos run forks")
@pytest.mark.parametrize("race", [(), ("--race",)], ids=["whole", "race"])
def test_a_sweep_killed_three_times_ends_like_an_unbroken_one(race: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("kill.py")), "--painted", "--kills", "3", *race],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout
    assert "nothing lost, nothing doubled" in done.stdout
