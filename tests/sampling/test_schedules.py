"""Texts that change along the steps: each step is given its own, steps are counted and not evaluations, and neighbours change
nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import Prompt
from harness.declare.syntax import plain_text
from harness.materialise import Prepared, Workbench
from harness.records import Cell
from harness.sampling import Denoising, TextState, alone, encode
from tests.fakes import plain_candidate, tiny_grid
from tests.sampling.test_long_prompts import WORDS, images

STAR, CAR = "a red star", "a blue car"
EDITED = Prompt(id="p", text=f"[{STAR}:{CAR}:0.5]", negative="[dark:blurry:0.5]", syntax="a1111")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("root")).prepare(plain_candidate())


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize(("text", "firsts"), [
    (f"[{STAR}:{CAR}:0.5]", [STAR, STAR, CAR, CAR]), (f"[{STAR}:{CAR}:1]", [STAR, CAR, CAR, CAR]),
    (f"[{STAR}|{CAR}]", [STAR, CAR, STAR, CAR]), (f"[{CAR}:0.75]", ["", "", "", CAR]), (f"[{STAR}::3]", [STAR, STAR, STAR, ""])])
def test_every_step_is_given_its_own_text(prepared: Prepared, sampler: str, text: str, firsts: list[str]) -> None:
    """The independent reference: plain texts, of which another is given at each step."""
    pipeline, cell = prepared.pipeline, Cell(prompt="p", seed=1, guidance=4)
    edited = Prompt(id="p", text=text, negative="blurry", syntax="a1111")
    grid = tiny_grid(prompts=(edited,), steps=4, sampler=sampler)
    run = Denoising(pipeline, grid, (cell,))
    run.advance(alone(pipeline, encode(pipeline, grid.prompts, steps=4)))
    plain = replace(edited, text="x", syntax="")
    other = Denoising(pipeline, tiny_grid(prompts=(plain,), steps=4, sampler=sampler), (cell,))
    for step, words in enumerate(firsts):
        state = encode(pipeline, [replace(plain, text=words)])
        given = TextState(positive={plain_text("x"): state.positive[plain_text(words)]}, negative=state.negative)
        other.advance(alone(pipeline, given), step + 1)
    assert torch.equal(run.latents, other.latents)


def test_a_text_without_markup_is_sampled_like_a_plain_one(prepared: Prepared) -> None:
    plain = Prompt(id="p", text=STAR, negative="blurry")
    one, two = (images(prepared, [replace(plain, syntax=syntax)]) for syntax in ("", "a1111"))
    assert all(np.array_equal(one[cell], two[cell]) for cell in one)


def test_neither_neighbours_nor_order_change_a_bit(prepared: Prepared) -> None:
    prompts = [EDITED, Prompt(id="q", text=f"[{CAR}:{WORDS * 3}:1]", syntax="a1111"), Prompt(id="r", text=STAR),
               Prompt(id="s", text=f"{STAR} BREAK {CAR}", syntax="a1111"), Prompt(id="t", text=WORDS * 3, negative="dark")]
    together, reversed_ = images(prepared, prompts), images(prepared, prompts[::-1])
    assert all(np.array_equal(together[cell], reversed_[cell]) for cell in together)
    for prompt in prompts:
        alone = images(prepared, [prompt])
        assert all(np.array_equal(together[cell], alone[cell]) for cell in alone), prompt.id
