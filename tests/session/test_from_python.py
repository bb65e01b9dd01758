"""A suite runs from Python as it does from pytest, and its result is an object with tables, a verdict and a view."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness
from harness import Budget, Candidate, DeclarationError, Gate, Prompt, load_run, run_suite
from harness.run.suite_run import SuiteRun
from reports.analysis import AnalysedRun
from tests.fakes import PROMPTS, tiny_grid, tiny_suite
from tests.painted import paint_runs
from tests.plugin.test_plugin import loaded, write_suite, zoo_cache
from tests.plugin.test_plugin import painted as painted_images
from tests.race.painted import DeclaredBench
from tests.race.painted import suite as painted_suite
from tests.reports.conftest import hostile_folder, merge_folder

__all__ = ["hostile_folder", "loaded", "merge_folder", "painted_images", "zoo_cache"]
ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```python\n(.*?)```", MANUAL, re.DOTALL)


@pytest.fixture
def painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a session whose images cost nothing."""
    monkeypatch.chdir(tmp_path)
    paint_runs(monkeypatch, DeclaredBench)
    monkeypatch.setattr(SuiteRun, "costs", lambda *_: [])
    return tmp_path


def test_everything_the_manual_shows_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in SHOWN:
        exec(code, names)
    run = names["run"]
    assert isinstance(run, AnalysedRun)
    assert run.complete, run.unfinished
    assert run.page == tmp_path / "runs" / "from_python" / "report.html" or run.page == Path("runs/from_python/report.html")
    assert names["table"].shape == (3, 2)
    assert (names["seconds"] > 0).all()
    assert list(names["worst"].columns)[-1] == "path"


def test_the_manual_lists_every_column_of_cells_and_costs() -> None:
    from reports.analysis.frames import CELL_COLUMNS, COST_COLUMNS

    cells, costs = MANUAL.split("### `cells`")[1].split("### `costs`")
    for columns, text in ((CELL_COLUMNS, cells), (COST_COLUMNS, costs)):
        named = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`",
                                                                                                  line.split("|")[1])}
        assert named == set(columns)


def test_a_faulty_declaration_raises_all_its_problems_before_anything_is_run(painted: Path) -> None:
    faulty = tiny_suite(metrics=("clip_scor",), candidates=(Candidate(name="x", model="nowhere.safetensors"),), baseline="x")
    with pytest.raises(DeclarationError) as raised:
        run_suite(faulty)
    assert all(any(name in problem for problem in raised.value.problems) for name in ("clip_scor", "nowhere.safetensors"))
    assert not (painted / "runs").exists()


@pytest.mark.parametrize("other", [None, 3, "SUITE"])
def test_what_is_not_a_suite_is_refused(painted: Path, other: object) -> None:
    (painted / "other.py").write_text(f"SUITE = {other!r}\n")
    with pytest.raises(DeclarationError):
        run_suite("other.py")


@pytest.mark.parametrize(("options", "said"), [({"device": "banana"}, "banana"), ({"shared_cache": "ftp://x"}, "ftp"),
                                               ({"workers": "four"}, "local:N"),
                                               ({"worker_timeout": 5.0}, "leave the timeout out"),
                                               ({"workers": "local:2", "worker_timeout": -1.0}, "-1"),
                                               ({"workers": "local:2", "worker_timeout": float("nan")}, "nan")])
def test_an_option_that_cannot_be_is_refused(painted: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_suite(painted_suite(None), **options)  # type: ignore[arg-type]


def test_a_candidate_that_fails_stands_in_the_result_and_stops_nothing(painted: Path) -> None:
    declared = painted_suite(None, gates=(Gate(value="failures", at_most=0, candidates=("torn",)),))
    declared = replace(declared, candidates=(*declared.candidates, Candidate(name="torn", model="zoo:base")))
    run = run_suite(declared, progress=False)
    assert [(f.candidate, f.error) for f in run.failures] == [("torn", "ValueError")]
    assert not run.complete
    assert any("'torn'" in text and "no model" in text for text in run.unfinished)
    assert set(run.images["candidate"]) == {"alpha=0", "alpha=0.5", "alpha=1"}
    assert [verdict.status for verdict in run.verdicts] == ["failed"]


def test_a_suite_with_a_budget_is_raced(painted: Path) -> None:
    grid = tiny_grid(prompts=(*PROMPTS, Prompt(id="sun", text="a yellow sun")), seeds=(1, 2), width=16, height=16)
    run = run_suite(painted_suite(Budget(first_prompts=2, step_prompts=2), grid=grid), progress=False)
    assert run.looks
    assert len(run.images) == run.looks[-1].images


def test_a_file_and_a_folder_are_found_from_the_working_directory(painted: Path) -> None:
    (painted / "mine.py").write_text("from tests.race.painted import suite\nSUITE = suite(None)\n")
    run = run_suite("mine.py", runs_dir="elsewhere", progress=False)
    assert run.head["suite_file"] == "mine.py"
    assert run.page == painted / "elsewhere" / "tiny" / "report.html"
    again = load_run("elsewhere/tiny")
    pd.testing.assert_frame_equal(again.images, run.images)
    assert again.recommendation == run.recommendation


def test_progress_is_shown_or_not(painted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.progress.LINE_EVERY_SECONDS", 0.0)
    run_suite(painted_suite(None), progress=False)
    assert capsys.readouterr() == ("", "")
    run_suite(painted_suite(None), fresh=True)
    assert "[60/60 images" in capsys.readouterr().err


def test_the_recommendation_is_computed_once(painted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_suite(painted_suite(None), progress=False)
    assert run.recommendation is run.recommendation
    assert run.verdicts is run.verdicts
    assert run.cells is run.cells


def test_cells_say_mean_interval_and_n_of_the_images(painted: Path) -> None:
    run = run_suite(painted_suite(None), progress=False)
    cells = run.cells.set_index(["candidate", "guidance", "value"])
    row = cells.loc[("alpha=0.5", 4.0, "saturation")]
    images = run.images.query("candidate == 'alpha=0.5' and guidance == 4.0")
    assert row["mean"] == pytest.approx(images.groupby("prompt")["saturation"].mean().mean())
    assert row["low"] < row["mean"] < row["high"]
    assert (row["prompts"], row["images"]) == (5, 10)
    assert cells["pick"].sum() == cells.index.get_level_values("value").nunique()


def test_a_cost_that_was_not_measured_is_missing_with_a_reason(painted: Path) -> None:
    costs = run_suite(painted_suite(None), progress=False).costs
    row = costs[(costs["candidate"] == "alpha=1") & (costs["cost"] == "seconds_per_image")].iloc[0]
    assert pd.isna(row["value"])
    assert row["n"] == 0
    assert row["why"]


class Tags(HTMLParser):
    """Which elements and attributes there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_the_notebook_view_shows_verdict_gates_and_pictures_and_nothing_in_it_acts(hostile_folder: Path) -> None:
    run = load_run(hostile_folder)
    shown = Tags(run._repr_html_())
    assert shown.tags <= {"div", "p", "strong", "ul", "li", "table", "caption", "thead", "tbody", "tr", "th", "td", "img", "code"}
    assert {name for name, _ in shown.attributes} <= {"style", "src", "alt", "title"}
    assert all(value.startswith("data:image/webp;base64,") for name, value in shown.attributes if name == "src")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", run._repr_html_())


def test_the_notebook_view_holds_the_sentence_the_gates_and_the_pick(merge_folder: Path) -> None:
    run = load_run(merge_folder)
    text = run._repr_html_()
    assert run.headline.text in text
    assert text.count("<img src=") >= 4
    assert all(verdict.status.replace("_", " ") in text for verdict in run.verdicts)
    assert "★" in text


def test_a_run_is_one_line_as_text(merge_folder: Path) -> None:
    text = repr(load_run(merge_folder))
    assert "\n" not in text
    assert "dress" in text


def test_an_unknown_name_of_the_package_is_refused_with_those_it_has() -> None:
    with pytest.raises(AttributeError, match="run_suite"):
        harness.run_suit  # noqa: B018 - the access is what is tested


def test_pytest_goes_on_where_python_stopped(pytester: pytest.Pytester, painted_images: None,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pytester.path)
    write_suite(pytester)
    run = run_suite("suites/tiny.py", progress=False)
    before = {p: p.stat().st_mtime_ns for p in pytester.path.rglob("*.png")}
    table = (run.folder / "table.csv").read_bytes()
    done = pytester.runpytest("suites", "--benchmark", "-p", "no:cacheprovider")
    assert done.ret == 0
    assert {p: p.stat().st_mtime_ns for p in pytester.path.rglob("*.png")} == before
    assert (run.folder / "table.csv").read_bytes() == table


def test_a_file_with_more_suites_than_its_suite_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("from tests.fakes import tiny_suite\nSUITE = tiny_suite()\nSUITE_2 = tiny_suite(name='other')\n")
    with pytest.raises(DeclarationError, match="besides SUITE, 'SUITE_2' is a Suite"):
        run_suite(file, progress=False)
