"""The savers of candidates on copies of live modules that share their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from harness.declare import Candidate, Checkpoint, DeepCache, Grid
from harness.declare.effective_grid import stage_grids
from harness.declare.models import models_of
from harness.declare.stages import stage_name
from harness.materialise.library import MaterialiseError, frame_of
from harness.materialise.phases import Branch
from harness.records import Coverage
from harness.samplers import evaluations
from harness.savers import SAVERS, VAE, SaverError, SaverReport, Use, in_order
from harness.savers.decoding import decoding_of
from harness.savers.step_caches import cache_steps, no_cache
from harness.weights import Pipeline, with_part
from harness.weights.placing import layers_copied, lend_layers, lends_layers, share_again

STEP_CACHE: Final = "step cache"


def refuse_savers(candidate: Candidate, stages: Sequence[Candidate], shape: Callable[[Checkpoint], Pipeline], device: str,
                  grid: Grid | None) -> None:
    """Raises MaterialiseError for a saver that a device lacks, that cannot act in one of the candidate's `stages`, or that would
    change nothing in any of them, and for a step cache of other models. `shape` gives the pipeline of a model without values."""
    if not candidate.savers and candidate.step_cache is None:
        return
    uses = list(_uses(candidate, stages, shape, device, grid))
    for name in in_order(candidate.savers):
        row = SAVERS[name]
        if row.lacks(device):
            raise MaterialiseError(f"saver {name!r} on {device}: {row.lacks(device)}")
        for where, use in uses:
            if why := row.why_not(use):
                raise MaterialiseError(f"{where}saver {name!r}: {why}")
        idle = [row.idle(use) or (row.idle_decoding(use.decoding) if use.decoding is not None else "") for _, use in uses]
        if grid is not None and all(idle):
            raise MaterialiseError(f"saver {name!r} would change nothing: {idle[0]}; remove it")
    cache = candidate.step_cache
    for where, use in uses:
        if why := "" if cache is None else no_cache(cache, use):
            raise MaterialiseError(f"{where}step_cache: {why}")


def _uses(candidate: Candidate, stages: Sequence[Candidate], shape: Callable[[Checkpoint], Pipeline], device: str,
          grid: Grid | None) -> Iterator[tuple[str, Use]]:
    """What the savers act on, stage by stage and model by model, with the words that name the stage."""
    grids = [None] * len(stages) if grid is None else stage_grids(grid, candidate)
    for number, (stage, own) in enumerate(zip(stages, grids, strict=True)):
        for model in models_of(stage.model):
            yield (f"{stage_name(number)}: " if len(stages) > 1 else ""), Use(
                device=device, candidate=replace(stage, model=model), pipeline=shape(frame_of(model)),
                decoding=None if own is None else decoding_of(own, device), low_memory=() if own is None else own.low_memory,
                steps=0 if own is None else evaluations(own.sampler, own.steps))


def with_savers(candidate: Candidate, branch: Branch) -> tuple[Branch, tuple[Coverage, ...]]:
    """The branch on copies of its modules, changed by the candidate's savers and step cache, and a row of coverage for each. What
    the copies do not share is made of the weights that the branch has now."""
    if not candidate.savers and candidate.step_cache is None:
        return branch, ()
    before = branch.enter()
    saved, reports = changed(candidate, before)
    parts = {part: saved.parts[part] for part in _parts(candidate, saved)}

    sharing = [share_again(module, before.parts[part]) for part, module in parts.items()]
    copied = saved.denoiser is not before.denoiser

    def enter() -> Pipeline:
        live = branch.enter()
        shared = (live.denoiser,) if copied else ()
        for share in sharing:
            share()
        for part, module in parts.items():
            live = with_part(live, part, module)
        return replace(live, step_cache=saved.step_cache, shared=shared)

    return replace(branch, enter=enter), tuple(
        Coverage(candidate=candidate.name, stage=name if name == STEP_CACHE else f"saver {name}", component=_part(name, saved),
                 notes=report.notes,
                 keys={status: names for status, names in (("applied", report.changed), ("kept", report.kept)) if names})
        for name, report in reports.items())


def changed(candidate: Candidate, pipeline: Pipeline) -> tuple[Pipeline, dict[str, SaverReport]]:
    """The pipeline with copies of the parts that the candidate's savers and step cache change, and their reports. Raises
    MaterialiseError for a saver that changes nothing."""
    copies: dict[str, Any] = {part: layers_copied(pipeline.parts[part]) for part in _parts(candidate, pipeline)}
    reports = {}
    for name in in_order(candidate.savers):
        apply = SAVERS[name].apply
        assert apply is not None  # those that are always refused are refused before
        try:
            reports[name] = apply(copies[_part(name, pipeline)])
        except SaverError as error:
            raise MaterialiseError(f"saver {name!r} would change nothing: {error}; remove it") from error
    if (cache := candidate.step_cache) is not None:  # after the savers, which look for layers as they were
        try:
            reports[STEP_CACHE] = cache_steps(copies[_part(STEP_CACHE, pipeline)], cache)
        except SaverError as error:
            raise MaterialiseError(f"step_cache: {error}; remove it") from error
        pipeline = replace(pipeline, step_cache=cache if isinstance(cache, DeepCache) else None)
    for part, module in copies.items():
        if lends_layers(module):  # those that a saver added are lent like the others
            lend_layers(module, pipeline.device)
        pipeline = with_part(pipeline, part, module)
    return pipeline, reports


def _parts(candidate: Candidate, pipeline: Pipeline) -> tuple[str, ...]:
    names = [*in_order(candidate.savers), *([STEP_CACHE] if candidate.step_cache is not None else [])]
    return tuple(dict.fromkeys(_part(name, pipeline) for name in names))


def _part(name: str, pipeline: Pipeline) -> str:
    """The component that a saver changes."""
    denoiser = "unet" if "unet" in pipeline.parts else "transformer"
    return VAE if name != STEP_CACHE and SAVERS[name].part == VAE else denoiser
