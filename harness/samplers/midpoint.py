"""Samplers that look at a point half-way (in the logarithm of the noise level) before each step and add new noise after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from types import SimpleNamespace
from typing import Any, Literal

import torch
from diffusers import EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from harness.samplers.levels import training_levels
from harness.samplers.schedules import nearest_timesteps


@dataclass(frozen=True, kw_only=True)
class _Step:
    """From noise level `start` to `end`, deterministically to `down` and up again by noise of size `up`. `middle` is the level
    of the second evaluation, 0 for a step that has none."""

    start: float
    end: float
    down: float
    up: float
    middle: float


class MidpointScheduler:
    """DPM-Solver++(S) with noise, in the interface of diffusers' schedulers, which lack these two or need torchsde for them.

    "ancestral" is "DPM++ 2S a": the middle lies between the level and `down`. "sde" is "DPM++ SDE": the middle lies between the
    levels, and is itself reached with noise, a part of the step's whole noise (a Brownian motion over the noise level). As in
    k-diffusion's sampling.py. Lu et al. 2022, https://arxiv.org/abs/2211.01095.
    """

    def __init__(self, config: Mapping[str, Any], *, kind: Literal["ancestral", "sde"], eta: float | None) -> None:
        # Betas, the usual timesteps and the first noise are those of diffusers' Euler sampler.
        self._euler = EulerDiscreteScheduler.from_config(dict(config))
        self.config, self.alphas_cumprod = self._euler.config, self._euler.alphas_cumprod
        self.kind, self.eta = kind, 1.0 if eta is None else eta
        self.timesteps: Tensor = self._euler.timesteps
        self._steps: list[_Step] = []
        self._at, self._halfway = 0, False
        self._start: Tensor | None = None
        self._first_noise: Tensor | None = None

    @property
    def init_noise_sigma(self) -> float:
        """The size of the first noise."""
        return float(self._euler.init_noise_sigma)

    def set_timesteps(self, steps: int) -> None:
        """Takes the timesteps of diffusers' Euler sampler."""
        self._euler.set_timesteps(steps)
        self.take(self._euler.sigmas, self._euler.timesteps.numpy())

    def set_begin_index(self, _: int) -> None:
        """Runs begin at their first step, unless `begin_at` says another."""

    def begin_at(self, first: int) -> None:
        """Lets the run begin at this step."""
        self._at, self._halfway = first, False

    def add_noise(self, image: Tensor, noise: Tensor, _: Tensor) -> Tensor:
        """The latents with which a run begins: x + sigma * noise, with the level of the step that comes next."""
        return image + self._level() * noise

    def take(self, sigmas: Tensor, timesteps: Any) -> None:
        """Takes levels (n + 1,), the last of them 0, and the timesteps (n,) of all but the last."""
        self._euler.sigmas = sigmas
        levels = [float(sigma) for sigma in sigmas]
        self._steps = [self._between(start, end) for start, end in pairwise(levels)]
        training = training_levels(self)
        times: list[float] = []
        for step, time in zip(self._steps, timesteps, strict=True):
            times.append(float(time))
            if step.middle:
                times.append(float(nearest_timesteps(training, torch.tensor([step.middle]).double().numpy())[0]))
        self.timesteps = torch.tensor(times)
        self._at, self._halfway = 0, False

    def _between(self, start: float, end: float) -> _Step:
        up, down = _ancestral(start, end, self.eta)
        target = down if self.kind == "ancestral" else end
        return _Step(start=start, end=end, down=down, up=up, middle=exp((log(start) + log(target)) / 2) if target > 0 else 0.0)

    def scale_model_input(self, sample: Tensor, _: Any) -> Tensor:
        """The denoiser's input: x / sqrt(sigma^2 + 1)."""
        return sample / sqrt(self._level() ** 2 + 1)

    def step(self, output: Tensor, _: Any, sample: Tensor, generator: Sequence[torch.Generator]) -> Any:
        """Half a step, or the rest of it: x moves towards the predicted image m by exponential integration,
        x' = (s'/s) x - (s'/s - 1) m, and gets the noise."""
        step, image = self._steps[self._at], self._image(output, sample)
        if self._halfway:
            assert self._start is not None
            moved = _towards(self._start, image, step.start, step.down)
            if step.up > 0:
                moved = moved + step.up * self._noise(moved, generator)
            self._at, self._halfway = self._at + 1, False
        elif step.middle == 0:
            moved = _towards(sample, image, step.start, step.end)
            self._at += 1
        else:
            self._start, self._halfway = sample, True
            up, down = _ancestral(step.start, step.middle, self.eta) if self.kind == "sde" else (0.0, step.middle)
            moved = _towards(sample, image, step.start, down)
            if self.kind == "sde":
                self._first_noise = first = _drawn(sample, generator)
                moved = moved + up * first
        return SimpleNamespace(prev_sample=moved)

    def _noise(self, like: Tensor, generator: Sequence[torch.Generator]) -> Tensor:
        """Standard normal. For "sde", the increment of a Brownian motion over the step, whose first part was drawn before."""
        drawn, step = _drawn(like, generator), self._steps[self._at]
        if self._first_noise is None:
            return drawn
        share = (step.start - step.middle) / (step.start - step.end)
        return sqrt(share) * self._first_noise + sqrt(1 - share) * drawn

    def _level(self) -> float:
        step = self._steps[self._at]
        return step.middle if self._halfway else step.start

    def _image(self, output: Tensor, sample: Tensor) -> Tensor:
        """The predicted image for the output of an epsilon or v model."""
        sigma = self._level()
        if self.config.prediction_type == "v_prediction":
            return sample / (sigma**2 + 1) - output * sigma / sqrt(sigma**2 + 1)
        return sample - sigma * output


def _ancestral(start: float, end: float, eta: float) -> tuple[float, float]:
    """How much noise a step adds, and the level that it goes down to before, so that it ends at `end`."""
    up = min(end, eta * sqrt(max(end**2 * (start**2 - end**2) / start**2, 0.0)))
    return up, sqrt(max(end**2 - up**2, 0.0))


def _towards(sample: Tensor, image: Tensor, start: float, end: float) -> Tensor:
    ratio = end / start
    return ratio * sample + (1 - ratio) * image


def _drawn(like: Tensor, generator: Sequence[torch.Generator]) -> Tensor:
    drawn: Tensor = randn_tensor(like.shape, generator=list(generator), device=like.device, dtype=like.dtype)
    return drawn
