"""Maps the stored tensors of one component to diffusers' names and shapes, with row ranges and scales."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.weights import ldm
from harness.weights.architectures import recognised_name
from harness.weights.constants import is_harmless
from harness.weights.families import SUPPORTED, UnknownArchitectureError
from harness.weights.files import DTYPE_BYTES, ModelFileError
from harness.weights.model import TensorInfo, stored_info
from harness.weights.naming import Spot, locate, unknown_names
from harness.weights.numbering import Numbering
from harness.weights.scaled_codes import SCALE_ENDINGS, Place, scales_of

_FLOATS: Final = ("F16", "BF16", "F32", "F64")
_PROJECTIONS: Final = (".proj_in.weight", ".proj_out.weight")
_STRAYS: Final = 7
"""More unknown names than these, and more than a tenth, make a U-Net that of another model: many of these have most of the names
of Stable Diffusion's."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """The weights of a component by diffusers name, in stored order, and the names that are not weights; of these, `odd` are
    unknown and not the constants that tools store among weights."""

    infos: Mapping[str, TensorInfo]
    unread: tuple[str, ...]
    odd: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a component is expected to be. `tolerant` accepts names that it does not have, if they are few beside the others."""

    component: str
    naming: str
    family: str
    numbering: Numbering
    tolerant: bool = False


def read_component(path: Path, expected: Expected, places: Mapping[str, Place]) -> Component:
    """The component with these tensors; `places` maps names without its prefix. Raises ModelFileError for a name that it does
    not have, unless tolerated, and for a tensor with an impossible shape or dtype."""
    component, naming, numbering = expected.component, expected.naming, expected.numbering
    scales = scales_of(path, component, places)
    names = [name for name in places if not name.endswith(SCALE_ENDINGS)]
    unknown = set(unknown_names(naming, names, numbering))
    odd = tuple(name for name in names if name in unknown and not is_harmless(name))
    refused = ""
    many = 2 * len(odd) > len(names) or (component == "unet" and len(odd) > _STRAYS and 10 * len(odd) > len(names))
    try:
        if odd and (many or not expected.tolerant):
            refused = odd[0]
            locate(naming, odd[:1], numbering)
        spots = locate(naming, [name for name in names if name not in unknown], numbering)
    except KeyError as error:
        kind = UnknownArchitectureError if many else ModelFileError
        known = recognised_name(names)
        said = f"this looks like a model of another family ({known})" if known and refused else f"{component}: {error.args[0]}"
        raise kind(f"{path}: {said}. Supported today: {SUPPORTED}.") from error
    infos = {}
    for key, spot in spots.items():
        info = _info(f"{path}: {component}", spot, places[spot.name])
        scale = _scale(path, places, spot.name, scales[spot.name]) if spot.name in scales else ""
        shape = _diffusers_shape(component, expected.family, key, info.shape)
        infos[key] = info if not scale and shape == info.shape else replace(info, shape=shape, scale=scale)
    used = {spot.name for spot in spots.values()}
    return Component(infos=infos, unread=tuple(name for name in places if name not in used), odd=odd)


def _info(where: str, spot: Spot, place: Place) -> TensorInfo:
    """The tensor at a spot: the whole stored tensor, a third of its rows, or its transpose."""
    stored = place.file.stored[place.source]
    shape, offset, rows = stored.shape, stored.offset, None
    if spot.third is not None:
        if not shape or shape[0] % 3:
            raise ModelFileError(f"{where}: {place.source!r} is {list(shape)}; expected query, key and value stacked, "
                                 "so a multiple of 3 rows. Download it again.")
        third = shape[0] // 3
        rows = (spot.third * third, (spot.third + 1) * third)
        shape = (third, *shape[1:])
        offset = None if offset is None else offset + rows[0] * math.prod(shape[1:]) * DTYPE_BYTES[stored.dtype]
    if spot.transposed:
        if len(shape) != 2:
            raise ModelFileError(f"{where}: {place.source!r} is {list(shape)}; expected a matrix. Download it again.")
        shape = (shape[1], shape[0])
    return replace(stored_info(place.file, place.source), shape=shape, offset=offset, rows=rows, transposed=spot.transposed)


def _diffusers_shape(component: str, family: str, key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in the family's diffusers model, for layers that are a matrix in one layout and a 1x1 convolution in
    another."""
    matrix = False
    if component == "vae":
        matrix = bool(ldm.vae_conv_as_linear([key]))
    elif component == "unet" and key.endswith(_PROJECTIONS):
        if family == "sd1" and len(shape) == 2:
            return (*shape, 1, 1)
        matrix = family in ("sd2", "sdxl", "sdxl_refiner")
    return shape[:2] if matrix and shape[2:] == (1, 1) else shape


def _scale(path: Path, places: Mapping[str, Place], weight: str, scale: str) -> str:
    """The source name of a weight's scale, after checks of its shape and dtype."""
    place, of = places[scale], places[weight]
    stored, shape = place.file.stored[place.source], of.file.stored[of.source].shape
    one = math.prod(stored.shape) == 1
    columns = [(shape[0], *(1,) * (len(shape) - 1))] if shape else []
    # With the older spelling, tools multiply a flat list along the columns, so it is refused.
    per_row = stored.shape in columns or (place.source.endswith(".weight_scale") and stored.shape == shape[:1])
    if stored.dtype not in _FLOATS or not (one or per_row):
        raise ModelFileError(f"{path}: {place.source!r} is {stored.dtype} {list(stored.shape)}; expected one floating-point "
                             f"number, or one per row, as the scale of {of.source!r} {list(shape)}. Give the unquantized model.")
    if place.file.path != of.file.path:
        raise ModelFileError(f"{place.file.path}: {place.source!r} scales {of.source!r}, but is in another file; "
                             "expected both in one file. Give the model as a single file.")
    return place.source
