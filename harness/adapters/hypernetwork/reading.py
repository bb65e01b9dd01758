"""Reads untrusted hypernetwork files of A1111 into the layers of their networks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.adapter_file import quoted
from harness.adapters.live_plan import AdapterError
from harness.adapters.open_adapter import kind_of
from harness.adapters.pickled import pickled_content
from harness.weights.content import PICKLE

if TYPE_CHECKING:
    from torch import Tensor

ACTIVATIONS: Final[Mapping[str, str]] = {
    "relu": "relu", "leakyrelu": "leaky_relu", "elu": "elu", "swish": "hardswish", "tanh": "tanh", "sigmoid": "sigmoid",
    "softsign": "softsign", "hardswish": "hardswish", "silu": "silu", "gelu": "gelu", "mish": "mish", "selu": "selu",
    "celu": "celu", "relu6": "relu6", "hardtanh": "hardtanh", "hardsigmoid": "hardsigmoid", "hardshrink": "hardshrink",
    "softshrink": "softshrink", "tanhshrink": "tanhshrink", "softplus": "softplus", "logsigmoid": "logsigmoid",
}
"""A file's name for an activation, and its name in torch.nn.functional, with torch's default parameters. A1111 accepts the
lower-case name of every class in torch.nn.modules.activation; those left out have weights, change the width or need a
parameter. Its "swish" is torch's Hardswish, not x * sigmoid(x), and the files were trained with Hardswish."""
_COUNTS: Final = ("layer_structure", "activation_func", "is_layer_norm", "activate_output")
_TRAINING: Final = ("optimizer_state_dict", "optimizer_name", "use_dropout", "dropout_structure", "last_layer_dropout",
                    "weight_initialization", "weight_init")
"""Settings that matter only for training; dropout does nothing at inference."""
_OLD_NAMES: Final = {"linear1": "linear.0", "linear2": "linear.1"}
_TENSOR: Final = re.compile(r"linear\.(\d{1,3})\.(weight|bias)")
_WIDEST: Final = 65536


@dataclass(frozen=True, kw_only=True)
class Layer:
    """y = norm(activation(weight x + bias)), float32; weight (out, in). `activation` is a name in torch.nn.functional or empty,
    `norm` the weight and bias (out,) of a layer norm."""

    weight: Tensor
    bias: Tensor
    activation: str = ""
    norm: tuple[Tensor, Tensor] | None = None


MLP = tuple[Layer, ...]


@dataclass(frozen=True, kw_only=True)
class Hypernetwork:
    """The content of a file. `layers` maps a context width to the networks for keys and for values. `keys` are by component
    and status as in an AdapterPlan: applied tensors ("768.0.linear.0.weight": width, 0 for keys or 1 for values, name) and
    consumed settings. `facts` are the file's other entries."""

    source: str
    layers: Mapping[int, tuple[MLP, MLP]]
    keys: Mapping[str, Mapping[str, tuple[str, ...]]]
    facts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """Layer widths relative to the context's, the activation of each layer, and whether a norm follows each."""

    structure: tuple[float, ...]
    activations: tuple[str, ...]
    normed: bool

    def describe(self) -> str:
        return (f"the layer_structure {list(self.structure)} with the activation {self.activations[0] or 'linear'!r} and "
                f"{'' if self.normed else 'no '}layer norm")


def recognises(content: object) -> bool:
    """Whether the content of a pickle is a hypernetwork: pairs under integer keys, which no other adapter file has."""
    return isinstance(content, Mapping) and any(type(key) is int and isinstance(value, list | tuple)
                                                for key, value in content.items())


def is_hypernetwork(path: Path) -> bool:
    """Whether a file is a hypernetwork; False if it cannot be read."""
    try:
        return path.is_file() and kind_of(path) == PICKLE and recognises(pickled_content(path))
    except AdapterError:
        return False


def read_hypernetwork(path: Path) -> Hypernetwork:
    """Reads an untrusted file. Raises AdapterError, naming file and key, for anything unknown or invalid."""
    path = Path(path)
    if kind_of(path) != PICKLE:
        raise AdapterError(f"{path}: a safetensors file; expected a hypernetwork, which is saved as a pickle alone")
    content = pickled_content(path)
    if not recognises(content):
        raise AdapterError(f"{path}: not a hypernetwork; expected a pair of networks under each width, such as 768")
    return _read(path.name, content)


def _read(source: str, content: Mapping[Any, Any]) -> Hypernetwork:
    settings = _settings(source, content)
    layers: dict[int, tuple[MLP, MLP]] = {}
    applied: list[str] = []
    facts: dict[str, str] = {}
    for key, value in content.items():
        if type(key) is int:
            layers[key] = _pair(source, key, value, settings)
            applied += [f"{key}.{half}.{name}" for half in (0, 1) for name in value[half]]
        elif not isinstance(key, str):
            raise AdapterError(f"{source}: {quoted(str(key))} is a {type(key).__name__}; expected widths and names of settings")
        elif key not in (*_COUNTS, *_TRAINING):
            if not (value is None or isinstance(value, str | int | float)):
                raise AdapterError(f"{source}: {quoted(key)} is an unknown {type(value).__name__}; expected networks under "
                                   "widths, and plain settings")
            facts[key] = str(value)[:500]
    facts |= {"layer_structure": ", ".join(f"{part:g}" for part in settings.structure), "layer_norm": str(settings.normed),
              "activations": ", ".join(name or "linear" for name in settings.activations)}
    consumed = tuple(key for key in (*_COUNTS, *_TRAINING) if key in content)
    return Hypernetwork(source=source, layers=layers, facts=facts,
                        keys={"unet": {"applied": tuple(applied), "consumed": consumed}})


def _settings(source: str, content: Mapping[Any, Any]) -> _Settings:
    """The structure of all networks in the file.

    The order within a layer is always linear, activation, norm, dropout. A1111's versions differ in two ways: the
    activation followed the last layer too until `activate_output` was introduced, so a file without that setting means yes;
    and the first files (linear1, linear2) had no settings: two layers, nothing between them.
    """
    structure = content.get("layer_structure")
    structure = [1, 2, 1] if structure is None else structure
    if not isinstance(structure, list | tuple) or not 2 <= len(structure) <= 64 or not all(
            type(part) in (int, float) and math.isfinite(part) and part > 0 for part in structure) or (
            structure[0] != 1 or structure[-1] != 1):
        raise AdapterError(f"{source}: layer_structure is {quoted(str(structure))}; expected positive numbers from 1 to 1, "
                           "such as [1, 2, 1]")
    word = content.get("activation_func")
    word = "linear" if word is None else word
    if not isinstance(word, str) or word not in ("linear", *ACTIVATIONS):
        raise AdapterError(f"{source}: activation_func is {quoted(str(word))}; known are linear, {', '.join(ACTIVATIONS)}")
    flags = {name: content.get(name) for name in ("is_layer_norm", "activate_output")}
    if wrong := [name for name, value in flags.items() if not (value is None or isinstance(value, bool | int))]:
        raise AdapterError(f"{source}: {wrong[0]} is {quoted(str(flags[wrong[0]]))}; expected true or false")
    count = len(structure) - 1
    function = ACTIVATIONS.get(word, "")
    last = function if flags["activate_output"] is None or flags["activate_output"] else ""
    return _Settings(structure=tuple(structure), activations=(*[function] * (count - 1), last),
                     normed=bool(flags["is_layer_norm"]))


def _pair(source: str, width: int, value: Any, settings: _Settings) -> tuple[MLP, MLP]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise AdapterError(f"{source}: {width} is a {type(value).__name__} of {_count(value)}; expected a pair, the network of "
                           "keys and that of values")
    sizes = [int(width * part) for part in settings.structure]
    if width < 1 or min(sizes) < 1 or max(sizes) > _WIDEST:
        raise AdapterError(f"{source}: {width} with the layer_structure {list(settings.structure)} makes layers of {sizes}; "
                           f"expected widths from 1 to {_WIDEST}")
    keys, values = (_network(where, _tensors(where, half), sizes, settings)
                    for where, half in ((f"{source}: {width}.{number}", value[number]) for number in (0, 1)))
    return keys, values


def _tensors(where: str, half: object) -> dict[tuple[int, str], Tensor]:
    """The tensors of one network by (place, "weight" or "bias"), float32."""
    import torch

    if not isinstance(half, Mapping) or not half:
        raise AdapterError(f"{where} is a {type(half).__name__} of {_count(half)}; expected a network's tensors by name")
    tensors_by_place: dict[tuple[int, str], Tensor] = {}
    for name, tensor in half.items():
        shown_name = f"{where}.{quoted(str(name))}"
        start, _, end = str(name).partition(".")
        place = _TENSOR.fullmatch(f"{_OLD_NAMES[start]}.{end}" if start in _OLD_NAMES else str(name))
        if place is None:
            raise AdapterError(f"{shown_name} is not the name of a hypernetwork's tensor; expected a name like linear.0.weight")
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise AdapterError(f"{shown_name} is a {getattr(tensor, 'dtype', type(tensor).__name__)}; expected a "
                               "floating-point tensor")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise AdapterError(f"{shown_name} declares {list(tensor.shape)}, more numbers than the file holds; save it again")
        if not bool(tensor.isfinite().all()):
            raise AdapterError(f"{shown_name} contains NaN or infinity")
        if (int(place[1]), place[2]) in tensors_by_place:
            raise AdapterError(f"{shown_name} appears twice in the file, under its old and its new name")
        tensors_by_place[int(place[1]), place[2]] = tensor.detach().float()
    return tensors_by_place


def _network(where: str, tensors: Mapping[tuple[int, str], Tensor], sizes: list[int], settings: _Settings) -> MLP:
    """The layers. Places count activations and dropout too, so they must match the settings. Raises AdapterError if they do
    not, which detects a wrong activation setting (except after the last layer)."""
    unused = dict(tensors)
    place = 0
    layers = []

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        if (place, name) not in unused:
            raise AdapterError(f"{where}.linear.{place}.{name} is missing; {_places(tensors)} do not fit {settings.describe()}")
        tensor = unused.pop((place, name))
        if tuple(tensor.shape) != shape:
            raise AdapterError(f"{where}.linear.{place}.{name} has shape {tuple(tensor.shape)}; expected {shape}")
        return tensor

    for number, activation in enumerate(settings.activations):
        if number and (place, "weight") not in unused and (place + 1, "weight") in unused:
            place += 1  # dropout, which has no tensors
        inner, outer = sizes[number], sizes[number + 1]
        weight, bias = take("weight", (outer, inner)), take("bias", (outer,))
        place += 2 if activation else 1
        norm = None
        if settings.normed:
            norm = take("weight", (outer,)), take("bias", (outer,))
            place += 1
        layers.append(Layer(weight=weight, bias=bias, activation=activation, norm=norm))
    if unused:
        raise AdapterError(f"{where}: {_places(unused)} are left over; they do not fit {settings.describe()}")
    return tuple(layers)


def _places(tensors: Mapping[tuple[int, str], Tensor]) -> str:
    return ", ".join(f"linear.{place}.{name}" for place, name in sorted(tensors))


def _count(value: object) -> str:
    return f"{len(value)}" if hasattr(value, "__len__") else "no parts"
