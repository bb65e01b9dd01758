"""A keyword that a declaration does not have is named with the nearest one, the file and the line."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness import alpha_sweep
from harness.declare.from_plain import DECLARATIONS
from harness.declare.load_suite import SuiteFileError, load_suite


def said(folder: Path, line: str) -> str:
    (folder / "mine.py").write_text(f"import harness\nfrom harness import *\n\nSUITE = {line}\n")
    with pytest.raises(SuiteFileError, match=r"mine\.py, line 4: ") as error:
        load_suite(folder / "mine.py")
    return str(error.value)


@pytest.mark.parametrize("name", sorted(DECLARATIONS))
def test_the_nearest_field_of_every_declaration_is_named(name, tmp_path):
    field = max((spec.name for spec in fields(DECLARATIONS[name])), key=len)
    line = f"__import__('harness.declare', fromlist=['x']).{name}({field[:-1]}x=1)"
    assert f"did you mean {field!r}" in said(tmp_path, line)


@pytest.mark.parametrize(("line", "words"), [
    ("Suite(candidate=())", "did you mean 'candidates'"), ("Grid(cfg=3)", "nown: prompts, seeds, guidance_scales"),
    ("alpha_sweep('a', 'b', alpha=(0, 1))", "did you mean 'alphas'"),
    ("adapter_sweep('a', 'b', weight=(0, 1))", "did you mean 'weights'"),
    ("checkpoint_sweep('a', 'b', weight=(0, 1))", "did you mean 'weights'"),
    ("read_prompts('a.txt', negativ='x')", "did you mean 'negative'"),
    ("alpha_sweep('a', 'b', (0, 1), quantization='fp16')", "[replace(c, quantization=...) for c in alpha_sweep(...)]")])
def test_what_was_meant_is_said(line, words, tmp_path):
    assert words in said(tmp_path, line)


def test_a_field_of_all_candidates_of_a_sweep_is_set_as_the_message_says():
    assert {c.quantization for c in [replace(c, quantization="fp16") for c in alpha_sweep("a", "b", (0, 1))]} == {"fp16"}


def test_another_type_error_is_left_as_python_says_it(tmp_path):
    assert said(tmp_path, "len(3)").endswith("object of type 'int' has no len()")


@pytest.mark.parametrize("line", ["Grid(schedule='karras')", "Grid(clip_skip=2)", "Candidate(name='a', model='b', steps=4)"])
def test_a_knob_of_sampling_is_said_to_belong_there(line: str, tmp_path: Path) -> None:
    knob = line.rpartition("=")[0].replace(",", "(").rpartition("(")[2].strip()
    assert f"give sampling=Sampling({knob}=...)" in said(tmp_path, line)
