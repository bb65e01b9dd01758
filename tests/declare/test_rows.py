"""A table is open to rows of one's own: by dotted path where the user wrote it, by name where a package registers it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from harness.declare import rows as module
from harness.declare.rows import RowError, Rows
from tests import own_code
from tests.own_code import clean_imports

pytestmark = pytest.mark.usefixtures(clean_imports.__name__)


@dataclass(frozen=True, kw_only=True)
class Filter:
    function: Callable[[int], int]
    version: int = 1


def adopted(_: str, row: Filter) -> Filter:
    if row.version < 1:
        raise ValueError(f"version is {row.version}")
    return row


FILTER = """
from tests.declare.test_rows import Filter
def double(x):
    return 2 * x
DOUBLE = Filter(function=double)
NO_ROW = double
OLD = Filter(function=double, version=0)
"""


@pytest.fixture
def table() -> Rows[Filter]:
    return Rows({"same": Filter(function=abs)}, word="filter", kind=Filter, group="sweetspot.filters", adopt=adopted)


def write(folder: Path, name: str, text: str = FILTER) -> Path:
    return own_code.write(folder, name, text)


def package(folder: Path, name: str, entries: dict[str, str]) -> None:
    own_code.package(folder, name, entries, "sweetspot.filters")


def refused(table: Rows[Filter], name: str, *folders: Path) -> str:
    with pytest.raises(RowError) as error:
        table.load(name, folders)
    assert table.why_not(name) == str(error.value)
    return str(error.value)


# Names

def test_a_module_beside_the_suite_is_found_without_being_installed(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "filters_a.py")
    assert table.load("filters_a:DOUBLE", [tmp_path]).function(4) == 8
    assert table["filters_a:DOUBLE"].version == 1


def test_a_module_of_a_package_is_found(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "pack_a/__init__.py", "")
    write(tmp_path, "pack_a/inner.py")
    assert table.load("pack_a.inner:DOUBLE", [tmp_path]).function(4) == 8


def test_a_row_of_ones_own_is_not_among_the_built_in_ones(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "filters_b.py")
    table.load("filters_b:DOUBLE", [tmp_path])
    assert list(table) == ["same"]


def test_the_folder_is_searched_last_so_that_nothing_is_hidden(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "filters_c.py")
    before = [*sys.path]
    table.load("filters_c:DOUBLE", [tmp_path])
    assert sys.path == [*before, str(tmp_path)]


def test_an_importable_module_adds_no_folder(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "filters_d.py")
    sys.path.append(str(tmp_path))
    before = [*sys.path]
    table.load("filters_d:DOUBLE", [tmp_path, tmp_path / "elsewhere"])
    assert sys.path == before


def test_two_modules_of_one_name_are_an_error_that_names_both(table: Rows[Filter], tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", "filters_e.py"), write(tmp_path / "two", "filters_e.py")
    said = refused(table, "filters_e:DOUBLE", tmp_path / "one", tmp_path / "two")
    assert str(one) in said
    assert str(two) in said


def test_a_module_is_not_mistaken_for_another_suites_of_the_same_name(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path / "one", "filters_f.py")
    other = write(tmp_path / "two", "filters_f.py")
    table.load("filters_f:DOUBLE", [tmp_path / "one"])
    assert str(other) in refused(table, "filters_f:DOUBLE", tmp_path / "two")


@pytest.mark.parametrize(("name", "facts"), [
    ("filters_gg:DOUBLE", ["'filters_gg'", "did you mean 'filters_g'"]),
    ("filters_g:DUOBLE", ["filters_g.py", "did you mean 'DOUBLE'", "Its rows are DOUBLE, OLD"]),
    ("filters_g:NO_ROW", ["a function", "Filter"]),
    ("filters_g:OLD", ["version is 0"]),
    ("filters_g:", ["package.module:NAME"]),
    ("../filters_g:DOUBLE", ["package.module:NAME"]),
    ("filters_g:DOUBLE:x", ["package.module:NAME"]),
    ("pack_g.inne:DOUBLE", ["'pack_g.inne'", "did you mean 'pack_g.inner'"]),
    ("broken_g:DOUBLE", ["ZeroDivisionError", "broken_g.py, line 2"]),
    ("leaving_g:DOUBLE", ["SystemExit"]),
    ("typing_g:DOUBLE", ["SyntaxError"]),
    ("needing_g:DOUBLE", ["'not_there_g'", "not installed"]),
])
def test_what_is_wrong_with_a_path_is_one_sentence_that_names_it(table: Rows[Filter], tmp_path: Path, name: str,
                                                                 facts: list[str]) -> None:
    write(tmp_path, "filters_g.py")
    write(tmp_path, "pack_g/__init__.py", "")
    write(tmp_path, "pack_g/inner.py")
    write(tmp_path, "broken_g.py", "\n1 / 0")
    write(tmp_path, "leaving_g.py", "raise SystemExit(3)")
    write(tmp_path, "typing_g.py", "def")
    write(tmp_path, "needing_g.py", "import not_there_g")
    said = refused(table, name, tmp_path)
    assert all(fact in said for fact in [repr(name), *facts]), said


def test_an_interruption_while_importing_goes_through(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "stopped.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        table.load("stopped:DOUBLE", [tmp_path])


def test_an_unknown_name_is_told_with_the_nearest_one(table: Rows[Filter]) -> None:
    assert "did you mean 'same'" in refused(table, "samee")
    assert table.find("samee") is None


def test_a_built_in_name_asks_no_package(table: Rows[Filter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rows, "_points", lambda _: 1 / 0)
    assert table["same"].version == table.identity("same") == 1
    assert table.source("same") == ""


# Code is imported only where the user named it

def test_a_dotted_name_that_nobody_loaded_is_never_imported(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "hostile.py", "from pathlib import Path\nPath(__file__).with_name('ran').touch()")
    sys.path.append(str(tmp_path))
    for ask in (lambda: table["hostile:ROW"], lambda: table.identity("hostile:ROW")):
        with pytest.raises(RowError, match="hostile:ROW"):
            ask()
    assert table.find("hostile:ROW") is None
    assert table.source("hostile:ROW") == ""
    assert "hostile:ROW" in table.why_not("hostile:ROW")
    assert not (tmp_path / "ran").exists()


# Installed packages

def test_a_package_registers_a_name(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path, "filters_h.py")
    package(tmp_path, "filters-h", {"double": "filters_h:DOUBLE"})
    assert table["double"].function(4) == 8
    assert table.installed() == {"double": "filters_h:DOUBLE"}
    assert table.source("double")


def test_a_package_cannot_replace_a_built_in_row(table: Rows[Filter], tmp_path: Path) -> None:
    package(tmp_path, "filters-i", {"same": "filters_i:DOUBLE"})
    assert table["same"].function is abs
    assert table.installed() == {}
    assert all(fact in table.clashes()[0] for fact in ("'same'", "filters-i", "built-in"))


def test_two_packages_with_one_name_are_an_error_that_names_both(table: Rows[Filter], tmp_path: Path) -> None:
    package(tmp_path / "one", "filters-j", {"double": "filters_j:DOUBLE"})
    package(tmp_path / "two", "filters-k", {"double": "filters_k:DOUBLE"})
    assert "filters-j and filters-k" in refused(table, "double")
    assert "filters-j and filters-k" in table.clashes()[0]


def test_a_package_that_cannot_be_imported_is_named(table: Rows[Filter], tmp_path: Path) -> None:
    package(tmp_path, "filters-l", {"double": "filters_l:DOUBLE"})
    assert "of filters-l" in refused(table, "double")


# Identity

def test_the_identity_of_a_row_of_ones_own_is_its_version_and_its_source(table: Rows[Filter], tmp_path: Path) -> None:
    write(tmp_path / "one", "filters_m.py")
    write(tmp_path / "two", "filters_n.py", FILTER.replace("2 * x", "3 * x"))
    table.load("filters_m:DOUBLE", [tmp_path / "one"])
    table.load("filters_n:DOUBLE", [tmp_path / "two"])
    one, two = table.identity("filters_m:DOUBLE"), table.identity("filters_n:DOUBLE")
    assert isinstance(one, list)
    assert one[0] == 1
    assert one != two


def test_the_source_of_a_function_from_another_module_counts(table: Rows[Filter], tmp_path: Path) -> None:
    row = "from tests.declare.test_rows import Filter\nfrom functools import partial\nfrom {0} import double\n" \
          "DOUBLE = Filter(function=partial(double))\n"
    hashes = []
    for name, formula in (("aa", "2 * x"), ("bb", "3 * x")):
        write(tmp_path / name, "arithmetic.py", FILTER.replace("2 * x", formula))
        write(tmp_path / name, "shown.py", row.format("arithmetic"))
        sys.modules.pop("shown", None), sys.modules.pop("arithmetic", None)
        sys.path[:] = [place for place in sys.path if not place.startswith(str(tmp_path))]
        table.load("shown:DOUBLE", [tmp_path / name])
        hashes.append(table.source("shown:DOUBLE"))
    assert hashes[0] != hashes[1]


def test_a_file_that_changed_since_its_import_is_an_error(table: Rows[Filter], tmp_path: Path) -> None:
    file = write(tmp_path, "filters_o.py")
    table.load("filters_o:DOUBLE", [tmp_path])
    table.load("filters_o:DOUBLE", [tmp_path])
    file.write_text(FILTER.replace("2 * x", "3 * x"))
    assert "has changed since" in refused(table, "filters_o:DOUBLE", tmp_path)


ROW = ("from tests.declare.test_rows import Filter\n{0}\ndef double(x):\n    {1}\n    return 2 * x\n"
       "DOUBLE = Filter(function=double)\n")


@pytest.mark.parametrize(("imports", "within", "changed", "counts"), [
    ("import helper", "", "helper.py", True), ("from helper import FACTOR", "", "helper.py", True),
    ("", "import helper", "helper.py", True), ("import helper", "", "deeper.py", True),
    ("from pack.inner import F", "", "pack/inner.py", True), ("from pack import inner", "", "pack/inner.py", True),
    ("import pack.inner", "", "pack/__init__.py", True), ("from pack.inner import F", "", "pack/beside.py", True),
    ("import helper", "", "unrelated.py", False), ("import json, numpy", "", "helper.py", False)])
def test_the_files_of_ones_own_that_a_row_imports_are_part_of_its_source(table: Rows[Filter], tmp_path: Path, imports: str,
                                                                         within: str, changed: str, counts: bool) -> None:
    hashes = []
    for folder, number in ((tmp_path / "a", 1), (tmp_path / "b", 1), (tmp_path / "c", 2)):
        files = {"helper.py": "import deeper\nFACTOR = 1\n", "deeper.py": "F = 1\n", "unrelated.py": "F = 1\n",
                 "pack/__init__.py": "F = 1\n", "pack/inner.py": "from . import beside\nF = 1\n", "pack/beside.py": "F = 1\n"}
        for name, text in files.items():
            write(folder, name, text + (f"G = {number}\n" if name == changed else ""))
        write(folder, "counted.py", ROW.format(imports, within))
        table.load("counted:DOUBLE", [folder])
        hashes.append(table.source("counted:DOUBLE"))
        for name in ("counted", "helper", "deeper", "pack", "pack.inner", "pack.beside"):
            sys.modules.pop(name, None)
        sys.path[:] = [place for place in sys.path if not place.startswith(str(tmp_path))]
    assert hashes[0] == hashes[1]
    assert (hashes[1] != hashes[2]) == counts


def test_an_installed_package_that_a_row_imports_is_not_part_of_its_source(table: Rows[Filter], tmp_path: Path) -> None:
    hashes = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        write(folder / "lib" / "site-packages", "bought.py", f"F = {number}\n")
        write(folder, "with_library.py", ROW.format("import bought", ""))
        sys.path.append(str(folder / "lib" / "site-packages"))
        table.load("with_library:DOUBLE", [folder])
        hashes.append(table.source("with_library:DOUBLE"))
        sys.modules.pop("with_library", None), sys.modules.pop("bought", None)
        sys.path[:] = [place for place in sys.path if not place.startswith(str(tmp_path))]
    assert hashes[0] == hashes[1]


def test_a_file_that_a_row_imports_and_that_changed_since_is_an_error(table: Rows[Filter], tmp_path: Path) -> None:
    helper = write(tmp_path, "lately.py", "F = 1\n")
    write(tmp_path, "filters_p.py", ROW.format("import lately", ""))
    table.load("filters_p:DOUBLE", [tmp_path])
    helper.write_text("F = 2\n")
    assert "has changed since" in refused(table, "filters_p:DOUBLE", tmp_path)


def test_functions_of_the_harness_are_not_part_of_the_source() -> None:
    assert [*module._modules_of(Filter(function=partial(module.error_text)))] == []
