"""Modules are built without drawing the random values that their weights begin with. Imports torch; import it late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from torch.overrides import TorchFunctionMode

_DRAWING: Final = frozenset({"uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_",
                             "xavier_normal_"})
"""The names of functions of torch.Tensor and torch.nn.init. transformers 5 puts its own in their place while it builds a
module."""


class Undrawn(TorchFunctionMode):
    """Within the block, filling a tensor with random numbers leaves it as it is."""

    def __torch_function__(self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        if getattr(func, "__name__", "") in _DRAWING:
            return args[0] if args else dict(kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
