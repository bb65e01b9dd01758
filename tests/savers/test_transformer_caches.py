"""diffusers' step caches on transformers: what they leave out, that nothing made before matters, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Candidate, FirstBlock, MagCache, TaylorSeer
from harness.declare import StepCache, plain, restore
from harness.materialise import MaterialiseError, Workbench
from harness.records import Cell
from harness.sampling import embedded, entered
from harness.sampling.denoise import called
from harness.savers.transformer_caches import _ratios_at, _skipped
from tests.fakes import PROMPTS, tiny_grid
from tests.weights.pipelines import folder_of, theirs

STEPS = 6
LEAVING_OUT: dict[str, StepCache] = {
    "TaylorSeer": TaylorSeer(interval=3, warm_up=2), "straight": TaylorSeer(interval=5, warm_up=1, order=0),
    "MagCache": MagCache(ratios=(1.0, 1.01, 1.0, 1.0, 0.99, 1.0), retention_ratio=0.3, max_skip_steps=2)}
ALL_WHOLE: dict[str, StepCache] = {"TaylorSeer": TaylorSeer(interval=1), "MagCache": MagCache(ratios=(1.5,))}


@pytest.fixture(scope="module", params=["sd3", "flux-schnell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(theirs(request.param), tmp_path_factory.mktemp(request.param))


def grid_of(**changes: Any) -> Any:
    return tiny_grid(**{"steps": STEPS, "width": 16, "height": 16, "batch_size": 1, "sampler": "flow_euler",
                        "guidance_scales": (2,), **changes})


def latents(folder: Path, *pictures: tuple[StepCache | None, int], **changes: Any) -> tuple[list[torch.Tensor], list[int]]:
    """Latents of pictures one after the other, each with its cache and seed, and how often each ran a block's attention."""
    grid = grid_of(**changes)
    bench = Workbench.for_grid(grid, device="cpu", root=folder)
    made, counts = [], []
    for cache, seed in pictures:
        (phase,) = bench.prepare(Candidate(name="c", model=str(folder), step_cache=cache)).phases
        (branch,) = entered(phase, embedded([phase], PROMPTS))
        counts.append(0)
        counting = branch.pipeline.denoiser.transformer_blocks[0].attn.to_q.register_forward_pre_hook(_adding(counts))
        made.append(called(branch.pipeline, grid, (Cell(prompt="star", seed=seed, guidance=2),), branch.text))
        counting.remove()
    return made, counts


def _adding(counts: list[int]) -> Callable[..., None]:
    def add(*_: object) -> None:
        counts[-1] += 1

    return add


@pytest.mark.parametrize("name", LEAVING_OUT)
def test_layers_are_left_out_and_neither_pictures_nor_candidates_before_matter(folder: Path, name: str) -> None:
    cache = LEAVING_OUT[name]
    (plain_, first, _, again, after), counts = latents(folder, (None, 1), (cache, 1), (cache, 5), (cache, 1), (None, 1))
    assert torch.equal(first, again)
    assert torch.equal(plain_, after)
    assert not torch.equal(first, plain_)
    whole = counts[0] // STEPS
    left_out = ([*map(cache.predicts, range(STEPS))] if isinstance(cache, TaylorSeer) else
                [*_skipped(cache, STEPS)] if isinstance(cache, MagCache) else [])
    assert 0 < sum(left_out) < STEPS
    assert counts == [count * whole for count in (STEPS, *[STEPS - sum(left_out)] * 3, STEPS)]


def test_the_order_of_candidates_does_not_matter(folder: Path) -> None:
    one, other = LEAVING_OUT["TaylorSeer"], LEAVING_OUT["MagCache"]
    forwards, _ = latents(folder, (one, 1), (other, 1))
    backwards, _ = latents(folder, (other, 1), (one, 1))
    assert torch.equal(forwards[0], backwards[1])
    assert torch.equal(forwards[1], backwards[0])


@pytest.mark.parametrize("name", ALL_WHOLE)
def test_a_cache_that_leaves_nothing_out_is_refused_at_its_steps(folder: Path, name: str) -> None:
    bench = Workbench.for_grid(grid_of(), device="cpu", root=folder)
    with pytest.raises(MaterialiseError, match=f"{name} would leave out nothing in {STEPS} steps"):
        bench.inspect(Candidate(name="c", model=str(folder), step_cache=ALL_WHOLE[name]))


def test_runs_of_the_denoiser_are_counted_not_steps(tmp_path: Path) -> None:
    """Heun's sampler runs it twice in each step but the last, so that there are 3 runs in 2 steps, and 1 in 1."""
    folder = folder_of(theirs("sd3"), tmp_path / "sd3")
    cache = TaylorSeer(interval=3, warm_up=1)
    _, (count,) = latents(folder, (cache, 1), steps=2, sampler="flow_heun")
    assert count == 1 + (not cache.predicts(1)) + (not cache.predicts(2))
    with pytest.raises(MaterialiseError, match="nothing in 1 steps"):
        Workbench.for_grid(grid_of(steps=1, sampler="flow_heun"), device="cpu", root=folder).inspect(
            Candidate(name="c", model=str(folder), step_cache=cache))


def test_what_is_skipped_is_what_diffusers_skips() -> None:
    """Flux's own ratios at 28 steps with diffusers' defaults: those of the paper's repository skip 13 or more."""
    skipped = [*_skipped(MagCache(), 28)]
    assert not any(skipped[:6])
    assert sum(skipped) >= 10
    assert torch.equal(_ratios_at(MagCache(ratios=(1.0, 0.5)), 4), torch.tensor([1.0, 1.0, 0.5, 0.5]))


@pytest.mark.parametrize(("family", "cache", "named"), [
    ("sd3", MagCache(), ["ratios", "Flux"]), ("sd3", FirstBlock(), ["last block", "TaylorSeer"])])
def test_caches_that_a_family_lacks_are_refused_by_name(tmp_path: Path, family: str, cache: StepCache, named: list[str]) -> None:
    folder = folder_of(theirs(family), tmp_path / family)
    with pytest.raises(MaterialiseError) as refused:
        Workbench.for_grid(grid_of(), device="cpu", root=folder).inspect(
            Candidate(name="c", model=str(folder), step_cache=cache))
    assert all(word in str(refused.value) for word in named)


@pytest.mark.parametrize("cache", [TaylorSeer(), MagCache(), MagCache(ratios=(1, 0.9))])
def test_caches_of_transformers_are_refused_on_u_nets_and_come_back_from_their_data(tmp_path: Path, cache: StepCache) -> None:
    candidate = Candidate(name="c", model="zoo:photo", step_cache=cache)
    with pytest.raises(MaterialiseError, match=r"U-Net; give DeepCache"):
        Workbench(device="cpu", root=tmp_path, steps=4).inspect(candidate)
    assert restore(plain(candidate)) == candidate
