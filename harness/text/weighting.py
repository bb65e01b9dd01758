"""WEIGHTINGS: how tools give words of a prompt more or less weight, as functions on a text's states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.declare.nearest import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """A row of WEIGHTINGS. `function(states, weights, empty)` takes float32 states (tokens, width) of a text, weights
    (tokens, 1), and the states of the empty text, or these of the text itself where the row does not need `empty`; it returns
    new states. `version` rises when the values change. The pooled embedding is left alone, as all these tools do."""

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    says: str
    source: str
    version: int = 1
    needs_empty: bool = False


def restore_mean(states: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """w z * mean(z) / mean(w z), both means over all numbers of the text (padding included), float32.

    The mean of a text's states is small compared to their spread, so the factor can be far from 1, or negative. Raises
    ValueError if the mean of w z is 0.
    """
    del empty
    weighted = states * weights
    mean = weighted.mean()
    if float(mean) == 0:
        raise ValueError("the weighted states have mean 0, and method 'a1111' divides by it; use 'comfyui' or 'multiply'")
    return weighted * (states.mean() / mean)


def from_empty(states: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """e + w (z - e), e the state of the empty text at the same position; positions of weight 1 keep their bits. float32."""
    import torch

    return torch.where(weights == 1, states, empty + weights * (states - empty))


def multiply(states: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """w z, without any rescaling afterwards. float32."""
    del empty
    return states * weights


WEIGHTINGS: dict[str, Weighting] = {
    "a1111": Weighting(
        function=restore_mean, says="multiplies the tokens' states, then scales the whole text's back to its mean",
        source="AUTOMATIC1111 stable-diffusion-webui, modules/sd_emphasis.py, 'Original'"),
    "comfyui": Weighting(
        function=from_empty, needs_empty=True, says="moves the tokens' states away from those of the empty text, or towards them",
        source="ComfyUI, comfy/sd1_clip.py, ClipTokenWeightEncoder"),
    "multiply": Weighting(
        function=multiply, says="multiplies the tokens' states",
        source="AUTOMATIC1111 stable-diffusion-webui, modules/sd_emphasis.py, 'No norm'"),
}


def weighting(name: str) -> Weighting:
    """The row of that name. Raises ValueError, with the nearest known name, if there is none."""
    if name not in WEIGHTINGS:
        raise ValueError(f"unknown token weighting {name!r}; {did_you_mean(name, WEIGHTINGS)}")
    return WEIGHTINGS[name]
