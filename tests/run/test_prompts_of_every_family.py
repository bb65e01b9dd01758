"""Prompts as the text encoders of every family read them: what is cut off, and which texts are one text for all of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness import Candidate, Emphasis, Prompt, Suite
from harness.records import Coverage
from harness.records.images import PROMPTS
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.text import Treatment
from harness.text.tokens import lay_out
from harness.weights import open_model, shape_pipeline
from reports.analysis import load_run
from tests.fakes import tiny_grid, tiny_suite
from tests.painted import paint_runs
from tests.weights.pipelines import CALLED, FAMILIES, folder_of, theirs

KINDS = (*FAMILIES, "flux-schnell")
T5 = {"sd3": 256, "flux": 512, "flux-schnell": 256}
CLIP = 7
"""Letters that the tiny CLIP encoders read of a text; T5's end and the mark before a word take one place each."""


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)
    monkeypatch.setattr("harness.materialise.workbench.shape_pipeline", shape_pipeline)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("families")
    return cache(lambda kind: folder_of(theirs(kind), root / kind / "a").parent)


def suite(kind: str, *prompts: Prompt, **changes: object) -> Suite:
    sampler = "flow_euler" if kind.partition("-")[0] in CALLED else "euler"
    return tiny_suite(candidates=(Candidate(name="x", model="a", **changes),), baseline="x", gates=(), metrics=("exposure",),  # type: ignore[arg-type]
                      grid=tiny_grid(prompts=prompts, sampler=sampler, width=32, height=32, guidance_scales=(3,)))


def row_of(root: Path, runs: Path, declared: Suite) -> Coverage:
    run = SuiteRun(declared, "s.py", Options(root=root, runs=runs), Silent())
    run.candidate(declared.candidates[0])
    run.close()
    return next(row for row in load_run(runs / "tiny").coverage if row.stage == PROMPTS)


def preflight(root: Path, runs: Path, declared: Suite) -> list[str]:
    run = SuiteRun(declared, "s.py", Options(root=root, runs=runs), Silent())
    try:
        return run.preflight()
    finally:
        run.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_says_which_prompts_do_not_fit(kind, folders, tmp_path):
    row = row_of(folders(kind), tmp_path, suite(kind, Prompt(id="short", text="abc"), Prompt(id="middle", text="a" * (CLIP + 3))))
    (note,) = row.notes
    assert row.keys["whole"] == ("short (prompt)",)
    if kind in T5:
        assert row.keys["shortened_in_part"] == ("middle (prompt)",)
        assert "3 tokens do not fit text_encoder and are cut off there: aaa; text_encoder_" in note
    else:
        assert row.keys["chunked"] == ("middle (prompt)",)
        assert note == "middle (prompt): read in 2 chunks of at most 7 tokens"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("long_prompts", ["chunk", "error"])
def test_words_that_no_encoder_would_read_are_named_before_the_first_image(kind, long_prompts, folders, tmp_path):
    room = T5[kind] - 2 if kind in T5 else CLIP
    prompts = (Prompt(id="short", text="abc"), Prompt(id="long", text="b" * (room + 5), negative="c" * (room + 1)))
    declared = suite(kind, *prompts)
    declared = replace(declared, grid=replace(declared.grid, long_prompts=long_prompts))
    listed = preflight(folders(kind), tmp_path, declared)
    assert len(listed) == (kind in T5 or long_prompts == "error")
    for problem in listed:
        assert "long (prompt): 5 tokens, 'bbbbb'; long (negative): 1 token, 'c'" in problem
        assert ("long_prompts='chunk'" in problem) == (kind not in T5)


@pytest.mark.parametrize("kind", [*T5])
def test_the_caveat_says_what_one_of_several_encoders_does_not_read(kind, folders, tmp_path):
    row_of(folders(kind), tmp_path, suite(kind, Prompt(id="middle", text="a" * 20)))
    caveats = [text for text in load_run(tmp_path / "tiny").recommendation.caveats if "do not fit" in text]
    assert [text.partition(".")[0] for text in caveats] == ["1 of 1 prompt do not fit all text encoders: middle"]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_no_encoder_tells_apart_are_refused_for_every_family(kind, folders, tmp_path):
    same = (Prompt(id="p", text="a,b"), Prompt(id="q", text="a , b"))
    if kind in T5:  # which tells white space apart
        same = tuple(Prompt(id=name, text="c" * T5[kind] + name) for name in "pq")
    listed = preflight(folders(kind), tmp_path, suite(kind, *same))
    assert len(listed) == 1
    assert "prompts 'p', 'q' are one text for the text encoder" in listed[0]
    assert preflight(folders(kind), tmp_path / "short", suite(kind, Prompt(id="p", text="x"), Prompt(id="q", text="y"))) == []


@pytest.mark.parametrize("kind", [*T5])
def test_texts_that_t5_alone_tells_apart_are_two(kind, folders, tmp_path):
    told_apart = (Prompt(id="p", text="c" * CLIP + "x"), Prompt(id="q", text="c" * CLIP + "y"))
    assert preflight(folders(kind), tmp_path, suite(kind, *told_apart)) == []


@pytest.mark.parametrize("kind", [*T5])
@pytest.mark.parametrize("text", ["", "abc", "ab cd", "b" * 700])
def test_the_tokens_are_those_that_diffusers_gives_to_t5(kind, text, folders):
    encoder = shape_pipeline(open_model(folders(kind) / "a")).encoders[-1]
    expected = encoder.tokenizer([text], padding="max_length", max_length=T5[kind], truncation=True).input_ids[0]
    assert list(lay_out(encoder, text, Treatment()).ids) == list(expected)


@pytest.mark.parametrize(("long_prompts", "words"), [("chunk", []), ("error", ["'ij' is only in parts", "cuts off"])])
def test_an_emphasised_word_that_is_cut_off_is_refused(long_prompts, words, folders, tmp_path):
    declared = suite("sd1", Prompt(id="p", text="abcdefgh ij"), emphasis=Emphasis(weights={"ij": 1.3}))
    declared = replace(declared, grid=replace(declared.grid, long_prompts=long_prompts))
    listed = preflight(folders("sd1"), tmp_path, declared)
    assert len(listed) == bool(words)
    assert [part for part in words if part not in listed[0]] == []
