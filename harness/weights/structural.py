"""Models of architectures that are not known by name: one component whose tensors keep the names of the file, so that two models
of the same names and shapes can be merged."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from harness.weights.component import Expected, read_component
from harness.weights.constants import is_harmless
from harness.weights.families import UnknownArchitectureError, architecture
from harness.weights.files import open_tensors
from harness.weights.folder import denoiser_places, folder_metadata, unopened
from harness.weights.header_claims import short
from harness.weights.ldm import UNET_PREFIX
from harness.weights.model import PARTS, ModelFile, TensorInfo
from harness.weights.numbering import Numbering
from harness.weights.opening import open_model, wrapper_of
from harness.weights.scaled_codes import Place

COMPONENT: Final = "transformer"
"""What the one component is called: most architectures since Stable Diffusion are transformers."""
_FEWEST: Final = 3
"""Tensors of the smallest file that counts as a model."""


def open_any(path: Path, ema: bool = False, beside: Numbering | None = None) -> ModelFile:
    """The opened model, tolerant of a few unknown names; one of an architecture that is not known by name as a single component.

    Raises ModelFileError for anything that is not a model, and with `ema` for other architectures.
    """
    try:
        return open_model(path, ema=ema, beside=beside, tolerant=True)
    except UnknownArchitectureError:
        model = None if ema else _structural(path)
        if model is None:
            raise
        return model


def _structural(path: Path) -> ModelFile | None:
    """The file or folder as one component; None if it has too little of a model."""
    if path.is_dir():
        places, wrapper, prefix = denoiser_places(path), "", ""
        metadata, notes = folder_metadata(path), (*_beside(path), *unopened(path))
    else:
        file = open_tensors(path)
        wrapper = wrapper_of(file.stored)
        names = [name for name in file.stored if not is_harmless(name)]
        prefix = UNET_PREFIX if names and all(name.startswith(wrapper + UNET_PREFIX) for name in names) else ""
        places = {name.removeprefix(wrapper).removeprefix(prefix): Place(file=file, source=name) for name in file.stored}
        metadata, notes = dict(file.metadata), ()
    read = read_component(path, Expected(component=COMPONENT, naming="as-stored", family="", numbering=Numbering()), places)
    if len(read.infos) < _FEWEST or all(len(info.shape) < 2 for info in read.infos.values()):
        return None
    known = architecture(read.infos)
    said = (f"the architecture is not known by name{f', it looks like {known}' if known else ''}: its tensors can be merged with "
            f"those of the same names and shapes{f' (prefix {short(wrapper + prefix)})' if wrapper + prefix else ''}")
    files = {place.file.path: place.file for place in places.values()}
    other = {places[name].source: _info(places[name]) for name in read.unread}
    return ModelFile(path=path, family="", layout="structural", metadata=metadata, files=files, wrapper=wrapper, structural=True,
                     components={COMPONENT: read.infos}, other=other, warnings=(said, *notes))


def _beside(path: Path) -> tuple[str, ...]:
    """A warning that names the components of a folder that are not read."""
    inside = [part for part in PARTS if (path / part).is_dir() and part not in ("transformer", "unet")]
    return (f"of this folder {' and '.join(inside)} are not read: a file made of it holds the denoiser alone",) if inside else ()


def _info(place: Place) -> TensorInfo:
    stored = place.file.stored[place.source]
    return TensorInfo(source=place.source, file=place.file.path, dtype=stored.dtype, shape=stored.shape, offset=stored.offset)
