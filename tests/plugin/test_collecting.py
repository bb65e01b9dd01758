"""A declaration is never skipped: whatever a suite's file is called and wherever it lies, it is collected, or the job fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.test_plugin import loaded

__all__ = ["loaded"]
SUITE = """
from harness import Grid, Prompt, Suite, alpha_sweep
{name} = Suite(name="{suite}", candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 1)), baseline="alpha=0", latency_rounds=1,
               grid=Grid(prompts=[Prompt(id="star", text="a red star")], seeds=[1], guidance_scales=[3], steps=1, width=64,
                         height=64))
"""


def put(pytester: pytest.Pytester, place: str, text: str | None = None, name: str = "SUITE") -> Path:
    """A file with a suite that is called like it, or with `text`."""
    file = pytester.path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SUITE.format(name=name, suite=file.stem) if text is None else text)
    return file


@pytest.mark.parametrize(("place", "arguments"), [
    ("suites/sdxl/photo.py", ["suites"]), ("suites/a/b/c/photo.py", []), ("suites/test_merge.py", ["suites"]),
    ("suites/test_merge.py", ["suites/test_merge.py"]), ("suites/merge_test.py", []), ("suites/conftest.py", []),
    ("suites/_hidden.py", []), ("merges/photo.py", ["merges/photo.py"]), ("merges/photo.py", ["merges"]), ("merge.py", []),
    ("test_merge.py", []), ("suites/photo.py", ["-o", "python_files=*.py"]),
    ("benchmarks/x.py", ["-o", "sweetspot_suites=benchmarks"]),
])
def test_a_suite_is_collected_wherever_it_lies(pytester: pytest.Pytester, place: str, arguments: list[str]) -> None:
    put(pytester, place)
    pytester.runpytest(*arguments).assert_outcomes(passed=1)


@pytest.mark.parametrize("text", [
    "import harness\nSUITE = harness.Suite(name='x')", "from harness import *\nSUITE: Suite = Suite(name='x')",
    "if True:\n    from harness import Suite\n    SUITE = Suite(name='x')", "from .base import SUITE", "from base import SUITE",
    "from base import *", "from base import OTHER as SUITE", "globals()['SUITE'] = 1", "from harness import Suite\nSUITE = [1]",
    "SUITE = None", "(SUITE := 3)", "import base\nfor SUITE in [base.SUITE]:\n    pass"])
def test_every_way_to_give_suite_a_value_is_seen(pytester: pytest.Pytester, text: str) -> None:
    put(pytester, "suites/x.py", text)
    put(pytester, "suites/base.py", "SUITE = OTHER = 1")
    result = pytester.runpytest("suites/x.py")
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    result.stdout.fnmatch_lines(["*x.py*"])


@pytest.mark.parametrize(("text", "line"), [
    (SUITE.format(name="suite", suite="x"), "*'suite' is a Suite*SUITE*"),
    (SUITE.format(name="Suite_1", suite="x"), "*'Suite_1' is a*"),
    (SUITE.format(name="MERGE", suite="x"), "*'MERGE' is a Suite*"),
    (SUITE.format(name="A", suite="x") + "SUITES = [A, A]", "*holds 2*"),
    ("from harness import Suite\ndef make():\n    return Suite()", "*uses harness's Suite*"),
    ("import harness\ndef make():\n    return harness.Suite()", "*uses harness's Suite*"),
    (SUITE.format(name="SUITE", suite="x") + "SUITE_2 = Suite(**{**vars(SUITE), 'name': 'y'})", "*besides SUITE, 'SUITE_2'*"),
    (SUITE.format(name="SUITE", suite="x") + "S = Suite\nB = S(**{**vars(SUITE), 'name': 'y'})", "*besides SUITE, 'B' is a*"),
    (SUITE.format(name="SUITE", suite="x") + "B = {'b': [SUITE, Suite(**{**vars(SUITE), 'name': 'y'})]}", "*'B' holds 1 Suite,*"),
    ("from harness import Suite\nsuite = Suite(", "*x.py, line *: SyntaxError*"),
    (SUITE.format(name="SUITE", suite="x") + "del SUITE", "*no SUITE at module level*")])
def test_a_suite_under_another_name_fails_the_job(pytester: pytest.Pytester, text: str, line: str) -> None:
    put(pytester, "suites/x.py", text)
    put(pytester, "suites/good.py")
    result = pytester.runpytest("suites", "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([line])


@pytest.mark.parametrize("more", [
    "LISTED = [SUITE]", "COPY = SUITE", "_B = Suite(**vars(SUITE))", "from base import BASE", "import base\nB = [base.BASE]",
    "from base import BASE\nALL = {'a': (SUITE, BASE)}", "from base import *"])
def test_suites_of_other_files_and_under_an_underscore_may_stand_beside_suite(pytester: pytest.Pytester, more: str) -> None:
    put(pytester, "suites/base.py", SUITE.format(name="SUITE", suite="base") + "BASE = SUITE\n__all__ = ['BASE']\n")
    put(pytester, "suites/x.py", SUITE.format(name="SUITE", suite="x") + more)
    pytester.runpytest("suites").assert_outcomes(passed=2)


@pytest.mark.parametrize("ini", [False, True])
def test_benchmark_skip_is_refused_with_benchmark(pytester: pytest.Pytester, ini: bool) -> None:
    put(pytester, "suites/x.py")
    if ini:
        pytester.makeini("[pytest]\naddopts = --benchmark-skip")
    result = pytester.runpytest("suites", "--benchmark", *([] if ini else ["--benchmark-skip"]))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Remove --benchmark-skip*"])


@pytest.mark.parametrize("flag", ["--benchmark-skip", "--benchmark-only", "--benchmark-disable"])
def test_no_option_of_pytest_benchmark_skips_a_declaration(pytester: pytest.Pytester, flag: str) -> None:
    put(pytester, "suites/x.py")
    put(pytester, "suites/bad.py", name="suite")
    pytester.runpytest("suites", flag).assert_outcomes(passed=1, failed=1)


def test_importing_everything_of_harness_stays_light(tmp_path: Path) -> None:
    code = "import sys\nfrom harness import *\nassert not {'torch', 'pandas', 'diffusers'} & set(sys.modules), 'heavy'"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("helper", "importing"), [
    ("BASE", "from base import BASE"), ("BASE", "from .base import BASE"), ("BASE", "from suites.base import BASE")])
def test_a_helper_that_makes_suites_is_one_where_a_suite_file_imports_it(pytester: pytest.Pytester, helper: str,
                                                                        importing: str) -> None:
    put(pytester, "suites/base.py", name=helper)
    put(pytester, "suites/x.py", f"{importing}\nSUITE = BASE\n")
    pytester.runpytest("suites").assert_outcomes(passed=1)


@pytest.mark.parametrize(("place", "text"), [
    ("suites/words.py", "from harness import Prompt\nPROMPTS = [Prompt(id='a', text='a')]"), ("suites/_make.py", (
        "from harness import Suite\ndef make(name):\n    return Suite(name=name)")),
    ("suites/_h.py", SUITE.format(name="x", suite="five")),
    ("notes.py", "SUITE = 1"), ("notes.py", "from harness import Suite"), ("test_own.py", (
        "from harness import Suite\nSUITE = 'text'\ndef helper():\n    return Suite()"))])
def test_what_declares_nothing_is_left_alone(pytester: pytest.Pytester, place: str, text: str) -> None:
    put(pytester, "suites/good.py")
    put(pytester, place, text)
    pytester.runpytest().assert_outcomes(passed=1)


def test_the_tests_of_a_file_with_a_suite_are_run_too(pytester: pytest.Pytester) -> None:
    file = put(pytester, "suites/test_merge.py")
    file.write_text(file.read_text() + "def test_its_name():\n    assert SUITE.name == 'test_merge'\n")
    pytester.runpytest().assert_outcomes(passed=2)


@pytest.mark.parametrize("folder", ["build", "dist", ".hidden", "venv", "sdxl/build", "build/deep"])
def test_a_folder_that_pytest_leaves_out_is_named_if_it_holds_a_suite(pytester: pytest.Pytester, folder: str) -> None:
    put(pytester, "suites/x.py")
    put(pytester, f"suites/{folder}/y.py")
    result = pytester.runpytest("suites", "-Wdefault")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines([f"*suites/{folder}/y.py declares a suite*norecursedirs*"])
    pytester.runpytest("suites", "-o", "norecursedirs=CVS").assert_outcomes(passed=2)


@pytest.mark.parametrize("place", ["suites/build/words.py", "suites/.ipynb_checkpoints/y.py", "build/y.py"])
def test_other_folders_that_pytest_leaves_out_are_not_named(pytester: pytest.Pytester, place: str) -> None:
    put(pytester, "suites/x.py")
    put(pytester, place, "WORDS = 1" if "words" in place else None)
    pytester.runpytest("-Wdefault").assert_outcomes(passed=1, warnings=0)


def test_a_file_of_tests_outside_a_suites_folder_is_pytests_own_when_it_is_named(pytester: pytest.Pytester) -> None:
    put(pytester, "tests/test_own.py", SUITE.format(name="SUITE", suite="") + "def test_it():\n    pass\n")
    pytester.runpytest("tests/test_own.py").assert_outcomes(passed=1)


@pytest.mark.parametrize("other", ["twin", "TWIN"])
@pytest.mark.parametrize("flags", [[], ["--benchmark"]])
def test_two_suites_of_one_name_are_refused_with_both_files(pytester: pytest.Pytester, other: str, flags: list[str]) -> None:
    put(pytester, "suites/one.py", SUITE.format(name="SUITE", suite="twin"))
    put(pytester, "suites/sub/two.py", SUITE.format(name="SUITE", suite=other))
    result = pytester.runpytest("suites", *flags)
    assert "passed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines_random(["*suites/sub/two.py declares the name*", "*suites/one.py declares the name*"])
    assert not list(pytester.path.rglob("*.png"))


def test_benchmark_without_a_suite_is_an_error(pytester: pytest.Pytester) -> None:
    put(pytester, "tests/test_own.py", "def test_nothing():\n    pass")
    result = pytester.runpytest("tests", "--benchmark")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no suite file was found*pytest suites/ --benchmark*"])


@pytest.mark.parametrize(("expression", "count"), [
    ("alpha=0", 1), ("x and alpha=1", 1), ("alpha=0 or alpha=1", 2), ("not alpha=0", 4)])
def test_dash_k_takes_names_with_an_equals_sign(pytester: pytest.Pytester, expression: str, count: int) -> None:
    put(pytester, "suites/x.py")
    result = pytester.runpytest("suites", "--benchmark", "--co", "-q", "-k", expression)
    assert result.ret == 0
    assert sum("::" in line for line in result.outlines) == count


def test_a_suite_file_that_does_not_exist_is_named_with_the_nearest(pytester: pytest.Pytester) -> None:
    put(pytester, "suites/merge.py", "import harness\n")
    result = pytester.runpytest("suites/merg.py", "--benchmark")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*suites/merg.py does not exist*did you mean 'merge.py'*"])


@pytest.mark.parametrize("arguments", [[], ["suites"], ["suites/x.py"], ["suites/x.py", "--benchmark"]])
@pytest.mark.parametrize(("text", "line"), [
    ("from harness import Suite\nSUITE = Suite(nme='x')", "*'nme'*did you mean 'name'*"),
    ("from harness import Suite\nSUITE = 1\nraise SystemExit(0)", "*line 3: it calls sys.exit(0)*"),
    ("from harness import Suite\nSUITE = (", "*SyntaxError*")])
def test_what_a_suite_file_raises_is_said_once(pytester: pytest.Pytester, arguments: list[str], text: str, line: str) -> None:
    put(pytester, "suites/x.py", text)
    result = pytester.runpytest(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([line])
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "^^^^" not in result.stdout.str()


@pytest.mark.parametrize("arguments", [["suites"], ["suites/x.py"]])
def test_the_tests_of_a_suite_file_are_run_once(pytester: pytest.Pytester, arguments: list[str]) -> None:
    put(pytester, "suites/x.py", SUITE.format(name="SUITE", suite="x") + "\ndef test_own():\n    pass\n")
    pytester.runpytest(*arguments, "-o", "python_files=*.py").assert_outcomes(passed=2)


def test_a_file_in_a_suites_folder_that_holds_nothing_is_named(pytester: pytest.Pytester) -> None:
    put(pytester, "suites/good.py", "from words import PROMPT\n" + SUITE.format(name="SUITE", suite="good"))
    put(pytester, "suites/words.py", "PROMPT = 'a red star'\n")
    put(pytester, "suites/lonely.py", "from words import PROMPT\nRESULT = PROMPT\n")
    put(pytester, "suites/_lonely.py", "RESULT = 1\n")
    put(pytester, "suites/__init__.py", "")
    put(pytester, "elsewhere.py", "RESULT = 1\n")
    result = pytester.runpytest()
    result.assert_outcomes(passed=1)
    assert [line.split()[1] for line in result.outlines if line.startswith("note: ")] == ["suites/lonely.py"]


def test_the_doctests_of_a_suite_file_are_run_too(pytester: pytest.Pytester) -> None:
    put(pytester, "suites/x.py", f'"""\n>>> 1 + 1\n2\n"""\n{SUITE.format(name="SUITE", suite="x")}')
    pytester.runpytest("suites/x.py", "--doctest-modules").assert_outcomes(passed=2)


def test_one_item_of_a_suite_file_can_be_named(pytester: pytest.Pytester) -> None:
    put(pytester, "suites/x.py")
    pytester.runpytest("suites/x.py::declaration").assert_outcomes(passed=1)


@pytest.mark.parametrize("words", [["-q"], ["--collect-only", "--benchmark"]])
def test_a_declaration_is_checked_and_its_tests_collected_without_torch_and_statistics(words):
    heavy = ("torch", "diffusers", "transformers", "scipy", "pandas", "plotly")
    script = ("import sys, pytest\ncode = pytest.main(sys.argv[1:])\n"
              f"print([name for name in {heavy} if name in sys.modules])\nsys.exit(code)")
    done = subprocess.run([sys.executable, "-c", script, *words, "-p", "no:cacheprovider", "suites/alpha_cfg.py"],
                          cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
