"""Step caches leave out layers at the steps that they say, for each batch and denoiser by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Adapter, Candidate, DeepCache, Ensemble, FirstBlock, Merge, Sampling
from harness.declare import Grid, StepCache
from harness.materialise import MaterialiseError, Prepared, Workbench
from harness.records import Cell
from harness.sampling import Denoising, embedded, entered
from harness.sampling.denoise import called
from harness.savers.step_caches import CachedSteps, cache_steps, cached, outermost
from harness.weights.placing import layers_copied
from tests.fakes import PROMPTS, tiny_grid
from tests.weights.pipelines import folder_of, theirs

CELLS = tuple(Cell(prompt=prompt, seed=1, guidance=4) for prompt in ("star", "car"))
STEPS = 5
GRID = tiny_grid(steps=STEPS)


def candidate(step_cache: StepCache | None = None, alpha: float = 0.5, **changes: Any) -> Candidate:
    model = Merge(a="zoo:photo", b="zoo:anime", alpha=alpha)
    return Candidate(**{"name": "c", "model": model, "step_cache": step_cache, **changes})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench.for_grid(GRID, device="cpu", root=tmp_path_factory.mktemp("root"))


def latents_of(prepared: Prepared, grid: Grid = GRID, cells: tuple[Cell, ...] = CELLS) -> torch.Tensor:
    """Latents after all steps, phase by phase as the stream does it."""
    run = Denoising(prepared.phases[0].enter(), grid, cells)
    for phase, stop in zip(prepared.phases, [*(later.first for later in prepared.phases[1:]), grid.steps], strict=True):
        run.advance(entered(phase, embedded([phase], PROMPTS)), stop)
    return run.latents


def counted(prepared: Prepared) -> list[int]:
    """How often each branch of each phase runs a layer that the cache leaves out."""
    counts = []
    for phase in prepared.phases:
        for branch in phase.branches:
            counts.append(0)
            branch.enter().unet.mid_block.register_forward_pre_hook(_adding(counts, len(counts) - 1))
    return counts


def _adding(counts: list[int], place: int) -> Callable[..., None]:
    def add(*_: object) -> None:
        counts[place] += 1

    return add


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("guided_by", ["nothing", "a control network", "features"])
def test_the_outermost_layers_give_what_the_whole_gives_from_its_own_hidden_state(family: str, guided_by: str) -> None:
    plain = theirs(family).unet
    drawn = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 16, 16, generator=drawn)
    states = torch.randn(2, 9, plain.config.cross_attention_dim, generator=drawn)
    given: dict[str, Any] = {}
    if family == "sdxl":
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(2, 22, generator=drawn), "time_ids": torch.ones(2, 6)}
    given |= _guided(plain, latents, states, given, guided_by)
    for branch in range(len(plain.down_blocks[0].resnets) + 1):
        unet = layers_copied(plain)
        cache_steps(unet, DeepCache(branch=branch))
        with torch.inference_mode():
            with cached(steps := CachedSteps(interval=2)):
                whole = unet(latents, 300, states, **_fresh(given)).sample
            assert torch.equal(whole, plain(latents, 300, states, **_fresh(given)).sample)
            assert torch.equal(outermost(unet, branch, steps.hidden, (latents, 300, states), _fresh(given)).sample, whole)
            with cached(steps):
                assert torch.equal(unet(latents, 300, states, **_fresh(given)).sample, whole)
                assert not torch.equal(unet(latents, 900, states, **_fresh(given)).sample,
                                       plain(latents, 900, states, **_fresh(given)).sample)


def _fresh(given: dict[str, Any]) -> dict[str, Any]:
    """diffusers takes features off the list that it is given."""
    return {name: list(value) if isinstance(value, list) else value for name, value in given.items()}


def _guided(unet: Any, latents: torch.Tensor, states: torch.Tensor, given: dict[str, Any], guided_by: str) -> dict[str, Any]:
    """Inputs of a control network or of T2I-Adapters, in the sizes of a U-Net."""
    if guided_by == "nothing":
        return {}
    blocks, inner, middle = list[Any](), list[torch.Tensor](), list[torch.Tensor]()
    hooks = [*(block.register_forward_hook(lambda _, __, out: blocks.append(out)) for block in unet.down_blocks),
             *(block.resnets[-1].register_forward_hook(lambda _, __, out: inner.append(out)) for block in unet.down_blocks),
             unet.mid_block.register_forward_hook(lambda _, __, out: middle.append(out))]
    with torch.inference_mode():
        unet(latents, 300, states, **given)
        first = unet.conv_in(latents)
    for hook in hooks:
        hook.remove()
    if guided_by == "features":
        return {"down_intrablock_additional_residuals": [
            0.3 * torch.ones_like(inside if getattr(block, "has_cross_attention", False) else out[0])
            for block, inside, out in zip(unet.down_blocks, inner, blocks, strict=True)]}
    return {"down_block_additional_residuals": tuple(
                0.3 * torch.ones_like(one) for one in (first, *(skip for _, skips in blocks for skip in skips))),
            "mid_block_additional_residual": 0.3 * torch.ones_like(middle[0])}


def test_interval_1_gives_the_pictures_of_no_cache_bit_for_bit(bench: Workbench) -> None:
    plain = latents_of(bench.prepare(candidate()))
    assert torch.equal(latents_of(bench.prepare(candidate(DeepCache(interval=1)))), plain)
    assert not torch.allclose(latents_of(bench.prepare(candidate(DeepCache(interval=2)))), plain, atol=1e-3)


def test_neither_candidates_nor_pictures_before_matter(bench: Workbench) -> None:
    prepared = bench.prepare(candidate(DeepCache()))
    first = latents_of(prepared)
    latents_of(prepared, cells=tuple(replace(cell, seed=7) for cell in CELLS))
    assert torch.equal(latents_of(prepared), first)
    plain = latents_of(bench.prepare(candidate()))
    other = latents_of(bench.prepare(candidate(DeepCache(interval=3), alpha=0)))
    assert torch.equal(latents_of(bench.prepare(candidate(DeepCache()))), first)
    assert torch.equal(latents_of(bench.prepare(candidate())), plain)
    assert not torch.allclose(other, first, atol=0.05)


def test_neighbours_in_a_batch_do_not_matter(bench: Workbench) -> None:
    prepared = bench.prepare(candidate(DeepCache()))
    others = (CELLS[0], replace(CELLS[1], prompt="fish", seed=3))
    assert torch.equal(latents_of(prepared)[0], latents_of(prepared, cells=others)[0])


def test_batches_in_several_threads_keep_their_own_hidden_states(bench: Workbench) -> None:
    (phase,) = bench.prepare(candidate(DeepCache())).phases
    branches = entered(phase, embedded([phase], PROMPTS))

    def run(seed: int) -> torch.Tensor:
        batch = Denoising(branches[0].pipeline, GRID, tuple(replace(cell, seed=seed) for cell in CELLS))
        batch.advance(branches)
        return batch.latents

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = [run(seed) for seed in range(6)]
        with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            beside = list(pool.map(run, range(6)))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, alone, beside))


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_the_whole_u_net_is_run_at_every_interval(bench: Workbench, interval: int) -> None:
    prepared = bench.prepare(candidate(DeepCache(interval=interval)))
    counts = counted(prepared)
    latents_of(prepared)
    assert counts == [math.ceil(STEPS / interval)]


@pytest.mark.parametrize(("interval", "ordinal"), [(2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (13, "13th"), (21, "21st"),
                                                   (112, "112th"), (122, "122nd")])
def test_the_page_says_which_steps_are_whole(bench: Workbench, interval: int, ordinal: str) -> None:
    copied = layers_copied(bench.prepare(candidate(None)).pipeline.unet)
    (note,) = cache_steps(copied, DeepCache(interval=interval)).notes
    assert f"every {ordinal} step" in note


def test_each_phase_begins_with_a_whole_step(bench: Workbench) -> None:
    prepared = bench.prepare(candidate(DeepCache(interval=4), adapters=(Adapter(path="zoo:sketch", start=0.4),)))
    counts = counted(prepared)
    latents_of(prepared)
    assert counts == [1, 1]


def test_a_cache_sees_the_weights_of_its_phase(bench: Workbench) -> None:
    late = (Adapter(path="zoo:sketch", start=0.4),)
    assert torch.equal(latents_of(bench.prepare(candidate(DeepCache(interval=1), adapters=late))),
                       latents_of(bench.prepare(candidate(adapters=late))))


def test_models_that_predict_together_have_hidden_states_of_their_own(bench: Workbench) -> None:
    cache = DeepCache(interval=2)
    twice = Ensemble(models=("zoo:photo", Merge(a="zoo:photo", b="zoo:anime", alpha=0)), weights=(0.5, 0.5))
    prepared = bench.prepare(candidate(cache, model=twice))
    counts = counted(prepared)
    assert torch.allclose(latents_of(prepared), latents_of(bench.prepare(candidate(cache, model="zoo:photo"))), atol=1e-4)
    assert counts == [3, 3]


@pytest.mark.parametrize(("sampler", "whole"), [("dpmpp_2s_a", 5), ("heun", 5), ("plms", 4)])
def test_each_evaluation_of_a_step_goes_on_with_the_same_one_of_the_step_before(
        bench: Workbench, sampler: str, whole: int) -> None:
    grid = tiny_grid(steps=STEPS, sampler=sampler)
    plain = latents_of(bench.prepare(candidate()), grid)
    assert torch.equal(latents_of(bench.prepare(candidate(DeepCache(interval=1))), grid), plain)
    prepared = bench.prepare(candidate(DeepCache(interval=2)))
    counts = counted(prepared)
    assert not torch.allclose(latents_of(prepared, grid), plain, atol=1e-3)
    assert counts == [whole]


def test_a_step_is_whole_where_guidance_ends(bench: Workbench) -> None:
    grid = tiny_grid(steps=STEPS, sampling=Sampling(guidance_end=0.2))
    prepared = bench.prepare(candidate(DeepCache(interval=9)))
    counts = counted(prepared)
    latents_of(prepared, grid)
    assert counts == [2]


def test_a_cache_is_part_of_what_a_candidate_is(bench: Workbench) -> None:
    caches = (None, DeepCache(), DeepCache(interval=3), DeepCache(branch=1))
    assert len({bench.weights(candidate(cache)).identity for cache in caches}) == 4
    assert candidate(None).key == Candidate(name="c", model=candidate().model).key


@pytest.mark.parametrize(("cache", "named"), [
    (DeepCache(branch=2), ["branch is 2", "0 to 1"]), (FirstBlock(), ["U-Net", "DeepCache"])])
def test_caches_of_other_models_are_refused(bench: Workbench, cache: StepCache, named: list[str]) -> None:
    with pytest.raises(MaterialiseError) as refused:
        bench.inspect(candidate(cache))
    assert all(word in str(refused.value) for word in named)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(theirs("flux-schnell"), tmp_path_factory.mktemp("flux"))


def flux_latents(folder: Path, caches: list[StepCache | None], seeds: list[int]) -> tuple[list[torch.Tensor], list[int]]:
    """Latents of one picture after the other, and how often each ran the last block."""
    grid = tiny_grid(steps=4, width=16, height=16, batch_size=1, sampler="flow_euler", guidance_scales=(2,))
    bench = Workbench.for_grid(grid, device="cpu", root=folder)
    made, counts = [], []
    for cache, seed in zip(caches, seeds, strict=True):
        (phase,) = bench.prepare(Candidate(name="c", model=str(folder), step_cache=cache)).phases
        (branch,) = entered(phase, embedded([phase], PROMPTS))
        counts.append(0)
        last = branch.pipeline.denoiser.single_transformer_blocks[-1].attn
        counting = last.register_forward_pre_hook(_adding(counts, len(counts) - 1))
        made.append(called(branch.pipeline, grid, (Cell(prompt="star", seed=seed, guidance=2),), branch.text))
        counting.remove()
    return made, counts


def test_a_first_block_that_changes_enough_leaves_nothing_out(flux: Path) -> None:
    (plain, none), _ = flux_latents(flux, [None, FirstBlock(threshold=0)], [1, 1])
    assert torch.equal(plain, none)


def test_blocks_are_left_out_and_no_picture_before_matters(flux: Path) -> None:
    every = FirstBlock(threshold=100)
    (first, plain, _, again), counts = flux_latents(flux, [every, None, every, every], [1, 1, 5, 1])
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)
    assert counts == [2, 8, 2, 2]  # one step of each branch of guidance is whole
