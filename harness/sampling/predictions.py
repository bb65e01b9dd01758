"""What denoisers predict, and how one prediction becomes another at the same step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.sampling.arriving import SamplingError

if TYPE_CHECKING:
    import torch


def prediction_of(scheduler_config: dict[str, Any]) -> str:
    """What a model predicts: "epsilon", "v_prediction" or "sample"."""
    return str(scheduler_config.get("prediction_type") or "epsilon")


def converted(output: torch.Tensor, given: str, wanted: str, x: torch.Tensor, a: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """A prediction for the noisy latents x = a x0 + s eps, a^2 + s^2 = 1, as one of another type: v = a eps - s x0 (Salimans and
    Ho, arXiv 2202.00512), so x0 = a x - s v and eps = a v + s x.

    `a` and `s` are those of the step, and all tensors have one shape or can be broadcast to it. Raises SamplingError for an
    unknown type.
    """
    if given == wanted:
        return output
    if given == "epsilon":
        clean = (x - s * output) / a
    elif given == "v_prediction":
        clean = a * x - s * output
    elif given == "sample":
        clean = output
    else:
        raise SamplingError(f"unknown prediction type {given!r}; expected epsilon, v_prediction or sample")
    noise = output if given == "epsilon" else a * output + s * x if given == "v_prediction" else (x - a * clean) / s
    if wanted == "epsilon":
        return noise
    if wanted == "v_prediction":
        return a * noise - s * clean
    if wanted == "sample":
        return clean
    raise SamplingError(f"unknown prediction type {wanted!r}; expected epsilon, v_prediction or sample")


def signal_and_noise(scheduler: Any, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(a, s) of the latents that a scheduler gives the denoiser at a step: x = a x0 + s eps. To be called after
    `scale_model_input` of the step."""
    import torch

    # Samplers whose latents are x0 + sigma eps divide them by sqrt(1 + sigma^2), which is 1 / a.
    a = scheduler.scale_model_input(torch.ones((), dtype=torch.float64), timestep)
    if float(a) == 1 and getattr(scheduler, "sigmas", None) is not None:
        at = scheduler.step_index if scheduler.step_index is not None else scheduler.begin_index or 0
        a = (1 + scheduler.sigmas[at].double() ** 2) ** -0.5
    elif float(a) == 1:
        a = scheduler.alphas_cumprod[int(timestep)].double() ** 0.5
    return a, (1 - a ** 2) ** 0.5
