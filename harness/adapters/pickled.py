"""Reads adapters in torch's pickle format as data: with torch's weights-only loading, and if that
refuses, with the still stricter reader of `unpickle.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.adapter_file import Entry, Stored, quoted
from harness.adapters.live_plan import AdapterError
from harness.records.file_version import refuse_other_version, version_of
from harness.weights.known_files import most_probably, nested_names
from harness.weights.pickle_opcodes import DamagedPickleError, PickleError
from harness.weights.safe_pickle import advice, read_pickle

if TYPE_CHECKING:
    from torch import Tensor

_HYPERNETWORK_WIDTHS: Final = frozenset({320, 640, 768, 1024, 1280})
_DEPTH: Final = 4
PLAIN_NUMBERS: Final = (".alpha", ".lora_alpha", ".on_input")
"""Endings of a module's numbers, which some tools save as plain ones."""
_WORDS: Final = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64", "float8_e4m3fn": "F8_E4M3",
                 "float8_e5m2": "F8_E5M2", "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32",
                 "int64": "I64"}


def open_pickle(path: Path) -> Stored:
    """A pickle's tensors, with the keys of nested dictionaries joined by dots, and its strings and numbers as extras.
    Raises AdapterError for anything else."""
    import torch

    content = pickled_content(path)
    bare = ""
    if isinstance(content, torch.Tensor):
        bare, content = "tensor", {"": content}
    elif isinstance(content, list | tuple):
        if not all(isinstance(value, torch.Tensor) for value in content):
            raise AdapterError(f"{path}: holds a list with more than tensors; expected alternating up and down factors")
        bare, content = "list", {str(number): value for number, value in enumerate(content)}
    if not isinstance(content, Mapping):
        raise AdapterError(f"{path}: holds a {type(content).__name__}; expected tensors by name")
    if _HYPERNETWORK_WIDTHS & {key for key in content if isinstance(key, int)}:
        raise AdapterError(f"{path}: this is a hypernetwork, a small network inside attention, not a change of weights; it "
                           "cannot be fused, added or converted. Use it as an adapter of a candidate.")
    while isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    # A file of lists and networks may have names that say what it is.
    if not any(isinstance(value, torch.Tensor) for value in content.values()) and (row := most_probably(nested_names(content))):
        raise AdapterError(f"{path} is {row.sentence}")
    tensors: dict[str, Tensor] = {}
    extras: dict[str, str] = {}
    _flatten(path, content, "", tensors, extras)
    entries = {key: _entry(path, key, tensor) for key, tensor in tensors.items()}

    def number(key: str) -> float:
        if math.prod(entries[key].shape) != 1:
            raise AdapterError(f"{path}: {quoted(key)} of shape {list(entries[key].shape)} is not an alpha; expected one number")
        return float(tensors[key])

    return Stored(name=path.name, entries=entries, metadata={}, number=number, load=lambda: tensors, extras=extras, bare=bare,
                  pickled=True)


def pickled_content(path: Path) -> Any:
    """The content of the pickle, from one of two readers, neither of which calls anything that a file names. Raises
    AdapterError if both refuse, ChangedFileError for a file that changes while it is read."""
    version = version_of(path)
    content = _content_of(path)
    refuse_other_version(path, version)
    return content


def _content_of(path: Path) -> Any:
    from harness.adapters.unpickle import unpickle

    try:
        return read_pickle(path, second=unpickle)
    except DamagedPickleError as error:
        raise AdapterError(f"{path}: a damaged or incomplete file ({error}). Download it again") from None
    except PickleError as error:
        raise AdapterError(f"{path}: could not be read as weights only ({error}); expected nothing but tensors. "
                           f"{advice(error)}") from None
    except OSError as error:
        raise AdapterError(f"{path}: could not be read ({error.strerror}); check the file and its permissions") from None


def _flatten(path: Path, content: Mapping[Any, Any], prefix: str, tensors: dict[str, Tensor], extras: dict[str, str]) -> None:
    import torch

    for key, value in content.items():
        name = f"{prefix}{key}"
        if name in tensors or name in extras:
            raise AdapterError(f"{path}: two of its names read the same as text, {quoted(name)}; save the file again")
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif isinstance(value, Mapping) and prefix.count(".") < _DEPTH:
            _flatten(path, value, f"{name}.", tensors, extras)
        elif isinstance(value, bool | int | float) and name.endswith(PLAIN_NUMBERS):
            tensors[name] = torch.tensor(float(value))
        elif value is None or isinstance(value, str | int | float):
            extras[name] = str(value)
        else:
            raise AdapterError(f"{path}: {quoted(name)} is a {type(value).__name__}; expected tensors by name and plain values")


def _entry(path: Path, key: str, tensor: Tensor) -> Entry:
    import torch

    word = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(tensor.shape)
    if word not in _WORDS or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise AdapterError(f"{path}: {quoted(key)} is a {word} tensor of layout {tensor.layout} on {tensor.device}; expected "
                           "plain numbers. Save the file as .safetensors.")
    # With a stride of 0, a file of a few bytes can declare a tensor of any size.
    if math.prod(shape) * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise AdapterError(f"{path}: {quoted(key)} declares {list(shape)}, more numbers than the file holds; save it again")
    return Entry(dtype=_WORDS[word], shape=shape)
