"""Problems of a candidate's savers and step cache that can be found before any file is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Final

from harness.check.phrases import doubles, number, unknown
from harness.declare import Candidate, DeepCache, FirstBlock, Grid, MagCache, StepCache, Suite, TaylorSeer
from harness.declare.component_runtimes import EAGER, denoiser_runtime, runtime_of
from harness.declare.effective_grid import run_grids, stage_grids
from harness.savers import DENOISER, SAVERS, VAE
from harness.savers.decoding import decoding_of

_INTEGERS: Final[Mapping[type[StepCache], Mapping[str, int]]] = {
    DeepCache: {"interval": 1, "branch": 0}, FirstBlock: {}, TaylorSeer: {"interval": 1, "warm_up": 1, "order": 0},
    MagCache: {"max_skip_steps": 1}}
"""The least value of each integer of a step cache."""


def saver_problems(candidate: Candidate) -> Iterator[str]:
    """One phrase per problem of a candidate's savers."""
    yield from unknown("saver", candidate.savers, SAVERS)
    yield from doubles("saver", candidate.savers)
    known = [name for name in SAVERS if name in candidate.savers]
    for name in known:
        if SAVERS[name].refused:
            yield f"saver {name!r} is not offered: {SAVERS[name].refused}"
    for name, other in combinations(known, 2):
        if other in SAVERS[name].excludes or name in SAVERS[other].excludes:
            yield f"savers {name!r} and {other!r} both say how attention is computed; give one of them"
    acting = [name for name in known if SAVERS[name].part == DENOISER and not SAVERS[name].refused]
    runtime, of_vae = denoiser_runtime(candidate.runtime), runtime_of(candidate.runtime, VAE)
    if acting and runtime != EAGER:
        yield (f"saver {acting[0]!r} changes layers of the denoiser, which runtime={runtime!r} does not execute; "
               "remove one of them")
    if of_vae != EAGER and (decoding := [name for name in known if SAVERS[name].part == VAE]):
        yield (f"saver {decoding[0]!r} changes how the VAE takes pictures, and runtime {of_vae!r} executes it as one graph; "
               "remove one of them")
    yield from _step_cache(candidate)


def _step_cache(candidate: Candidate) -> Iterator[str]:
    cache = candidate.step_cache
    if cache is None:
        return
    if (runtime := denoiser_runtime(candidate.runtime)) != EAGER:
        yield (f"step_cache leaves out layers of the denoiser at some steps, which runtime={runtime!r} cannot; remove "
               "one of them")
    for name, least in _INTEGERS[type(cache)].items():
        if getattr(cache, name) < least:
            yield f"step_cache: {name} is {getattr(cache, name)}; expected an integer of at least {least}"
    if isinstance(cache, FirstBlock | MagCache) and (not number(cache.threshold) or cache.threshold < 0):
        yield f"step_cache: threshold is {cache.threshold!r}; expected a number of at least 0"
    if isinstance(cache, MagCache):
        if not number(cache.retention_ratio) or not 0 <= cache.retention_ratio <= 1:
            yield f"step_cache: retention_ratio is {cache.retention_ratio!r}; expected a number from 0 to 1"
        if wrong := [ratio for ratio in cache.ratios if not number(ratio) or ratio <= 0]:
            yield f"step_cache: ratios hold {wrong[0]!r}; expected numbers above 0"


def idle_saver_problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """(candidate, phrase) for each saver that would change nothing of how any of the candidate's pictures are decoded. Those that
    only model files or the device show are found by `Workbench.inspect`."""
    for candidate in suite.candidates:
        decodings = [decoding_of(grid, "cpu") for grid in stage_grids(suite, candidate)]
        for name in (name for name in candidate.savers if name in SAVERS):
            idle = [SAVERS[name].idle_decoding(decoding) for decoding in decodings]
            if all(idle):
                yield repr(candidate.name), f"saver {name!r} would change nothing: {idle[0]}; remove it"


def saver_remarks(suite: Suite) -> Iterator[str]:
    """What is worth a look in step caches that may be used."""
    for candidate in suite.candidates:
        if not isinstance(candidate.step_cache, DeepCache):
            continue
        if candidate.step_cache.interval == 1:
            yield (f"candidate {candidate.name!r}: step_cache with interval 1 runs every step whole, so that nothing is saved; "
                   "give an interval of 2 or more")
        elif most_steps(suite, candidate) == 1:
            yield (f"candidate {candidate.name!r}: step_cache has no effect, because the one step that is run is whole; sample "
                   "with more steps, or remove it")


def most_steps(suite: Suite, candidate: Candidate) -> int:
    """The most steps that a stage of a candidate runs."""
    return max(grid.steps for grid in run_grids(suite, candidate))


def batched_cache_problems(candidate: Candidate, grid: Grid) -> Iterator[str]:
    """Why one of diffusers' caches, which keep one state for a whole batch, cannot be used with a grid."""
    cache = candidate.step_cache
    if cache is None or isinstance(cache, DeepCache) or grid.batch_size == 1:
        return
    why = ("decides for a whole batch, so that an image would depend on those beside it" if isinstance(cache, FirstBlock) else
           "keeps one state for a whole batch")
    yield f"step_cache {type(cache).__name__} {why}; batch_size is {grid.batch_size!r}, give the grid batch_size=1"
