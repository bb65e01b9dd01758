"""Lets a sampler begin in the middle of its steps, on a picture that is noised to the level of that step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.samplers.building import first_evaluation
from harness.samplers.table import SAMPLERS

if TYPE_CHECKING:
    from torch import Tensor

_LMS_ORDER: Final = 4


def begin_at(scheduler: Any, sampler: str, steps: int, first: int) -> int:
    """Makes a scheduler of `set_steps` begin at step `first` of its `steps`. Returns the index of the first evaluation."""
    if SAMPLERS[sampler].evaluations == "plms":
        _relist(scheduler, first)
        return 0
    evaluation = first_evaluation(sampler, steps, first)
    if SAMPLERS[sampler].levels == "midpoint":
        scheduler.begin_at(first)
    elif hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(evaluation)
    return evaluation


def noised(scheduler: Any, evaluation: int, image: Tensor, noise: Tensor) -> Tensor:
    """The latents with which a run begins at this evaluation: sqrt(a) * image + sqrt(1 - a) * noise for samplers that keep the
    variance, image + sigma * noise for the others."""
    made: Tensor = scheduler.add_noise(image, noise, scheduler.timesteps[evaluation:evaluation + 1])
    return made


def history_options(sampler: str, done: int) -> dict[str, Any]:
    """What a call of `step` is given besides, `done` steps after the beginning in the middle. diffusers 0.42 takes the
    coefficients of LMS for as many earlier steps as the schedule has, also where the run had fewer; it may go when that is
    mended."""
    return {"order": min(done + 1, _LMS_ORDER)} if sampler == "lms" else {}


def _relist(scheduler: Any, first: int) -> None:
    """PLMS evaluates the second of its timesteps twice, to begin without a history. diffusers' list has that of the whole
    schedule, so that a run from the middle would be given wrong timesteps from its third evaluation on."""
    import torch

    listed = scheduler.timesteps
    own = torch.cat([listed[:1], listed[2:]])[first:]
    scheduler.timesteps = torch.cat([own[:2], own[1:]]) if len(own) > 1 else own
