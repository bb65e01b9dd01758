"""A suite's prompts may write either word of a textual inversion: that in the file, or the file's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, Candidate, Prompt
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.fakes import tiny_grid, tiny_suite


def refusals(root: Path, texts: Sequence[str], words: dict[str, str]) -> str:
    """What the check before the first image says of a suite with these prompts and embeddings ({file: word in it})."""
    for file, word in words.items():
        save_file({word: torch.randn(1, 96)}, root / f"{file}.safetensors")
    prompts = [Prompt(id=f"p{number}", text=text, split="confirm" if number else "select") for number, text in enumerate(texts)]
    candidate = Candidate(name="x", model="zoo:photo", adapters=tuple(Adapter(path=f"{file}.safetensors") for file in words))
    grid = tiny_grid(prompts=tuple(prompts))
    suite = tiny_suite(candidates=(candidate,), baseline="x", gates=(), metrics=("exposure",), grid=grid)
    run = SuiteRun(suite, "suite.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        return "; ".join(run.preflight())
    finally:
        run.close()


@pytest.mark.parametrize(("texts", "words", "says"), [
    (("a <toy> star", "a <toy> car"), {"blorb": "<toy>"}, ""),
    (("a blorb star", "a blorb car"), {"blorb": "<toy>"}, ""),
    (("a Blorb star", "a BLORB car"), {"blorb": "<toy>"}, ""),
    (("a blorb beside a <toy>", "a <toy> car"), {"blorb": "<toy>"}, ""),
    (("a blorb star", "a <toy> car"), {"blorb": "<toy>"}, "both words"),
    (("a red star", "a blue car"), {"blorb": "<toy>"}, "<toy>"),
    (("a blorb star", "a <dog> car"), {"blorb": "<toy>", "other": "blorb"}, "two textual inversions"),
    (("a <toy> star", "an other car"), {"blorb": "<toy>", "other": "<dog>"}, ""),
    (("a blorb star", "a blorb car"), {"blorb": "<toy>", "other": "<toy>"}, "two textual inversions")])
def test_prompts_may_write_the_word_in_the_file_or_its_name(tmp_path: Path, texts, words, says) -> None:
    refusal = refusals(tmp_path, texts, words)
    assert says in refusal if says else refusal == ""
