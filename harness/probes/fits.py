"""Whether a batch fits into memory: an out-of-memory error is a result with the bytes requested, not a crash.

`fits` tries a batch under a cap to answer "would it run on a smaller GPU?".
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from harness.probes.available import SPARE_BYTES
from harness.probes.c_allocator import return_freed_memory
from harness.probes.nvml import NotMeasuredError, under_windows
from harness.records import Fit

_UNITS: Final = {"bytes": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "KB": 2**10, "MB": 2**20,
                 "GB": 2**30}
_SIZE: Final = r"([\d.]+) ?(bytes|[KMGT]i?B|B)\b"
_ASKED: Final = re.compile(r"(?:[Tt]ried to allocate|[Uu]nable to allocate):? " + _SIZE)
_TOTAL: Final = re.compile(r"total capacity of " + _SIZE)
_FREE: Final = re.compile(r"of which " + _SIZE + r" is free")
_PHRASES: Final = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUFFT_ALLOC_FAILED",
                   "CUSOLVER_STATUS_ALLOC_FAILED")
_LIKELY_PHRASES: Final = ("unable to find an engine to execute this computation", "CUBLAS_STATUS_NOT_INITIALIZED",
                          "CUDNN_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_INTERNAL_ERROR", "CUSOLVER_STATUS_NOT_INITIALIZED",
                          "CUFFT_INTERNAL_ERROR")
"""What cuDNN, cuBLAS and others say where they find no memory for a workspace or a handle, but also at other times."""
_HOST_PHRASES: Final = ("can't allocate memory", "DefaultCPUAllocator: not enough memory")
SCARCE_BYTES: Final = 2 ** 30
"""Where less than this is free on a GPU, one of these errors is taken for a refusal of memory."""


@dataclass(frozen=True, kw_only=True)
class OutOfMemory:
    """What an allocator reported with an out-of-memory error; sizes are None if it did not report them. It rounds them to two
    decimals. `on_host`: main memory was refused, and not that of a GPU."""

    asked_bytes: int | None
    free_bytes: int | None
    total_bytes: int | None
    message: str
    on_host: bool = False


def out_of_memory(error: BaseException, device: str) -> OutOfMemory | None:
    """The out-of-memory error behind an exception of work on `device`, or None if it is another error.

    Besides torch.OutOfMemoryError there are plain RuntimeErrors of the CPU's allocator, of cuBLAS and cuDNN, and of kernels
    with their own allocation; they are recognised by their messages. Some messages count only while the device's memory is
    scarce.
    """
    message = str(error)
    of_host = isinstance(error, RuntimeError) and any(phrase in message for phrase in _HOST_PHRASES)
    named = of_host or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not named and not (isinstance(error, RuntimeError) and _of_memory(message, device)):
        return None
    return OutOfMemory(asked_bytes=_bytes(_ASKED, message), free_bytes=_bytes(_FREE, message),
                       total_bytes=_bytes(_TOTAL, message),
                       message=message.strip().split("\n")[0] or "MemoryError without a message",
                       on_host=of_host or isinstance(error, MemoryError))


def _of_memory(message: str, device: str) -> bool:
    """Whether the message of a RuntimeError is about memory."""
    return any(phrase in message for phrase in _PHRASES) or (
        any(phrase in message for phrase in _LIKELY_PHRASES) and _scarce(device))


def _scarce(device: str) -> bool:
    """Whether a CUDA device has hardly any free memory now."""
    if not device.startswith("cuda"):
        return False
    import torch

    try:
        return torch.cuda.is_available() and torch.cuda.mem_get_info(device)[0] < SCARCE_BYTES
    except RuntimeError:  # a broken context answers nothing
        return False


def fits(make: Callable[[], None], *, candidate: str, device: str = "cpu", batch_size: int = 1,
         cap_bytes: int | None = None) -> Fit:
    """Tries `make` once, under `cap_bytes` for torch's allocator if given (CUDA only; raises NotMeasuredError elsewhere).

    The cap does not include the CUDA context, so a card needs that much more. Errors other than out-of-memory are raised.
    """
    refused: OutOfMemory | None = None
    try:
        with capped(device, cap_bytes):
            make()
    except Exception as error:
        refused = out_of_memory(error, device)
        if refused is None:
            raise
    if refused is None:
        return Fit(candidate=candidate, batch_size=batch_size, fits=True, cap_bytes=cap_bytes)
    free_memory(device)
    return not_fitting(refused, candidate, batch_size, cap_bytes)


def not_fitting(refused: OutOfMemory, candidate: str, batch_size: int = 1, cap_bytes: int | None = None) -> Fit:
    """The record of an out-of-memory error."""
    return Fit(candidate=candidate, batch_size=batch_size, fits=False, cap_bytes=cap_bytes, asked_bytes=refused.asked_bytes,
               free_bytes=refused.free_bytes, total_bytes=refused.total_bytes, why=refused.message)


def free_memory(device: str) -> None:
    """Frees the memory of a failed attempt. Call it when its exception is gone, because a traceback keeps tensors alive."""
    gc.collect()
    return_freed_memory()
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


@contextmanager
def capped(device: str, cap_bytes: int | None) -> Iterator[None]:
    """Within the block, torch's allocator on `device` refuses to exceed `cap_bytes`; None means no cap."""
    if cap_bytes is None:
        yield
        return
    if not device.startswith("cuda"):
        raise NotMeasuredError(f"device {device} has no allocator that can be capped")
    import torch

    torch.cuda.empty_cache()  # cached memory counts as used
    named = torch.device(device).index
    index = torch.cuda.current_device() if named is None else named  # the setters refuse "cuda" without a number
    before = torch.cuda.get_per_process_memory_fraction(index)
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(cap_bytes / total, 1.0), index)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, index)


def cap_where_memory_spills(device: str) -> str:
    """On Windows and WSL, caps torch's allocator at what is free on the device now, less SPARE_BYTES: the driver there moves
    memory to the host instead of refusing it, and everything is ten times slower. Returns a sentence that says so; empty where
    there is no cap."""
    if not device.startswith("cuda") or not under_windows():
        return ""
    import torch

    number = torch.device(device).index
    index = torch.cuda.current_device() if number is None else number
    free, total = torch.cuda.mem_get_info(index)
    room = free + torch.cuda.memory_reserved(index) - SPARE_BYTES
    room = min(max(room, SPARE_BYTES), total)
    torch.cuda.set_per_process_memory_fraction(room / total, index)
    return (f"this run takes at most {room / 2 ** 30:.1f} GiB of the GPU's {total / 2 ** 30:.1f} GiB, because under Windows and "
            "WSL 2 the driver would go on in main memory, many times slower; close other programs that use the GPU for more")


def _bytes(pattern: re.Pattern[str], message: str) -> int | None:
    match = pattern.search(message)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None
