"""What a simulated GPU holds and counts: memory as torch's allocator would count it, waits, and copies over the bus."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Final

import torch

BLOCK_BYTES: Final = 512
"""The allocator gives memory in blocks of this size."""
GIB: Final = 2 ** 30


class Storages:
    """The bytes of all living storages of one kind, each once however many tensors share it."""

    def __init__(self) -> None:
        self.live = 0
        self._sizes: dict[int, int] = {}
        self._lock = threading.RLock()  # a collection of garbage within may release others

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._sizes

    def size_of(self, tensor: torch.Tensor) -> int:
        """The bytes that the tensor's storage takes, in whole blocks."""
        return -(-tensor.untyped_storage().nbytes() // BLOCK_BYTES) * BLOCK_BYTES

    def add(self, tensor: torch.Tensor) -> None:
        """Counts the tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        with self._lock:
            self._sizes[storage._cdata] = size = self.size_of(tensor)
            self.live += size
        weakref.finalize(storage, self._remove, storage._cdata).atexit = False

    def _remove(self, key: int) -> None:
        with self._lock:
            self.live -= self._sizes.pop(key, 0)


class Gpu:
    """One simulated device. `waits` counts by kind what makes the host wait for it, `wait_sites` the same with file and line;
    `operations` counts what it computed; `copies` and `copied_bytes` are by direction: "to device", "to host", "on device".

    `cap` is what this process may take of `total` bytes; threads in `without_memory` get nothing. Like the
    allocator's, `reserved` never shrinks until `empty_cache`.
    """

    def __init__(self, index: int, total: int, capability: tuple[int, int]) -> None:
        self.index, self.total, self.cap, self.capability = index, total, total, capability
        self.device = torch.device("cuda", index)
        self.peak = self.reserved = self.peak_reserved = 0
        self.waits: Counter[str] = Counter()
        self.wait_sites: Counter[str] = Counter()
        self.operations: Counter[object] = Counter()
        self.copies: Counter[str] = Counter()
        self.copied_bytes: Counter[str] = Counter()
        self.machine: Machine | None = None
        self.without_memory: set[int] = set()
        self._storages = Storages()

    @property
    def live(self) -> int:
        """Bytes of all tensors that are alive on it."""
        return self._storages.live

    def hold(self, tensor: torch.Tensor) -> None:
        """Counts a tensor's storage as its own. Raises OutOfMemoryError, in torch's words, if there is no room for it."""
        if tensor in self._storages:
            return
        size = self._storages.size_of(tensor)
        if self.live + size > self.cap or threading.get_ident() in self.without_memory:
            raise torch.OutOfMemoryError(self._refusal(size))
        self._storages.add(tensor)
        if (live := self.live) > self.peak or live > self.reserved:
            self.peak, self.reserved = max(self.peak, live), max(self.reserved, live)
            self.peak_reserved = max(self.peak_reserved, self.reserved)

    def wait(self, kind: str) -> None:
        """Notes that the host waits for the device."""
        self.waits[kind] += 1
        self.wait_sites[f"{kind} at {_site()}"] += 1

    def copied(self, direction: str, count: int) -> None:
        """Notes a copy of `count` bytes."""
        self.copies[direction] += 1
        self.copied_bytes[direction] += count

    def forget_counts(self) -> None:
        """Starts all counts at zero; memory stays as it is."""
        for counts in (self.waits, self.wait_sites, self.operations, self.copies, self.copied_bytes):
            counts.clear()

    def reset_peaks(self) -> None:
        """As torch.cuda.reset_peak_memory_stats."""
        self.peak, self.peak_reserved = self.live, self.reserved

    def empty_cache(self) -> None:
        """As torch.cuda.empty_cache."""
        self.reserved = self.live

    def _refusal(self, size: int) -> str:
        free = max(self.cap - self.live, 0)
        total, live = _size(self.total), _size(self.live)
        return (f"CUDA out of memory. Tried to allocate {_size(size)}. GPU {self.index} has a total capacity of {total} of which "
                f"{_size(free)} is free. Including non-PyTorch memory, this process has {live} memory in use. Of the allocated "
                f"memory {live} is allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated. If reserved but "
                "unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.")


def _size(count: int) -> str:
    """As torch writes it."""
    for unit, name in ((GIB, "GiB"), (2 ** 20, "MiB"), (2 ** 10, "KiB")):
        if count > unit:
            return f"{count / unit:.2f} {name}"
    return f"{count} bytes"


class Machine:
    """The simulated devices of one machine, and the pinned memory of its host. With `shapes_only` tensors have no values. With
    `other_rounding` sums and powers differ from the CPU's in their last bits, as on another device."""

    def __init__(self, gpus: Sequence[Gpu], *, shapes_only: bool, other_rounding: bool) -> None:
        self.gpus, self.shapes_only, self.other_rounding = tuple(gpus), shapes_only, other_rounding
        self.current = 0
        self.pinned = Storages()
        for gpu in gpus:
            gpu.machine = self

    @property
    def place(self) -> str:
        """Where the tensors really lie."""
        return "meta" if self.shapes_only else "cpu"

    def gpu(self, device: object = None) -> Gpu:
        """The device of this name, number or torch.device; the current one by default. RuntimeError, as from CUDA, if there is
        none of that number."""
        if device is None:
            number: int | None = self.current
        else:
            number = device if isinstance(device, int) else torch.device(device).index  # type: ignore[call-overload]
        number = self.current if number is None else number
        if not 0 <= number < len(self.gpus):
            raise RuntimeError("CUDA error: invalid device ordinal (simulated)")
        return self.gpus[number]


def _site() -> str:
    """The innermost place in the project's own code that is now at work."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        for part in ("/harness/", "/reports/", "/tests/"):
            if part in name and "/tests/rehearsal/" not in name:
                return f"{part[1:]}{name.rpartition(part)[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside of the project"
