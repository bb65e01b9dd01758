"""A package or file of the user's named like ours, a library or a module of Python's is no matter, or stops the run at once."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKED = ("import sys; sys.path.insert(0, {folder!r}); {first}; "
           "from harness.session.own_packages import keep_own_packages as keep; ")


def ran(folder: Path, first: str, then: str) -> str:
    code = CHECKED.format(folder=str(folder), first=first) + then
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    return result.stdout + result.stderr


@pytest.fixture
def hiding(tmp_path: Path) -> Path:
    """A folder whose files have the names of ours, of a library's and of Python's."""
    (tmp_path / "reports").mkdir()
    for name in ("reports/__init__", "reports/mine", "statistics", "jinja2", "clip", "metrics"):
        (tmp_path / f"{name}.py").write_text("MINE = 1\n")
    return tmp_path


def test_what_is_imported_late_comes_from_where_it_belongs(hiding: Path) -> None:
    said = ran(hiding, "pass", "print([keep()]); import reports.formatting, statistics, jinja2, clip; "
                               "print(clip.MINE, [hasattr(m, 'MINE') for m in (reports, statistics, jinja2)])")
    assert said.split("\n")[:2] == ["['']", "1 [False, False, False]"]


@pytest.mark.parametrize(("first", "file"), [
    ("import reports.mine", "reports/__init__.py"), ("import statistics", "statistics.py"), ("import jinja2", "jinja2.py")])
def test_what_was_imported_already_is_named(hiding: Path, first: str, file: str) -> None:
    assert f"was imported from {hiding.resolve() / file}" in ran(hiding, first, "print(keep())")


@pytest.mark.parametrize("use", ["harness.load_run", "harness.run_suite('x.py')"])
def test_python_refuses_too(hiding: Path, use: str) -> None:
    assert "ImportError: a package 'reports' was imported from" in ran(hiding, "import reports.mine, harness", use)


def test_pytest_refuses_before_anything_is_collected(pytester: pytest.Pytester) -> None:
    pytester.mkpydir("reports")
    pytester.makeconftest("import sys\nsys.modules.pop('reports', None)\nimport reports")
    pytester.makepyfile(**{"suites/x": "SUITE = 1"})
    result = pytester.runpython_c("import pytest, sys; sys.exit(pytest.main(['suites', '--benchmark']))")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*a package 'reports' was imported from *reports/__init__.py*Rename*"])
