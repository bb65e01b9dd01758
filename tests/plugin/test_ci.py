"""A benchmark session tells a CI system what it found: in the JUnit report, in the job summary and in a comment's Markdown."""

import importlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.plugin.ci import COMMENT_LIMIT, MARKER, comment, cut, record, shares
from reports import judge, load_run, markdown, recommend
from reports.page.pick_strip import text_alone
from tests.painted import paint_runs
from tests.reports import synthetic

SUITE = """
from harness import Candidate, Gate, Grid, Prompt, Suite, alpha_sweep

SUITE = Suite(
    name="tiny", candidates=[*alpha_sweep("zoo:photo", "zoo:anime", (0, 1)), Candidate(name={name!r}, model="zoo:base")],
    baseline="alpha=0", metrics=("clip_score", "palette", "exposure"), latency_rounds=2,
    grid=Grid(prompts=[Prompt(id="star", text="a red star"), Prompt(id="car", text="a blue car")],
              seeds=[1], guidance_scales=[1], steps=1, width=64, height=64, batch_size=8),
    gates=[Gate(value="coverage"), Gate(value="clip_score", not_worse_than="alpha=1", candidates=("alpha=0", {name!r})),
           Gate(value="failures", at_most=0, candidates=("alpha=0", "alpha=1"))])
"""
HOSTILE = "@me <img>"


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """pytester forgets modules that were first imported inside it, and numpy or torch cannot be imported twice."""
    for name in ("diffusers", "open_clip", "pandas", "peft.tuners.lora", "plotly.graph_objects", "reports.page.build",
                 "sklearn.cluster", "torchao.quantization", "torchmetrics.image", "transformers", "harness.session.session"):
        importlib.import_module(name)


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, pytester: pytest.Pytester) -> Path:
    """The zoo's files are assembled once, the suite is written, and the job summary goes nowhere by default. Images are painted,
    and pages have no figures."""
    paint_runs(monkeypatch)
    monkeypatch.setattr("reports.page.build.FIGURES", {})
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (pytester.path / "suites").mkdir()
    (pytester.path / "suites" / "tiny.py").write_text(SUITE.format(name=HOSTILE))
    return Path(pytester.path)


def junit(file: Path) -> dict[str, tuple[Any, dict[str, str]]]:
    """{name: (element, {property: value})} of a JUnit file."""
    cases = ElementTree.parse(file).getroot().iter("testcase")
    return {str(case.get("name")): (case, {str(p.get("name")): str(p.get("value")) for p in case.iter("property")})
            for case in cases}


def test_the_junit_report_says_what_was_observed(pytester: pytest.Pytester, place: Path) -> None:
    pytester.runpytest("suites", "--benchmark", "--junitxml=junit.xml", "-p", "no:cacheprovider")
    cases = junit(place / "junit.xml")
    assert {case.get("classname") for case, _ in cases.values()} == {"suites.tiny"}
    candidate = cases["candidate[alpha=1]"][1]
    names = ("suite", "candidate", "images", "failures")
    assert [candidate[name] for name in names] == ["tiny", "alpha=1", "2", "0"]
    assert float(cases["costs"][1]["seconds_per_image[alpha=1]"]) > 0
    gate = cases["gate[coverage]"][1]
    assert (gate["status"], gate["observed"], gate["low"], gate["limit"]) == ("passed", "0", "0", "at most 0")
    several = cases["gate[failures at_most 0]"][1]
    assert (several["status[alpha=0]"], several["status[alpha=1]"]) == ("passed", "passed")
    verdict = cases["recommendation"][1]
    assert verdict["pick"] in verdict["sentence"] or verdict["sentence"]
    assert Path(verdict["page"]).name == "report.html"


def test_a_property_is_one_harmless_line_and_what_is_absent_is_left_out(pytester: pytest.Pytester) -> None:
    item = pytester.getitem("def test_func(): pass")
    record(item, {"reason": "\x1b[31mred\n\u202etext", "low": 0.1, "high": None, "count": 0})
    assert item.user_properties == [("reason", "\\x1b[31mred \\u202etext"), ("low", 0.1), ("count", 0)]


def test_an_undecided_gate_is_skipped_or_fails_by_the_policy(pytester: pytest.Pytester, place: Path) -> None:
    gate = "gate[clip_score not_worse_than alpha=1]"
    for policy, tag in (("pass", "skipped"), ("fail", "failure")):
        pytester.runpytest("suites", "--benchmark", f"--inconclusive={policy}", f"--junitxml={policy}.xml")
        case, properties = junit(place / f"{policy}.xml")[gate]
        found = case.find(tag)
        assert found is not None
        assert "inconclusive: " in str(found.get("message"))
        assert properties["status[alpha=0]"] == "inconclusive"


def test_comment_and_job_summary_hold_the_verdict(pytester: pytest.Pytester, place: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    (place / "summary.md").write_text("before\n")
    result = pytester.runpytest("suites", "--benchmark", "--markdown", "comment.md")
    said, summary = ((place / name).read_text(encoding="utf-8") for name in ("comment.md", "summary.md"))
    report = (place / "runs" / "tiny" / "report.md").read_text(encoding="utf-8")
    assert said.splitlines()[0] == MARKER
    assert "**Sweetspot**: 1 suite, 1 with a pick; gates: " in said
    assert text_alone(report) in said
    assert "report-pick" not in said + summary
    assert summary.startswith("before\n")
    assert text_alone(report) in summary
    assert "<img>" not in said.replace("\\<img\\>", "")
    assert "@me" not in said
    result.stdout.fnmatch_lines(["markdown: *comment.md", "$GITHUB_STEP_SUMMARY: written"])


def test_a_suite_that_did_not_run_is_named_in_the_comment(pytester: pytest.Pytester, place: Path) -> None:
    (place / "suites" / "tiny.py").write_text(SUITE.format(name="x").replace('"palette"', '"palete"'))
    pytester.runpytest("suites", "--benchmark", "--markdown", "comment.md")
    assert "No verdict: its declaration has 1 problem; see" in (place / "comment.md").read_text()


def test_a_summary_that_cannot_be_written_costs_no_result(pytester: pytest.Pytester, place: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place))
    (place / "suites" / "tiny.py").write_text(SUITE.format(name="x").replace('"palette"', '"palete"'))
    pytester.runpytest("suites", "--benchmark").stdout.fnmatch_lines(["$GITHUB_STEP_SUMMARY: not written*"])


@pytest.mark.parametrize(("file", "said"), [("nowhere/comment.md", "there is no folder"), ("suites", "is a folder")])
def test_a_comment_that_cannot_be_written_is_said_before_the_first_image(pytester: pytest.Pytester, file: str,
                                                                         said: str) -> None:
    result = pytester.runpytest("suites", "--benchmark", "--markdown", file)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--markdown {file}*{said}*"])


def test_all_suites_together_fit_into_a_comment_and_each_says_its_verdict() -> None:
    texts = [f"## suite {i}\n\n**Ship {i}.**\n" + "| ä | b |\n" * 20_000 for i in range(5)]
    said = comment("head", texts)
    assert len(said.encode()) <= COMMENT_LIMIT
    assert len(said.encode()) > 0.99 * COMMENT_LIMIT
    assert all(f"**Ship {i}.**" in said for i in range(5))
    assert said.count("… cut here") == 5


def test_a_short_text_leaves_its_room_to_a_long_one() -> None:
    short, long = shares(["a\n" * 10, "b\n" * 1000], 1000)
    assert short == "a\n" * 10
    assert 900 < len(long.encode()) <= 980


def test_a_cut_text_says_how_many_lines_are_missing() -> None:
    assert cut("one\ntwo\n" + "three\n" * 50, 120) .endswith("of 52 lines are only on the page and in report.md next to it.\n")
    assert cut("one\n", 4) == "one\n"


def test_no_text_of_a_run_can_forge_the_marker(tmp_path: Path) -> None:
    suite = synthetic.merge_suite(name=MARKER, grid=synthetic.SMALL)
    run = load_run(synthetic.write_run(tmp_path / "run", suite))
    verdict = recommend(run)
    assert MARKER not in markdown(run, verdict, judge(run, verdict))


@pytest.mark.parametrize("by", ["option", "variable"])
@pytest.mark.parametrize("model", ["zoo:base", "https://me:hunter2@host/x.safetensors", "https://host/x?token=hunter2"])
def test_no_output_of_a_run_shows_a_password_or_a_token(
        pytester: pytest.Pytester, place: Path, monkeypatch: pytest.MonkeyPatch, model: str, by: str) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "step.md"))
    (place / "suites" / "tiny.py").write_text(SUITE.format(name="x").replace("zoo:base", model))
    address = "redis://ci:hunter2@127.0.0.1:1/0"
    if by == "variable":
        monkeypatch.setenv("SWEETSPOT_SHARED_CACHE", address)
    words = ["--shared-cache", address] if by == "option" else []
    result = pytester.runpytest("suites", "--benchmark", "--junitxml=junit.xml", "--markdown=c.md", "--live", *words)
    assert (place / "runs" / "tiny" / "report.html").is_file() == (model == "zoo:base")
    texts = {"terminal": str(result.stdout) + str(result.stderr), **{
        str(file): file.read_text(errors="replace") for file in place.rglob("*")
        if file.is_file() and "suites" not in file.parts}}
    assert len(texts) > 3
    assert [name for name, text in texts.items() if "hunter2" in text] == []
