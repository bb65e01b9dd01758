"""pytest finds suites, names their items readably, says every problem, and hands latencies to pytest-benchmark."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.declare import Candidate
from harness.materialise.library import MaterialiseError
from harness.plugin.items import _Item
from tests.painted import PaintedBench, paint_runs

SUITE = """
from harness import Candidate, Gate, Grid, Merge, Prompt, Suite, alpha_sweep

SUITE = Suite(
    name="{name}", candidates=[*alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1)){more}], baseline="alpha=0",
    grid=Grid(prompts=[Prompt(id="star", text="a red star"), Prompt(id="car", text="a blue car"),
                       Prompt(id="fish", text="a green fish", split="confirm"),
                       Prompt(id="cup", text="a purple cup", split="confirm")],
              seeds=[1], guidance_scales=[1, 4], steps=2, width=64, height=64, batch_size=8),
    metrics={metrics}, clip="zoo:clip", latency_rounds=2, gates=[Gate(value="coverage")],
)
"""


def write_suite(pytester: pytest.Pytester, name: str = "tiny", more: str = "",
                metrics: str = "('clip_score', 'palette', 'exposure')") -> Path:
    file = pytester.path / "suites" / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(SUITE.format(name=name, more=more, metrics=metrics))
    return file


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """pytester forgets modules that were first imported inside it, and numpy or torch cannot be imported twice."""
    for name in ("diffusers", "open_clip", "pandas", "peft.tuners.lora", "plotly.graph_objects", "reports.analysis",
                 "reports.page.build", "sklearn.cluster", "torchao.quantization", "torchmetrics.image", "transformers",
                 "harness.session.session"):
        importlib.import_module(name)


@pytest.fixture(autouse=True)
def zoo_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The zoo's files are assembled once for all tests of a session."""
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are painted, and pages have no figures."""
    paint_runs(monkeypatch)
    monkeypatch.setattr("reports.page.build.FIGURES", {})


def test_without_benchmark_only_the_declaration_is_checked(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*suites/tiny.py::declaration PASSED*", "tiny: 3 candidates, 24 images*"])


METRIC = """
from harness.metrics import ImageScore, Metric, ValueSpec
LEVEL = Metric(measure=lambda s: [ImageScore(values={"level": float(i.mean())}) for i in s.images], version=1, values=(
    ValueSpec(name="level", title="Level", unit="levels", better="nearer", definition="mean level"),))
"""


@pytest.mark.parametrize(("row", "outcome", "line"), [
    ("LEVEL", {"passed": 1}, "*declaration PASSED*"), ("LEVVEL", {"failed": 1}, "*levels_beside:LEVVEL*did you mean 'LEVEL'*")])
def test_the_check_imports_a_metric_from_beside_the_suite(pytester: pytest.Pytester, row: str, outcome: dict[str, int],
                                                          line: str) -> None:
    file = write_suite(pytester, metrics=f"('clip_score', 'palette', 'exposure', 'levels_beside:{row}')")
    file.with_name("levels_beside.py").write_text(METRIC)
    result = pytester.runpytest("suites", "-v")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines([line])


def test_checking_declarations_imports_no_torch(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    pytester.makeconftest("import sys\ndef pytest_unconfigure():\n    print('HEAVY', 'torch' in sys.modules)")
    result = pytester.runpytest_subprocess("suites")
    result.stdout.fnmatch_lines(["*HEAVY False*"])


def test_all_problems_of_a_declaration_are_shown_without_a_traceback(pytester: pytest.Pytester) -> None:
    write_suite(pytester, more=", Candidate(name='x', model='nowhere.safetensors')", metrics="('clip_scor',)")
    result = pytester.runpytest("suites")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(["*model file 'nowhere.safetensors' does not exist*", "*did you mean 'clip_score'*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_broken_declaration_stops_the_work_before_the_first_image(pytester: pytest.Pytester) -> None:
    write_suite(pytester, metrics="('clip_scor',)")
    result = pytester.runpytest("suites", "--benchmark")
    assert result.parseoutcomes() == {"failed": 7}
    assert not list(pytester.path.rglob("*.png"))


def test_files_without_a_suite_and_other_folders_are_left_alone(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    (pytester.path / "suites" / "shared.py").write_text("WORDS = 1\nraise RuntimeError('imported')\n")
    (pytester.path / "notes.py").write_text("SUITE = 1\n")
    pytester.runpytest().assert_outcomes(passed=1)


def test_an_error_in_a_suite_file_is_shown_with_its_name(pytester: pytest.Pytester) -> None:
    (pytester.path / "suites").mkdir()
    (pytester.path / "suites" / "bad.py").write_text("SUITE = Suit()\n")
    result = pytester.runpytest("suites")
    result.stdout.fnmatch_lines(["*bad.py, line 1: NameError: name 'Suit' is not defined*"])


def test_a_suite_file_that_exits_ends_nothing_but_itself(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    (pytester.path / "suites" / "exits.py").write_text("import sys\nsys.exit(3)\nSUITE = 1\n")
    result = pytester.runpytest("suites", "--continue-on-collection-errors")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*exits.py, line 2: *sys.exit(3)*"])


def test_a_file_that_only_speaks_of_a_suite_is_said(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    (pytester.path / "suites" / "words.py").write_text('"""SUITE = no."""\n')
    pytester.runpytest("suites", "-W", "default").assert_outcomes(passed=1, warnings=1)


@pytest.mark.parametrize(("device", "said"), [("banana", "--device: unknown device 'banana'; expected cpu, cuda or cuda:N"),
                                              ("cuda:99", "leave the device out")])
def test_a_device_that_is_not_there_is_said_before_anything_else(pytester: pytest.Pytester, device: str, said: str) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "--benchmark", "--device", device)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{said}*"])


def test_names_cannot_act_on_the_terminal(pytester: pytest.Pytester) -> None:
    write_suite(pytester, more=", Candidate(name='[/red]\\x1b[31mx', model='zoo:photo')")
    result = pytester.runpytest("suites", "--benchmark", "--co", "-q")
    assert "\x1b" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*x1b*"])


def test_a_runs_dir_that_is_a_file_is_one_clear_message(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    (pytester.path / "runs").write_text("in the way")
    result = pytester.runpytest("suites", "--benchmark")
    result.stdout.fnmatch_lines(["*run folder *runs/tiny cannot be used*"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(("number", "plain"), [(28, True), (30, True), (2, False)])
def test_what_the_disk_refuses_is_said_without_a_traceback(number: int, plain: bool) -> None:
    error = OSError(number, "no", "runs/tiny/journal.jsonl")
    if plain:
        said = _Item.repr_failure(None, SimpleNamespace(value=error))  # type: ignore[arg-type]
        assert said.startswith(f"the run folder could not be written: [Errno {number}] no: 'runs/tiny/journal.jsonl'. Make room")
    else:
        with pytest.raises(AttributeError):  # on to pytest's own, which needs an item
            _Item.repr_failure(None, SimpleNamespace(value=error))  # type: ignore[arg-type]


def test_benchmark_with_xdist_is_refused_with_a_reason(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    write_suite(pytester)
    result = pytester.runpytest_subprocess("suites", "--benchmark", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--benchmark with -n*"])


def test_the_main_job_in_small(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "--benchmark", "-v", "--benchmark-json=out.json", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines_random([
        "*suites/tiny.py::declaration PASSED*", "*suites/tiny.py::candidate[[]alpha=0.5[]] PASSED*",
        "*suites/tiny.py::gate[[]coverage[]] PASSED*", "*suites/tiny.py::recommendation PASSED*", "*page: *report.html*"])
    rows = json.loads((pytester.path / "out.json").read_text())["benchmarks"]
    assert {row["name"] for row in rows} == {"candidate[alpha=0]", "candidate[alpha=0.5]", "candidate[alpha=1]"}
    assert all(len(row["stats"]["data"]) == 2 for row in rows)
    page = pytester.path / "runs" / "tiny" / "report.html"
    assert "Content-Security-Policy" in page.read_text()
    verdict, where, counts = result.outlines[-3:]
    assert verdict.startswith("tiny: ")
    assert where == f"page: {page}"
    assert "7 passed" in counts
    assert "seconds per image at batch 1" not in result.stdout.str()
    assert len(list(pytester.path.glob("runs/tiny/images/**/*.png"))) == 24


def test_a_second_run_samples_nothing_and_says_the_same(pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester)
    pytester.runpytest("suites", "--benchmark")
    before = {p: p.stat().st_mtime_ns for p in pytester.path.rglob("*.png")}
    table = (pytester.path / "runs" / "tiny" / "table.csv").read_bytes()
    pytester.runpytest("suites", "--benchmark")
    assert {p: p.stat().st_mtime_ns for p in pytester.path.rglob("*.png")} == before
    assert (pytester.path / "runs" / "tiny" / "table.csv").read_bytes() == table


def test_a_torn_file_is_a_problem_of_the_declaration(pytester: pytest.Pytester, painted: None) -> None:
    (pytester.path / "torn.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    write_suite(pytester, more=", Candidate(name='torn', model='torn.safetensors')")
    result = pytester.runpytest("suites")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*candidate 'torn'*torn.safetensors*truncated*"])


def test_a_broken_candidate_fails_alone(pytester: pytest.Pytester, painted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = PaintedBench.prepare

    def break_one(bench: PaintedBench, candidate: Candidate) -> object:
        if candidate.name == "torn":
            raise MaterialiseError("torn.safetensors holds NaN")
        return prepare(bench, candidate)

    monkeypatch.setattr(PaintedBench, "prepare", break_one)
    write_suite(pytester, more=", Candidate(name='torn', model=Merge(a='zoo:photo', b='zoo:anime', alpha=0.3))")
    result = pytester.runpytest("suites", "--benchmark", "-v")
    result.stdout.fnmatch_lines_random(["*candidate[[]torn[]] FAILED*", "*candidate[[]alpha=1[]] PASSED*",
                                        "*torn.safetensors*"])
    result.stdout.fnmatch_lines(["*short test summary*", "FAILED *candidate[[]torn[]]*", "tiny: *", "page: *", "*1 failed*"])
    assert "torn" in (pytester.path / "runs" / "tiny" / "report.html").read_text()


def test_dash_k_selects_candidates(pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester)
    pytester.runpytest("suites", "--benchmark", "-k", "candidate and 0.5").assert_outcomes(passed=1, deselected=6)
    assert len(list(pytester.path.rglob("*.png"))) == 8


@pytest.mark.parametrize("option", ["--setup-plan", "--setup-only"])
def test_an_option_that_runs_nothing_is_refused(pytester: pytest.Pytester, option: str) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "--benchmark", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{option}*nothing would be in the result*"])


@pytest.mark.parametrize(("options", "line"), [
    (["-k", "not gate"], "tiny: *the exit code does not count 1 gate, not selected by -k 'not gate'*"),
    (["-k", "not gate and not recommendation"], "tiny: *does not count 1 gate and the recommendation, not selected by -k*"),
    (["--deselect", "suites/tiny.py::gate[coverage]"], "tiny: *does not count 1 gate, not selected on the command line*"),
    ([], "tiny: *")])
def test_the_headline_says_which_gates_the_exit_code_does_not_count(pytester: pytest.Pytester, painted: None, options: list[str],
                                                                    line: str) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "--benchmark", *options)
    result.stdout.fnmatch_lines([line])
    if not options:
        result.stdout.no_fnmatch_line("*the exit code does not count*")
    for name in ("report.html", "report.md"):
        assert ("he exit code does not count" in (pytester.path / "runs" / "tiny" / name).read_text()) == bool(options)


def test_candidates_are_timed_together_by_an_item_of_its_own(pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester)
    pytester.makepyfile(test_own="def test_of_the_users_own(benchmark):\n    benchmark(sum, range(10))")
    result = pytester.runpytest("suites", "test_own.py", "--benchmark", "-v")
    result.stdout.fnmatch_lines(["*candidate[[]alpha=1[]] PASSED*", "*costs PASSED*", "*gate*"])
    tabulated = [line.split()[0] for line in result.outlines if line.startswith(("test_of", "candidate["))]
    assert tabulated == ["test_of_the_users_own"]
    lines = (pytester.path / "runs" / "tiny" / "journal.jsonl").read_text().splitlines()
    assert [kind for line in lines if (kind := line[9:].partition('"')[0]) in ("sample", "latency")][-3:] == ["latency"] * 3


def test_a_selection_without_that_item_is_timed_all_the_same(pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "--benchmark", "-k", "candidate and 0.5", "--timings")
    result.assert_outcomes(passed=1, deselected=6)
    result.stdout.fnmatch_lines(["*tiny: seconds per image at batch 1*", "candidate[[]alpha=0.5[]]*", "tiny: *", "page: *"])
    assert '"latency"' in (pytester.path / "runs" / "tiny" / "journal.jsonl").read_text()


def write_race(pytester: pytest.Pytester) -> None:
    """Four select prompts in two looks of two, two confirm prompts: 36 images at most."""
    file = write_suite(pytester)
    more = ('prompts=[Prompt(id="sun", text="a yellow sun"), Prompt(id="cat", text="an orange cat"), ')
    text = file.read_text().replace("prompts=[", more).replace("latency_rounds=2,", "latency_rounds=2, budget=Budget("
                                                               "first_prompts=2, step_prompts=2, enough=1000.0), "
                                                               "objective=Objective(penalties=()),")
    file.write_text(text.replace("import Candidate", "import Budget, Candidate, Objective", 1))


def test_a_suite_with_a_budget_is_raced_before_it_is_timed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A race that samples; its page is drawn by others."""
    monkeypatch.setattr("reports.page.build.FIGURES", {})
    write_race(pytester)
    result = pytester.runpytest("suites", "--benchmark", "-v", "--benchmark-json=out.json")
    result.stdout.fnmatch_lines(["*candidate[[]alpha=1[]] PASSED*", "*::race PASSED*", "*::costs PASSED*", "*::gate*",
                                 "*::recommendation PASSED*", "*spent: * images in * interim looks (*)*of the 36 of the*"])
    assert len(list(pytester.path.rglob("*.png"))) < 36
    assert len(json.loads((pytester.path / "out.json").read_text())["benchmarks"]) == 3
    assert "What was spent" in (pytester.path / "runs" / "tiny" / "report.html").read_text()
    before = {p: p.stat().st_mtime_ns for p in pytester.path.rglob("*.png")}
    table = (pytester.path / "runs" / "tiny" / "table.csv").read_bytes()
    pytester.runpytest("suites", "--benchmark")
    assert {p: p.stat().st_mtime_ns for p in pytester.path.rglob("*.png")} == before
    assert (pytester.path / "runs" / "tiny" / "table.csv").read_bytes() == table


def test_a_race_without_candidates_is_skipped(pytester: pytest.Pytester) -> None:
    write_race(pytester)
    result = pytester.runpytest("suites/tiny.py::race", "--benchmark", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no candidate is selected*"])


def test_a_candidate_alone_is_sampled_as_far_as_the_first_look(pytester: pytest.Pytester, painted: None) -> None:
    write_race(pytester)
    pytester.runpytest("suites", "--benchmark", "-k", "candidate and 0.5").assert_outcomes(passed=1, deselected=7)
    assert len(list(pytester.path.rglob("*.png"))) == 4


def test_benchmark_only_keeps_our_items(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    pytester.runpytest("suites", "--benchmark-only").assert_outcomes(passed=1)


def test_a_mode_that_the_device_lacks_is_skipped_with_its_reason(pytester: pytest.Pytester, painted: None) -> None:
    half = "Candidate(name='half', model='zoo:photo', quantization='fp16')"
    write_suite(pytester, more=f", {half}")
    result = pytester.runpytest("suites", "--benchmark", "-rs", "-k", "candidate and half")
    result.assert_outcomes(skipped=1, deselected=7)
    result.stdout.fnmatch_lines(["*fp16 is not offered on cpu*"])


def test_a_candidate_can_be_named_by_its_id(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    pytester.runpytest("suites/tiny.py::candidate[alpha=0.5]", "--benchmark", "--co", "-q").stdout.fnmatch_lines(["*alpha=0.5*"])


def test_gates_on_identities_and_on_what_was_promoted_are_asked_of_the_run(pytester: pytest.Pytester,
                                                                           painted: None) -> None:
    file = write_suite(pytester, metrics="('clip_score', 'palette', 'exposure', 'styles', 'structure')")
    file.write_text(file.read_text().replace("gates=[Gate(value=\"coverage\")]", (
        "styles={'photo': 'a photo', 'anime': 'an anime drawing'}, gates=[Gate(value='identities', candidates=['alpha=0.5']), "
        "Gate(value='clip_score', not_worse_than='promoted', candidates=['alpha=0.5'])]")))
    result = pytester.runpytest("suites", "--benchmark", "-v", "-rs", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*gate[[]identities[]] PASSED*", "*not_worse_than promoted[]] SKIPPED*",
                                 "*nothing was promoted from this suite yet*"])
    journal = (pytester.path / "runs/tiny/journal.jsonl").read_text()
    assert journal.count('"stage":"identities"') == 3
    looks = [json.loads(line)["details"]["leanings"] for line in journal.splitlines() if '"metric":"styles"' in line]
    assert looks
    assert all(set(one) == {"photo", "anime"} for one in looks)
    again = pytester.runpytest("suites", "--benchmark", "-p", "no:cacheprovider")
    assert again.ret == 0
    assert (pytester.path / "runs/tiny/journal.jsonl").read_text().count('"stage":"identities"') == 3


def test_rows_of_pytest_benchmark_say_when_and_where_they_were_timed_also_when_they_are_reused(
        pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester)
    facts = []
    for out in ("first.json", "second.json"):
        result = pytester.runpytest("suites", "--benchmark", f"--benchmark-json={out}", "-p", "no:cacheprovider")
        rows = json.loads((pytester.path / out).read_text())["benchmarks"]
        facts.append([(row["extra_info"]["timed_at"], row["extra_info"]["environment"]["packages"]["torch"]) for row in rows])
    assert facts[0] == facts[1]
    assert len({at for at, _ in facts[0]}) == 1
    result.stdout.fnmatch_lines(["tiny: reused 24 of 24 images and 3 of 3 timings (of 20*; --retime takes them again)"])
    pytester.runpytest("suites", "--benchmark", "--retime", "--benchmark-json=third.json", "-p", "no:cacheprovider")
    rows = json.loads((pytester.path / "third.json").read_text())["benchmarks"]
    assert rows[0]["extra_info"]["timed_at"] > facts[1][0][0]


def test_the_command_that_makes_a_picture_again_works_for_a_suite_outside_of_the_working_directory(
        pytester: pytest.Pytester, painted: None) -> None:
    import shlex

    from reports import load_run
    from reports.page.explorer import command

    write_suite(pytester)
    (pytester.path / "q").mkdir()
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.chdir(pytester.path / "q")
        pytester.runpytest("../suites/tiny.py", "--benchmark", "-p", "no:cacheprovider")
        run = load_run(pytester.path / "q" / "runs" / "tiny")
        assert run.head["suite_file"] == "../suites/tiny.py"
        words = shlex.split(command(run, "alpha=0.5"))
        assert words[:2] == ["pytest", "../suites/tiny.py::candidate[alpha=0.5]"]
        pytester.runpytest(*words[1:], "-p", "no:cacheprovider").assert_outcomes(passed=1)
        made = [{p.name: p.read_bytes() for p in (pytester.path / "q" / folder / "tiny" / "images" / "alpha=0.5").glob("*.png")}
                for folder in ("runs", "remade")]
        assert made[0] == made[1] != {}
