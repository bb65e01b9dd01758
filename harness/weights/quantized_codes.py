"""Finds weights that are stored as quantized codes in a form that is not read: integers, and fp8 with an unknown scale. Merged
as if they were weights, they would give wrong values in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from harness.declare.listing import first_of
from harness.weights.constants import is_harmless
from harness.weights.files import ModelFileError
from harness.weights.model import ModelFile, TensorInfo
from harness.weights.scaled_codes import SCALE_ENDINGS

_BUFFERS: Final = re.compile(
    r"(.*[._])?(ids?|index|indices|idx|mask|num_batches_tracked|num_updates|steps?|counts?|counters?|version|lengths?|spiece_model)")
"""Names of integers that are no codes: positions, tokens, relative position indices, masks and counters."""
_CODES: Final = re.compile(r"(.*\.)?(q?weight\w*|\w*_data|data|W_q|\w*packed\w*)")
"""Names of tensors that may be codes: of a weight, or of the part of a quantized weight that holds the codes."""
_OF_WEIGHT: Final = re.compile(r"\.weight(_\w+)?(\.\w+)?$")
_SCALE: Final = re.compile(r"\w*(scales?|absmax|amax)(_inv|_reciprocal|_weight|_w)?")
_FORMATS: Final = (("wscales", "SVDQuant (nunchaku)"), ("qzeros", "GPTQ or AWQ"), ("W_q", "HQQ"), ("._data", "quanto"),
                   ("absmax", "bitsandbytes"), ("weight_scale_inv", "block-scaled fp8"), ("g_idx", "GPTQ"))
"""Endings of the tensors by which a format is known. The order matters: the first that a layer has names it."""


def refuse_codes(model: ModelFile, component: str) -> None:
    """Raises ModelFileError, naming file, tensor and format, for weights of a component that are codes and would not be
    multiplied out."""
    tensors = dict(_tensors(model, component))
    by_layer: dict[str, list[str]] = {}
    for name in tensors:
        by_layer.setdefault(_layer(name), []).append(name)
    codes = [(name, beside) for name in tensors if (beside := _codes(name, tensors[name], by_layer)) is not None]
    if not codes:
        return
    name, beside = codes[0]
    info = tensors[name]
    kind = "fp8 codes with a scale that is not read" if info.dtype.startswith("F8") else "integer codes"
    formats = [word for ending, word in _FORMATS for one in (name, *beside) if one.endswith(ending)]
    listed = f" beside it: {first_of([*map(repr, beside)])};" if beside else ""
    more = f", and {len(codes) - 1} more tensors are codes" if len(codes) > 1 else ""
    raise ModelFileError(
        f"{model.path}: {component}: {name!r} ({info.dtype} {list(info.shape)}) is quantized: {kind}"
        f"{f', in the format of {formats[0]}' if formats else ''}{more};{listed} expected plain weights, or scaled fp8, nf4 or "
        "another format of docs/merging.md. Give the unquantized model.")


def _tensors(model: ModelFile, component: str) -> Iterator[tuple[str, TensorInfo]]:
    """The tensors of a component by their names in the file, with those that are stored among them and that it does not have."""
    for info in model.components.get(component, {}).values():
        for part in info.parts or (info,):
            yield part.source, part
    for name in model.odd.get(component, ()):
        if name in model.other:
            yield name.removeprefix(f"{component}/") if model.is_folder else name, model.other[name]


def _codes(name: str, info: TensorInfo, by_layer: Mapping[str, list[str]]) -> list[str] | None:
    """The names of the other tensors of the quantized layer if the tensor is codes, else None."""
    eight, whole = info.dtype.startswith("F8"), info.dtype.startswith(("I", "U"))
    if info.scale or not (eight or whole) or name.endswith(SCALE_ENDINGS):
        return None
    beside = [one for one in by_layer[_layer(name)] if one != name]
    scales = [one for one in beside if _is_scale_of(one, name)]
    if eight:
        return scales or None
    if _BUFFERS.fullmatch(name) or is_harmless(name):
        return None
    return beside if len(info.shape) > 1 or scales or _CODES.fullmatch(name) else None


def _is_scale_of(name: str, weight: str) -> bool:
    """Whether a tensor of the same layer is the scale of a weight by its name."""
    if name.endswith(SCALE_ENDINGS):
        return False
    named = _CODES.fullmatch(weight) is not None
    if name.startswith((f"{weight}_", f"{weight}.")):
        return named or _SCALE.fullmatch(name[len(weight) + 1:]) is not None
    return named and _SCALE.fullmatch(name.rpartition(".")[2]) is not None


def _layer(name: str) -> str:
    """The path of the layer: "blocks.0.q" of blocks.0.q.weight, blocks.0.q.weight._data and blocks.0.q.scale."""
    weight = _OF_WEIGHT.search(name)
    return name[:weight.start()] if weight else name.rpartition(".")[0] or name
