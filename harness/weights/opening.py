"""Opens a model of any known family, a single file or a diffusers folder, and checks every name in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.declare.listing import first_of
from harness.weights import ldm
from harness.weights.component import Expected, read_component
from harness.weights.constants import DENOISER_WRAPPERS, is_harmless
from harness.weights.content import misnamed
from harness.weights.diffusers_components import components_in_one
from harness.weights.ema import EMA_PREFIX, plain_names
from harness.weights.families import (
    EMA_UNET,
    SUPPORTED,
    Kind,
    Part,
    UnknownArchitectureError,
    kind_of,
    refusal,
    refuse_other_architecture,
)
from harness.weights.files import ModelFileError, StoredTensor, TensorFile, open_tensors
from harness.weights.folder import folder_metadata, folder_parts, places_of_components, unopened
from harness.weights.header_claims import contradictions, folder_markers, position_ids_state, prediction_of, said_family, short
from harness.weights.model import MARKERS, PARTS, ModelFile, TensorInfo, stored_info
from harness.weights.numbering import Numbering, numbering_of
from harness.weights.scaled_codes import Place
from harness.weights.wrapped_names import plain_name, twice_named, without_wrapping

_WRAPPERS: Final = ("model.", "net.")
"""Prefixes that Lightning and trainers of transformers add to every name."""
_OF_ENCODERS: Final = tuple(f"transformer.{part}." for part in ("text_model", "resblocks", "encoder", "shared", "embeddings"))
"""Names of text encoders, of which `transformer.` is a part."""
_LAST_LAYER: Final = "cond_stage_model.model.transformer.resblocks."
"""Where Stable Diffusion 2 has its text encoder's layers, of which it does not use the last."""
_CHANNELS_AT: Final = ("conv_in.weight", "img_in.weight", "x_embedder.proj.weight", "pos_embed.proj.weight", "x_embedder.weight")


def open_model(path: Path, ema: bool = False, beside: Numbering | None = None, tolerant: bool = False) -> ModelFile:
    """Opens a model and checks every name in it; with `ema`, its U-Net is the file's EMA copy. `beside` says how another
    model of the same architecture numbers its blocks, for a file that leaves it open. `tolerant` accepts some unknown names
    among the weights of a component and lists them as `odd`.

    Raises ModelFileError for a file that is not a model, for other families and adapters (naming them), for a tensor under
    a component's prefix that the component does not have, and, with `ema`, for a missing or incomplete EMA copy (naming the
    missing tensors).
    """
    model = _open_folder(path, beside, tolerant) if path.is_dir() else _open_single(path, beside, tolerant)
    if not model.components and not model.ema_component:
        if model.other and all(plain_name(name, model.wrapper).startswith(_LAST_LAYER) for name in model.other):
            raise ModelFileError(f"{path}: its {len(model.other)} tensors are of the last layer of Stable Diffusion 2's text "
                                 "encoder, which no picture uses; expected other tensors. There is nothing to merge.")
        raise ModelFileError(f"{path}: none of its {len(model.other)} tensors is a weight of a known model (first: "
                             f"{first_of([*map(short, model.other)])}). Supported today: {SUPPORTED}.")
    model = _with_ema(model) if ema else model
    return replace(model, warnings=(*model.warnings, *_warnings(model)))


def _open_single(path: Path, beside: Numbering | None, tolerant: bool) -> ModelFile:
    file = open_tensors(path)
    wrapper = wrapper_of(map(without_wrapping, file.stored))
    if one_tensor := twice_named(file.stored, wrapper):
        raise ModelFileError(f"{path}: {one_tensor}.")
    names = {plain_name(name, wrapper): name for name in file.stored}
    stored = {name: file.stored[source] for name, source in names.items()}
    kind = _kind(path, stored)
    parts, rest = _by_part(stored, kind.parts)
    unet, vae = ([name for part, below in parts.items() if part.component == one for name in below] for one in ("unet", "vae"))
    numbering = _numbering([*unet, *plain_names(rest)], vae, kind.family, beside)
    components: dict[str, dict[str, TensorInfo]] = {}
    odd: dict[str, tuple[str, ...]] = {}
    for part, below in parts.items():
        places = {name: Place(file=file, source=names[whole]) for name, whole in below.items()}
        read = read_component(path, Expected(component=part.component, naming=part.naming, family=kind.family,
                                             numbering=numbering, tolerant=tolerant), places)
        infos = read.infos
        if twice := sorted(infos.keys() & components.get(part.component, {}).keys()):
            other = components[part.component][twice[0]].source
            raise ModelFileError(f"{path}: {infos[twice[0]].source!r} and {other!r} are the same tensor of "
                                 f"{part.component}; expected only one. Remove the other.")
        components.setdefault(part.component, {}).update(infos)
        rest += [part.prefix + name for name in read.unread]
        if read.odd:
            odd[part.component] = (*odd.get(part.component, ()), *(places[name].source for name in read.odd))
    prediction, notes = prediction_of([m for m in MARKERS if m in names], file.metadata, None)
    if note := misnamed(path, file.kind):
        notes = (*notes, note)
    left_over = set(rest)
    known = {name: source for name, source in names.items() if name in left_over}
    return ModelFile(
        path=path, layout=kind.layout, metadata=file.metadata, files={path: file}, wrapper=wrapper,
        family=kind.family or said_family(file.metadata)[0], components=_ordered(components), prediction=prediction,
        markers=tuple(name for name in MARKERS if name in known), warnings=notes,
        other={source: stored_info(file, source) for source in known.values()},
        ema=any(name.startswith(EMA_PREFIX) for name in known), channels=_channels(components),
        ema_component=_ema_component(path, file, kind.family, known, numbering), numbering=numbering, odd=odd)


def open_components(folder: Path, family: str, components: Collection[str]) -> ModelFile:
    """These components of the diffusers folder of a model of this family. Raises ModelFileError."""
    parts = places_of_components(folder, family, components)
    return _of_places(folder, family, parts, beside=None, tolerant=True)


def _open_folder(path: Path, beside: Numbering | None, tolerant: bool) -> ModelFile:
    family, parts = folder_parts(path)
    return _of_places(path, family, parts, beside, tolerant)


def _of_places(path: Path, family: str, parts: Mapping[str, tuple[str, dict[str, Place]]], beside: Numbering | None,
               tolerant: bool) -> ModelFile:
    unet, vae = (parts[one][1] if one in parts else () for one in ("unet", "vae"))
    numbering = _numbering(unet, vae, family, beside)
    components: dict[str, dict[str, TensorInfo]] = {}
    other: dict[str, TensorInfo] = {}
    odd: dict[str, tuple[str, ...]] = {}
    files: dict[Path, TensorFile] = {}
    for component, (naming, places) in parts.items():
        files.update({place.file.path: place.file for place in places.values()})
        read = read_component(path / component, Expected(component=component, naming=naming, family=family,
                                                         numbering=numbering, tolerant=tolerant), places)
        components[component] = dict(read.infos)
        other.update({f"{component}/{name}": stored_info(places[name].file, places[name].source) for name in read.unread})
        if read.odd:
            odd[component] = tuple(f"{component}/{name}" for name in read.odd)
    metadata = folder_metadata(path)
    # The U-Net of a model may be given alone, and the model's scheduler lies beside it.
    alone = path.name in parts and not (path / path.name).is_dir() and (path.parent / "model_index.json").is_file()
    scheduler = (path.parent if alone else path) / "scheduler" / "scheduler_config.json"
    prediction, notes = prediction_of((), metadata, scheduler)
    return ModelFile(path=path, family=family, layout="diffusers", metadata=metadata, files=files, prediction=prediction,
                     components=_ordered(components), other=other, channels=_channels(components), numbering=numbering,
                     folder_markers=folder_markers(scheduler, family) if "unet" in components else (), odd=odd,
                     warnings=(*notes, *unopened(path)))


def _numbering(unet: Iterable[str], vae: Iterable[str], family: str, beside: Numbering | None) -> Numbering:
    own = numbering_of(unet, vae).of_family(family)
    return own.beside(beside) if beside else own


def _kind(path: Path, stored: Mapping[str, StoredTensor]) -> Kind:
    if what := refusal(stored):
        raise ModelFileError(f"{path}: this is {what}. Supported today: {SUPPORTED}.")
    if not stored:
        raise ModelFileError(f"{path}: its header is sound, but it holds no tensors: whatever saved it had nothing to save. "
                             "Save or download it again.")
    refuse_other_architecture(path, stored)
    if (kind := components_in_one(stored) or kind_of(stored)) is None:
        first = first_of([*map(short, sorted(stored))])
        raise UnknownArchitectureError(f"{path}: none of its {len(stored)} tensors is a part of a known model (first: {first}). "
                                       f"Supported today: {SUPPORTED}.")
    return kind


def wrapper_of(names: Iterable[str]) -> str:
    """The prefix of all names that is not part of any; in `model.diffusion_model.`, `model.` is part of the name."""
    wrapper = ""
    inner = [name for name in names if not is_harmless(name) and name not in MARKERS]
    for _ in range(4):
        prefix = next((w for w in (*DENOISER_WRAPPERS, *_WRAPPERS)
                       if inner and all(name.startswith(w) and len(name) > len(w) for name in inner)), "")
        if not prefix or any(name.startswith(_OF_ENCODERS) for name in inner) or (
                prefix not in DENOISER_WRAPPERS and any(name.startswith(ldm.UNET_PREFIX) for name in inner)):
            break
        wrapper += prefix
        inner = [name.removeprefix(prefix) for name in inner]
    return wrapper


def _by_part(stored: Iterable[str], parts: Iterable[Part]) -> tuple[dict[Part, dict[str, str]], list[str]]:
    """{part: {name without its prefix: name}}, and all other names."""
    names_by_part: dict[Part, dict[str, str]] = {}
    rest = []
    longest_first = sorted(parts, key=lambda part: -len(part.prefix))
    for name in stored:
        part = next((p for p in longest_first if name.startswith(p.prefix)), None)
        if part is None or (not part.prefix and (name in MARKERS or name.startswith(EMA_PREFIX))):
            rest.append(name)
        else:
            names_by_part.setdefault(part, {})[name.removeprefix(part.prefix)] = name
    return names_by_part, rest


def _ordered(components: Mapping[str, Mapping[str, TensorInfo]]) -> dict[str, Mapping[str, TensorInfo]]:
    return {component: components[component] for component in PARTS if components.get(component)}


def _ema_component(path: Path, file: TensorFile, family: str, rest: Mapping[str, str], numbering: Numbering
                   ) -> dict[str, TensorInfo]:
    """The EMA copy of the U-Net by diffusers names; empty if the averaged tensors belong to something else."""
    plain = plain_names(rest)
    if not plain:
        return {}
    places = {name: Place(file=file, source=rest[flat]) for name, flat in plain.items()}
    try:
        ldm.unet_to_diffusers(places, numbering)
    except KeyError:
        return {}
    return dict(read_component(path, Expected(component="unet", naming="unet-ldm", family=family, numbering=numbering),
                               places).infos)


def _channels(components: Mapping[str, Mapping[str, TensorInfo]]) -> int:
    """Inputs of the denoiser's first layer: columns of its matrix, or channels of its convolution."""
    core = components.get("unet") or components.get("transformer") or {}
    shape = next((core[key].shape for key in _CHANNELS_AT if key in core), ())
    return shape[1] if len(shape) > 1 else 0


def _warnings(model: ModelFile) -> tuple[str, ...]:
    warnings = list(contradictions(model, said_family(model.metadata)))
    for name in model.position_ids:
        info = model.other[name]
        if warning := position_ids_state(model.files[info.file], info.source):
            warnings.append(warning)
    averaged = {info.source for info in model.ema_component.values()}
    unmapped = [name for name in model.other if plain_name(name, model.wrapper).startswith(EMA_UNET) and name not in averaged]
    if unmapped:
        warnings.append(f"{len(unmapped)} EMA tensors match no name of a U-Net: {first_of([*map(short, unmapped)])}")
    if model.ema_component and "unet" not in model.components:
        warnings.append(f"the U-Net is stored only as its EMA copy ({len(model.ema_component)} tensors); open it with EMA")
    elif missing := _missing_of_ema(model):
        warnings.append(f"the EMA copy of the U-Net lacks {len(missing)} of {len(model.components['unet'])} tensors: "
                     f"{first_of([*map(short, missing)])}")
    for component, names in model.odd.items():
        warnings.append(f"{len(names)} tensors among those of {component} are unknown: {first_of([*map(short, names)])}")
    odd = {name for names in model.odd.values() for name in names}
    if strays := [name for name in model.strays if name not in odd]:
        twice = sum(bool(model.second_name_of(name)) for name in strays)
        warnings.append(f"{len(strays)} tensors belong to no component: {first_of([*map(short, strays)])}" + (
            f"; {twice} of them are in the file under their whole names too" if twice else ""))
    return tuple(warnings)


def _missing_of_ema(model: ModelFile) -> list[str]:
    """The tensors of the plain U-Net that its EMA copy lacks or has in another shape; empty without an EMA copy."""
    if not model.ema_component:
        return []
    return [key for key, info in model.components.get("unet", {}).items()
            if key not in model.ema_component or model.ema_component[key].shape != info.shape]


def _with_ema(model: ModelFile) -> ModelFile:
    if not model.ema_component:
        raise ModelFileError(f"{model.path}: has no EMA copy of a U-Net (no names like 'model_ema.diffusion_model...'); expected "
                             "one. Open it without EMA.")
    if missing := _missing_of_ema(model):
        raise ModelFileError(f"{model.path}: its EMA copy lacks {len(missing)} tensors of the U-Net: "
                             f"{first_of([*map(repr, missing)], 5)}. "
                             "Open it without EMA, or give a file with a complete copy.")
    components = {**model.components, "unet": model.ema_component}
    return replace(model, components=_ordered(components), uses_ema=True, channels=_channels(components))
