"""The plan of memory of candidates with savers: what they keep beside the weights, and what their steps and decoding take."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Candidate, DeepCache, Sampling
from harness.materialise import Workbench
from harness.run.memory_plan import Footprint, planned
from tests.fakes import tiny_grid, tiny_suite

GRID = tiny_grid(steps=4, guidance_scales=(4,), width=128, height=128, batch_size=16)


def footprints(*candidates: Candidate) -> list[Footprint]:
    suite = tiny_suite(candidates=candidates, baseline=candidates[0].name, grid=GRID, metrics=("exposure",))
    rows = planned(suite, candidates, Workbench.for_grid(GRID, device="cpu", root=Path()))
    return [row.footprint for row in rows if isinstance(row.footprint, Footprint)]


def test_the_matrices_of_attention_without_a_fused_kernel_are_counted() -> None:
    sampling = Sampling(width=256, height=256)
    plain, sliced, whole = footprints(*(Candidate(name=f"c{savers}", model="zoo:photo", savers=savers, sampling=sampling)
                                        for savers in ((), ("attention_slicing",), ("sdpa_math",))))
    pairs = 1024 * 1024 * 4  # of the places of 32 x 32 latents, in bytes
    assert sliced.need(1).step - plain.need(1).step > pairs  # two heads
    assert whole.need(1).step - sliced.need(1).step > 6 * pairs  # four heads of both halves of guidance
    assert sliced.weights() == plain.weights() == whole.weights()


def test_what_is_sampled_one_batch_at_a_time_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sampling.at_once.side_by_side", lambda *_: 3)
    candidates = [Candidate(name="plain", model="zoo:photo"), Candidate(name="math", model="zoo:photo", savers=("sdpa_math",)),
                  Candidate(name="compiled", model="zoo:photo", runtime="compiled")]
    many = [of.need(1) for of in footprints(*candidates)]
    monkeypatch.setattr("harness.sampling.at_once.side_by_side", lambda *_: 1)
    one = [of.need(1) for of in footprints(*candidates)]
    assert many[0].step > one[0].step
    assert many[0].decode > one[0].decode
    assert many[1:] == one[1:]


def test_copies_of_weights_are_counted() -> None:
    plain, last, cast = footprints(*(Candidate(name=f"c{savers}", model="zoo:photo", savers=savers)
                                     for savers in ((), ("channels_last",), ("layerwise_casting",))))
    assert plain.weights().items() < last.weights().items()
    assert 0 < last.weights()["unet of savers"] < plain.weights()["unet"]
    assert 0.2 < cast.weights()["unet of savers"] / plain.weights()["unet"] < 0.26


def test_tiles_are_counted_where_a_saver_makes_them() -> None:
    sampling = Sampling(width=1024, height=1024)
    plain, tiled = footprints(Candidate(name="plain", model="zoo:photo", sampling=sampling),
                              Candidate(name="tiled", model="zoo:photo", sampling=sampling, savers=("vae_tiling",)))
    assert tiled.need(2).decode < plain.need(2).decode / 2
    assert tiled.need(2).decode == plain.need(2, ("tiled_decoding",)).decode
    assert tiled.need(2).decode < plain.need(2).decode / 2  # counting leaves the tiles on


def test_a_step_cache_keeps_a_hidden_state_of_a_batch() -> None:
    plain, cached = footprints(Candidate(name="plain", model="zoo:photo"),
                               Candidate(name="cached", model="zoo:photo", step_cache=DeepCache()))
    state = 4 * 2 * 64 * 16 * 16 * 4
    assert state <= cached.need(4).step - plain.need(4).step <= 2 * state
