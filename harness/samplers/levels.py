"""Gives a scheduler of diffusers the noise levels and timesteps of a schedule, each class in the form in which it keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.samplers.schedules import nearest_timesteps

if TYPE_CHECKING:
    from torch import Tensor

    from harness.samplers.schedules import Levels

_LEAST_ALPHA: Final = 2.0 ** -24
"""What diffusers puts in place of 0 where the training ends in pure noise, so that its level is a number."""


def training_levels(scheduler: Any) -> Levels:
    """sqrt((1 - a) / a) for the cumulative product a at each training timestep."""
    import numpy as np

    kept: Levels = np.maximum(scheduler.alphas_cumprod.double().numpy(), _LEAST_ALPHA)
    return np.sqrt((1 - kept) / kept)


def _with_end(levels: Levels) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.append(levels, 0.0).astype(np.float32))


def _times(scheduler: Any, training: Levels, levels: Levels) -> Tensor:
    import torch

    return torch.from_numpy(nearest_timesteps(training, levels)).to(scheduler.timesteps.dtype)


def take_plain(scheduler: Any, levels: Levels, training: Levels) -> None:
    scheduler.sigmas, scheduler.timesteps = _with_end(levels), _times(scheduler, training, levels)


def take_heun(scheduler: Any, levels: Levels, training: Levels) -> None:
    import torch

    sigmas, times = _with_end(levels), _times(scheduler, training, levels)
    scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    scheduler.timesteps = torch.cat([times[:1], times[1:].repeat_interleave(2)])


def take_dpm2(scheduler: Any, levels: Levels, training: Levels) -> None:
    sigmas = _with_end(levels)
    between = sigmas.log().lerp(sigmas.roll(1).log(), 0.5).exp()
    scheduler.sigmas, scheduler.sigmas_interpol = _doubled(sigmas), _doubled(between)
    scheduler.timesteps = _interleaved(scheduler, training, levels, between[1:-1])


def take_dpm2_a(scheduler: Any, levels: Levels, training: Levels) -> None:
    sigmas = _with_end(levels)
    following = sigmas.roll(-1)
    following[-1] = 0.0
    up = (following**2 * (sigmas**2 - following**2) / sigmas**2).sqrt()
    down = (following**2 - up**2).sqrt()
    down[-1] = up[-1] = 0.0
    between = sigmas.log().lerp(down.log(), 0.5).exp()
    between[-2:] = 0.0
    scheduler.sigmas, scheduler.sigmas_interpol = _doubled(sigmas), _doubled(between)
    scheduler.sigmas_up, scheduler.sigmas_down = _doubled(up), _doubled(down)
    scheduler.timesteps = _interleaved(scheduler, training, levels, between[:-2])


def _doubled(values: Tensor) -> Tensor:
    import torch

    return torch.cat([values[:1], values[1:].repeat_interleave(2), values[-1:]])


def _interleaved(scheduler: Any, training: Levels, levels: Levels, between: Tensor) -> Tensor:
    """The timestep of the first level, then by turns those between two levels and of the next level."""
    import torch

    times, middles = _times(scheduler, training, levels), _times(scheduler, training, between.double().numpy())
    return torch.cat([times[:1], torch.stack([middles, times[1:]], dim=-1).flatten()])


def take_midpoint(scheduler: Any, levels: Levels, training: Levels) -> None:
    scheduler.take(_with_end(levels), nearest_timesteps(training, levels))
