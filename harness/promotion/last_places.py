"""The tensors of a live model against those of the file that was saved from it: equal bit for bit, or apart by rounding alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.materialise.algebra_identities import ulps_apart
from harness.weights import Pipeline
from harness.weights.pickles import torch_word

if TYPE_CHECKING:
    from torch import Tensor

@dataclass(frozen=True, kw_only=True)
class Compared:
    """The names of the tensors that are not the same, and of those that are apart by rounding alone, with how many values of
    these differ and how many they have."""

    different: tuple[str, ...]
    rounded: tuple[str, ...]
    differing_values: int
    values: int


def tensors_of(pipeline: Pipeline) -> Mapping[str, Any]:
    """By component and name: the tensors of a live pipeline that computes on a GPU, copied to the host. On a CPU: the BLAKE3 of
    dtype, shape and values, because there every bit must be equal, and two models need not be in memory."""
    state = {f"{component}.{name}": tensor for component, module in pipeline.parts.items()
             for name, tensor in module.state_dict().items()}
    if pipeline.device.type != "cpu":
        return {name: tensor.to("cpu", copy=True) for name, tensor in state.items()}
    return {name: _hash(tensor) for name, tensor in state.items()}


def compared(live: Mapping[str, Any], saved: Mapping[str, Any], stored: Mapping[str, str]) -> Compared:
    """Compares what `tensors_of` gives for two pipelines. `stored` is {name: dtype in the file}: values may be one unit in the
    last place of it, or of the live dtype, apart. Hashes must be equal."""
    different, rounded, differing_values, values = [], [], 0, 0
    for name in sorted(live.keys() | saved.keys()):
        one, two = live.get(name), saved.get(name)
        if isinstance(one, str | None) or isinstance(two, str | None):
            different += [name] if one != two else []
        elif count := _apart(one, two):
            if _by_rounding(one, two, stored.get(name, "")):
                rounded.append(name)
                differing_values, values = differing_values + count, values + one.numel()
            else:
                different.append(name)
    return Compared(different=tuple(different), rounded=tuple(rounded), differing_values=differing_values, values=values)


def _hash(tensor: Tensor) -> str:
    from blake3 import blake3

    from harness.weights.write import bytes_of

    return blake3(f"{tensor.dtype} {tuple(tensor.shape)}".encode()).update(bytes_of(tensor)).hexdigest()


def _apart(one: Tensor, two: Tensor) -> int:
    """How many values differ; all, where dtype or shape do."""
    if one.dtype != two.dtype or one.shape != two.shape:
        return max(one.numel(), 1)
    return int((one != two).sum())


def _by_rounding(one: Tensor, two: Tensor, stored: str) -> bool:
    if one.dtype != two.dtype or one.shape != two.shape or not one.is_floating_point():
        return False
    words = {word for word in (stored, torch_word(Path(), "", one)) if word.startswith(("F", "BF"))}
    return any(ulps_apart(one, two, word, [one, two]) <= 1 for word in words)
