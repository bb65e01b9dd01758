"""A restricted unpickler for files that torch's weights-only loading refuses although they are harmless: CompVis' textual
inversions with a ParameterDict. It accepts a few names, builds only its own objects, and calls nothing from a file.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from harness.weights.pickle_opcodes import PICKLE_LIMIT, PickleError

_STORAGES: Final = {"FloatStorage": "float32", "HalfStorage": "float16", "DoubleStorage": "float64",
                    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32"}


class RefusedError(PickleError):
    """A pickle that refers to something not on the allowed list; the message names it."""


class _ParameterDict:
    """A stand-in for torch.nn.ParameterDict that stores its state and does nothing else."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def unpickle(path: Path) -> Any:
    """The content of a torch zip archive, with ParameterDicts as dictionaries. Raises RefusedError for anything else."""
    if not zipfile.is_zipfile(path):
        raise RefusedError("")
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1 or archive.getinfo(pickles[0]).file_size > PICKLE_LIMIT:
            raise RefusedError("it is not a torch archive")
        reader = _Unpickler(archive, pickles[0].removesuffix("data.pkl"), archive.read(pickles[0]))
        return _plain(reader.load())


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """One of the few objects that a file may name. Raises RefusedError for anything else."""
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict, ("builtins", "set"): set, ("__builtin__", "set"): set,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor, ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch.nn.modules.container", "ParameterDict"): _ParameterDict,
            **{("torch", storage): dtype for storage, dtype in _STORAGES.items()},
        }
        if (module, name) not in known:
            raise RefusedError(f"it refers to {f'{module}.{name}'[:100]!a}, which could run code")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """A storage with the values in the archive. Raises RefusedError if there are fewer than declared."""
        import torch

        _, dtype, key, _, count = pid
        name = f"{self._folder}data/{key}"
        if not isinstance(dtype, str) or not isinstance(count, int) or self._archive.getinfo(name).file_size > 2**30:
            raise RefusedError("it has an invalid storage")
        numbers = torch.frombuffer(bytearray(self._archive.read(name)), dtype=getattr(torch, dtype))
        if numbers.numel() < count:
            raise RefusedError("a storage in it is shorter than declared")
        return numbers[:count]


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    import torch

    shape, steps = tuple(size), tuple(stride)
    if not isinstance(storage, torch.Tensor) or min((0, offset, *shape, *steps)) < 0 or len(shape) != len(steps):
        raise RefusedError("it has an invalid tensor")
    reach = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + 1 if math.prod(shape) else 0
    if reach > storage.numel() or math.prod(shape) > storage.numel():
        raise RefusedError("a tensor in it is larger than its storage")
    return torch.as_strided(storage, shape, steps, offset).clone()


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _plain(value: Any) -> Any:
    """Dictionaries instead of stand-ins. torch 2 keeps a ParameterDict's tensors as attributes, earlier ones in _parameters."""
    import torch

    if isinstance(value, _ParameterDict):
        state = value.state if isinstance(value.state, dict) else {}
        tensors = state.get("_parameters") or {key: item for key, item in state.items() if isinstance(item, torch.Tensor)}
        return {str(key): item for key, item in tensors.items() if isinstance(item, torch.Tensor)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
