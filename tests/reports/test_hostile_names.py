"""A hostile name, wherever a run can hold one, acts in no form in which the run is shown."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.declare import Gate, Suite
from harness.records import Failure
from reports.analysis.notebook_view import notebook_view
from reports.compare import views as comparing
from reports.compare.runs import compare
from reports.gates import judge
from reports.page import summary
from reports.page.build import csv, write_page
from reports.read.run import load_run
from reports.trend import views as trending
from reports.trend.series import read_trend
from reports.verdict.recommending import recommend
from tests.reports import synthetic

HOSTILE = "=\x1b]0;owned\x07\u202e\u200b</script><b onclick=x>=1+1 | [a](//x) @all\x9b"
"""For a terminal, an eye, a page, a spreadsheet and a Markdown reader."""


def hostile_suite() -> Suite:
    """The hostile text in the name and the description of the suite, in every candidate's name and in every prompt."""
    suite = synthetic.merge_suite()
    candidates = tuple(replace(c, name=f"{HOSTILE} {number}", axes={}) for number, c in enumerate(suite.candidates[::3]))
    prompts = tuple(replace(p, text=f"{HOSTILE} {p.text}") for p in suite.grid.prompts[:4] + suite.grid.prompts[-2:])
    gates = (Gate(value="clip_score", at_least=20.0, candidates=(candidates[0].name,)),)
    return replace(suite, name=f"{HOSTILE} suite", description=HOSTILE, candidates=candidates, baseline=candidates[0].name,
                   grid=replace(suite.grid, prompts=prompts, seeds=suite.grid.seeds[:1]), gates=gates)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of that suite, in which one candidate failed with the hostile text, on a machine of that name."""
    suite = hostile_suite()
    failure = Failure(candidate=suite.candidates[1].name, stage="sample", error=HOSTILE, message=HOSTILE)
    written = synthetic.write_run(tmp_path_factory.mktemp("runs") / "run", suite,
                                  extra=lambda candidate: [failure] if candidate.name == failure.candidate else [])
    head = json.loads((written / "run.json").read_text())
    head["environment"] |= {"device_name": HOSTILE, "git_commit": HOSTILE, "hostname": HOSTILE}
    (written / "run.json").write_text(json.dumps(head | {"command": ["pytest", HOSTILE], "suite_file": HOSTILE}))
    return written


def printed(renderable: Any) -> str:
    text = io.StringIO()
    Console(file=text, width=400).print(renderable)
    return text.getvalue()


@pytest.fixture(scope="module")
def shown(folder: Path) -> dict[str, list[str]]:
    """All forms in which readers see a run, by what reads them."""
    run, trend = load_run(folder), read_trend([folder])
    recommendation, compared = recommend(run), compare(run, run)
    verdicts = judge(run, recommendation)
    pages = [write_page(folder).read_text(), comparing.page(compared), trending.page(trend),
             notebook_view(run, recommendation, verdicts, [HOSTILE], HOSTILE)]
    return {
        "terminal": [printed(summary.terminal_table(run, recommendation, verdicts)), printed(comparing.terminal(compared)),
                     printed(trending.terminal(trend)),
                     *summary.closing_lines(run, recommendation, verdicts, Path(f"{HOSTILE}.html"))],
        "markdown": [summary.markdown(run, recommendation, verdicts), comparing.markdown(compared)],
        # plotly's own code holds control characters; the data of a page is in scripts with a type.
        "page": [re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL) for page in pages],
        "table": [csv(run), trending.csv(trend)]}


@pytest.mark.parametrize("reader", ["terminal", "markdown", "page", "table"])
def test_no_character_acts_or_hides(reader: str, shown: dict[str, list[str]]) -> None:
    own = {"\u200b"} if reader == "markdown" else set()  # it breaks mentions and addresses
    for text in shown[reader]:
        acting = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")} - set("\n\t\u200d\ufe0f")
        assert acting <= own


def test_no_tag_of_a_name_is_in_a_page(shown: dict[str, list[str]]) -> None:
    for text in shown["page"]:
        assert "b onclick" in text
        assert "<b onclick" not in text


def test_no_mark_up_of_a_name_is_in_markdown(shown: dict[str, list[str]]) -> None:
    for text in shown["markdown"]:
        assert "b onclick" in text
        assert not re.search(r"(?<!\\)<b|(?<!\\)\]\(//x|@all", text)


def test_no_name_is_a_formula_in_a_table(shown: dict[str, list[str]]) -> None:
    for text in shown["table"]:
        assert "b onclick" in text
        assert not re.search(r'(?m)(?:^|,)"?=', text)
