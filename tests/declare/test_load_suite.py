"""A suite file is loaded in one way: its errors name file and line, and what a module may do works in it."""

from pathlib import Path

import pytest

from harness.declare.load_suite import NoSuiteError, SuiteFileError, load_suite, mentions_suite


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
    assert mentions_suite(file)
    with pytest.raises(NoSuiteError, match=r"mine\.py has no SUITE at module level, though line 2 mentions it"):
        load_suite(file)


def test_a_file_without_a_suite_says_so(tmp_path: Path) -> None:
    file = written(tmp_path, "SUITES = 1\n")
    assert not mentions_suite(file)
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
