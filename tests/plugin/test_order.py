"""Whatever another plugin makes of the items' order, of warnings or of a selection, a run ends with the same verdict and page."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests import painted as painting
from tests.plugin.test_plugin import loaded, painted, write_suite, zoo_cache

__all__ = ["loaded", "painted", "zoo_cache"]

SHUFFLING = {
    "like pytest-randomly": ("@pytest.hookimpl(tryfirst=True)\ndef pytest_collection_modifyitems(items):\n"
                             "    random.Random(3).shuffle(items)"),
    "backwards": "@pytest.hookimpl(trylast=True)\ndef pytest_collection_modifyitems(items):\n    items.reverse()",
    "after all others": ("@pytest.hookimpl(wrapper=True, tryfirst=True)\ndef pytest_collection_modifyitems(items):\n    yield\n"
                         "    items.sort(key=lambda item: item.name[::-1])"),
}


def files(pytester: pytest.Pytester, name: str = "tiny") -> dict[str, bytes]:
    return {file: (pytester.path / "runs" / name / file).read_bytes() for file in ("report.md", "table.csv")}


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest("suites", "--benchmark", "-p", "no:randomly", *arguments)


@pytest.fixture(scope="module")
def straight() -> dict[str, Any]:
    """What one run in pytest's own order gives. The first test that needs it makes it."""
    return {}


@pytest.mark.parametrize("hook", SHUFFLING.values(), ids=SHUFFLING)
def test_any_order_gives_the_same_result_and_the_final_page(pytester: pytest.Pytester, painted: None, hook: str,
                                                            straight: dict[str, Any]) -> None:
    for name in ("tiny", "other"):
        write_suite(pytester, name)
    if not straight:
        straight["outcomes"] = run(pytester, "-p", "no:cacheprovider").parseoutcomes()
        straight["tables"] = [files(pytester, name)["table.csv"] for name in ("tiny", "other")]
        shutil.rmtree(pytester.path / "runs")
    pytester.makeconftest(f"import random\nimport pytest\n{hook}\n")
    shuffled = run(pytester, "-p", "no:cacheprovider")
    assert shuffled.parseoutcomes() == straight["outcomes"]
    assert [files(pytester, name)["table.csv"] for name in ("tiny", "other")] == straight["tables"]
    assert "missing" not in files(pytester)["report.md"].decode()


def failing(pytester: pytest.Pytester) -> Path:
    file = write_suite(pytester)
    gates = 'Gate(value="rating", at_least=6), Gate(value="failures", at_most=0)'
    file.write_text(file.read_text().replace('Gate(value="coverage")', gates))
    return file


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder after a run that fails, pytest's cache included. The first test that needs it fills it."""
    return tmp_path_factory.mktemp("failed") / "copy"


@pytest.mark.parametrize("flags", [
    ["--lf"], ["--ff"], ["--nf"], ["-k", "gate"], ["--deselect", "suites/tiny.py::costs"],
    ["--deselect", "suites/tiny.py::recommendation"], ["-k", "recommendation"], ["-k", "not declaration"]])
def test_a_part_of_the_items_leaves_the_same_page(pytester: pytest.Pytester, painted: None, flags: list[str],
                                                  failed: Path) -> None:
    if failed.exists():
        shutil.copytree(failed, pytester.path, dirs_exist_ok=True)
    else:
        failing(pytester)
        assert run(pytester).ret == 1
        shutil.copytree(pytester.path, failed)
    before = files(pytester)
    page = pytester.path / "runs" / "tiny" / "report.html"
    written = page.stat().st_mtime_ns
    again = run(pytester, *flags)
    assert again.ret == (0 if flags[-1] == "recommendation" else 1)
    after = files(pytester)
    lines = after["report.md"].decode().splitlines(keepends=True)
    uncounted = [line for line in lines if "The exit code does not count" in line]
    assert bool(uncounted) == (flags[-1] in ("gate", "suites/tiny.py::recommendation", "recommendation"))
    after["report.md"] = "".join(line for line in lines if line not in uncounted).encode()
    assert after == before
    assert page.stat().st_mtime_ns > written


def test_a_librarys_warning_is_no_candidates_failure(pytester: pytest.Pytester, painted: None,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(*given: Any, **named: Any) -> Any:
        warnings.warn("of a library", DeprecationWarning, stacklevel=2)
        return painting.paint(*given, **named)

    monkeypatch.setattr("harness.executors.maker.sample", warning)
    write_suite(pytester)
    result = run(pytester, "-W", "error", "-p", "no:cacheprovider")
    assert set(result.parseoutcomes()) <= {"passed", "warnings"}
    assert '"failure"' not in (pytester.path / "runs" / "tiny" / "journal.jsonl").read_text()
