"""Weighted sums by the C interface of libtorch: the kernels of torch, bit for bit, without the second that importing torch takes.
https://docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.merge.expression import SMALL, Expression, Merged, Source
from harness.merge.linear import LEAST_REVERSIBLE, weighted_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE: Final = 2 ** 18
"""Values at a time: with two widened copies they fit the cache of a core."""
WIDENED: Final = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_SIZES: Final = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
_EXPONENTS: Final = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F64": 0x7FF0000000000000, "F8_E5M2": 0x7C}
"""The bits of the exponent, which are all set in NaN and infinity."""
_LEAST_VERSION: Final = (2, 8)
_LIBRARY: Final = "lib/libtorch_cpu.so"
_CPU: Final = (0, -1)


@dataclass(frozen=True, kw_only=True)
class PlainSum:
    """(1 - share) * first + share * second, computed in the dtype `wide`."""

    first: Source
    second: Source
    share: float
    wide: str


def plain_sum(expression: Expression, dtype: str, precision: str) -> PlainSum | None:
    """The expression as a weighted sum of two stored tensors, as `evaluate` computes it; None for anything else."""
    if not (isinstance(expression, Merged) and expression.method.function is weighted_sum and not expression.channels):
        return None
    if len(expression.inputs) != 2 or dtype not in WIDENED:
        return None
    first, second = expression.inputs
    if not (isinstance(first, Source) and isinstance(second, Source) and {first.dtype, second.dtype} <= WIDENED.keys()):
        return None
    alpha = expression.call.alpha
    wide = "F32" if precision == "auto" and {dtype, first.dtype, second.dtype} <= SMALL else "F64"
    if abs(alpha) >= 0.5 and alpha != 1:
        return PlainSum(first=first, second=second, share=alpha, wide=wide)
    if LEAST_REVERSIBLE <= alpha < 0.5:
        return PlainSum(first=second, second=first, share=1 - alpha, wide=wide)
    return None


def finite_bytes(values: memoryview, dtype: str) -> bool:
    """Whether no value of this floating dtype is NaN or infinite."""
    import numpy as np

    if dtype == "F8_E4M3":
        return not len(values) or int((np.frombuffer(values, np.uint8) & 0x7F).max()) != 0x7F
    mask = _EXPONENTS[dtype]
    whole = np.frombuffer(values, np.dtype(f"u{_SIZES.get(dtype, 1)}"))
    return not len(whole) or int((whole & whole.dtype.type(mask)).max()) != mask


class Kernels:
    """What one thread computes with: it may not be used by two at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._dtypes = {dtype: getattr(library, f"aoti_torch_dtype_{word}")() for dtype, word in WIDENED.items()}
        self._wide: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

    def alone(self) -> Kernels:
        """The same, where the calling thread computes without the help of others from now on."""
        self._library.omp_set_num_threads(1)
        return self

    def widened(self, values: memoryview, dtype: str) -> bytes:
        """The bytes of values in float32, or of float64 as they are."""
        import numpy as np

        if dtype == "F64":
            return bytes(values)
        wide = np.empty(len(values) // _SIZES[dtype], np.float32)
        if len(wide):
            self._copy((wide.ctypes.data, "F32"), (np.frombuffer(values, np.uint8).ctypes.data, dtype), len(wide))
        return wide.tobytes()

    def weighted_sum(self, plan: PlainSum, first: memoryview, second: memoryview, out: memoryview, dtype: str) -> None:
        """Writes the sum of the values in two buffers to a third, rounded once to `dtype`."""
        import numpy as np

        if plan.wide not in self._wide:
            kind = np.float32 if plan.wide == "F32" else np.float64
            self._wide[plan.wide] = np.empty(AT_ONCE, kind), np.empty(AT_ONCE, kind)
        wide = self._wide[plan.wide]
        share = np.array(plan.share, wide[0].dtype)
        places = [(np.frombuffer(values, np.uint8).ctypes.data, kind) for values, kind in (
            (first, plan.first.dtype), (second, plan.second.dtype), (out, dtype))]
        count = len(out) // _SIZES[dtype]
        for begin in range(0, count, AT_ONCE):
            length = min(AT_ONCE, count - begin)
            a, b, result = ((address + begin * _SIZES[kind], kind) for address, kind in places)
            one, other = ((array.ctypes.data, plan.wide) for array in wide)
            self._copy(one, a, length)
            self._copy(other, b, length)
            self._call(b"aten::lerp", b"Tensor_out", self._tensor(*one, length), self._tensor(*other, length),
                       self._tensor(share.ctypes.data, plan.wide), self._tensor(*one, length))
            self._copy(result, one, length)

    def _copy(self, to: tuple[int, str], of: tuple[int, str], length: int) -> None:
        self._call(b"aten::copy_", b"", self._tensor(*to, length), self._tensor(*of, length), 0)

    def _tensor(self, address: int, dtype: str, length: int | None = None) -> int:
        """A handle of a tensor that shares memory: of some values, or of a single number."""
        handle, sizes = ctypes.c_void_p(), (ctypes.c_int64 * 1)(length or 0)
        strides = (ctypes.c_int64 * 1)(1)
        _sound(self._library.aoti_torch_create_tensor_from_blob(
            ctypes.c_void_p(address), ctypes.c_int64(length is not None), sizes, strides, ctypes.c_int64(0),
            ctypes.c_int32(self._dtypes[dtype]), *map(ctypes.c_int32, _CPU), ctypes.byref(handle)))
        return handle.value or 0

    def _call(self, name: bytes, overload: bytes, *arguments: int) -> None:
        """Calls an operator that returns one tensor. It takes the handles that it is given."""
        stack = (ctypes.c_uint64 * max(1, len(arguments)))(*arguments)
        _sound(self._library.aoti_torch_call_dispatcher(name, overload, stack))
        _sound(self._library.aoti_torch_delete_tensor_object(ctypes.c_void_p(stack[0])))


def _sound(status: int) -> None:
    if status:
        raise RuntimeError(f"libtorch's C interface returned {status}; expected 0")


@cache
def kernels() -> Callable[[], Kernels] | None:
    """Makes the kernels of a thread; None where torch is imported already, or its library is not as expected."""
    if "torch" in sys.modules or (library := _loaded()) is None:
        return None
    return lambda: Kernels(library)


def _loaded() -> ctypes.CDLL | None:
    found = importlib.util.find_spec("torch")
    folder = Path(next(iter(found.submodule_search_locations or ()), "")) if found else Path()
    try:
        version = re.search(r"__version__ = '(\d+)\.(\d+)", (folder / "version.py").read_text(encoding="utf-8"))
        if version is None or not _LEAST_VERSION <= (int(version[1]), int(version[2])) < (3, 0):
            return None
        library = ctypes.CDLL(str(folder / _LIBRARY))
        return library if _computes(Kernels(library)) else None
    except (OSError, AttributeError, RuntimeError):
        return None


def _computes(of: Kernels) -> bool:
    """Whether a small sum is right."""
    halves = struct.pack("<3e", 1.0, -2.0, 0.5), struct.pack("<3e", 3.0, 4.0, 0.5)
    source = Source(model="", component="", key="", dtype="F16")
    first, second = (memoryview(data) for data in halves)
    out = bytearray(6)
    of.weighted_sum(PlainSum(first=source, second=source, share=0.75, wide="F32"), first, second, memoryview(out), "F16")
    return bytes(out) == struct.pack("<3e", 2.5, 2.5, 0.5)
