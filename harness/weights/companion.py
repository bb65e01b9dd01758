"""A model that lacks components, with those of a companion folder: a file of a denoiser alone becomes a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness.own_pipelines.classes import reason
from harness.weights.architectures import recognise
from harness.weights.files import ModelFileError, read_json
from harness.weights.folder import denoiser_family, named_class, own_class
from harness.weights.header_claims import folder_markers, prediction_of, short
from harness.weights.live_module import DIFFUSERS_CLASSES, KINDS
from harness.weights.model import PARTS, ModelFile
from harness.weights.module_names import config_of, in_module_names, module_shapes
from harness.weights.opening import open_components, open_model
from harness.weights.structural import COMPONENT

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
        return _in_own_pipeline(model, folder)
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


def folders_used(model: ModelFile) -> frozenset[str]:
    """The subfolders of a model's companion folder whose weights are used."""
    if model.companion is None:
        return frozenset()
    if not model.pipeline:
        return frozenset(model.companion.components)
    return frozenset(inner.name for inner in model.companion.path.iterdir() if inner.is_dir()) - {*_DENOISERS}


def _in_own_pipeline(model: ModelFile, folder: Path) -> ModelFile:
    """The same for a file whose architecture is known by its tensors alone: its denoiser in the names of the folder's module, to
    be sampled by the pipeline that the folder names, which loads all else of the folder."""
    what = model.architecture or "of an unknown architecture"
    if beside := [part for part in model.components if part != COMPONENT]:
        raise ModelFileError(f"{model.path}: holds {' and '.join(beside)} beside its denoiser, which cannot be put into the "
                             "pipeline of a base yet. Give a file of the denoiser alone, or the model as a diffusers folder.")
    pipeline, name = own_class(folder), named_class(folder)
    if not pipeline:
        why = reason(name) if name else "it has no model_index.json that names a pipeline"
        raise ModelFileError(f"base {folder}: {why or f'this is the folder of a {name}'}, but {model.path.name} is {what}; "
                             f"{_EXPECTED}.")
    config = config_of(folder)
    assert config is not None  # a folder of a pipeline has a denoiser, and its loader names what is not there
    theirs = recognise({key: _Shape(shape) for key, shape in module_shapes(config).items()})
    if theirs is not None and model.recognised is not None and theirs.row is not model.recognised.row:
        raise ModelFileError(f"base {folder}: its denoiser is {theirs.name} ({pipeline}), but {model.path.name} is {what}; "
                             f"{_EXPECTED}.")
    named = in_module_names(model, config)
    return replace(named, pipeline=pipeline, companion=replace(
        model, path=folder, components={}, other={}, files={}, warnings=(), odd={}, structural=False))


@dataclass(frozen=True)
class _Shape:
    shape: tuple[int, ...]


def _denoiser(model: ModelFile) -> str:
    return next((part for part in _DENOISERS if part in model.components), "")


def _refuse_other_architecture(model: ModelFile, family: str, folder: Path) -> None:
    """Raises ModelFileError for a folder of a model of another architecture, by its weights, or by its configs where it has no
    weights of a denoiser."""
    is_of = f"{model.path.name} is a model of the family {family}"
    if pipeline := own_class(folder):
        raise ModelFileError(f"base {folder}: this is the folder of a {pipeline}, but {is_of}; {_EXPECTED}.")
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
