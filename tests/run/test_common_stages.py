"""Candidates that have their first stages in common sample them once, and their images are those that each would make alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Adapter, Candidate, Sampling, strength_sweep
from harness.declare import ColourTransfer, Stage, Temperature, Upscale
from harness.records import Cell, Finished
from harness.run.common_stages import Beginnings
from harness.sampling import Common, Denoising, StageStore
from harness.sampling.common_stages import Pool
from tests.fakes import PROMPTS, tiny_grid
from tests.run.test_stages import run_of, suite_of

STAGE = Stage(model="zoo:anime")
GRID = tiny_grid(steps=5, prompts=PROMPTS[:2], guidance_scales=(4,), batch_size=2)


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often a denoiser was evaluated for a batch, by the name of the stage."""
    counts, original = Counter[str](), Denoising._evaluate

    def counted(run: Denoising, *args: object, **options: object) -> None:
        if len(run.cells) > 1:  # and not the images that are made once more alone, for the noise floor
            counts["later" if run._in_part else "first"] += 1
        original(run, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Denoising, "_evaluate", counted)
    yield counts


def images(folder: Path, *candidates: Candidate, **changes: object) -> dict[tuple[str, str, str], str]:
    """The hashes of all pictures of a run, by candidate, prompt and name."""
    folder.mkdir(exist_ok=True)
    run = run_of(suite_of(*candidates, grid=GRID, **changes), folder)
    try:
        for candidate in candidates:
            assert isinstance(result := run.candidate(candidate), Finished), result
        return hashes(run, *candidates)
    finally:
        run.close()


def hashes(run: object, *candidates: Candidate) -> dict[tuple[str, str, str], str]:
    pictures = {}
    for candidate in candidates:
        for sample in run.gallery.present(candidate.name):  # type: ignore[attr-defined]
            for one in (sample, *run.ledger.made_of(sample.key)):  # type: ignore[attr-defined]
                pictures[candidate.name, sample.cell.prompt, getattr(one, "name", "")] = one.sha256
    return pictures


def test_a_sweep_of_strengths_costs_the_first_stage_once_and_makes_the_images_that_it_makes_without_room_for_it(
        tmp_path: Path, evaluations: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = strength_sweep("zoo:photo", STAGE, (0, 0.2, 0.4, 0.6, 0.8, 1))
    together = images(tmp_path / "together", *sweep)
    assert evaluations == {"first": 5, "later": 1 + 2 + 3 + 4 + 5}
    assert len(together) == 2 * 6 + 2 * 5
    monkeypatch.setattr("harness.executors.maker.StageStore", lambda: StageStore(latents=Pool(0), pictures=Pool(0)))
    assert images(tmp_path / "alone", *sweep) == together
    assert evaluations["first"] == 5 + 6 * 5


def test_equal_beginnings_of_several_stages_are_common_whatever_is_handed_over_and_in_any_order(
        tmp_path: Path, evaluations: Counter[str]) -> None:
    second = Stage(model="zoo:anime", strength=0.6, colour="transfer")
    candidates = [Candidate(name=f"to {width}", model="zoo:photo", stages=(
        second, Stage(strength=0.4, sampling=Sampling(width=width)))) for width in (64, 96)]
    candidates += [Candidate(name="two", model="zoo:photo", stages=(second,)), Candidate(name="one", model="zoo:photo")]
    forth, back = (images(tmp_path / name, *some, baseline="one") for name, some in (
        ("forth", candidates), ("back", reversed(candidates))))
    assert evaluations == {"first": 2 * 5, "later": 2 * (3 + 2 + 2)}
    assert forth == back


def test_what_a_race_adds_and_a_resumed_session_makes_is_the_same_as_all_at_once(
        tmp_path: Path, evaluations: Counter[str]) -> None:
    sweep = strength_sweep("zoo:photo", STAGE, (0, 0.4, 0.6, 1))
    declared, added = (*sweep[:2], sweep[3]), sweep[2]
    whole = images(tmp_path / "whole", *sweep)
    evaluations.clear()
    (folder := tmp_path / "race").mkdir()
    run = run_of(suite_of(*declared, grid=GRID), folder)
    first, *_ = run.gallery.cells("strength=0")
    for candidate in declared:  # a look at a part of the cells
        assert isinstance(run.candidate(candidate, [first]), Finished)
    run.close()
    assert evaluations["first"] == 5
    run = run_of(suite_of(*declared, grid=GRID), folder)
    run.grow({"strength=1": [added]})
    for candidate in sweep:
        assert isinstance(run.candidate(candidate), Finished)
    assert evaluations["first"] == 5 + 5 + 5  # the other cell for all, and the first one for what was added
    assert hashes(run, *sweep) == whole
    run.close()


def test_a_shared_cache_brings_back_the_pictures_of_earlier_stages(tmp_path: Path) -> None:
    larger = Candidate(name="down", model="zoo:photo", sampling=Sampling(width=128), stages=(
        replace(STAGE, strength=0.2, sampling=Sampling(width=64)),))
    coloured = replace(larger, name="coloured", post=(ColourTransfer("first stage"), Upscale(factor=3)))
    cache = f"folder:{tmp_path / 'cache'}"
    made, counts = {}, {}
    for name, candidates, address in (("own", (larger,), cache), ("other", (larger,), cache), ("post", (coloured,), cache),
                                      ("alone", (coloured,), "")):
        (folder := tmp_path / name).mkdir()
        run = run_of(suite_of(*candidates, grid=GRID), folder, cache=address)
        result = run.candidate(candidates[0])
        assert isinstance(result, Finished), result
        made[name], counts[name] = hashes(run, *candidates), result.sampled
        run.close()
    assert counts == {"own": 2, "other": 0, "post": 0, "alone": 2}
    assert made["own"] == made["other"]
    assert made["post"] == made["alone"]
    assert {name for _, _, name in made["other"]} == {"", "stage 1"}
    assert {name for _, _, name in made["post"]} == {"", "stage 1", "raw"}


def test_an_image_whose_stage_is_not_in_the_shared_cache_is_made_again(tmp_path: Path) -> None:
    two = Candidate(name="two", model="zoo:photo", stages=(replace(STAGE, strength=0.2),))
    suite, cache = suite_of(two, grid=GRID), tmp_path / "cache"
    sampled = []
    for name in ("first", "second", "third"):
        (folder := tmp_path / name).mkdir()
        run = run_of(suite, folder, cache=f"folder:{cache}")
        result = run.candidate(two)
        assert isinstance(result, Finished), result
        sampled.append(result.sampled)
        assert len(hashes(run, two)) == 4
        if name == "first":
            stage = run.ledger.made_of(run.gallery.present("two")[0].key)[0]
            next(cache.rglob(f"{stage.key}-*")).unlink()
        run.close()
    assert sampled == [2, 1, 0]


def beginnings(*candidates: Candidate) -> list[tuple[bool, ...]]:
    suite = suite_of(*candidates, grid=GRID)
    return [Beginnings.of(suite).in_common(suite, candidate) for candidate in candidates]


@pytest.mark.parametrize(("other", "common"), [
    ({}, True), ({"name": "x", "post": (Temperature(max_kelvin=6500),)}, True), ({"sampling": Sampling(steps=5)}, True),
    ({"sampling": Sampling(steps=6)}, False), ({"sampling": Sampling(clip_skip=2)}, False), ({"model": "zoo:base"}, False),
    ({"adapters": (Adapter(path="zoo:sketch"),)}, False), ({"precision": "bf16"}, False), ({"runtime": "compiled"}, False)])
def test_a_stage_is_common_to_candidates_that_are_alike_up_to_it(other: dict[str, Any], common: bool) -> None:
    one = Candidate(name="one", model="zoo:photo", stages=(replace(STAGE, strength=0.5),))
    two = replace(one, stages=(replace(STAGE, strength=0.7),), **{"name": "two", **other})
    assert beginnings(one, two) == [(common, False)] * 2


def test_without_stages_nothing_is_in_common() -> None:
    assert beginnings(Candidate(name="a", model="zoo:photo"), Candidate(name="b", model="zoo:photo")) == [(), ()]


def test_the_pool_makes_room_for_another_stage_and_never_for_the_same() -> None:
    pool, cells = Pool(100), [Cell(prompt=str(n), seed=1, guidance=4) for n in range(4)]
    for cell in cells:
        pool.put("a", (1, 0, cell), np.zeros(30, np.uint8))
    assert [pool.get("a", (1, 0, cell)) is None for cell in cells] == [False, False, False, True]
    pool.put("b", (1, 0, cells[0]), np.zeros(50, np.uint8))
    assert pool.get("a", (1, 0, cells[0])) is None
    assert pool.get("b", (1, 0, cells[0])) is not None
    assert pool.get("b", (2, 0, cells[0])) is None
    assert pool.bytes == 50


def test_unusable_pictures_are_kept_for_nobody() -> None:
    store, (cell, other) = StageStore(), [Cell(prompt=name, seed=1, guidance=4) for name in ("a", "b")]
    common, cells = Common(store=store, key=lambda number, prompt: f"{number}"), (cell, other, cell)
    latents = torch.zeros(3, 4, 8, 8)
    latents[1] = torch.nan
    pictures = np.zeros((3, 64, 64, 3), np.uint8)
    common.keep(0, cells, latents, pictures, [1])
    assert common.ended(cells, 2) == ()
    latents[1] = 1
    common.keep(0, cells, latents, pictures, [1])
    (ended,) = common.ended(cells, 2)
    assert torch.equal(ended.latents, latents)
    assert ended.pictures is None
