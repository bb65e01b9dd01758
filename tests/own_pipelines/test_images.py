"""Folders that their own pipeline samples: image for image what diffusers makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.own_pipelines import OWN
from tests.own_pipelines.own_bench import apart, by_diffusers, diffusers_pipeline, grid_for, sampled
from tests.tiny_pipelines import BUILDERS

SAMPLED = tuple(sorted(OWN.keys() & BUILDERS.keys()))
Folder = Callable[[str], Path]


@pytest.mark.parametrize("name", SAMPLED)
def test_images_are_those_of_diffusers_own_call_alone(name: str, tiny_pipeline: Folder) -> None:
    grid = grid_for(name, seeds=(0,))  # two texts, each with and without guidance: each has a generator of its own
    images = sampled(tiny_pipeline(name), grid)
    pipe = diffusers_pipeline(name, tiny_pipeline(name))
    # Also where the images of a batch have texts of different lengths; a batch has other last bits.
    assert apart(images, {cell: by_diffusers(pipe, grid, cell) for cell in images}) <= 1
    one, *others = images.values()
    assert max(abs(one.astype(int) - other.astype(int)).max() for other in others) > 8  # texts, seeds and guidance do matter
