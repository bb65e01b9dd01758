"""Which image of the baseline stands beside an image of a candidate, as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness import Candidate, Sampling, Suite
from harness.declare import grid_of
from harness.declare.pairing import counterpart, with_baseline
from harness.records import Cell
from harness.sampling.noise import generators
from tests.fakes import tiny_grid


def suite(scales: tuple[float, ...], baseline: dict[str, Any], own: dict[str, Any]) -> Suite:
    def candidate(name: str, sampling: dict[str, Any]) -> Candidate:
        return Candidate(name=name, model="zoo:photo", sampling=Sampling(**sampling) if sampling else None)

    return Suite(name="s", baseline="x", grid=tiny_grid(guidance_scales=scales),
                 candidates=(candidate("x", baseline), candidate("y", own)))


@pytest.mark.parametrize(("scales", "baseline", "own", "at", "beside", "why"), [
    ((7,), {}, {}, 7.0, 7.0, ""),
    ((4, 7), {}, {}, 4.0, 4.0, ""),
    ((7,), {}, {"steps": 4, "sampler": "ddim"}, 7.0, 7.0, ""),
    ((7,), {}, {"steps": 4, "guidance": 1}, 1.0, 7.0, ""),
    ((7,), {}, {"guidance": (1, 1.5)}, 1.5, 7.0, ""),
    ((7,), {"guidance": 1, "steps": 4}, {}, 7.0, 1.0, ""),
    ((4, 7), {"guidance": 1}, {}, 4.0, 1.0, ""),
    ((4, 7), {}, {"guidance": (4, 9)}, 4.0, 4.0, ""),
    ((4, 7), {}, {"guidance": (4, 9)}, 9.0, None, "CFG 4, 7"),
    ((4, 7), {}, {"guidance": 1}, 1.0, None, "CFG 4, 7"),
    ((7,), {}, {"width": 72}, 7.0, None, "72 x 64"),
    ((7,), {"width": 72}, {"width": 72}, 7.0, 7.0, ""),
    ((7,), {"width": 72}, {}, 7.0, None, "64 x 64"),
])
def test_the_pair_of_an_image_among_the_baselines(scales, baseline, own, at, beside, why):
    of = suite(scales, baseline, own)
    pair = with_baseline(of, of.candidates[1], at)
    assert pair.scale == beside
    assert why in pair.why
    assert bool(pair.why) is (beside is None)


def test_a_candidate_that_is_not_declared_is_sampled_as_the_grid_says():
    assert with_baseline(suite((4, 7), {}, {}), None, 7.0).scale == 7.0
    assert with_baseline(suite((4, 7), {"guidance": 1}, {}), None, 7.0).scale == 1.0


@pytest.mark.parametrize(("scales", "guidance", "expected"), [
    ((4.0, 7.0), 7, 7.0), ((4.0, 7.0), 5, None), ((4,), 5, 4.0), ((4, 4.0), 5, 4.0), ((), 5, None)])
def test_the_counterpart_is_the_same_scale_or_the_only_one(scales, guidance, expected):
    assert counterpart(scales, guidance) == expected


def test_pairs_begin_with_the_same_noise_at_any_guidance_and_any_steps():
    import torch

    one, other = Cell(prompt="star", seed=3, guidance=1.0), Cell(prompt="star", seed=3, guidance=7.0)
    drawn = [torch.randn(4, generator=generator) for generator in generators((one, other))]
    assert torch.equal(*drawn)
    of = suite((7,), {}, {"steps": 4, "guidance": 1})
    assert replace(grid_of(of, of.candidates[1]), steps=2, guidance_scales=(7.0,)) == of.grid
