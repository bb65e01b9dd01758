"""Schedulers of diffusers 0.42 with what is wrong in them made right. Each says what, and when it may go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, sqrt
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor

from harness.samplers.levels import take_dpm2, take_dpm2_a, training_levels

if TYPE_CHECKING:
    from harness.samplers.schedules import Levels


class ThirdOrderSde(DPMSolverMultistepScheduler):  # type: ignore[misc]  # diffusers is untyped
    """diffusers' scheduler with another third-order update: diffusers 0.42 adds the curvature with the wrong constant, so that
    its steps are wrong by the whole curvature however small they are."""

    def multistep_dpm_solver_third_order_update(self, model_output_list: Sequence[Tensor], *_: Any, sample: Tensor,
                                                noise: Tensor, **__: Any) -> Tensor:
        """One step to noise level s' from s, of h = log s - log s', from the last three predictions of the image m0, m1, m2:

        x' = s'/s e^(-h) x + (1 - e^(-2h)) m0 + p2 d1 - p3 d2 + s' sqrt(1 - e^(-2h)) noise, p2 = (e^(-2h) - 1) / 2h + 1,
        p3 = p2 / 2h - 1/2, with d1 and d2 the first and second differences of the predictions in units of h. As diffusers
        scales, images are times alpha'. Lu et al. 2022, https://arxiv.org/abs/2211.01095; the SDE is Crowson's, in k-diffusion.
        """
        (alpha, target), (_, start) = (self._sigma_to_alpha_sigma_t(self.sigmas[self.step_index + after]) for after in (1, 0))
        logs = [torch.log(self.sigmas[self.step_index + after]) for after in (1, 0, -1, -2)]
        h, before, earlier = logs[1] - logs[0], logs[2] - logs[1], logs[3] - logs[2]
        m0, m1, m2 = model_output_list[-1], model_output_list[-2], model_output_list[-3]
        r0, r1 = before / h, earlier / h
        late, early = (m0 - m1) / r0, (m1 - m2) / r1
        first = late + (late - early) * r0 / (r0 + r1)
        second = (late - early) / (r0 + r1)
        share = -torch.expm1(-2 * h)
        p2 = 1 - share / (2 * h)
        p3 = p2 / (2 * h) - 0.5
        moved = target / start * torch.exp(-h) * sample
        made: Tensor = moved + alpha * (share * m0 + p2 * first - p3 * second) + target * torch.sqrt(share) * noise
        return made


class Dpm2(KDPM2DiscreteScheduler):  # type: ignore[misc]  # diffusers is untyped
    """Computes the levels in numpy without a tensor among them, of which numpy 2 warns."""

    def set_timesteps(self, steps: int, _: Any = None, num_train_timesteps: int | None = None) -> None:
        """Takes the levels that diffusers gives, and whole timesteps."""
        _set_dpm2(self, take_dpm2, steps, constructing=num_train_timesteps is not None)

    @property
    def init_noise_sigma(self) -> float:
        """The size of the first noise, which diffusers computes from a table that is not there before `set_timesteps`."""
        return _first_noise(self)


class Dpm2Ancestral(KDPM2AncestralDiscreteScheduler):  # type: ignore[misc]  # diffusers is untyped
    """As `Dpm2`."""

    def set_timesteps(self, steps: int, _: Any = None, num_train_timesteps: int | None = None) -> None:
        """Takes the levels that diffusers gives, and whole timesteps."""
        _set_dpm2(self, take_dpm2_a, steps, constructing=num_train_timesteps is not None)

    @property
    def init_noise_sigma(self) -> float:
        """As that of `Dpm2`."""
        return _first_noise(self)


class Deis(DEISMultistepScheduler):  # type: ignore[misc]  # diffusers is untyped
    """Computes its coefficients on plain numbers, where diffusers gives tensors to numpy, and so can end at noise level 0."""

    def deis_first_order_update(self, model_output: Tensor, *_: Any, sample: Tensor, **__: Any) -> Tensor:
        """The step of DDIM."""
        return self._moved([model_output], sample)

    def multistep_deis_second_order_update(self, model_output_list: Sequence[Tensor], *_: Any, sample: Tensor,
                                           **__: Any) -> Tensor:
        """With a line through the last two predictions."""
        return self._moved(model_output_list[-2:], sample)

    def multistep_deis_third_order_update(self, model_output_list: Sequence[Tensor], *_: Any, sample: Tensor,
                                          **__: Any) -> Tensor:
        """With a parabola through the last three predictions."""
        return self._moved(model_output_list[-3:], sample)

    def _moved(self, outputs: Sequence[Tensor], sample: Tensor) -> Tensor:
        """x / alpha at the next level r' is x / alpha at level r + the integral from r to r' of the predicted noise, which is
        interpolated in log r between the last levels (Zhang and Chen 2022, https://arxiv.org/abs/2204.13902, log-rho)."""
        levels = [float(self.sigmas[self.step_index - back]) for back in range(len(outputs))]
        end = float(self.sigmas[self.step_index + 1])
        total = sample * sqrt(levels[0] ** 2 + 1)
        for place, output in enumerate(reversed(outputs)):
            own, others = log(levels[place]), [log(level) for at, level in enumerate(levels) if at != place]
            total = total + (_integral(end, own, others) - _integral(levels[0], own, others)) * output
        return total / sqrt(end**2 + 1)


def _integral(level: float, own: float, others: Sequence[float]) -> float:
    """The integral from 0 to `level` of the product over `others` of (log r - other) / (own - other)."""
    if level == 0 or not others:
        return level
    at = log(level)
    if len(others) == 1:
        return level * (at - others[0] - 1) / (own - others[0])
    first, second = others
    whole = at**2 - 2 * at + 2 - (first + second) * (at - 1) + first * second
    return level * whole / ((own - first) * (own - second))


class Plms(PNDMScheduler):  # type: ignore[misc]  # diffusers is untyped
    """Keeps predictions of noise. diffusers keeps the model's own outputs; those of a v model mean other noise at each step."""

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True) -> Any:
        """One step of Liu et al. 2022, https://arxiv.org/abs/2202.09778, from the noise that the output means."""
        if self.config.prediction_type == "v_prediction":
            kept = self.alphas_cumprod[int(timestep)]
            model_output = kept.sqrt() * model_output + (1 - kept).sqrt() * sample
        return super().step(model_output, timestep, sample, return_dict)

    def _get_prev_sample(self, sample: Tensor, timestep: Any, prev_timestep: Any, model_output: Tensor) -> Tensor:
        """Equation 11: a step of DDIM with the combined noise."""
        kept = self.alphas_cumprod[int(timestep)]
        following = self.alphas_cumprod[int(prev_timestep)] if prev_timestep >= 0 else self.final_alpha_cumprod
        image = (sample - (1 - kept).sqrt() * model_output) / kept.sqrt()
        moved: Tensor = following.sqrt() * image + (1 - following).sqrt() * model_output
        return moved


def _set_dpm2(scheduler: Any, take: Callable[[Any, Levels, Levels], None], steps: int, *, constructing: bool) -> None:
    """Makes a sampler of DPM2 ready for `steps` steps. Its constructor only needs the attributes."""
    scheduler.timesteps = scheduler.sigmas = torch.zeros(1)
    if not constructing:
        take(scheduler, _usual_levels(scheduler, steps), training_levels(scheduler))
    scheduler.num_inference_steps, scheduler.sample, scheduler._step_index, scheduler._begin_index = steps, None, None, None


def _usual_levels(scheduler: Any, steps: int) -> Levels:
    euler = EulerDiscreteScheduler.from_config(scheduler.config)
    euler.set_timesteps(steps)
    levels: Levels = euler.sigmas[:-1].double().numpy()
    return levels


def _first_noise(scheduler: Any) -> float:
    level = float(scheduler.sigmas.max())
    return level if scheduler.config.timestep_spacing in ("linspace", "trailing") else sqrt(level**2 + 1)
