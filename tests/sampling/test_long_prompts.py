"""Texts of several chunks are sampled by the bits of their own cell, and texts that fit have the bits that they had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import Grid, Prompt, Sampling
from harness.declare.syntax import plain_text
from harness.materialise import Prepared, Workbench
from harness.records import Cell
from harness.sampling import Denoising, SamplingError, alone, embedded, encode, lengths_of, pack, sample, threads_for
from tests.fakes import PROMPTS, plain_candidate, tiny_grid

WORDS = "a red ball on the green grass, a blue car, "
LONG = Prompt(id="long", text=WORDS * 3)
LONGER = Prompt(id="longer", text=WORDS * 5, negative=WORDS * 3)
DISLIKED = Prompt(id="disliked", text="a red star", negative=WORDS * 3)
ALL = (*PROMPTS[:3], LONG, LONGER, DISLIKED)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("root")).prepare(plain_candidate())


PARTLY = Sampling(guidance_start=0.5)


def images(prepared: Prepared, prompts: Sequence[Prompt], **changes: object) -> dict[Cell, np.ndarray]:
    grid = tiny_grid(prompts=tuple(prompts), guidance_scales=(1, 4), batch_size=2, **changes)
    with threads_for(grid, "cpu"):
        texts = embedded(prepared.phases, prompts, steps=grid.steps)
        cells = [Cell(prompt=p.id, seed=s, guidance=g) for p in prompts for s in grid.seeds for g in grid.guidance_scales]
        batches = pack(grid, cells, 2, lengths_of(prepared.phases, texts, grid))
        return {cell: image for batch, made in sample(prepared.phases, grid, batches, texts)
                for cell, image in zip(batch, made, strict=True)}


@pytest.mark.parametrize("sampling", [None, PARTLY])
def test_neither_neighbours_nor_order_change_a_bit(prepared: Prepared, sampling: Sampling | None) -> None:
    together, reversed_ = (images(prepared, prompts, sampling=sampling) for prompts in (ALL, ALL[::-1]))
    assert all(np.array_equal(together[cell], reversed_[cell]) for cell in together)
    for prompt in ALL:
        alone = images(prepared, [prompt], sampling=sampling)
        assert all(np.array_equal(together[cell], alone[cell]) for cell in alone), prompt.id


def test_what_lies_beyond_the_first_chunk_is_drawn(prepared: Prepared) -> None:
    same = Cell(prompt="long", seed=1, guidance=4)
    cut = replace(LONG, text=WORDS * 3 + "a purple cup")
    assert not np.array_equal(images(prepared, [LONG])[same], images(prepared, [cut])[same])


def test_a_negative_of_fewer_chunks_counts_as_if_it_were_alone(prepared: Prepared) -> None:
    """The independent reference: the two branches of guidance one by one, each with its own length."""
    pipeline, grid = prepared.pipeline, tiny_grid(prompts=(LONGER,), steps=2)
    text, cell = encode(pipeline, [LONGER]), Cell(prompt="longer", seed=1, guidance=4)
    run = Denoising(pipeline, grid, (cell,))
    scheduler, latents = run._scheduler, run.latents.clone()
    lengths = [len(of.states) for of in (text.positive[plain_text(LONGER.text)], text.negative[plain_text(LONGER.negative)])]
    assert len(set(lengths)) == 2
    (branch,) = prepared.phases[0].branches
    assert lengths_of(prepared.phases, {branch.text_identity: text}, grid)(cell) == (lengths[0], np.lcm(*lengths))
    run.advance(alone(pipeline, text), 1)
    with torch.inference_mode():
        at = scheduler.timesteps[0]
        low, high = (pipeline.unet(scheduler.scale_model_input(latents, at), at, encoder_hidden_states=of.states[None]).sample
                     for of in (text.negative[plain_text(LONGER.negative)], text.positive[plain_text(LONGER.text)]))
        fresh = Denoising(pipeline, grid, (cell,))._scheduler
        expected = fresh.step(low + 4 * (high - low), at, latents).prev_sample
    assert torch.allclose(run.latents, expected, atol=1e-4)


def test_a_batch_of_other_lengths_is_refused(prepared: Prepared) -> None:
    cells = tuple(Cell(prompt=name, seed=1, guidance=4) for name in ("star", "long"))
    grid: Grid = tiny_grid(prompts=ALL)
    with pytest.raises(SamplingError, match="different lengths"):
        Denoising(prepared.pipeline, grid, cells).advance(alone(prepared.pipeline, encode(prepared.pipeline, ALL)))
