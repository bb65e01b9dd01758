"""The weight files of a diffusers folder: chooses them, whole or in shards, and checks that none is missing. A file in the
folder can never cause a file outside it to be opened."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from harness.declare.listing import first_of
from harness.own_pipelines.classes import OWN
from harness.weights.architectures import recognised_name
from harness.weights.content import GGUF, content_of
from harness.weights.diffusers_components import namings_of
from harness.weights.families import (
    SUPPORTED,
    UnknownArchitectureError,
    family_of_folder,
    kind_of,
    refusal,
    refuse_other_architecture,
)
from harness.weights.files import ModelFileError, open_shards, read_json
from harness.weights.header_claims import short
from harness.weights.model import PARTS
from harness.weights.safetensors_header import StoredTensor
from harness.weights.scaled_codes import Place
from harness.weights.wrapped_names import twice_named, without_wrapping

_STEMS: Final = ("model", "pytorch_model", "diffusion_pytorch_model")
"""Names of the weight files of text encoders, and of all other components."""
_FOREIGN: Final = ("prior", "decoder", "unet_2", "image_encoder_2")
_NETWORKS: Final = {"controlnet": "a ControlNet", "adapter": "a T2I-Adapter", "motion_adapter": "a motion adapter of AnimateDiff"}
"""Folders of networks that a pipeline uses alongside its model."""
_ELSEWHERE: Final = ("*", "snapshots/*", "*/*")
"""Where in a repository or a cache the folder of a model may be."""
_MOST_LISTED: Final = 200
_LONGEST_NAME: Final = 100
_SUFFIXES: Final = (".safetensors", ".sft", ".ckpt", ".gguf")
_QUANTIZED: Final = (".gguf", ".onnx")


def folder_parts(path: Path) -> tuple[str, dict[str, tuple[str, dict[str, Place]]]]:
    """The family, and {component: (naming, {stored name: place})}. Raises ModelFileError for other folders."""
    present = [component for component in PARTS if (path / component).is_dir()]
    if not present and (bare := _bare(path)):
        return bare
    if network := next((name for name in _NETWORKS if present and (path / name).is_dir()), ""):
        raise ModelFileError(f"{path}: found {network}/, {_NETWORKS[network]}, which is a separate network used alongside a "
                             f"model; expected a model alone. Give a copy of the folder without {network}/.")
    foreign = [name for name in _FOREIGN if (path / name).is_dir()]
    if foreign or not {"unet", "transformer"} & set(present):
        description = f"found {foreign[0]}/" if foreign else "found no unet/ or transformer/ folder"
        kind = UnknownArchitectureError if {"unet", "transformer"} & set(present) or _stems_in(path) else ModelFileError
        advice = f"Supported today: {SUPPORTED}." if foreign else _within(path) or f"Supported today: {SUPPORTED}."
        raise kind(f"{path}: {description}; expected a diffusers folder of a known model. {advice}")
    places, stored = _read_components(path, present)
    family = family_of_folder(stored)
    return family, _named(path, family, places, stored)


def places_of_components(path: Path, family: str, components: Collection[str]) -> dict[str, tuple[str, dict[str, Place]]]:
    """{component: (naming, {stored name: place})} of some components of the folder of a model of a known family."""
    places, stored = _read_components(path, components)
    return _named(path, family, places, stored)


def denoiser_family(path: Path) -> str:
    """The family of the denoiser in a folder, by its names and shapes; "" where it cannot tell, or has no weights."""
    telling = ("unet", "transformer", "text_encoder", "text_encoder_2")
    present = [component for component in telling if (path / component).is_dir()]
    try:
        return family_of_folder(_read_components(path, present)[1])
    except ModelFileError:
        return ""


def _read_components(path: Path, components: Collection[str]
                     ) -> tuple[dict[str, dict[str, Place]], dict[str, dict[str, StoredTensor]]]:
    """The places of the tensors of some components, and these as they are stored."""
    places = {component: _places(path / component, component) for component in components}
    stored = {c: {name: place.file.stored[place.source] for name, place in p.items()} for c, p in places.items()}
    for component, tensors in stored.items():
        if what := refusal(tensors):
            raise ModelFileError(f"{path / component}: this is {what}. Supported today: {SUPPORTED}.")
    for component in {"unet", "transformer"} & stored.keys():
        refuse_other_architecture(path, stored[component])
    return places, stored


def _named(path: Path, family: str, places: Mapping[str, dict[str, Place]], stored: Mapping[str, Mapping[str, StoredTensor]]
           ) -> dict[str, tuple[str, dict[str, Place]]]:
    """The places with the naming of each component. Raises ModelFileError for a component that the family does not have."""
    namings = namings_of(family, stored)
    if strange := [component for component in places if component not in namings]:
        what = family or recognised_name(name for names in stored.values() for name in names) or "unknown family"
        kind = ModelFileError if family else UnknownArchitectureError
        raise kind(f"{path}: found {strange[0]}/, which a model of this kind ({what}) does not have. Supported today: "
                   f"{SUPPORTED}.")
    return {component: (namings[component], places[component]) for component in places}


def denoiser_places(path: Path) -> dict[str, Place]:
    """{stored name: place} of a folder's U-Net or transformer, or of a folder that holds one component alone."""
    inside = next((path / part for part in ("transformer", "unet") if (path / part).is_dir()), path)
    return _read_files(inside, _stems_in(inside) or _STEMS[2:])


def _within(path: Path) -> str:
    """Advice that names the model below a folder that is not one, as in repositories with several and in a hub's cache."""
    below = [inner for pattern in _ELSEWHERE for inner in islice(path.glob(pattern), _MOST_LISTED) if inner.is_dir()]
    marks = ("model_index.json", *PARTS)
    models = [inner for inner in below if any((inner / mark).exists() for mark in marks)]
    models += [file for file in islice(path.glob("*"), _MOST_LISTED) if file.suffix.lower() in _SUFFIXES]
    if not models:
        return ""
    names = sorted(dict.fromkeys(short(str(model.relative_to(path))) for model in models))
    return f"Give what is in it: {first_of(names, between=' or ')}."


def is_bare(path: Path) -> bool:
    """Whether a folder holds the weights of one component, without the model around it."""
    return bool(_stems_in(path)) and not any((path / component).is_dir() for component in PARTS)


def _stems_in(path: Path) -> tuple[str, ...]:
    return tuple(stem for stem in _STEMS if any(file.suffix != ".json" for file in path.glob(f"{stem}*")))


def _bare(path: Path) -> tuple[str, dict[str, tuple[str, dict[str, Place]]]] | None:
    """The same of the folder of one component: a U-Net, a transformer, a VAE or a text encoder. None for other folders."""
    if not (stems := _stems_in(path)):
        return None
    places = _read_files(path, stems)
    stored = {name: place.file.stored[place.source] for name, place in places.items()}
    if what := refusal(stored):
        raise ModelFileError(f"{path}: this is {what}. Supported today: {SUPPORTED}.")
    refuse_other_architecture(path, stored)
    kind = kind_of(stored)
    if kind is None or len(kind.parts) != 1 or kind.parts[0].prefix:
        return None
    part = kind.parts[0]
    encoder = part.component.startswith("text_encoder") and path.name.startswith("text_encoder") and path.name in PARTS
    return kind.family, {path.name if encoder else part.component: (part.naming, places)}


def unopened(path: Path) -> tuple[str, ...]:
    """A warning that names the folders whose weights are not part of the opened model, or (). The safety checker, which
    nearly every older folder has, only judges finished images and is not mentioned."""
    names = sorted(folder.name for folder in path.iterdir() if folder.is_dir() and folder.name not in (*PARTS, "safety_checker")
                   and any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir()))
    listed = first_of([*map(short, names)], 5)
    return (f"folders with weights that do not belong to this model are ignored: {listed}",) if names else ()


def folder_metadata(path: Path) -> dict[str, str]:
    """The pipeline's own entries of model_index.json, as text."""
    index = path / "model_index.json"
    return {k: str(v) for k, v in read_json(index).items() if k.startswith("_")} if index.is_file() else {}


def named_class(path: Path) -> str:
    """The pipeline class that a folder's model_index.json names; "" without one, and for what is not the name of a class."""
    index = path / "model_index.json"
    if not index.is_file():
        return ""
    try:
        name = read_json(index).get("_class_name")
    except ModelFileError:
        return ""
    return name if isinstance(name, str) and name.isidentifier() and len(name) < _LONGEST_NAME else ""


def own_class(path: Path) -> str:
    """The same for a class by which the folder is sampled; "" for all others."""
    name = named_class(path)
    return name if name in OWN else ""


def _places(folder: Path, component: str) -> dict[str, Place]:
    """{stored name: place} of one component, from all its shards. Raises ModelFileError unless the shards match their
    index."""
    return _read_files(folder, _STEMS[:2] if component.startswith("text_encoder") else _STEMS[2:])


def _read_files(folder: Path, stems: tuple[str, ...]) -> dict[str, Place]:
    paths, index = _part_files(folder, stems)
    places: dict[str, Place] = {}
    files = open_shards(paths)
    gone = {without_wrapping(name) for file in files for name in file.gone}
    for path, file in zip(paths, files, strict=True):
        if one_tensor := twice_named(file.stored):
            raise ModelFileError(f"{path}: {one_tensor}.")
        names = {without_wrapping(source): source for source in file.stored}
        if twice := next((name for name in names if name in places), None):
            raise ModelFileError(f"{path}: {twice!r} is in more than one shard; expected it once. Download the folder again.")
        places.update({name: Place(file=file, source=source) for name, source in names.items()})
    for name, shard in index.items():
        plain = without_wrapping(name)
        if plain not in gone and (plain not in places or places[plain].file.path.name != shard):
            raise ModelFileError(f"{folder}: the index says that {name!r} is in {shard}, which does not hold it. "
                                 "Download the folder again.")
    return places


def _part_files(folder: Path, stems: tuple[str, ...]) -> tuple[list[Path], dict[str, str]]:
    """The weight files of one component, and the index of shards ({tensor: file name}), empty for a single file.

    safetensors are preferred to pickles, full precision to fp16 variants.
    """
    for suffix in ("safetensors", "bin"):
        for variant in ("", ".fp16"):
            for stem in stems:
                for index in (folder / f"{stem}.{suffix}.index{variant}.json",
                              folder / f"{stem}{variant}.{suffix}.index.json"):
                    if index.is_file():
                        shards = shards_of(index)
                        return [folder / name for name in sorted(set(shards.values()))], shards
                if (whole := folder / f"{stem}{variant}.{suffix}").is_file():
                    return [whole], {}
    files = sorted(folder.iterdir())
    for file in files:
        if file.suffix.lower() in _QUANTIZED and file.is_file() and not (content := content_of(file)).kind:
            raise ModelFileError(f"{file}: {content.what}; expected {stems[0]}.safetensors beside it. {content.advice}")
        if file.is_file() and content_of(file).kind == GGUF:
            raise ModelFileError(f"{file}: a GGUF file, which is read as a model by itself; expected {stems[0]}.safetensors in "
                                 "this folder. Give the file, not the folder.")
    listed = first_of([short(file.name) for file in files], 8) or "nothing"
    raise ModelFileError(f"{folder}: found {listed}; expected {stems[0]}.safetensors. Download the folder again.")


def shards_of(index: Path) -> dict[str, str]:
    """{tensor: file name} of an index of shards. Raises ModelFileError for names that lead out of its folder."""
    shards: Any = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelFileError(f"{index}: has no weight_map; expected a file name for each tensor. Download the folder again.")
    for name, file in shards.items():
        named = isinstance(file, str) and file.isprintable() and file not in ("", ".", "..")
        if not named or "/" in file or "\\" in file:
            raise ModelFileError(f"{index}: says that {short(name)} is in {short(file)}; expected the name of a file in the same "
                                 "folder. Download the folder again.")
    return shards
