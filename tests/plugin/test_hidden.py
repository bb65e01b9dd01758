"""A package `harness` of the user's that hides ours is named: it stops a benchmark, and other tests run beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRY = ("-m", "pytest", "-p", "pytest_benchmark.plugin", "-p", "sweetspot_pytest", "-p", "no:cacheprovider")


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder, which comes first on the path."""
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *ENTRY, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_own.py").write_text("def test_nothing():\n    pass\n")
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "mine.py").write_text("from harness import Suite\nSUITE = 1\n")
    return tmp_path


@pytest.mark.parametrize("name", ["harness/__init__.py", "harness/tools.py", "harness.py"])
def test_a_package_of_the_users_stops_a_benchmark_and_is_named(project: Path, name: str) -> None:
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("")
    done = ran(project, "suites", "--benchmark", "--device", "cpu")
    hides = name if name == "harness.py" else "harness"
    # A folder without __init__.py hides nothing.
    assert (done.returncode == pytest.ExitCode.USAGE_ERROR) == (name != "harness/tools.py")
    assert (f"{project.resolve() / hides} hides Sweetspot's own package" in done.stderr) == (name != "harness/tools.py")
    assert "Traceback" not in done.stderr


def test_a_users_other_tests_run_and_say_that_suites_are_not_checked(project: Path) -> None:
    (project / "harness").mkdir()
    (project / "harness" / "__init__.py").write_text("")
    done = ran(project, "test_own.py")
    assert done.returncode == 0
    assert "suites are not checked" in done.stdout


def test_without_one_the_plugin_is_loaded_with_its_options(project: Path) -> None:
    done = ran(project, "suites")
    assert done.returncode == 1
    assert "SUITE is" in done.stdout
    assert "--shared-cache" in ran(project, "--help").stdout
