"""Counts the bytes of tensors without values while code runs on them: what the same code would take on a device.

Imports torch; import it late."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK_BYTES: Final = 512
"""CUDA's allocator gives memory in blocks of this size."""
aten: Final = torch.ops.aten


class LivingBytes:
    """Within the block, `living` are the bytes of the meta tensors that were made in it and are still alive, and `peak` the most
    there were. Parameters and buffers of `modules` count nothing.

    What asks a meta tensor for values gets some: 1.0, True, 0, or zeros on the CPU. Attention takes no matrix of all pairs, as
    fused kernels make none.
    """

    def __init__(self, *modules: torch.nn.Module) -> None:
        self.living = self.peak = 0
        self._sizes: dict[int, int] = {}
        self._modes = ExitStack()
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        # Kept alive meanwhile, so that no other storage gets the place of one of these.
        self._free = [inner.untyped_storage() for tensor in tensors for inner in _plain(tensor)]
        self._sizes = dict.fromkeys((storage._cdata for storage in self._free), 0)

    def __enter__(self) -> Self:
        self._modes.enter_context(_Fused())
        self._modes.enter_context(_Counting(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._modes.close()

    def count(self, tensor: torch.Tensor) -> None:
        """Counts a tensor's storage until it is freed, once however many tensors share it."""
        storage = tensor.untyped_storage()
        if (key := storage._cdata) in self._sizes:
            return
        self._sizes[key] = size = -(-storage.nbytes() // BLOCK_BYTES) * BLOCK_BYTES
        self.living += size
        self.peak = max(self.peak, self.living)
        weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self.living -= self._sizes.pop(key, 0)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class has no types
    """Counts the results of all operations."""

    def __init__(self, counts: LivingBytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts = counts

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        options = dict(kwargs or {})
        first = args[0] if args else None
        if isinstance(first, torch.Tensor) and first.is_meta:
            if func is aten._local_scalar_dense.default:
                return True if first.dtype is torch.bool else 1.0 if first.dtype.is_floating_point else 0
            if func is aten._to_copy.default and options.get("device") == torch.device("cpu"):
                return torch.zeros(first.shape, dtype=options.get("dtype") or first.dtype)
            if func is aten.nonzero.default:
                return torch.zeros((1, first.ndim), dtype=torch.int64, device="meta")
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # in inference mode it comes whole; its own operations are the ones that take memory
                return func.decompose(*args, **options)
        results = func(*args, **options)
        for result in results if isinstance(results, list | tuple) else [results]:
            if isinstance(result, torch.Tensor) and result.is_meta:
                for inner in _plain(result):
                    self._counts.count(inner)
        return results


class _Fused(TorchFunctionMode):
    """Attention in one piece, unless only the kernel of plain products is allowed."""

    def __torch_function__(self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        options = dict(kwargs or {})
        if func is torch.nn.functional.scaled_dot_product_attention and _fuses():
            query, _, value = (options.get(name, given) for name, given in zip(
                ("query", "key", "value"), (*args[:3], None, None, None), strict=False))
            if isinstance(query, torch.Tensor) and isinstance(value, torch.Tensor) and query.is_meta:
                return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **options)


def _fuses() -> bool:
    """Whether PyTorch may take a kernel that makes no matrix of all pairs."""
    flags: Any = torch.backends.cuda
    return bool(flags.flash_sdp_enabled() or flags.mem_efficient_sdp_enabled() or flags.cudnn_sdp_enabled())


def _plain(tensor: Any) -> Iterator[torch.Tensor]:
    """The tensors that hold the values of `tensor`: itself, or the parts of a quantized one."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _plain(getattr(tensor, name))
    else:
        yield tensor
