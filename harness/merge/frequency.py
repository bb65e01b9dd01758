"""Merges by frequency: low frequencies along a tensor from A, high frequencies from B."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix
from harness.merge.linear import subtract

if TYPE_CHECKING:
    from torch import Tensor


def crossover(a: Tensor, b: Tensor, alpha: float, tilt: float) -> Tensor:
    """inverse((1 - w) * fft(A) + w * fft(B)) over both axes of the matrix (out, everything else), or the one axis of a
    bias: low frequencies from A, high ones from B. alpha is the share of frequencies taken from B: w is 1 above the
    position 1 - alpha and 0 below it. `tilt` softens that step: 0 is a hard cut, 0.5 a ramp of 45 degrees, and at 1 w is
    alpha everywhere, a weighted sum.

    A frequency's position is max(f_1, f_2)**2 (f on a single axis), with f_i from 0 to 1 for the highest frequency of axis i,
    so positions are spread evenly from 0 to 1. Evaluated in float64 as A + inverse(w * fft(B - A)): equal models stay equal.
    Takes floating tensors of one shape and dtype; at alpha 0 and 1 A and B are returned.
    After sd-mecha's crossover, https://github.com/ljleb/sd-mecha; the measure of frequency is this project's own.
    """
    import torch

    if alpha in (0, 1):
        return b if alpha else a
    lost = matrix(a.double().sub(b))
    spectrum = torch.fft.rfft2(lost)
    spectrum.mul_(_share_of_b(_places(lost), alpha, tilt))
    change = torch.fft.irfft2(spectrum, s=lost.shape)
    return _taken_from(a, change, lost)


def distribution_crossover(a: Tensor, b: Tensor, c: Tensor, alpha: float, tilt: float) -> Tensor:
    """Like `crossover`, along a single axis: the values of A and B are sorted by the values of C (ties in storage order), low
    frequencies are taken from A and high ones from B, and the order is restored. A frequency's position is f from 0 to 1.

    Takes floating tensors of one shape and dtype; at alpha 0 and 1 A and B are returned. sd-meh: https://github.com/s1dlx/meh
    """
    import torch

    if alpha in (0, 1):
        return b if alpha else a
    order = c.reshape(-1).argsort(stable=True)
    lost = a.double().sub(b).reshape(-1)
    line = lost[order].unsqueeze(0)
    spectrum = torch.fft.rfft(line)
    spectrum.mul_(_share_of_b(_places(line), alpha, tilt))
    change = torch.empty_like(lost).scatter_(0, order, torch.fft.irfft(spectrum, n=lost.numel())[0])
    return _taken_from(a, change, lost)


def _taken_from(a: Tensor, change: Tensor, lost: Tensor) -> Tensor:
    """A - change in float64, rounded to A's dtype; A itself if the models do not differ."""
    return subtract(a.double(), change.reshape(a.shape), 1.0).to(a.dtype) if bool(lost.any()) else a


def _places(values: Tensor) -> Tensor:
    """Position of each frequency of rfft2(values), from 0 for the mean to 1, as a float64 tensor of the same shape."""
    import torch

    rows, columns = values.shape
    down = torch.fft.fftfreq(rows, dtype=torch.float64, device=values.device).abs_().mul_(2).unsqueeze(1)
    along = torch.fft.rfftfreq(columns, dtype=torch.float64, device=values.device).mul_(2).unsqueeze(0)
    place = torch.maximum(down, along)
    return place.square_() if rows > 1 and columns > 1 else place


def _share_of_b(places: Tensor, alpha: float, tilt: float) -> Tensor:
    """w at each position: clip((position - middle) / width + 1/2, 0, 1). Its mean over positions from 0 to 1 is alpha."""
    if tilt == 0:
        return (places >= 1 - alpha).to(places.dtype)
    if tilt == 1:
        return places.new_full(places.shape, alpha)
    width = math.tan(tilt * math.pi / 2)
    return places.sub(_middle(alpha, width)).div_(width).add_(0.5).clamp_(0, 1)


def _middle(alpha: float, width: float) -> float:
    """Where the ramp crosses 1/2, by bisection: the mean falls as the ramp moves up."""
    def area(y: float) -> float:
        return 0.5 * y * y if 0 <= y <= 1 else max(0.0, y - 0.5)

    low, high = -width / 2, 1 + width / 2
    for _ in range(80):
        middle = (low + high) / 2
        mean = width * (area((1 - middle) / width + 0.5) - area(0.5 - middle / width))
        low, high = (middle, high) if mean > alpha else (low, middle)
    return (low + high) / 2
