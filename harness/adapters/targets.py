"""The layers of a real model that an adapter can change, by the name that a file gives them.

Reading looks names up here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.adapters.contract import AdapterError, Spellings

if TYPE_CHECKING:
    import torch

_WRAPPED: Final = ".base_layer"
_TEXT_MODEL: Final = "text_model."
_FACTORS: Final = frozenset({"lora_A", "lora_B"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """A layer: its path, its weight's shape, and the reason why adapters of this kind cannot change it, if any."""

    path: str
    shape: tuple[int, ...]
    why_not: str = ""


def targets(module: torch.nn.Module, spellings: Callable[[Collection[str]], Spellings]) -> dict[str, Target]:
    """File spelling to layer, for every layer with a weight.

    Text encoders stand in files both with and without "text_model." in front, depending on the version of
    transformers that wrote them, and so does either spelling here. Layers that carry adapters already count once,
    under their own path.
    """
    by_path: dict[str, Target] = {}
    for path, layer in _layers(module):
        weight: torch.Tensor = layer.get_parameter("weight")
        target = Target(path=path, shape=tuple(weight.shape), why_not=_why_not(path, layer))
        by_path[path] = target
        by_path[path.removeprefix(_TEXT_MODEL) if path.startswith(_TEXT_MODEL) else _TEXT_MODEL + path] = target
    table: dict[str, Target] = {}
    for name, path in spellings(by_path):
        target = by_path[path]
        if table.setdefault(name, target).path != target.path:
            raise AdapterError(f"the name {name!r} means both {table[name].path} and {target.path} in this model")
    return table


def _layers(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    found = {}
    for path, layer in module.named_modules():
        wraps = hasattr(layer, "base_layer")
        if path and not wraps and not _FACTORS.intersection(path.split(".")) and getattr(layer, "weight", None) is not None:
            found[path.removesuffix(_WRAPPED)] = layer
    return list(found.items())


def _why_not(path: str, layer: torch.nn.Module) -> str:
    from torch import nn

    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"{path} is a grouped convolution, which LoRA files do not define"
    if isinstance(layer, nn.Linear | nn.Conv2d):
        return ""
    return f"{path} is a {type(layer).__name__}; only linear layers and convolutions take low-rank factors"
