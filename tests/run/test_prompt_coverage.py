"""Which prompts fit the text encoder follows from the prompts and the encoder: it is counted in tokens, renewed with the prompts,
and what earlier versions cut off is said wherever the verdict is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Objective, Prompt, Sampling, Suite, run_suite
from harness.records import Coverage
from harness.records.images import CHUNKED, PROMPTS
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.weights import shape_pipeline
from reports import terminal_table
from reports.analysis import load_run
from reports.page.build import write_page
from reports.page.tables import coverage_table
from tests.fakes import plain_candidate, tiny_grid, tiny_suite
from tests.painted import paint_runs

LONG = ", ".join(["a red ball on the grass, masterpiece, best quality, highly detailed, photo"] * 4)
CJK = "一只红色的球在绿色的草地上面放着"


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    paint_runs(monkeypatch)
    monkeypatch.setattr("harness.materialise.workbench.shape_pipeline", shape_pipeline)


def suite(*prompts: Prompt, **changes: object) -> Suite:
    short = (Prompt(id="a", text="a red ball"), Prompt(id="b", text="a blue car"))
    return tiny_suite(**{"candidates": (plain_candidate(),), "baseline": "photo", "gates": (), "metrics": ("exposure",),
                         "grid": tiny_grid(prompts=(*short, *prompts)), **changes})


def go(root: Path, declared: Suite) -> Coverage | None:
    """The row of the last candidate after a run."""
    run = SuiteRun(declared, "s.py", Options(root=root, runs=root / "runs"), Silent())
    for candidate in declared.candidates:
        run.candidate(candidate)
    run.close()
    rows = [row for row in load_run(root / "runs" / "tiny").coverage if row.stage == PROMPTS]
    return rows[-1] if rows else None


@pytest.mark.parametrize(("text", "chunks"), [(CJK, 3), (LONG, 4)])
def test_what_does_not_fit_is_read_in_chunks(text: str, chunks: int, tmp_path: Path) -> None:
    row = go(tmp_path, suite(Prompt(id="long", text=text), Prompt(id="n", text="a cat", negative=text)))
    assert row is not None
    assert row.keys[CHUNKED] == ("long (prompt)", "n (negative)")
    assert row.notes == tuple(f"{place}: read in {chunks} chunks of at most 22 tokens" for place in row.keys[CHUNKED])


@pytest.mark.parametrize("role", ["prompt", "negative"])
def test_texts_along_other_numbers_of_steps_are_read_for_themselves(role: str, tmp_path: Path) -> None:
    half = " ".join(["red"] * 15)  # two of them come together at the third step alone
    text = {"text": "a", "negative": "", "text" if role == "prompt" else "negative": f"[{half}|b] [a:{half}:1]"}
    declared = suite(Prompt(id="p", **text), candidates=(plain_candidate(), plain_candidate("long", sampling=Sampling(steps=3))))
    row = go(tmp_path, replace(declared, grid=replace(declared.grid, syntax="a1111")))
    assert row is not None
    assert (row.candidate, row.keys[CHUNKED]) == ("long", (f"p ({role})",))


@pytest.mark.parametrize(("text", "tokens", "lost"), [(CJK, 26, CJK[-4:]), (LONG, 53, "highly detailed")])
def test_where_no_chunks_are_wanted_the_words_that_would_be_lost_are_named(text: str, tokens: int, lost: str,
                                                                          tmp_path: Path) -> None:
    prompts = [Prompt(id="long", text=text), Prompt(id="n", text="a cat", negative=text)]
    (problem,) = problem_of(tmp_path, *prompts, long_prompts="error")
    assert "reads at most 22 tokens" in problem
    assert problem.count(f"{tokens} tokens, ") == 2
    assert problem.count(lost) >= 2
    assert "long_prompts='chunk'" in problem
    assert problem_of(tmp_path / "chunks", *prompts, long_prompts="chunk") == []


def test_it_is_renewed_when_prompts_become_longer_shorter_or_fewer(tmp_path: Path) -> None:
    for texts, shortened in (
            ({"p": "a cat"}, ()), ({"p": LONG}, ("p (prompt)",)), ({"p": LONG, "q": CJK}, ("p (prompt)", "q (prompt)")),
            ({"q": CJK}, ("q (prompt)",)), ({}, ()), ({"p": "a cat"}, ())):
        row = go(tmp_path, suite(*(Prompt(id=name, text=text) for name, text in texts.items())))
        assert row is not None
        assert row.keys.get(CHUNKED, ()) == shortened


def test_a_second_run_of_the_same_prompts_writes_nothing(tmp_path: Path) -> None:
    go(tmp_path, suite(Prompt(id="p", text=LONG)))
    lines = (tmp_path / "runs/tiny/journal.jsonl").read_text().count('"stage":"prompts"')
    go(tmp_path, suite(Prompt(id="p", text=LONG)))
    assert (tmp_path / "runs/tiny/journal.jsonl").read_text().count('"stage":"prompts"') == lines == 1


def test_only_texts_that_an_earlier_version_cut_off_are_sampled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(grid=tiny_grid(prompts=(
        Prompt(id="a", text="a red ball"), Prompt(id="long", text=LONG), Prompt(id="n", text="a cat", negative=LONG))))
    with monkeypatch.context() as earlier:
        earlier.setattr("harness.run.prompt_reading.FLOW_FAMILIES", ("sd1",))
        earlier.setattr("harness.run.prompt_reading.long_text_problem", lambda *_, **__: "")
        go(tmp_path, declared)
    before = load_run(tmp_path / "runs" / "tiny").images
    assert list(before["prompt"]) == ["a", "a", "long", "long", "n", "n"]
    go(tmp_path, declared)
    after = load_run(tmp_path / "runs" / "tiny").images
    assert list(after["prompt"]) == list(before["prompt"])
    kept = set(before["sample"]) & set(after["sample"])
    assert list(after[after["sample"].isin(kept)]["prompt"]) == ["a", "a"]


def test_a_textual_inversion_takes_as_many_places_as_it_has_vectors(tmp_path: Path) -> None:
    words = suite(Prompt(id="w", text="<graphite> " + "ball " * 21), candidates=(
        plain_candidate(), plain_candidate("word", model="zoo:base", adapters=(Adapter(path="zoo:sketch-word"),))))
    row = go(tmp_path, words)
    assert row is not None
    assert row.candidate == "word"
    assert row.notes == ("w (prompt): read in 2 chunks of at most 22 tokens",)


def test_a_word_of_a_textual_inversion_that_no_prompt_has_is_refused_before_the_first_image(tmp_path: Path) -> None:
    adapters = (Adapter(path="zoo:sketch-word"),)
    for text, refused in (("a <graphit> ball", True), ("a <graphite> ball", False), ("ball " * 22 + "<graphite>", False)):
        declared = suite(Prompt(id="w", text=text), candidates=(
            plain_candidate(), plain_candidate("word", model="zoo:base", adapters=adapters)))
        run = SuiteRun(declared, "s.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
        listed = run.preflight()
        run.close()
        assert len(listed) == refused
        assert all("candidate 'word': the word '<graphite>'" in text for text in listed)


def test_the_terminal_the_markdown_and_the_page_name_prompts_that_were_cut_off(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr("harness.run.prompt_reading.FLOW_FAMILIES", ("sd1",))  # which read no chunks
    monkeypatch.setattr("harness.run.prompt_reading.long_text_problem", lambda *_, **__: "")  # as in earlier versions
    go(tmp_path, suite(Prompt(id="long", text=LONG), Prompt(id="cjk", text=CJK), candidates=(
        plain_candidate(), plain_candidate("other", model="zoo:anime"))))
    run = load_run(tmp_path / "runs" / "tiny")
    caveats = [caveat for caveat in run.recommendation.caveats if "do not fit the text encoder" in caveat]
    assert len(caveats) == 1
    assert caveats[0].startswith("2 of 4 prompts do not fit the text encoder: long and cjk")
    page = write_page(run, run.recommendation, run.verdicts)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal_table(run, run.recommendation, run.verdicts))
    for text in (page.read_text(), page.with_name("report.md").read_text(), console.export_text()):
        assert "2 of 4 prompts do not fit the text encoder" in text


def test_the_words_that_an_earlier_version_counted_are_not_shown_as_tokens(tmp_path: Path) -> None:
    go(tmp_path, suite())
    run = load_run(tmp_path / "runs" / "tiny")
    old = Coverage(candidate="photo", stage="text", component="text_encoder", keys={"shortened": ("a (prompt)",)},
                   notes=("a (prompt): 1 tokens do not fit and are cut off",))
    rows = coverage_table(replace(run, coverage=(old,)))["rows"]
    assert "counted words" in rows[0]["notes"][0]
    assert rows[0]["counts"] == "no keys"
    assert all(row["stage"] != "text" for row in coverage_table(replace(run, coverage=(*run.coverage, old)))["rows"])


HEAD = " ".join(["a red ball on the grass"] * 5)


def problem_of(root: Path, *prompts: Prompt, scales: tuple[float, ...] = (4,), long_prompts: str = "chunk") -> list[str]:
    declared = suite(grid=tiny_grid(prompts=prompts, guidance_scales=scales, long_prompts=long_prompts))
    run = SuiteRun(declared, "s.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        return run.preflight()
    finally:
        run.close()


@pytest.mark.parametrize(("one", "other", "words"), [
    ((f"{HEAD} a", ""), (f"{HEAD} b", ""), ["'p', 'q'", "at most 22 tokens", "shorten"]),
    (("a cat", f"{HEAD} a"), ("a cat", f"{HEAD} b"), ["'p', 'q'", "at most 22 tokens", "shorten"]),
    (("a cat,a dog", ""), ("a cat , a dog", ""), ["'p', 'q'", "another text"]),
    ((f"one {HEAD}", ""), (f"two {HEAD}", ""), []),
    ((f"{HEAD} a", "blurry"), (f"{HEAD} b", "dark"), []),
    ((f"{HEAD} a", ""), (f"{HEAD}  A", ""), [])])  # one text as it is written: counted as one, and a caveat says so
def test_prompts_that_the_encoder_reads_as_one_are_refused(one: tuple[str, str], other: tuple[str, str], words: list[str],
                                                          tmp_path: Path) -> None:
    prompts = [Prompt(id=name, text=text, negative=negative) for name, (text, negative) in (("p", one), ("q", other))]
    same = [line for line in problem_of(tmp_path, *prompts, long_prompts="error") if "one text for" in line]
    assert len(same) == bool(words)
    assert [word for word in words if word not in same[0]] == []


def test_prompts_that_differ_in_a_later_chunk_are_two(tmp_path: Path) -> None:
    assert problem_of(tmp_path, Prompt(id="p", text=f"{HEAD} a"), Prompt(id="q", text=f"{HEAD} b")) == []


def test_an_idle_negative_does_not_tell_cut_prompts_apart(tmp_path: Path) -> None:
    prompts = [Prompt(id=name, text=f"{HEAD} {name}", negative=name) for name in "pq"]
    listed = [problem_of(tmp_path / str(scale), *prompts, scales=(scale,), long_prompts="error") for scale in (1, 4)]
    assert ["one text for" in line for (line,) in listed] == [True, False]


def test_no_image_is_made_of_prompts_that_the_encoder_reads_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    declared = suite(Prompt(id="p", text="a cat,a dog"), Prompt(id="q", text="a cat , a dog"),
                     objective=Objective(maximise="saturation", penalties=()))
    run = run_suite(declared, progress=False)
    assert ["'p', 'q'" in failure.message for failure in run.failures] == [True]
    assert run.images.empty
    assert not run.complete
