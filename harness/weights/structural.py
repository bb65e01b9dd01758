"""Models of architectures that are not known by name: a denoiser whose tensors keep the names of the file, so that two models of
the same names and shapes can be merged, and the VAE and text encoders that are stored beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.declare.listing import first_of
from harness.own_pipelines.classes import REFUSED
from harness.weights.architectures import beside as possibly_beside
from harness.weights.architectures import recognise
from harness.weights.component import Component, Expected, read_component
from harness.weights.constants import is_harmless
from harness.weights.ema import EMA_PREFIX
from harness.weights.families import MARKERS, UnknownArchitectureError
from harness.weights.files import ModelFileError, open_tensors
from harness.weights.folder import denoiser_places, folder_metadata, named_class, own_class, unopened
from harness.weights.header_claims import short
from harness.weights.known_files import most_probably
from harness.weights.ldm import UNET_PREFIX
from harness.weights.model import PARTS, ModelFile, TensorInfo, stored_info
from harness.weights.numbering import Numbering, numbering_of
from harness.weights.opening import open_model, wrapper_of
from harness.weights.scaled_codes import Place
from harness.weights.wrapped_names import twice_named, without_wrapping

COMPONENT: Final = "transformer"
"""What the denoiser is called: most architectures since Stable Diffusion are transformers."""
_PARTS_BY_PREFIX: Final = {
    "vae.": "vae", "first_stage_model.": "vae", "text_encoders.": "text_encoder", "cond_stage_model.": "text_encoder",
    "conditioner.": "text_encoder"}
"""Where files of every architecture keep what is not the denoiser. All text encoders of a file count as one component."""
_LEFTOVERS: Final = (*MARKERS, "logvar", "lvlb_weights", "scale_factor")
"""Tensors at the top level of a file that are not weights."""
_TOKENIZERS: Final = (".spiece_model", ".tekken_model")
_FEWEST: Final = 3
"""Tensors of the smallest file that counts as a model."""


def open_any(path: Path, ema: bool = False, beside: Numbering | None = None) -> ModelFile:
    """The opened model, tolerant of a few unknown names; one of an architecture that is not known by name as a single component.

    Raises ModelFileError for anything that is not a model, and with `ema` for other architectures.
    """
    pipeline = own_class(path) if path.is_dir() else ""
    if pipeline and ema:
        raise ModelFileError(f"{path}: a folder of {pipeline} has no EMA copy; expected one of its denoiser. Remove ema.")
    if pipeline and (model := structural(path)) is not None:
        first, *others = model.warnings
        return replace(model, pipeline=pipeline, warnings=(f"{first}; its folder's {pipeline} samples it", *others))
    try:
        return open_model(path, ema=ema, beside=beside, tolerant=True)
    except ModelFileError as error:
        # A denoiser may look like what a model uses beside it (Kandinsky's like an IP-Adapter), but for what the folder says.
        other = isinstance(error, UnknownArchitectureError) or (path.is_dir() and named_class(path) in REFUSED)
        model = structural(path) if other and not ema else None
        if model is None:
            raise
        return model


def structural(path: Path) -> ModelFile | None:
    """The file or folder by the names of its tensors; None if it has too little of a model. Raises ModelFileError."""
    beside: dict[str, dict[str, Place]] = {}
    leftovers: dict[str, Place] = {}
    if path.is_dir():
        places, wrapper, prefix = denoiser_places(path), "", ""
        metadata, notes = folder_metadata(path), (*_beside(path), *unopened(path))
    else:
        file = open_tensors(path)
        if twice := twice_named(file.stored):
            raise ModelFileError(f"{path}: {twice}.")
        everything = {without_wrapping(source): Place(file=file, source=source) for source in file.stored}
        parts, core, aside = _divided(everything)
        wrapper = wrapper_of(core)
        names = [name for name in core if not is_harmless(name)]
        prefix = UNET_PREFIX if names and all(name.startswith(wrapper + UNET_PREFIX) for name in names) else ""
        beside = {part: {name: everything[name] for name in below} for part, below in parts.items()}
        leftovers = {name: everything[name] for name in aside}
        places = {name.removeprefix(wrapper).removeprefix(prefix): everything[name] for name in core}
        metadata, notes = dict(file.metadata), ()
    read = _as_stored(path, COMPONENT, places)
    if len(read.infos) < _FEWEST or all(len(info.shape) < 2 for info in read.infos.values()):
        return None
    known = recognise(read.infos)
    guess = f"; it is {row.sentence}" if not known and (row := most_probably(read.infos)) else ""
    said = (f"{known.name if known else f'unknown family{guess}'}: its tensors can be merged with those of the same names and "
            f"shapes{f' (prefix {short(wrapper + prefix)})' if wrapper + prefix else ''}")
    components, other = {COMPONENT: read.infos}, {places[name].source: _info(places[name]) for name in read.unread}
    other |= {place.source: _info(place) for place in leftovers.values()}
    for part in (part for part in PARTS if part in beside):
        inside = _vae(path, beside[part]) if part == "vae" else _as_stored(path, part, beside[part])
        components[part] = inside.infos
        sources = {info.source for info in inside.infos.values()}
        other |= {place.source: _info(place) for place in beside[part].values() if place.source not in sources}
    files = {place.file.path: place.file for place in places.values()}
    return ModelFile(path=path, family="", layout="structural", metadata=metadata, files=files, structural=True, other=other,
                     wrapper="" if beside else wrapper, components=components, warnings=(said, *_within(read.infos), *notes),
                     markers=tuple(name for name in MARKERS if name in leftovers),
                     ema=any(name.startswith(EMA_PREFIX) for name in leftovers))


def _divided(names: Iterable[str]) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """{component: names} of what is stored beside the denoiser, the names of the denoiser, and those of no weight. A file without
    a denoiser counts as one."""
    parts: dict[str, list[str]] = {}
    core: list[str] = []
    aside: list[str] = []
    for name in names:
        part = next((part for prefix, part in _PARTS_BY_PREFIX.items() if name.startswith(prefix)), "")
        if name in _LEFTOVERS or name.startswith(EMA_PREFIX) or name.endswith(_TOKENIZERS):
            aside.append(name)
        elif part:
            parts.setdefault(part, []).append(name)
        else:
            core.append(name)
    if sum(not is_harmless(name) for name in core) < _FEWEST:
        return {}, [*core, *(name for below in parts.values() for name in below)], aside
    return parts, core, aside


def _as_stored(path: Path, component: str, places: Mapping[str, Place]) -> Component:
    return read_component(path, Expected(component=component, naming="as-stored", family="", numbering=Numbering()), places)


def _vae(path: Path, places: Mapping[str, Place]) -> Component:
    """A VAE under diffusers' names, which VAEs alone have, if it is one of the known kind; otherwise under its own."""
    below = {name.partition(".")[2]: place for name, place in places.items()}
    expected = Expected(component="vae", naming="vae-ldm", family="", numbering=numbering_of((), below))
    try:
        return read_component(path, expected, below)
    except ModelFileError:
        return _as_stored(path, "vae", places)


def _beside(path: Path) -> tuple[str, ...]:
    """A warning that names the components of a folder that are not read."""
    inside = [part for part in PARTS if (path / part).is_dir() and part not in ("transformer", "unet")]
    return (f"of this folder {' and '.join(inside)} are not read: a file made of it holds the denoiser alone",) if inside else ()


def _within(names: Iterable[str]) -> tuple[str, ...]:
    """A warning for each kind of tensors among those of the denoiser that could be another component's."""
    return tuple(f"{len(group)} tensors among those of the denoiser could be {what}: {first_of([*map(short, group)])}. "
                 "They count as the denoiser's, and are merged like them" for what, group in possibly_beside(names).items())


def _info(place: Place) -> TensorInfo:
    return stored_info(place.file, place.source)
