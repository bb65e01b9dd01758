"""Copies from the host to a GPU that the host does not wait for, through pinned memory; elsewhere a plain move."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

PIECE_BYTES: Final = 32 * 2 ** 20
"""The size of a staging buffer. Larger tensors are sent in pieces, so that two buffers are all that is pinned."""


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A small tensor on `device`. A large one is moved with a wait, so that little memory is pinned."""
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.nbytes > PIECE_BYTES:
        return tensor.to(device)
    # The allocator of pinned memory keeps the block until the copy is done.
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass
class _Buffer:
    """Pinned bytes, and the event after the last copy out of them."""

    memory: torch.Tensor
    copied: Any


class Uploads:
    """Sends tensors of any size to a device through two pinned buffers: one is filled while the other is copied from. Values and
    dtypes stay; the host waits only where a buffer is still in use."""

    def __init__(self) -> None:
        self._buffers: list[_Buffer] = []
        self._turn = 0
        self._lock = threading.Lock()

    def send(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The tensor on the device, as `tensor.to(device)`; of a quantized one its parts are sent."""
        if device.type != "cuda" or tensor.device.type != "cpu":
            return tensor.to(device)
        if hasattr(tensor, "__tensor_flatten__"):
            names, rest = tensor.__tensor_flatten__()
            parts = {name: self.send(getattr(tensor, name), device) for name in names}
            kind: Any = type(tensor)
            whole: torch.Tensor = kind.__tensor_unflatten__(parts, rest, tensor.size(), tensor.stride())
            return whole
        if not tensor.is_contiguous() or not tensor.numel():
            return tensor.to(device)
        import torch

        there = torch.empty_like(tensor, device=device, memory_format=torch.contiguous_format)
        source, target = (flat.detach().view(-1).view(torch.uint8) for flat in (tensor, there))
        with self._lock, torch.cuda.device(device):
            for start in range(0, len(source), PIECE_BYTES):
                piece = source[start:start + PIECE_BYTES]
                buffer = self._next()
                staged = buffer.memory[:len(piece)]
                staged.copy_(piece)
                target[start:start + PIECE_BYTES].copy_(staged, non_blocking=True)
                buffer.copied.record(torch.cuda.current_stream(device))
        return there

    def _next(self) -> _Buffer:
        """The buffer whose turn it is, free to be filled."""
        import torch

        if len(self._buffers) < 2:
            self._buffers.append(_Buffer(memory=torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True),
                                         copied=torch.cuda.Event()))  # type: ignore[no-untyped-call]
            return self._buffers[-1]
        buffer = self._buffers[self._turn]
        self._turn = 1 - self._turn
        if not buffer.copied.query():
            buffer.copied.synchronize()
        return buffer
