"""How much work the denoiser has with an image, for estimates of time across different ways of sampling."""

from __future__ import annotations

from harness.declare import Candidate, Grid, Sampling, Suite, grid_of
from harness.declare.effective_grid import run_grids
from harness.declare.stage_candidates import own_guidance
from harness.samplers.building import evaluations, first_evaluation
from harness.samplers.guided_steps import guided_steps


def candidate_work(declared: Suite | Grid, candidate: Candidate | None, guidance: float) -> int:
    """The pixels that the denoisers of all stages of a candidate evaluate for one image, as `image_work`; None is a candidate
    that is not declared, which is sampled as the grid says."""
    if candidate is None or not candidate.stages:
        return image_work(grid_of(declared, candidate), guidance)
    scales = (own_guidance(candidate, number) for number in range(len(candidate.stages) + 1))
    return sum(image_work(grid, guidance if scale is None else scale)
               for grid, scale in zip(run_grids(declared, candidate), scales, strict=True))


def image_work(grid: Grid, guidance: float) -> int:
    """The pixels that the denoiser evaluates for one image of an effective grid; each evaluation with guidance counts twice."""
    guided = guided_steps(grid.sampling or Sampling(), grid.steps) if guidance != 1 else range(0)
    first, end = (first_evaluation(grid.sampler, grid.steps, step) for step in (guided.start, max(guided.start, guided.stop)))
    return (evaluations(grid.sampler, grid.steps) + end - first) * grid.width * grid.height
