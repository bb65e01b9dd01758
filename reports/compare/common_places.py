"""Two runs on the seeds and guidance scales that both have: what is counted over all images of a prompt is then counted over the
same ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeAlias

import pandas as pd

from harness.declare import Candidate
from harness.declare.effective_grid import whole_grid
from harness.records.images import EMBEDDING
from reports.read.run import Run, with_derived

Pair: TypeAlias = tuple[Run, Run]
COUNTED_OVER: Final = ("dominant", EMBEDDING)
"""The columns that values are derived from over the images of a prompt or a reference."""


def on_common_places(a: Run, b: Run) -> Pair:
    """Both runs without images at seeds and guidance scales that the other lacks; derived values are computed from the rest. Runs
    with the same seeds and scales come back unchanged."""
    grids = (whole_grid(a.suite), whole_grid(b.suite))
    seeds = set(grids[0].seeds) & set(grids[1].seeds)
    scales = set(map(float, grids[0].guidance_scales)) & set(map(float, grids[1].guidance_scales))
    if all(set(grid.seeds) == seeds and set(map(float, grid.guidance_scales)) == scales for grid in grids):
        return a, b
    return _at(a, seeds, scales), _at(b, seeds, scales)


def on_common_images(a: tuple[Run, tuple[str, float]], b: tuple[Run, tuple[str, float]]) -> list[pd.DataFrame]:
    """The images of one candidate of each run, at all scales, with derived values over those of which both know the colour and
    the embedding: where one lacks an image at another scale, the share that left the usual colour would be counted over unequal
    images."""
    tables = [run.images[run.images["candidate"] == name] for run, (name, _) in (a, b)]
    known = [[_places(table[table[column].notna()]) for table in tables] for column in COUNTED_OVER
             if all(column in table.columns for table in tables)]
    unequal = {place for mine, theirs in known for place in mine ^ theirs}
    if not unequal:
        return tables
    alike = [table[[place not in unequal for place in _listed(table)]] for table in tables]
    return [with_derived(table, run.suite.objective) for table, (run, _) in zip(alike, (a, b), strict=True)]


def _places(table: pd.DataFrame) -> set[tuple[str, int, float]]:
    return set(_listed(table))


def _listed(table: pd.DataFrame) -> list[tuple[str, int, float]]:
    return list(zip(table["prompt"], table["seed"].astype(int), table["guidance"].astype(float), strict=True))


def _at(run: Run, seeds: set[int], scales: set[float]) -> Run:
    grid = run.suite.grid
    narrower = replace(grid, seeds=tuple(s for s in grid.seeds if s in seeds),
                       guidance_scales=tuple(g for g in grid.guidance_scales if float(g) in scales))
    rows = run.images[run.images["seed"].isin(seeds) & run.images["guidance"].astype(float).isin(scales)]
    candidates = tuple(_narrower(candidate, scales) for candidate in run.suite.candidates)
    suite = replace(run.suite, grid=narrower, candidates=candidates)
    return replace(run, suite=suite, images=with_derived(rows, run.suite.objective))


def _narrower(candidate: Candidate, scales: set[float]) -> Candidate:
    if candidate.sampling is None or candidate.sampling.scales is None:
        return candidate
    own = tuple(scale for scale in candidate.sampling.scales if scale in scales)
    return replace(candidate, sampling=replace(candidate.sampling, guidance=own))
