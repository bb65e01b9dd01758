"""Savers that the declaration shows to change nothing are refused before any file is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, DeepCache, Sampling, Suite
from harness.check import problems
from harness.check.suite import remarks
from harness.declare import Stage
from tests.fakes import tiny_grid, tiny_suite


def suite(grid: dict[str, Any], **fields: Any) -> Suite:
    candidate = Candidate(name="x", model="zoo:photo", **fields)
    return tiny_suite(candidates=(candidate,), baseline="x", grid=tiny_grid(**grid), gates=())


@pytest.mark.parametrize(("grid", "fields", "named"), [
    ({}, {"savers": ("vae_tiling",)}, "64 x 64"),
    ({"width": 512, "height": 512}, {"savers": ("vae_tiling",)}, "512 x 512"),
    ({"width": 640, "low_memory": ("tiled_decoding",)}, {"savers": ("vae_tiling",)}, "low_memory"),
    ({"width": 640}, {"savers": ("vae_tiling",), "sampling": Sampling(width=256)}, "256 x 64"),
    ({"batch_size": 1}, {"savers": ("vae_slicing",)}, "one picture"),
    ({"batch_size": 1}, {"savers": ("sdpa_math", "vae_slicing")}, "one picture"),
])
def test_a_saver_of_decoding_that_finds_nothing_is_refused_by_name(
        grid: dict[str, Any], fields: dict[str, Any], named: str) -> None:
    (problem,) = problems(suite(grid, **fields), Path())
    assert "candidate 'x'" in problem
    assert named in problem
    assert any(saver in problem for saver in ("vae_tiling", "vae_slicing"))


@pytest.mark.parametrize(("grid", "fields"), [
    ({"width": 640}, {"savers": ("vae_tiling",)}), ({}, {"savers": ("vae_slicing",)}),
    ({"batch_size": "fit"}, {"savers": ("vae_slicing",)}),
    ({}, {"savers": ("vae_tiling",), "stages": (Stage(strength=0.5, sampling=Sampling(width=1024, height=1024)),)}),
])
def test_a_saver_of_decoding_that_acts_somewhere_is_not(grid: dict[str, Any], fields: dict[str, Any]) -> None:
    assert problems(suite(grid, **fields), Path()) == []


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_cache_has_an_effect_from_two_steps_on(steps: int) -> None:
    texts = remarks(suite({"steps": steps}, step_cache=DeepCache(interval=2)))
    assert any("one step" in text for text in texts) == (steps == 1)
