"""Checkpoints in torch's pickle format, read as weights only: nothing in them is ever executed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of
from harness.weights.families import IS_ADAPTER, SUPPORTED, refusal
from harness.weights.known_files import most_probably, nested_names
from harness.weights.pickle_opcodes import DamagedPickleError, PickleError
from harness.weights.safe_pickle import advice, read_pickle
from harness.weights.safetensors_header import ModelFileError, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

TORCH_NAMES: Final = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int16": "I16", "uint16": "U16", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "uint32": "U32",
    "float32": "F32", "int64": "I64", "uint64": "U64", "float64": "F64",
}
_SECTIONS: Final = ("image_proj", "ip_adapter")
"""Of an IP-Adapter's file, as its authors save it. Their names are joined as in its .safetensors form."""
_NESTED: Final = "adapter"
"""The name under which a checkpoint of a T2I-Adapter holds its tensors."""
_TEXTUAL_INVERSION: Final = "string_to_param"


def load_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, StoredTensor], dict[str, str]]:
    """The tensors, their dtypes and shapes, and {"not_tensors": names} if there are other entries. Nested `state_dict`
    wrappers are removed.

    Raises ModelFileError for content other than data, and for a file without tensors.
    """
    import torch

    try:
        content = read_pickle(path, mapped=True)
    except DamagedPickleError as error:
        raise ModelFileError(f"{path}: a damaged or incomplete file ({error}). Download it again.") from None
    except PickleError as error:
        raise ModelFileError(f"{path}: could not be read as weights only ({error}); expected a pickle of nothing but tensors. "
                             f"{advice(error)}") from None
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping) and all(isinstance(content.get(section), Mapping) for section in _SECTIONS):
        content = {f"{section}.{name}": value for section in content for name, value in _inner(content[section])}
    elif isinstance(content, Mapping) and set(content) == {_NESTED} and isinstance(content[_NESTED], Mapping):
        content = {f"{_NESTED}.{name}": value for name, value in _inner(content[_NESTED])}
    entries = content if isinstance(content, Mapping) else {}
    given = {name: value for name, value in entries.items() if isinstance(value, torch.Tensor)}
    if odd := next((name for name in given if not isinstance(name, str | int)), None):
        raise ModelFileError(f"{path}: one of its tensors has a {type(odd).__name__} for a name; expected text. "
                             "Save the checkpoint again.")
    tensors = {str(name): value for name, value in given.items()}
    if not tensors:
        names = nested_names(content)
        if row := most_probably(names):
            raise ModelFileError(f"{path}: this is {row.sentence}.")
        if what := refusal(dict.fromkeys(names, StoredTensor(dtype="F32", shape=()))):
            raise ModelFileError(f"{path}: this is {what}. Supported today: {SUPPORTED}.")
        if what := _known(content):
            raise ModelFileError(f"{path}: this is {what}. Supported today: {SUPPORTED}.")
        raise ModelFileError(f"{path}: holds no tensors ({_content(content)}); expected a state dict. "
                             "Give the checkpoint itself.")
    if len(tensors) != len(given):
        raise ModelFileError(f"{path}: two of its names are the same as text; expected a distinct name for every tensor. "
                             "Save the checkpoint again.")
    stored = {name: _described(path, name, tensor) for name, tensor in tensors.items()}
    others = sorted(str(name) for name in entries if str(name) not in tensors)
    return tensors, stored, {"not_tensors": ", ".join(others)} if others else {}


def _inner(section: Any) -> list[tuple[str, Any]]:
    return [(str(name), value) for name, value in section.items()] if isinstance(section, Mapping) else [("", section)]


def _known(content: Any) -> str:
    """What a pickle without named tensors is, if it is of a known kind, with an article; otherwise ""."""
    shape = getattr(content, "shape", None)
    if shape is not None and (len(shape) == 1 or (len(shape) == 2 and shape[0] == 1)):
        return (f"an aesthetic gradient, one tensor of shape {list(shape)}, which belongs to a candidate: "
                "aesthetic=AestheticGradient(path=...)")
    if isinstance(content, Mapping) and _TEXTUAL_INVERSION in content:
        return f"a textual inversion, {IS_ADAPTER}"
    pairs = isinstance(content, Mapping) and any(type(key) is int and isinstance(value, list | tuple)
                                                 for key, value in content.items())
    return f"a hypernetwork, {IS_ADAPTER}" if pairs else ""


def _content(content: Any) -> str:
    """What a pickle holds instead of tensors by name: a tensor, or its type and keys."""
    if shape := getattr(content, "shape", None):
        return f"a tensor without a name: one of shape {list(shape)}"
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    keys = [repr(key) for key in sorted(map(str, content))]
    return ascii(f"{type(content).__name__} of [{first_of(keys, 5)}]")[1:-1]


def _described(path: Path, name: str, tensor: Tensor) -> StoredTensor:
    """A tensor's dtype and shape. Raises ModelFileError unless it is dense and the file stores all its values."""
    import torch

    dtype = torch_word(path, name, tensor)
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ModelFileError(f"{path}: {name!r} is a tensor of layout {tensor.layout} on {tensor.device}; expected plain "
                             "values. Save the checkpoint again with dense tensors on the CPU.")
    shape = tuple(tensor.shape)
    # With a stride of 0, a file of a few bytes can declare a tensor of any size.
    if math.prod(shape) * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ModelFileError(f"{path}: {name!r} declares {list(shape)}, more values than the file holds for it; expected "
                             "every value to be stored. Save the checkpoint again with contiguous tensors.")
    return StoredTensor(dtype=dtype, shape=shape)


def torch_word(path: Path, name: str, tensor: Tensor) -> str:
    """A tensor's dtype as safetensors spells it. Raises ModelFileError for a dtype that the format lacks."""
    word = str(tensor.dtype).removeprefix("torch.")
    if word not in TORCH_NAMES:
        raise ModelFileError(f"{path}: {name!r} has the dtype {word}; expected one of {', '.join(TORCH_NAMES)}. "
                             "Convert the model to float16 or float32.")
    return TORCH_NAMES[word]

