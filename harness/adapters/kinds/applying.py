"""Applies a change of any kind to a weight or bias at a strength, in float32 or float64, and checks changes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.adapters.change import Change
from harness.adapters.kinds.dora import decomposed, magnitudes
from harness.adapters.kinds.kind import AdapterKind, Shape, misfit, ones
from harness.adapters.kinds.table import KINDS, kind_of
from harness.adapters.live_plan import AdapterError, Factors
from harness.weights.upload import sent

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_BIASES = ("bias", "diff_b", "b_norm")


def delta(change: Change, w0: Tensor) -> Tensor:
    """What the change at strength 1 adds to the weight W0, including DoRA's normalisation: shape of w0, float32, or float64
    if w0 is float64. Additive kinds without magnitude do not read w0's values. The change must have passed
    `check_change`."""
    base = _computed(w0)
    return _plain(change, base, 1.0) if change.magnitude is None else _decomposed(change, base) - base


def plain_delta(change: Change, w0: Tensor) -> Tensor:
    """Like `delta`, without DoRA's normalisation: what is added to W0 before its rows are scaled to the magnitude."""
    return _plain(change, _computed(w0), 1.0)


def changed_weight(change: Change, w0: Tensor, weight: float, out: Tensor | None = None) -> Tensor:
    """The weight W0 with the change at strength `weight`, float32 or, for a float64 w0, float64; 0 gives W0. With `out`, a
    tensor of w0's shape, the result is rounded once to its dtype, written there and returned.

    W0 + weight * delta; with a magnitude W0 + weight * (W_dora - W0); OFT and BOFT interpolate their rotations, see their
    formulas.
    """
    base = _computed(w0)
    if change.magnitude is None:
        quick = kind_of(change).changed
        if quick is not None:
            direct = out is not None and out.dtype == base.dtype and out.device == base.device and out.is_contiguous()
            return _into(out if not direct else None, quick(_cast(change, base), base, weight, out if direct else None))
        # The tensor from `delta` has no other user, so the sum may overwrite it.
        return _into(out, _plain(change, base, weight).add_(base))
    return _into(out, base + (_decomposed(change, base) - base) * weight)


def _into(out: Tensor | None, made: Tensor) -> Tensor:
    return made if out is None else out.copy_(made)


def changed_bias(change: Change, b0: Tensor | None, weight: float) -> Tensor | None:
    """B0 + weight * bias_delta, float32, or float64 if b0 is float64; None if the change does not affect the bias. Raises
    AdapterError if it changes a bias that the layer does not have."""
    given = bias_delta(change)
    if given is None:
        return None
    if b0 is None:
        raise AdapterError(f"{change.component} {change.path}: its {change.kind} changes a bias, but the layer has no bias")
    base = _computed(b0)
    if base.shape != given.shape:
        raise misfit(change, "the bias", tuple(given.shape), tuple(base.shape))
    return base + given.to(base) * weight


def bias_delta(change: Change) -> Tensor | None:
    """What strength 1 adds to the bias, float64 (out,): scale * bias of LoRA layers plus diff_b or b_norm, scaled only in
    full differences. None without a bias."""
    deltas = [change.tensors[role].double().reshape(-1) * _bias_scale(change, role)
             for role in _BIASES if role in change.tensors]
    return sum(deltas[1:], deltas[0]) if deltas else None


def apply_all(changes: Iterable[tuple[Change, float]], w0: Tensor) -> Tensor:
    """W0 with every (change, strength) applied in the given order. Additive changes commute; DoRA, GLoRA, (IA)^3 and OFT
    depend on the result of the changes before them. float32, or float64 if w0 is float64."""
    current = _computed(w0)
    for change, weight in changes:
        current = changed_weight(change, current, weight)
    return current


def check_change(change: Change, shape: Shape) -> None:
    """Raises AdapterError for missing and unknown roles, wrong shapes and ranks, empty tensors, NaN and infinity. It names
    component, path, role, the shape found and the shape needed."""
    row = kind_of(change)
    _check_roles(change, row)
    _check_values(change)
    if len(shape) < 2 and change.kind not in ("norm", "full"):
        raise AdapterError(f"{change.component} {change.path}: a {change.kind} changes weights of two axes or more; this one "
                           f"has shape {shape}")
    out = shape[0] if shape else 1
    wants = {**row.wanted(change, shape), **dict.fromkeys(_BIASES, ((out,),))}
    for role, tensor in change.tensors.items():
        _check_shape(change, role, tuple(tensor.shape), wants[role])
    if change.magnitude is None:
        return
    if not row.additive or len(shape) < 2:
        raise AdapterError(f"{change.component} {change.path}: a DoRA magnitude needs an additive kind, not {change.kind}")
    _check_shape(change, "magnitude", tuple(change.magnitude.shape), magnitudes(shape))


def is_additive(change: Change) -> bool:
    """Whether the change adds the same to every weight, so that it can be summed without a model."""
    return kind_of(change).additive and change.magnitude is None


def additive_factors(change: Change, shape: Shape) -> Factors | None:
    """The float32 factors of a plain LoRA for PEFT's layers: down (r, in, kh, kw), up (out, r, 1, 1), and the scale. None
    for other kinds, Tucker cores, DoRA, and changed biases."""
    if change.kind != "lora" or change.magnitude is not None or set(change.tensors) != {"down", "up"}:
        return None
    down, up = (change.tensors[role].float() for role in ("down", "up"))
    rank = int(down.shape[0])
    return Factors(down=down.reshape(rank, *shape[1:]), up=up.reshape(shape[0], rank, *ones(shape)), rank=rank,
                   alpha=change.scale * rank if change.alpha is None else change.alpha, scale=change.scale)


def scale_of(kind: str, tensors: Mapping[str, Tensor], alpha: float | None) -> tuple[float, int]:
    """The scale alpha / rank, and the rank. The scale is 1 without alpha and for kinds without rank, such as a LoKr of two
    full factors, whose alpha is arbitrary."""
    rank = KINDS[kind].rank(tensors)
    return (alpha / rank if alpha is not None and rank else 1.0), rank


def _plain(change: Change, base: Tensor, strength: float) -> Tensor:
    return kind_of(change).delta(_cast(change, base), base, strength)


def _cast(change: Change, base: Tensor) -> Change:
    """The change with its tensors in the dtype, and on the device, of the weight."""
    return replace(change, tensors={role: tensor.to(base.dtype) if base.is_meta else _beside(tensor, base)
                                    for role, tensor in change.tensors.items()})


def _beside(tensor: Tensor, base: Tensor) -> Tensor:
    return sent(tensor, base.device).to(base.dtype)


def _decomposed(change: Change, base: Tensor) -> Tensor:
    assert change.magnitude is not None
    return decomposed(base + _plain(change, base, 1.0), _beside(change.magnitude, base))


def _computed(tensor: Tensor) -> Tensor:
    import torch

    return tensor.detach().to(torch.float64 if tensor.dtype == torch.float64 else torch.float32)


def _bias_scale(change: Change, role: str) -> float:
    # diff_b next to other kinds has no alpha; in a full difference it is scaled like the weight.
    return change.scale if role != "diff_b" or change.kind == "full" else 1.0


def wrong_roles(row: AdapterKind, roles: Collection[str]) -> str:
    """What is wrong with the roles of a change's tensors, in words that follow "its lora has"; empty if they are valid."""
    if any(set(layout) <= set(roles) <= set(layout) | set(row.optional) for layout in row.layouts):
        return ""
    nearest = min(row.layouts, key=lambda layout: len(set(layout) ^ (set(roles) - set(row.optional))))
    if missing := [role for role in nearest if role not in roles]:
        return f"{', '.join(sorted(roles)) or 'no tensors'} but no {missing[0]}"
    extra = sorted(set(roles) - set(nearest) - set(row.optional))
    return f"both {', '.join(nearest)} and {', '.join(extra)}; expected one or the other"


def _check_roles(change: Change, row: AdapterKind) -> None:
    where = f"{change.component} {change.path}"
    if unknown := sorted(set(change.tensors) - row.roles):
        raise AdapterError(f"{where}: {unknown[0]!r} is not a role of {change.kind}, which has {', '.join(sorted(row.roles))}")
    if problem := wrong_roles(row, change.tensors):
        raise AdapterError(f"{where}: its {change.kind} has {problem}")


def _check_values(change: Change) -> None:
    where = f"{change.component} {change.path}"
    named: dict[str, torch.Tensor] = dict(change.tensors)
    if change.magnitude is not None:
        named["magnitude"] = change.magnitude
    for role, tensor in named.items():
        if tensor.numel() == 0:
            raise misfit(change, role, tuple(tensor.shape), "at least rank 1")
        if not bool(tensor.isfinite().all()):
            raise AdapterError(f"{where}: {role} of its {change.kind} contains NaN or infinity")
        if not tensor.is_floating_point() and role != "on_input":
            raise AdapterError(f"{where}: {role} of its {change.kind} is {tensor.dtype}, expected floating point")
    if not math.isfinite(change.scale):
        raise AdapterError(f"{where}: the scale of its {change.kind} is {change.scale}, expected a finite number")
    if change.kind in ("oft", "boft") and change.alpha is not None and not 0 <= change.alpha < math.inf:
        raise AdapterError(f"{where}: the constraint (alpha) of its {change.kind} is {change.alpha}, expected 0 or more")


def _check_shape(change: Change, role: str, found: Shape, wanted: tuple[Shape, ...]) -> None:
    if not any(_bare(found) == _bare(shape) for shape in wanted):
        raise misfit(change, role, found, " or ".join(map(str, dict.fromkeys(wanted))) or "blocks that divide the outputs")


def _bare(shape: Shape) -> Shape:
    """The shape without 1s after the first two axes: a 1 x 1 convolution and a linear layer have the same weights."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
