"""Real images of candidates that are sampled each in its own way: those of a suite whose grid says so, bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Adapter, Candidate, Grid, Sampling, Suite
from harness.declare import grid_of
from harness.records import Durations, Finished, Journal, Latency, Sample
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

PLAIN = Candidate(name="plain", model="zoo:photo")
LATE = (Adapter(path="zoo:sketch", start=0.5),)
"""Active in half of the steps, however many there are."""
WAYS = {
    "few": replace(PLAIN, name="few", sampling=Sampling(sampler="ddim", steps=1, guidance=1)),
    "late": replace(PLAIN, name="late", adapters=LATE, sampling=Sampling(steps=4)),
    "wide": replace(PLAIN, name="wide", sampling=Sampling(width=72, height=56, sampler="euler_a"))}


def suite(grid: Grid, *candidates: Candidate) -> Suite:
    return tiny_suite(grid=grid, candidates=candidates, baseline=candidates[0].name, metrics=("exposure",), gates=())


def go(root: Path, declared: Suite, *, timed: bool = False) -> dict[tuple[str, str, int], tuple[str, bytes]]:
    """By candidate, prompt and seed, the key and the bytes of each image."""
    run = SuiteRun(declared, "s.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        assert run.preflight() == []
        assert all(isinstance(run.candidate(candidate), Finished) for candidate in declared.candidates)
        assert not timed or run.costs([c.name for c in declared.candidates]) == []
    finally:
        run.close()
    records = Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0]
    folder = root / "runs" / "tiny"
    return {(r.candidate, r.cell.prompt, r.cell.seed): (r.key, hashlib.sha256((folder / r.path).read_bytes()).digest())
            for r in records if isinstance(r, Sample)}


@pytest.fixture(scope="module")
def grid() -> Grid:
    return tiny_grid(prompts=PROMPTS[:2], guidance_scales=(4,), batch_size=2)


@pytest.fixture(scope="module")
def together(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Any, Any]]:
    root = tmp_path_factory.mktemp("together")
    return root, go(root, suite(grid, PLAIN, *WAYS.values()), timed=True)


@pytest.mark.parametrize("name", WAYS)
def test_images_of_a_candidates_own_sampling_are_those_of_a_grid_that_says_so(
        name: str, grid: Grid, together: tuple[Path, dict[Any, Any]], tmp_path: Path) -> None:
    alone = go(tmp_path, suite(grid_of(grid, WAYS[name]), replace(WAYS[name], sampling=None)))
    assert len(alone) == 2
    assert {place: made for place, made in together[1].items() if place[0] == name} == alone
    assert not {key for key, _ in alone.values()} & {key for place, (key, _) in together[1].items() if place[0] != name}


def test_each_candidate_is_timed_as_it_is_sampled(together: tuple[Path, dict[Any, Any]]) -> None:
    records = Journal(together[0] / "runs/tiny/journal.jsonl").read()[0]
    steps = {r.candidate: len(r.seconds["step"]) for r in records if isinstance(r, Durations)}
    assert steps["few"] * 4 == steps["plain"] * 2 == steps["late"]
    assert {r.candidate: r.guidance for r in records if isinstance(r, Latency)} == {"plain": 4, "few": 1, "late": 4, "wide": 4}
    assert len({r.timed_at for r in records if isinstance(r, Latency)}) == 1
