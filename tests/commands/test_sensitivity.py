"""`sweetspot sensitivity`: the table, the recipe that can be pasted, and what is refused by name."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import Mixed
from harness.cli import main
from harness.commands import sensitivity_text
from harness.commands.sensitivity_text import error_text, mixed_text, verdict_lines
from harness.sensitivity import PICTURES, PROBE, Judged
from tests.weights.pipelines import folder_of, theirs

SUITE = '''
from dataclasses import replace
from harness import Adapter, Candidate, Ensemble, Grid, Mixed, Objective, Prompt, Stage, Suite

ALL = [Prompt(id="star", text="a"), Prompt(id="car", text="b"), Prompt(id="cup", text="c", split="confirm"),
       Prompt(id="hat", text="d", split="confirm")]
SUITE = Suite(name="bits", baseline="plain", metrics=["psnr"], objective=Objective(maximise="psnr_db", penalties=()),
              grid=Grid(prompts=ALL[:PROMPTS], seeds=[0], guidance_scales=[3.0], steps=2, width=32, height=32, sampler="euler"),
              candidates=[Candidate(name="plain", model="sd1"),
                          Candidate(name="int8", model="sd1", quantization="int8_weight_only"),
                          Candidate(name="staged", model="sd1", stages=[Stage(strength=0.5)]),
                          Candidate(name="both", model=Ensemble(models=("sd1", "sd1"), weights=(0.5, 0.5)))])
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    folder_of(theirs("sd1"), folder / "sd1")
    (folder / "bits.py").write_text(SUITE.replace("PROMPTS]", "]"))
    (folder / "unconfirmed.py").write_text(SUITE.replace("PROMPTS]", "2]"))
    (folder / "unselected.py").write_text(SUITE.replace("ALL[:PROMPTS]", "ALL[2:]"))
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(*words: str, suite: str = "bits.py", candidate: str = "plain", mode: str = "int4_weight_only") -> int:
    return main(["sensitivity", suite, "--candidate", candidate, "--mode", mode, *words])


def pasted(text: str) -> Any:
    """The value of `quantization=` in what was printed."""
    source = text[text.index("quantization=") :]
    source = source[:source.index("\n}),\n") + 4] if "keys={\n" in source else source.splitlines()[0]
    call = ast.parse(f"Candidate({source})", mode="eval").body
    assert isinstance(call, ast.Call)
    return eval(compile(ast.Expression(call.keywords[0].value), "pasted", "eval"), {"Mixed": Mixed})


def test_the_table_and_the_recipe_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--bits", "6.5", "--out", str(tmp_path / "out.json")) == 0
    text, data = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    lines = text.splitlines()
    rows = [line.split() for line in lines[1:lines.index("")]]
    assert [int(row[0]) for row in rows] == list(range(1, len(data["layers"]) + 1))
    errors = [float(row[1]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert {row[-1] for row in rows} == {layer["name"] for layer in data["layers"]}
    mixed = pasted(text)
    assert isinstance(mixed, Mixed)
    assert data["recipe"]["default"] == mixed.default
    modes = {layer["name"]: mixed.mode_of(layer["name"]) for layer in data["layers"]}
    stored = sum(layer["modes"][modes[layer["name"]]]["bytes"] for layer in data["layers"])
    assert 8 * stored / sum(layer["parameters"] for layer in data["layers"]) == pytest.approx(data["bits"]["the recipe"])
    assert data["bits"]["the recipe"] <= 6.5
    assert {prompt for of in data["psnr_db"].values() for prompt in of} == {"cup", "hat"}
    assert len(data["psnr_db"]) == 1 + 3 + 2


def test_the_same_command_prints_the_same_and_measures_no_layer_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--out", str(tmp_path / "out.json"))
    assert run(*words) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr("harness.sensitivity.measuring.gauge_of", None)
    assert run(*words, candidate="int8") == 0  # of the same weights before their quantization
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(("words", "given", "facts"), [
    ((), {"candidate": "plian"}, ["plain"]),
    ((), {"candidate": "staged"}, ["staged", "stages"]),
    ((), {"candidate": "both"}, ["both", "ensemble"]),
    ((), {"mode": "int4_weight"}, ["--mode", "int4_weight_only"]),
    ((), {"mode": "fp32"}, ["--mode fp32", "nf4"]),
    ((), {"mode": "bf16"}, ["--mode bf16", "nf4"]),
    ((), {"mode": "fp8_dynamic"}, ["fp8_dynamic on cpu"]),
    (("--other", "nf4"), {}, ["--other nf4", "--bits"]),
    (("--bits", "6", "--other", "nf5"), {}, ["--other nf5", "nf4"]),
    (("--bits", "6", "--other", "fp16"), {}, ["--other fp16", "fp32"]),
    (("--bits", "6", "--other", "int4_weight_only"), {}, ["--other int8_weight_only"]),
    (("--bits", "3"), {}, ["3 bits are out of reach"]),
    (("--bits", "31"), {}, ["31 bits need no choice"]),
    (("--bits", "nan"), {}, ["nan bits are out of reach"]),
    (("--bits", "6"), {"suite": "unconfirmed.py"}, ["confirm"]),
    ((), {"suite": "unselected.py"}, ["'select'"]),
    (("--prompts", "0"), {}, ["--prompts 0", "2"]),
    (("--prompts", "3"), {}, ["--prompts 3", "2"]),
    (("--device", "tpu"), {}, ["tpu"]),
    (("--out", "."), {}, ["--out", "folder"]),
])
def test_what_cannot_be_measured_is_refused_before_it_is(
        words: tuple[str, ...], given: Mapping[str, str], facts: list[str], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("harness.sensitivity.measuring.gauge_of", None)
    assert run(*words, **given) == 2
    text = capsys.readouterr().err
    assert all(fact in text for fact in facts), text


def test_a_stopped_command_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.sensitivity.measuring.gauge_of", stop)
    for words, fact in (((), "--out"), (("--out", str(tmp_path / "o.json")), "same command again")):
        assert run(*words) == 130
        assert fact in capsys.readouterr().err


def test_errors_are_said_in_the_unit_of_what_was_measured() -> None:
    assert [error_text(error, kind) for kind in (PROBE, PICTURES) for error in (0.0, 1e-4)] == ["0 %", "1 %", "∞ dB", "40.0 dB"]


@pytest.mark.parametrize("mixed", [Mixed(default="nf4"), Mixed(default="nf4", keys={
    'odd".name': "fp32", "b.*": "int8_weight_only"})])
@pytest.mark.parametrize("declared", ["fp32", {"unet": "nf4", "text_encoder": "int8_weight_only", "vae": Mixed(
    default="nf4", keys={"decoder.*": "fp32"})}])
def test_what_is_printed_is_the_declaration(mixed: Mixed, declared: Any) -> None:
    text = "\n".join([*mixed_text(mixed, declared), ""])
    source = text.removeprefix("quantization=").rstrip().removesuffix(",")
    expected = mixed if declared == "fp32" else {"denoiser": mixed, **{k: v for k, v in declared.items() if k != "unet"}}
    assert eval(source, {"Mixed": Mixed}) == expected


def of(*decibels: float) -> Judged:
    return Judged(decibels={f"p{number}": value for number, value in enumerate(decibels)}, equal=0, pictures=len(decibels))


@pytest.mark.parametrize(("recipe", "word"), [((40, 41, 42, 43), "above chance: +10.0 dB"), ((20, 21, 22, 23), "BELOW chance"),
                                             ((10, 52, 10, 52), "not distinguishable"), ((35,), "no interval")])
def test_the_verdict_follows_the_interval_of_paired_differences(recipe: tuple[float, ...], word: str) -> None:
    chance = (30.0, 31.0, 32.0, 33.0)[:len(recipe)]
    results = {"the recipe": of(*recipe), "by chance 1": of(*(value - 1 for value in chance)),
               "by chance 2": of(*(value + 1 for value in chance)), "nf4": of(*chance)}
    lines = [*verdict_lines(results, dict.fromkeys(results, 6.0), "the recipe", "by chance")]
    assert word in lines[-1]
    assert any("all nf4" in line for line in lines)
    assert sensitivity_text.quoted("a\\") == '"a\\\\"'
