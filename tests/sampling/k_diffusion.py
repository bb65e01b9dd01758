"""The samplers and schedules of k-diffusion, A1111 and ComfyUI, written out from their published formulas on plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, expm1, floor, log, sqrt

import numpy as np
import torch
from scipy import integrate, stats
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
Draw = Callable[[], Tensor]


def sd_levels() -> list[float]:
    """The noise levels of Stable Diffusion's training, from 0.0292 to 14.6146."""
    betas = np.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    return [sqrt((1 - a) / a) for a in kept]


def level_at(levels: Sequence[float], timestep: float) -> float:
    low, share = floor(timestep), timestep - floor(timestep)
    return exp((1 - share) * log(levels[low]) + share * log(levels[min(low + 1, len(levels) - 1)]))


def schedule(name: str, levels: Sequence[float], n: int) -> list[float]:
    """The levels of n steps, without the 0 that ends them all."""
    least, most, last = levels[0], levels[-1], len(levels) - 1
    if name == "karras":
        return [(most ** (1 / 7) + i / (n - 1) * (least ** (1 / 7) - most ** (1 / 7))) ** 7 for i in range(n)]
    if name == "exponential":
        return [exp(log(most) + i / (n - 1) * (log(least) - log(most))) for i in range(n)]
    if name == "normal":
        return [level_at(levels, last - last * i / (n - 1)) for i in range(n)]
    if name == "sgm_uniform":
        return [level_at(levels, last - last * i / n) for i in range(n)]
    if name == "simple":
        return [levels[-(1 + int(i * len(levels) / n))] for i in range(n)]
    assert name == "beta"
    return [levels[int(np.rint(stats.beta.ppf(1 - i / n, 0.6, 0.6) * last))] for i in range(n)]


def beta_of_a1111(levels: Sequence[float], n: int) -> list[float]:
    """A1111 takes the quantiles for shares of the noise level, where ComfyUI takes them for timesteps."""
    return [levels[0] + stats.beta.ppf(1 - i / (n - 1), 0.6, 0.6) * (levels[-1] - levels[0]) for i in range(n)]


def ancestral(start: float, end: float) -> tuple[float, float]:
    up = min(end, sqrt(end**2 * (start**2 - end**2) / start**2))
    return sqrt(end**2 - up**2), up


def euler(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    for i in range(len(s) - 1):
        x = x + (x - denoise(x, s[i])) / s[i] * (s[i + 1] - s[i])
    return x


def euler_a(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    for i in range(len(s) - 1):
        down, up = ancestral(s[i], s[i + 1])
        x = x + (x - denoise(x, s[i])) / s[i] * (down - s[i]) + draw() * up
    return x


def heun(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    for i in range(len(s) - 1):
        d = (x - denoise(x, s[i])) / s[i]
        ahead = x + d * (s[i + 1] - s[i])
        if s[i + 1] == 0:
            return ahead
        d = (d + (ahead - denoise(ahead, s[i + 1])) / s[i + 1]) / 2
        x = x + d * (s[i + 1] - s[i])
    return x


def dpm2(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    for i in range(len(s) - 1):
        d = (x - denoise(x, s[i])) / s[i]
        if s[i + 1] == 0:
            return x - d * s[i]
        middle = sqrt(s[i] * s[i + 1])
        half = x + d * (middle - s[i])
        x = x + (half - denoise(half, middle)) / middle * (s[i + 1] - s[i])
    return x


def dpm2_a(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    for i in range(len(s) - 1):
        d = (x - denoise(x, s[i])) / s[i]
        down, up = ancestral(s[i], s[i + 1])
        if down == 0:
            return x - d * s[i]
        middle = sqrt(s[i] * down)
        half = x + d * (middle - s[i])
        x = x + (half - denoise(half, middle)) / middle * (down - s[i]) + draw() * up
    return x


def lms(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    slopes: list[Tensor] = []
    for i in range(len(s) - 1):
        slopes = [(x - denoise(x, s[i])) / s[i], *slopes][:4]
        for j, slope in enumerate(slopes):
            def weight(tau: float, i: int = i, j: int = j, order: int = len(slopes)) -> float:
                return float(np.prod([(tau - s[i - k]) / (s[i - j] - s[i - k]) for k in range(order) if k != j]))
            x = x + integrate.quad(weight, s[i], s[i + 1], epsrel=1e-4)[0] * slope
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    old = None
    for i in range(len(s) - 1):
        image = denoise(x, s[i])
        if s[i + 1] == 0:
            return image
        h, guess = log(s[i] / s[i + 1]), image
        if old is not None:
            r = log(s[i - 1] / s[i]) / h
            guess = (1 + 1 / (2 * r)) * image - old / (2 * r)
        x, old = s[i + 1] / s[i] * x - expm1(-h) * guess, image
    return x


def dpmpp_2s_a(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    for i in range(len(s) - 1):
        image, (down, up) = denoise(x, s[i]), ancestral(s[i], s[i + 1])
        if down == 0:
            return image
        h = log(s[i] / down)
        middle = s[i] * exp(-h / 2)
        half = middle / s[i] * x - expm1(-h / 2) * image
        x = down / s[i] * x - expm1(-h) * denoise(half, middle) + draw() * up
    return x


def dpmpp_sde(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    """The noises of a step are increments of one Brownian path W over the level: to the middle, and to the end."""
    for i in range(len(s) - 1):
        image = denoise(x, s[i])
        if s[i + 1] == 0:
            return image
        middle = sqrt(s[i] * s[i + 1])
        path_to_middle = draw() * sqrt(s[i] - middle)
        down, up = ancestral(s[i], middle)
        half = down / s[i] * x - (down / s[i] - 1) * image + path_to_middle / sqrt(s[i] - middle) * up
        later = denoise(half, middle)
        path_to_end = path_to_middle + draw() * sqrt(middle - s[i + 1])
        down, up = ancestral(s[i], s[i + 1])
        x = down / s[i] * x - (down / s[i] - 1) * later + path_to_end / sqrt(s[i] - s[i + 1]) * up
    return x


def dpmpp_2m_sde(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw, solver: str = "midpoint") -> Tensor:
    old = None
    for i in range(len(s) - 1):
        image = denoise(x, s[i])
        if s[i + 1] == 0:
            return image
        h = log(s[i] / s[i + 1])
        x = s[i + 1] / s[i] * exp(-h) * x - expm1(-2 * h) * image
        if old is not None:
            r = log(s[i - 1] / s[i]) / h
            factor = -expm1(-2 * h) / 2 if solver == "midpoint" else expm1(-2 * h) / (2 * h) + 1
            x = x + factor / r * (image - old)
        x, old = x + draw() * s[i + 1] * sqrt(-expm1(-2 * h)), image
    return x


def dpmpp_2m_sde_heun(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    return dpmpp_2m_sde(denoise, x, s, draw, "heun")


def dpmpp_3m_sde(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    images: list[Tensor] = []
    for i in range(len(s) - 1):
        images = [denoise(x, s[i]), *images][:3]
        if s[i + 1] == 0:
            return images[0]
        h = log(s[i] / s[i + 1])
        e = 2 * h
        x = exp(-e) * x - expm1(-e) * images[0]
        phi_2 = expm1(-e) / e + 1
        if len(images) == 3:
            r0, r1 = log(s[i - 1] / s[i]) / h, log(s[i - 2] / s[i - 1]) / h
            late, early = (images[0] - images[1]) / r0, (images[1] - images[2]) / r1
            x = x + phi_2 * (late + (late - early) * r0 / (r0 + r1)) - (phi_2 / e - 0.5) * (late - early) / (r0 + r1)
        elif len(images) == 2:
            x = x + phi_2 * (images[0] - images[1]) / (log(s[i - 1] / s[i]) / h)
        x = x + draw() * s[i + 1] * sqrt(-expm1(-e))
    return x


def lcm(denoise: Denoise, x: Tensor, s: Sequence[float], draw: Draw) -> Tensor:
    for i in range(len(s) - 1):
        x = denoise(x, s[i])
        if s[i + 1] > 0:
            x = x + s[i + 1] * draw()
    return x


SAMPLERS: dict[str, Callable[[Denoise, Tensor, Sequence[float], Draw], Tensor]] = {
    one.__name__: one for one in (euler, euler_a, heun, dpm2, dpm2_a, lms, dpmpp_2m, dpmpp_2s_a, dpmpp_sde, dpmpp_2m_sde,
                                  dpmpp_2m_sde_heun, dpmpp_3m_sde)}


def standard(like: Tensor, seed: int) -> Draw:
    """Draws as one image's generator does."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(like.shape, generator=generator).double()
