"""Builds the scheduler of a row of SAMPLERS, and gives it the steps and noise levels to go through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from harness.samplers.levels import take_dpm2, take_dpm2_a, take_heun, take_midpoint, take_plain, training_levels
from harness.samplers.problems import OWN, zero_snr_problem
from harness.samplers.schedules import SCHEDULES, nearest_timesteps
from harness.samplers.table import SAMPLERS

if TYPE_CHECKING:
    from harness.samplers.schedules import Levels

def build_scheduler(sampler: str, config: Mapping[str, Any], *, schedule: str = "", shift: float | None = None,
                    eta: float | None = None) -> Any:
    """The scheduler for `sampler`, started from the checkpoint's scheduler `config` (betas, prediction type).

    `schedule` is a row of SCHEDULES; without one the timesteps are those of diffusers for the checkpoint's config. `shift` is
    that of flow models. Raises ValueError for a model with zero terminal SNR that the scheduler cannot sample, and for the
    sampler "own".
    """
    if sampler == OWN:
        raise ValueError(f"sampler {OWN!r} is for folders that their own pipeline samples; expected another one for this model")
    row = SAMPLERS[sampler]
    plain = {k: v for k, v in config.items() if not k.startswith("_")}
    if plain.get("rescale_betas_zero_snr"):
        if not row.zero_snr:
            raise ValueError(zero_snr_problem(sampler))
        # Trained to begin at pure noise, and brightness comes wrong from anywhere else (Lin et al., arXiv 2305.08891).
        plain["timestep_spacing"] = "trailing"
    if schedule:
        # "leading" also makes diffusers begin with noise of sqrt(sigma^2 + 1), as ComfyUI does.
        plain["timestep_spacing"] = "trailing" if row.levels == "trailing" else "leading"
    if shift is not None:
        plain |= {"shift": shift, "use_dynamic_shifting": False}
    kind = _scheduler_class(row.scheduler)
    if row.levels == "midpoint":
        return kind(plain, eta=row.eta if eta is None else eta, **row.settings)
    known = signature(kind.__init__).parameters
    return kind.from_config({name: value for name, value in {**plain, **row.settings}.items() if name in known})


def set_steps(scheduler: Any, sampler: str, steps: int, schedule: str = "") -> None:
    """Makes a scheduler of `build_scheduler` ready for its first step. Raises ValueError for a schedule without so many steps."""
    row = SAMPLERS[sampler]
    scheduler.set_timesteps(steps)
    if not schedule or row.levels == "trailing":
        return
    training = training_levels(scheduler)
    if row.levels == "timesteps":
        _take_timesteps(scheduler, steps, schedule, training)
        return
    levels = SCHEDULES[schedule].levels(training, steps + row.discards)
    _TAKING[row.levels](scheduler, levels[:-1] if row.discards else levels, training)
    # A level twice would otherwise be taken for the middle of a run.
    scheduler.set_begin_index(0)


def step_options(sampler: str, eta: float | None, drawing: Sequence[Any]) -> dict[str, Any]:
    """What each call of a scheduler's `step` is given besides the output: the images' generators, and eta if it is asked for."""
    row, asked = SAMPLERS[sampler], eta is not None and SAMPLERS[sampler].levels != "midpoint"
    return {**({"generator": drawing} if row.ancestral or asked else {}), **({"eta": eta} if asked else {})}


def evaluations(sampler: str, steps: int) -> int:
    """How often the denoiser runs for one image at guidance 1."""
    return {"once": steps, "twice": 2 * steps - 1, "plms": steps + (steps > 1)}[SAMPLERS[sampler].evaluations]


def first_evaluation(sampler: str, steps: int, step: int) -> int:
    """The index of the first evaluation of a step from 0 to `steps`, the end."""
    first = {"once": step, "twice": 2 * step, "plms": step + (step > 0)}[SAMPLERS[sampler].evaluations]
    return min(first, evaluations(sampler, steps))


def _scheduler_class(name: str) -> Any:
    if name == "MidpointScheduler":
        from harness.samplers.midpoint import MidpointScheduler

        return MidpointScheduler
    if name in _MENDED:
        from harness.samplers import mended

        return getattr(mended, name)
    import diffusers

    return getattr(diffusers, name)


def _take_timesteps(scheduler: Any, steps: int, schedule: str, training: Levels) -> None:
    """For samplers of whole timesteps. "sgm_uniform" is what diffusers calls trailing: 999, 749, 499, 249 for 4 steps."""
    import numpy as np
    import torch

    if schedule == "sgm_uniform":
        timesteps = np.round(np.arange(len(training), 0, -len(training) / steps)).astype(np.int64)[:steps] - 1
    else:
        timesteps = nearest_timesteps(training, SCHEDULES[schedule].levels(training, steps))
    scheduler.timesteps = torch.from_numpy(timesteps)
    scheduler.num_inference_steps = steps


_TAKING: Final[Mapping[str, Callable[[Any, Levels, Levels], None]]] = {
    "plain": take_plain, "heun": take_heun, "dpm2": take_dpm2, "dpm2_a": take_dpm2_a, "midpoint": take_midpoint}
_MENDED: Final = ("ThirdOrderSde", "Dpm2", "Dpm2Ancestral", "Deis", "Plms")
