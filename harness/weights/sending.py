"""A mode in which libraries that move small tensors to a GPU do it without a wait. Imports torch; import it late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from harness.weights.upload import sent


class Sending(TorchFunctionMode):
    """Within the block, `tensor.to(device)` sends a tensor of the host through pinned memory, and the host does not wait for a
    GPU to say whether a system of equations has a solution. Values stay the same. Every call of torch costs a microsecond
    more."""

    def __torch_function__(self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        options = dict(kwargs or {})
        if func is torch.Tensor.to and args[0].device.type == "cpu" and "copy" not in options:
            device, dtype, *_ = torch._C._nn._parse_to(*args[1:], **options)
            if device is not None and device.type == "cuda":
                return sent(args[0] if dtype is None else args[0].to(dtype), device)
        if func is torch.linalg.solve:
            return torch.linalg.solve_ex(*args, **options).result
        return func(*args, **options)
