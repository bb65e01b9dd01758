"""How much work the denoiser has with an image, for estimates of time across different ways of sampling."""

from __future__ import annotations

from harness.declare import Grid, Sampling
from harness.samplers.building import evaluations, first_evaluation
from harness.samplers.guided_steps import guided_steps


def image_work(grid: Grid, guidance: float) -> int:
    """The pixels that the denoiser evaluates for one image of an effective grid; each evaluation with guidance counts twice."""
    guided = guided_steps(grid.sampling or Sampling(), grid.steps) if guidance != 1 else range(0)
    first, end = (first_evaluation(grid.sampler, grid.steps, step) for step in (guided.start, max(guided.start, guided.stop)))
    return (evaluations(grid.sampler, grid.steps) + end - first) * grid.width * grid.height
