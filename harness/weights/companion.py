"""A model that lacks components, with those of a companion folder: a file of a denoiser alone becomes a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.weights.files import ModelFileError, read_json
from harness.weights.folder import denoiser_family
from harness.weights.header_claims import folder_markers, prediction_of, short
from harness.weights.live_module import DIFFUSERS_CLASSES, KINDS
from harness.weights.model import PARTS, ModelFile
from harness.weights.opening import open_components, open_model

_DENOISERS: Final = ("unet", "transformer")
_EXPECTED: Final = "expected the diffusers folder of a model of the same architecture"


def with_companion(model: ModelFile, folder: Path) -> ModelFile:
    """`model` with the components that it lacks and the diffusers folder has. Where the file does not say what it predicts, the
    folder's scheduler does.

    Raises ModelFileError for what is not such a folder, for a folder of another architecture, and for a file whose components are
    not known by name.
    """
    if not any((folder / part).is_dir() for part in _DENOISERS):
        raise ModelFileError(f"base {folder}: found no unet/ or transformer/ in it; {_EXPECTED} as {model.path.name}.")
    if model.structural:
        raise ModelFileError(f"{model.path}: {model.warnings[0]}. It can be merged and inspected, but not be completed with a "
                             "base.")
    if model.encoder_alone:
        raise ModelFileError(f"{model.path}: this is a text encoder alone, which does not show which of a model's encoders it "
                             f"is; expected a file with a denoiser or a VAE. Merge it as model B: Merge(a={folder.name!r}, "
                             f"b={model.path.name!r}, alpha=1, parts={tuple(model.components)!r}).")
    family = model.family or open_model(folder, tolerant=True).family
    _refuse_other_architecture(model, family, folder)
    absent = [part for part in PARTS if part not in model.components and (folder / part).is_dir()]
    companion = open_components(folder, family, [part for part in absent if part not in _DENOISERS or not _denoiser(model)])
    if not companion.components:
        raise ModelFileError(f"{model.path}: lacks no component that the base {folder} has, so none of it would be used. To "
                             f"sample it with the configs of that folder, give config={folder.name!r} in place of base.")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    said = model.prediction or prediction_of((), {}, scheduler if scheduler.is_file() else None)[0]
    components = {**model.components, **companion.components}
    numbering = replace(model.numbering.beside(companion.numbering), whole=model.numbering.whole or companion.numbering.whole)
    return replace(
        model, family=family, companion=companion, odd={**model.odd, **companion.odd}, files={**companion.files, **model.files},
        components={part: components[part] for part in PARTS if part in components}, prediction=said,
        channels=model.channels or companion.channels, numbering=numbering,
        folder_markers=folder_markers(scheduler, family) if "unet" in components and not model.markers else ())


def _denoiser(model: ModelFile) -> str:
    return next((part for part in _DENOISERS if part in model.components), "")


def _refuse_other_architecture(model: ModelFile, family: str, folder: Path) -> None:
    """Raises ModelFileError for a folder of a model of another architecture, by its weights, or by its configs where it has no
    weights of a denoiser."""
    is_of = f"{model.path.name} is a model of the family {family}"
    component = _denoiser(model) or ("transformer" if "transformer" in KINDS.get(family, {}) else "unet")
    config = folder / component / "config.json"
    if not config.is_file():
        raise ModelFileError(f"base {folder}: has no {component}/config.json, but {is_of}; {_EXPECTED}.")
    expected = DIFFUSERS_CLASSES.get(KINDS.get(family, {}).get(component, ""), "")
    if expected and (given := read_json(config).get("_class_name", expected)) != expected:
        raise ModelFileError(f"base {folder}: its {component} is a {short(given)}, but {is_of}, which has a {expected}; "
                             f"{_EXPECTED}.")
    other = denoiser_family(folder) or (_by_config(read_json(config)) if component == "unet" else "")
    if other and not family.startswith(other):
        raise ModelFileError(f"base {folder}: this is a model of the family {other}, but {is_of}; {_EXPECTED}.")
    if unknown := next((part for part in PARTS[2:] if part not in KINDS.get(family, {part}) and (folder / part).is_dir()), ""):
        raise ModelFileError(f"base {folder}: has a {unknown}, but {is_of}, which has none; {_EXPECTED}.")


def _by_config(unet: Mapping[str, Any]) -> str:
    """The family of a U-Net by its config, "sdxl" for its refiner too."""
    return "sdxl" if unet.get("addition_embed_type") == "text_time" else "sd2" if unet.get("use_linear_projection") else "sd1"
