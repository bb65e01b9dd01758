"""What control networks add to a U-Net at one evaluation: ControlNets residuals for the skips of its encoder and for its middle,
T2I-Adapters features within its encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from harness.control.union import union_inputs

if TYPE_CHECKING:
    import torch

    from harness.weights.pipeline import LiveControl

CONTROL_VERSION: Final = 1
"""Raise it when the same networks and maps give other residuals."""


def control_inputs(controls: Sequence[LiveControl], maps: Mapping[str, torch.Tensor], scaled: torch.Tensor,
                   timestep: torch.Tensor, given: Mapping[str, Any], *, guided: bool) -> dict[str, Any]:
    """The residuals of all ControlNets, summed, as keyword arguments of a diffusers U-Net; empty without any.

    `maps` are the control maps (n, 3, h, w) from 0 to 1 by a control's `picture`. `scaled` are the U-Net's own inputs, and
    `given` its other ones: (2n, c, h, w) if `guided`, with the negative half first. A network with `guess` is given the positive
    half alone, its residuals fall from the middle outwards to a tenth, and the negative half gets zeros. A weight of 0 is not
    run. Zhang, Rao and Agrawala, arXiv 2302.05543.
    """
    import torch

    down: list[torch.Tensor] = []
    middle: torch.Tensor | None = None
    for control in controls:
        if control.weight == 0 or control.t2i:
            continue
        guess = control.guess or bool(control.network.config["global_pool_conditions"])
        half = guided and guess
        maps_of_batch = maps[control.picture]
        states, added = _half(given, half)
        seen = scaled.chunk(2)[1] if half else scaled
        drawn = torch.cat([maps_of_batch] * 2) if guided and not half else maps_of_batch
        pictures = {"controlnet_cond": drawn} if control.kind is None else union_inputs(control.network, control.kind, drawn)
        own_down, own_middle = control.network(
            seen, timestep, encoder_hidden_states=states, added_cond_kwargs=added, conditioning_scale=control.weight,
            guess_mode=guess, return_dict=False, **pictures)
        if half:
            own_down = [torch.cat([torch.zeros_like(residual), residual]) for residual in own_down]
            own_middle = torch.cat([torch.zeros_like(own_middle), own_middle])
        down = [one + other for one, other in zip(down, own_down, strict=True)] if down else list(own_down)
        middle = own_middle if middle is None else middle + own_middle
    if middle is None:
        return {}
    return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}


def picture_features(network: Any, drawn: torch.Tensor) -> list[torch.Tensor]:
    """The features that a T2I-Adapter gives of one control map (3, h, w) from 0 to 1, each (1, c, h / f, w / f). An adapter of
    one colour is given the mean of the three. Mou et al., arXiv 2302.08453."""
    seen = drawn if int(network.config["in_channels"]) == 3 else drawn.mean(0, keepdim=True)
    features: list[torch.Tensor] = network(seen[None])
    return features


def feature_inputs(weighted: Sequence[tuple[float, Sequence[torch.Tensor]]], *, guided: bool) -> dict[str, Any]:
    """The features of all T2I-Adapters times their weights, summed, as the keyword argument of a diffusers U-Net; empty without
    any. Each adapter's are (n, c, h, w), and act on both halves alike if `guided`. The U-Net empties the list."""
    import torch

    total: list[torch.Tensor] = []
    for weight, features in weighted:
        own = [weight * feature for feature in features]
        total = [one if other is None else other if one is None else one + other for one, other in zip_longest(total, own)]
    if not total:
        return {}
    return {"down_intrablock_additional_residuals": [torch.cat([one, one]) if guided else one for one in total]}


def _half(given: Mapping[str, Any], half: bool) -> tuple[torch.Tensor, dict[str, Any] | None]:
    """The text's states and the added conditions: all, or those of the positive half."""
    states, added = given["encoder_hidden_states"], given.get("added_cond_kwargs")
    if not half:
        return states, added
    return states.chunk(2)[1], None if added is None else {name: value.chunk(2)[1] for name, value in added.items()}
