"""Modules are built without drawing the random values that their weights begin with. Imports torch; import it late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

_DRAWING: Final = frozenset({torch.Tensor.uniform_, torch.Tensor.normal_, torch.nn.init.uniform_, torch.nn.init.normal_,
                             torch.nn.init.trunc_normal_, torch.nn.init.kaiming_uniform_, torch.nn.init.kaiming_normal_,
                             torch.nn.init.xavier_uniform_, torch.nn.init.xavier_normal_})


class Undrawn(TorchFunctionMode):
    """Within the block, filling a tensor with random numbers leaves it as it is."""

    def __torch_function__(self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        if func in _DRAWING:
            return args[0] if args else dict(kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
