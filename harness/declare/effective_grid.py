"""The effective grid of a candidate: what its suite's grid says, and what it says itself of how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from harness.declare.candidate import Candidate
from harness.declare.grid import Grid
from harness.declare.post_steps import Upscale
from harness.declare.sampler_names import sampler_named
from harness.declare.sampling import GRID_FIELDS, NEUTRAL, Sampling
from harness.declare.stage_candidates import as_candidates, own_guidance, steps_run, with_stage_texts
from harness.declare.suite import Suite


def grid_of(declared: Suite | Grid, candidate: Candidate | None = None) -> Grid:
    """The effective grid of a candidate: the grid of its suite with what its `sampling` says, field by field. The remaining knobs
    are in the result's `sampling`, which is None where all have their defaults. Of a candidate of several stages it is that of
    the first."""
    grid = declared.grid if isinstance(declared, Suite) else declared
    own = {} if candidate is None or candidate.sampling is None else candidate.sampling.given
    if not own and grid.sampling is None:
        return grid
    knobs = {**({} if grid.sampling is None else grid.sampling.given), **own}
    replaced = {GRID_FIELDS[name]: value for name, value in own.items() if name in GRID_FIELDS}
    rest = {name: value for name, value in knobs.items() if name not in GRID_FIELDS and value != NEUTRAL.get(name)}
    return replace(grid, **replaced, sampling=Sampling(**rest) if rest else None)


def stage_grids(declared: Suite | Grid, candidate: Candidate) -> tuple[Grid, ...]:
    """The effective grids of a candidate's stages, with the prompts as each reads them. A later stage runs a part of its steps,
    and its guidance scale is that of the image, unless it has its own."""
    grids = [grid_of(declared, candidate)]
    for number, (stage, own) in enumerate(zip(candidate.stages, as_candidates(candidate)[1:], strict=True), 1):
        grid, scale = with_stage_texts(grid_of(declared, own), stage), own_guidance(candidate, number)
        grids.append(grid if scale is None else replace(grid, guidance_scales=(scale,)))
    return tuple(grids)


def run_grid(declared: Suite | Grid, candidate: Candidate | None = None) -> Grid:
    """As `grid_of`, with the steps that the first stage runs: an inpainting of a strength below 1 runs a part of them."""
    grid = grid_of(declared, candidate)
    inpaint = None if candidate is None else candidate.inpaint
    return grid if inpaint is None else replace(grid, steps=steps_run(inpaint.strength, grid.steps))


def run_grids(declared: Suite | Grid, candidate: Candidate) -> tuple[Grid, ...]:
    """As `stage_grids`, with the steps that each stage runs."""
    later = stage_grids(declared, candidate)[1:]
    return (run_grid(declared, candidate), *(replace(grid, steps=steps_run(stage.strength or 0.0, grid.steps))
                     for stage, grid in zip(candidate.stages, later, strict=True)))


def picture_size(declared: Suite | Grid, candidate: Candidate | None = None) -> tuple[int, int]:
    """Width and height of a candidate's finished pictures: those of its last stage, enlarged by its post-steps."""
    if candidate is None or not (candidate.stages or candidate.post):
        grid = grid_of(declared, candidate)
        return grid.width, grid.height
    last = grid_of(declared, as_candidates(candidate)[-1])
    width, height = last.width, last.height
    for step in candidate.post:
        if isinstance(step, Upscale):
            width, height = round(width * step.factor), round(height * step.factor)
    return width, height


def sampler_of(grid: Grid) -> tuple[str, str]:
    """Sampler and schedule of an effective grid; the schedule is empty where none is declared. A sampler's name may hold both."""
    schedule = (None if grid.sampling is None else grid.sampling.schedule) or ""
    try:
        sampler, own = sampler_named("dpmpp_2m karras" if grid.sampler == "dpmpp_2m_karras" else grid.sampler)
    except ValueError:  # the check says so
        return grid.sampler, schedule
    return sampler, schedule or own


def cells_of(grid: Grid) -> int:
    """How many images one candidate has on an effective grid."""
    return len(grid.prompts) * len(grid.seeds) * len(grid.guidance_scales)


def sampled_as(grid: Grid) -> dict[str, Any]:
    """What an effective grid adds to the sampling block of run.json. Knobs that have their defaults are left out, so that what
    could always be declared has the image keys that it had."""
    return {"sampler": grid.sampler, "steps": grid.steps, "width": grid.width, "height": grid.height,
            **({} if grid.sampling is None else grid.sampling.given)}


def sampling_block(block: Mapping[str, Any], declared: Suite | Grid, candidate: Candidate) -> dict[str, Any]:
    """The sampling block that determines a candidate's images: the run's `block`, which is that of the grid, with what the
    candidate says itself."""
    if candidate.sampling is None:
        return dict(block)
    knobs = {spec.name for spec in fields(Sampling)}
    return {**{name: value for name, value in block.items() if name not in knobs}, **sampled_as(grid_of(declared, candidate))}


def largest_image(suite: Suite) -> tuple[int, int]:
    """Width and height of the largest pictures of a suite's candidates, those of earlier stages included."""
    sizes = [(suite.grid.width, suite.grid.height), *(picture_size(suite, candidate) for candidate in suite.candidates),
             *((grid.width, grid.height) for candidate in suite.candidates if candidate.stages
               for grid in stage_grids(suite, candidate))]
    return max(sizes, key=lambda size: size[0] * size[1])


def whole_grid(suite: Suite) -> Grid:
    """The grid with the guidance scales of all candidates, for what is said of all images together. A scale of the grid that no
    candidate follows is left out."""
    if all(c.sampling is None or c.sampling.scales is None for c in suite.candidates):
        return suite.grid
    known = [float(scale) for candidate in suite.candidates for scale in grid_of(suite, candidate).guidance_scales]
    declared = [float(scale) for scale in suite.grid.guidance_scales if float(scale) in known]
    return replace(suite.grid, guidance_scales=tuple(dict.fromkeys([*declared, *known])))
