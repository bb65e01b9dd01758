"""Only missing cells are sampled, in batches of one shape; the keys are those of records.sample_key."""

import random
from pathlib import Path

import numpy as np
import pytest

from harness import Grid
from harness.records import Cell, sample_key
from harness.run.batch_packing import GridKeys
from harness.sampling import Denoising, alone, batches, decode, encode, pack, setting, threads_for
from tests.fakes import PROMPTS, plain_candidate, tiny_grid


def cells(grid: Grid) -> list[Cell]:
    return [Cell(prompt=p.id, seed=s, guidance=g) for p in grid.prompts for s in grid.seeds for g in grid.guidance_scales]


@pytest.mark.parametrize("seed", range(20))
def test_every_missing_cell_is_packed_once_and_every_batch_has_the_shape(seed: int) -> None:
    draw = random.Random(seed)
    grid = tiny_grid(seeds=tuple(range(draw.randint(1, 5))), guidance_scales=(1, 4, 7.5), batch_size=draw.randint(1, 9))
    missing = draw.sample(cells(grid), draw.randint(0, len(cells(grid))))
    packed = pack(grid, missing)
    assert all(len(batch) == grid.batch_size and len({c.guidance == 1 for c in batch}) == 1 for batch in packed)
    assert sorted(map(repr, {c for batch in packed for c in batch})) == sorted(map(repr, missing))
    assert sum(len(set(batch)) for batch in packed) == len(missing)
    for plain in (True, False):
        closely = -(-sum((c.guidance == 1) is plain for c in missing) // grid.batch_size)
        assert sum((b[0].guidance == 1) is plain for b in packed) <= closely + max(1, closely // 4)


@pytest.mark.parametrize(("sampler", "alone"), [("flow_euler", True), ("euler", False)])
def test_a_batch_of_a_flow_model_has_one_guidance_scale_whatever_its_neighbours(sampler: str, alone: bool) -> None:
    grid = tiny_grid(seeds=(0, 1), guidance_scales=(1, 4, 7.5), batch_size=4, sampler=sampler)
    whole, some = pack(grid, cells(grid)), pack(grid, cells(grid)[5:11])
    assert all((len({c.guidance for c in batch}) == 1) is alone for batch in whole if batch[0].guidance != 1)
    assert all(len(batch) == 4 for batch in (*whole, *some))
    assert {c for batch in whole for c in batch} == set(cells(grid)) == {c for batch in batches(grid) for c in batch}


def test_a_resumed_grid_goes_on_with_the_batches_of_an_unbroken_one() -> None:
    grid = tiny_grid(seeds=(0, 1, 2), batch_size=4)
    whole = pack(grid, cells(grid))
    done = {c for batch in whole[:2] for c in batch}
    assert pack(grid, [c for c in cells(grid) if c not in done]) == whole[2:]


def test_an_enlarged_grid_samples_only_what_is_new() -> None:
    before = cells(tiny_grid(seeds=(0, 1, 2, 3)))
    larger = tiny_grid(seeds=(0, 1, 2, 3, 4), guidance_scales=(1, 4, 6))
    new = [c for c in cells(larger) if c not in before]
    packed = pack(larger, new)
    assert {c for batch in packed for c in batch} == set(new)
    assert len(packed) <= -(-len(new) // 4) + 3


def test_keys_in_bulk_are_the_keys_one_by_one() -> None:
    grid = tiny_grid(guidance_scales=(1, 4, 7.5))
    texts = {p.id: (p.text + ' "ö"', "blurry") for p in grid.prompts}
    sampling = setting(grid, "cpu")
    for identity in ("abc", 'qu"ote'):
        assert GridKeys(cells(grid), texts, sampling).of(identity) == {
            c: sample_key(identity, c, texts[c.prompt], sampling) for c in cells(grid)}


def test_neighbours_and_place_in_a_batch_do_not_touch_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What packing rests on, at one thread per operation: an image depends on the shape of its batch alone."""
    import torch

    from harness.materialise import Workbench

    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path))
    grid = tiny_grid(seeds=(0, 1, 2), guidance_scales=(4,), batch_size=4)
    with threads_for(grid, "cpu"):
        pipeline = Workbench(device="cpu", root=tmp_path).prepare(plain_candidate()).phases[0].enter()
        text = encode(pipeline, PROMPTS)

        def denoised(batch: tuple[Cell, ...]) -> torch.Tensor:
            way = Denoising(pipeline, grid, batch)
            way.advance(alone(pipeline, text))
            return way.latents

        target, *others = cells(grid)
        draw, latents, pictures = random.Random(3), [], []
        for place in range(4):
            batch = draw.sample(others, 3)
            batch.insert(place, target)
            made = denoised(tuple(batch))
            latents.append(made[place].numpy())
            pictures.append(decode(pipeline, made).images()[place])
        repeated = denoised((target,) * 4).numpy()
    assert all(np.array_equal(one, latents[0]) for one in [*latents, *repeated])
    assert all(np.array_equal(one, pictures[0]) for one in pictures)
