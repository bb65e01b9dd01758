"""The terminal table and the Markdown text say what the page says, and nothing in them acts."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness import Adapter
from harness.records import Failure
from reports import headline, judge, load_run, markdown, recommend, terminal_table
from reports.page.summary import MARKDOWN_LIMIT, closing_lines
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation


def printed(run: Run, rec: Recommendation, width: int = 160) -> str:
    text = io.StringIO()
    Console(file=text, width=width, force_terminal=False).print(terminal_table(run, rec, judge(run, rec)))
    return text.getvalue()


def test_the_terminal_shows_intervals_n_the_reading_and_the_sentence(merge_run: Run, merge_verdict: Recommendation) -> None:
    said = printed(merge_run, merge_verdict)
    assert f"CFG {merge_verdict.guidance:g}" in said
    assert "n=6)" in said
    assert "process RSS" in said
    sentence = headline(merge_run, merge_verdict, judge(merge_run, merge_verdict)).sentence
    assert sentence in said.replace("\n", " ").replace("  ", " ")


def test_the_closing_lines_are_the_verdict_and_the_page(merge_run: Run, merge_verdict: Recommendation) -> None:
    hostile = replace(merge_run, suite=replace(merge_run.suite, name="a\x1b[31m\nb"))
    verdict, promote, page = closing_lines(hostile, merge_verdict, [], Path("runs/x/report.html"))
    assert verdict == "a\\x1b[31m b: Ship alpha 0.45 at CFG 8; candidate 'alpha=0.45'"
    assert promote == "promote: sweetspot promote alpha=0.45 --run runs/x --as NAME"
    assert page == f"page: {Path('runs/x/report.html')}"


def test_no_promotion_is_advised_where_prompts_bring_adapters(merge_run: Run, merge_verdict: Recommendation) -> None:
    """One file has the same weights for all prompts, so it would be refused."""
    first, *others = merge_run.suite.grid.prompts
    prompts = (replace(first, adapters=(Adapter(path="ink.safetensors"),)), *others)
    run = replace(merge_run, suite=replace(merge_run.suite, grid=replace(merge_run.suite.grid, prompts=prompts)))
    assert not [line for line in closing_lines(run, merge_verdict, [], Path("x/report.html")) if "promote" in line]


def test_the_closing_line_says_which_gates_and_candidates_failed(merge_run: Run, merge_verdict: Recommendation) -> None:
    failures = tuple(Failure(candidate=name, stage="sample", error="E", message="m") for name in ("a", "a", "b"))
    gates = [replace(judge(merge_run, merge_verdict)[0], status=status) for status in ("passed", "failed", "passed")]
    verdict, _ = closing_lines(replace(merge_run, failures=failures), merge_verdict, gates, Path("x"))
    assert verdict.endswith("; gates: 1 failed, 2 passed; 2 candidates failed")


def test_a_failed_metric_is_not_a_failed_candidate(merge_run: Run, merge_verdict: Recommendation) -> None:
    failures = tuple(Failure(candidate=c.name, stage="metric clip_score", error="E", message="no weights")
                     for c in merge_run.suite.candidates)
    run = replace(merge_run, failures=failures)
    verdict = closing_lines(run, merge_verdict, [], Path("x"))[0]
    assert verdict.endswith("; metric clip_score failed on 7 candidates")
    assert sum("no weights" in caveat for caveat in recommend(run).caveats) == 1


def test_the_switch_has_a_column_and_the_table_fits_a_hundred_columns(merge_run: Run, merge_verdict: Recommendation) -> None:
    said = printed(merge_run, merge_verdict, 100)
    assert "switch" in said
    assert "12.5 ms" in next(line for line in said.splitlines() if "★ alpha 0.45" in line)
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_leaves_whole_columns_out_and_names_them(merge_run: Run, merge_verdict: Recommendation,
                                                                   width: int) -> None:
    said = printed(merge_run, merge_verdict, width)
    assert "Too narrow here for switch" in said
    assert next(line for line in said.splitlines() if "★ alpha 0.45" in line).rstrip().endswith("188 ms")


def test_rows_over_other_prompts_say_so_with_their_numbers(merge_run: Run, merge_verdict: Recommendation) -> None:
    alike = printed(merge_run, merge_verdict), markdown(merge_run, merge_verdict, [])
    assert not any("different prompts" in said or "(prompts)" in said for said in alike)
    first = str(merge_run.images["prompt"].iloc[0])
    other = merge_verdict.pick == merge_run.images["candidate"]
    raced = replace(merge_run, images=merge_run.images[other | (merge_run.images["prompt"] == first)])
    rec = recommend(raced)
    for said in (printed(raced, rec), markdown(raced, rec, [])):
        assert "different prompts" in " ".join(said.split())
        assert "(prompts)" in said
        assert "(1)" in said


def test_without_a_timed_switch_there_is_no_column_for_it(merge_run: Run, merge_verdict: Recommendation) -> None:
    assert "switch" not in printed(replace(merge_run, durations={}), merge_verdict)


def test_no_escape_sequence_of_a_prompt_or_an_error_reaches_the_terminal(hostile_folder: Path) -> None:
    run = load_run(hostile_folder)
    said = printed(run, recommend(run))
    assert "\x1b" not in said
    assert "OutOfMemoryError" in said


def test_the_markdown_carries_the_same_sentence(merge_run: Run, merge_verdict: Recommendation) -> None:
    said = markdown(merge_run, merge_verdict, judge(merge_run, merge_verdict))
    assert headline(merge_run, merge_verdict, judge(merge_run, merge_verdict)).sentence.split("[")[0] in said
    assert "✓ passed" in said


def test_markdown_of_a_hostile_run_holds_no_tag_link_or_image(hostile_folder: Path) -> None:
    run = load_run(hostile_folder)
    said = markdown(run, recommend(run), judge(run, recommend(run)))
    assert not any(act in said for act in ("<b>", "<script", "](", "!["))


def test_markdown_stays_below_its_limit_and_says_that_it_was_cut(merge_run: Run, merge_verdict: Recommendation) -> None:
    said = markdown(merge_run, merge_verdict, judge(merge_run, merge_verdict) * 400)
    assert len(said.encode()) <= MARKDOWN_LIMIT
    assert "cut here" in said


def test_the_terminal_shows_what_precision_costs_where_precision_varies(quantization_run: Run) -> None:
    said = printed(quantization_run, recommend(quantization_run))
    line = next(line for line in said.splitlines() if line.strip().startswith("int8"))
    assert all(part in line for part in ("48.00 dB", "0/24", "1.02×"))
    assert "PSNR median" in said
    assert "saturation" not in said


def test_the_markdown_table_has_as_many_rules_as_heads(quantization_run: Run) -> None:
    lines = markdown(quantization_run, recommend(quantization_run), []).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| candidate"))
    assert {lines[i].count("|") for i in range(head, head + 6)} == {lines[head].count("|")}
