"""The manual on rows of one's own works as it stands: its files, its suite, its tests and its entry points."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from harness import run_suite
from harness.check import load_rows, problems
from harness.declare.load_suite import load_suite
from harness.merge import MERGE_METHODS
from harness.metrics import METRICS
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES
from tests.own_code import clean_imports, package, write

pytestmark = pytest.mark.usefixtures(clean_imports.__name__)

MANUAL = (Path(__file__).parent.parent / "docs/extending.md").read_text(encoding="utf-8")
TABLES = (METRICS, MERGE_METHODS, QUANTIZATION_MODES, RUNTIMES)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with all files of the manual."""
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    monkeypatch.chdir(tmp_path)
    for table in TABLES:
        monkeypatch.setattr(table, "_own", {})
    for name, text in re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", MANUAL, re.DOTALL):
        write(tmp_path, name, text)
    return tmp_path


def test_the_suite_of_the_manual_is_sound_and_runs(root: Path) -> None:
    suite = load_suite(root / "suites/own_rows.py")
    load_rows(suite, [root / "suites", root])
    assert problems(suite, root) == []
    run = run_suite("suites/own_rows.py", progress=False)
    assert run.complete, run.unfinished
    assert [verdict.status for verdict in run.verdicts] == ["passed"]
    assert run.images["brightness"].between(0.01, 0.99).all()
    levels = run.images.groupby("candidate")["brightness"].mean()
    assert len(levels) == 4
    assert levels["larger"] != levels["photo"] != levels["six bits"]
    assert "Brightness" in run.page.read_text(encoding="utf-8")


def test_the_tests_of_the_manual_pass(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root)
    names: dict[str, object] = {}
    exec((root / "tests/test_own_rows.py").read_text(), names)
    names["test_my_rows_keep_their_contracts"]()  # type: ignore[operator]


def test_the_entry_points_of_the_manual_give_short_names(root: Path) -> None:
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    assert list(declared) == [table.group for table in TABLES]
    for number, table in enumerate(TABLES):
        package(root / f"site{number}", f"mine{number}", declared[table.group], table.group)
    sys.path.append(str(root))
    importlib.invalidate_caches()
    for table in TABLES:
        ((name, path),) = declared[table.group].items()
        assert table[name] is not None
        assert table.source(name) == (table.load(path) and table.source(path))
