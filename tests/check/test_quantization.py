"""How components may be quantized is checked before any file is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import AestheticGradient, Candidate, Mixed, Relay
from harness.check import problems
from harness.declare.mixed import spelled
from tests.fakes import tiny_suite

RELAY = Relay(models=("zoo:photo", "zoo:anime"), at=(0.5,))
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown mode": ({"quantization": "nf5"}, ["'nf5'", "'nf4'"]),
    "an unknown mode of a component": ({"quantization": {"vae": "int9_weight_only"}}, ["'int9_weight_only'"]),
    "an unknown mode of a pattern": ({"quantization": Mixed(default="nf4", keys={"*": "nf5"})}, ["'nf5'"]),
    "an unknown component": ({"quantization": {"text_encoder1": "nf4"}}, ["'text_encoder1'", "'text_encoder'"]),
    "the denoiser twice": ({"quantization": {"unet": "nf4", "denoiser": "nf4"}}, ["2 times", "'unet'", "'denoiser'"]),
    "a cast of layers": ({"quantization": Mixed(default="fp16", keys={"*": "nf4"})}, ["'fp16'", "fp32"]),
    "a cast of a component": ({"quantization": {"text_encoder": "bf16"}}, ["text_encoder", "'bf16'", "nf4"]),
    "a mapping of nothing": ({"quantization": {}}, ["no component", "{'unet': 'nf4'}"]),
    "a mixture of nothing": ({"quantization": Mixed(default="fp32")}, ["quantizes no layer"]),
    "an aesthetic gradient": ({"quantization": {"text_encoder": "nf4"}, "aesthetic": AestheticGradient(
        path="zoo:photo", clip="zoo:clip")}, ["aesthetic"]),
    "a component of a relay": ({"quantization": {"vae": "nf4"}, "model": RELAY}, ["'vae'", "relay"]),
    "a number": ({"quantization": 4}, ["field quantization is 4 (int)", "text, harness.Mixed or a mapping"]),
    "a number of a component": ({"quantization": {"vae": 4}}, ["'vae'", "4 (int)"])}


def said(changes: dict[str, Any], root: Path) -> str:
    return "\n".join(problems(tiny_suite(candidates=(Candidate(**{"name": "x", "model": "zoo:photo", **changes}),),
                                         baseline="x"), root))


@pytest.mark.parametrize("case", BAD)
def test_each_problem_names_what_was_given_and_what_is_expected(tmp_path: Path, case: str) -> None:
    changes, facts = BAD[case]
    text = said(changes, tmp_path)
    assert all(fact in text for fact in facts), text


@pytest.mark.parametrize("quantization", [
    "gguf_q4_0", {"unet": "nf4"}, {"denoiser": "bf16", "vae": "int8_weight_only"}, {"transformer": Mixed(default="nf4")},
    Mixed(default="fp32", keys={"up_blocks.*": "nf4"})])
def test_good_ones_have_no_problems(tmp_path: Path, quantization: Any) -> None:
    assert said({"quantization": quantization}, tmp_path) == ""


def test_the_denoiser_of_a_relay_may_be_quantized(tmp_path: Path) -> None:
    assert said({"quantization": {"unet": "nf4"}, "model": RELAY}, tmp_path) == ""


def test_a_pattern_with_characters_that_act_is_shown_escaped() -> None:
    mixed = Mixed(default="fp32", keys={"\x1b[31m*\u202e\n": "nf4"})
    assert spelled({"vae": mixed}).isprintable()
    assert "\\x1b[31m" in str(mixed)
    assert str(Mixed(default="fp32", keys={"up_blocks.*": "nf4"})) == "mixed (fp32, up_blocks.* nf4)"
