"""A suite file is loaded in one way: its errors name file and line, and what a module may do works in it."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.declare.load_suite import NoSuiteError, SuiteFileError, load_suite


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(("text", "words"), [
    ("\nSUITE = 1 / 0\n", "mine.py, line 2: ZeroDivisionError: division by zero"),
    ("def broken():\n    return missing\n\nSUITE = broken()\n", "mine.py, line 2: NameError: name 'missing'"),
    ("x = 1\ndef\nSUITE = 1\n", "mine.py, line 2: SyntaxError"),
    ("import json\nSUITE = json.loads('{')\n", "mine.py, line 2: JSONDecodeError"),
    ("import sys\nsys.exit(3)\nSUITE = 1\n", r"mine.py, line 2: .*sys.exit\(3\)"),
    ("import nothing_of_that_name\n", "mine.py, line 1: ModuleNotFoundError"),
    ("SUITE = 1\x00", "mine.py.*null bytes"),
])
def test_an_error_of_the_file_names_its_own_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SuiteFileError, match=words):
        load_suite(written(tmp_path, text))


@pytest.mark.parametrize("name", ["nothing.py", "folder", "suite.txt"])
def test_what_is_not_a_python_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "suite.txt").write_text("SUITE = 1")
    with pytest.raises(SuiteFileError, match=name):
        load_suite(tmp_path / name)


def test_a_file_that_mentions_a_suite_and_has_none_says_where(tmp_path: Path) -> None:
    file = written(tmp_path, "def make():\n    SUITE = 1\n    return SUITE\n")
    with pytest.raises(NoSuiteError, match=r"mine\.py has no SUITE at module level, though line 2 mentions it"):
        load_suite(file)


def test_a_file_without_a_suite_says_so(tmp_path: Path) -> None:
    file = written(tmp_path, "SUITES = 1\n")
    with pytest.raises(NoSuiteError, match=r"mine\.py has no SUITE at module level; expected"):
        load_suite(file)


def test_its_own_path_and_the_files_beside_it_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "SEEDS = (1, 2)\n", "shared.py")
    written(tmp_path, "from pathlib import Path\nfrom .shared import SEEDS\nSUITE = (Path(__file__).parent.name, SEEDS)\n")
    monkeypatch.chdir(tmp_path)
    assert load_suite(Path("mine.py")) == (tmp_path.name, (1, 2))


def test_a_changed_file_is_run_again_with_what_it_imports(tmp_path: Path) -> None:
    written(tmp_path, "SEEDS = (1, 2)\n", "shared.py")
    file = written(tmp_path, "from .shared import SEEDS\nSUITE = SEEDS\n")
    assert load_suite(file) == (1, 2)
    written(tmp_path, "SEEDS = (1, 2, 345)\n", "shared.py")
    assert load_suite(file) == (1, 2, 345)


def test_files_of_one_folder_do_not_know_of_one_another(tmp_path: Path) -> None:
    one = written(tmp_path, "SUITE = 1\n", "one.py")
    other = written(tmp_path, "SUITE = globals().get('X', 2)\n", "other.py")
    assert (load_suite(one), load_suite(other), load_suite(one)) == (1, 2, 1)


def test_a_dataclass_with_later_annotations_works_in_it(tmp_path: Path) -> None:
    file = written(tmp_path, "from __future__ import annotations\nfrom dataclasses import dataclass\n"
                             "@dataclass\nclass Mine:\n    x: int = 3\nSUITE = Mine().x\n")
    assert load_suite(file) == 3


@pytest.mark.parametrize("importing", ["from common import SEEDS", "import common\nSEEDS = common.SEEDS",
                                       "from .common import SEEDS", "from suites.common import SEEDS",
                                       "import suites.common as c\nSEEDS = c.SEEDS",
                                       "from pack import SEEDS", "from pack.inner import SEEDS"])
def test_the_files_beside_it_are_imported_as_in_a_test_file(tmp_path: Path, importing: str) -> None:
    folder = tmp_path / "suites"
    (folder / "pack").mkdir(parents=True)
    written(folder, "SEEDS = (1, 2)\n", "common.py")
    written(folder, "SEEDS = (1, 2)\n", "pack/inner.py")
    written(folder, "from pack.inner import SEEDS\n", "pack/__init__.py")
    assert load_suite(written(folder, f"{importing}\nSUITE = SEEDS\n")) == (1, 2)


def test_each_folder_has_its_own_helpers_and_leaves_none_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = ModuleType("common")
    monkeypatch.setitem(sys.modules, "common", elsewhere)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, f"SEEDS = {name!r}\n", "common.py")
        assert load_suite(written(tmp_path / name, "from common import SEEDS\nSUITE = SEEDS\n")) == name
    assert sys.modules["common"] is elsewhere
    assert sys.path.count(str(tmp_path / "one")) == 0


@pytest.mark.parametrize("name", ["statistics", "numpy", "torch", "harness"])
def test_a_file_beside_it_hides_no_module_of_python_or_a_library(tmp_path: Path, name: str) -> None:
    before = sys.modules.get(name)
    written(tmp_path, "raise RuntimeError('taken for a library')\n", f"{name}.py")
    file = written(tmp_path, f"from importlib.util import find_spec\nSUITE = find_spec({name!r}).origin\n")
    assert not str(load_suite(file)).startswith(str(tmp_path))
    assert sys.modules.get(name) is before


def test_a_module_that_is_nowhere_is_said_with_where_imports_look(tmp_path: Path) -> None:
    with pytest.raises(SuiteFileError, match=r"mine\.py, line 1: .*'nowhere'.*the files in its own folder"):
        load_suite(written(tmp_path, "import nowhere\nSUITE = 1\n"))


def test_an_import_of_ones_own_package_of_our_name_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SuiteFileError, match="'reports' is Sweetspot's own package"):
        load_suite(written(tmp_path, "from reports.mine import X\nSUITE = 1\n"))


def test_a_suite_under_another_name_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoSuiteError, match=r"mine\.py has no SUITE .*'A' is a Suite and 'SUITES' holds 2 Suites") as caught:
        load_suite(written(tmp_path, "from tests.fakes import tiny_suite\nA = tiny_suite()\nSUITES = [A, A]\n"))
    assert caught.value.others
