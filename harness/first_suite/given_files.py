"""What the files on a command line are, by their headers, and which of them cannot be tried together."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness import zoo
from harness.adapters import AdapterError, recognise_file
from harness.adapters.checkpoint_sweep import FAMILIES
from harness.check.sizes import has_zoo_sizes
from harness.declare.nearest import did_you_mean
from harness.hub import HubError, identity_of, is_path, place
from harness.weights import ModelFile, ModelFileError, open_model, read_header
from harness.weights.folder import own_class
from harness.weights.header_claims import short
from harness.weights.live_module import components_of
from harness.weights.training_files import saved_at

TITLES: Final = {"sd1": "Stable Diffusion 1", "sd2": "Stable Diffusion 2", "sdxl": "Stable Diffusion XL",
                 "sdxl_refiner": "Stable Diffusion XL refiner", "flux": "Flux.1", "sd3": "Stable Diffusion 3"}
_WITHOUT_WEIGHT: Final = {"textual-inversion": "a textual inversion", "hypernetwork": "a hypernetwork"}
_EYES: Final = ("visual.", "vision_model.")
"""Where CLIP models keep what looks at images."""
_DENOISERS: Final = ("unet", "transformer")
MOST_FILES: Final = 200


class UnfitFileError(ValueError):
    """A file that cannot be tried; the message names it and says what to do."""


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """A whole model. `built_in` models have the sizes of the zoo's, `v_prediction` predicts v, and the weights of `packed` ones
    are in a GGUF format, in which results are not written."""

    path: str
    family: str
    says: str
    built_in: bool = False
    v_prediction: bool = False
    packed: bool = False


@dataclass(frozen=True, kw_only=True)
class GivenAdapter:
    """A LoRA or one of its relatives. `base` is what it was made for, as far as its tensors show."""

    path: str
    base: str
    says: str


def look(paths: Sequence[str], adapters: Sequence[str]) -> tuple[list[GivenModel], list[GivenAdapter]]:
    """The models among `paths`, and the adapters among both. Patterns stand for the files that they match. Raises UnfitFileError
    for what is neither, or does not fit the rest."""
    _refuse_twice([path for path in (*paths, *adapters) if not is_path(path) or Path(path).exists()])
    models: list[GivenModel] = []
    found: list[GivenAdapter] = []
    for path in _expanded(paths):
        one = _model_or_adapter(path)
        models += [one] if isinstance(one, GivenModel) else []
        found += [one] if isinstance(one, GivenAdapter) else []
    known = {_absolute(adapter.path) for adapter in found}
    # Of a pattern that the shell replaced the first file alone is behind --lora, and the others are among the paths.
    found = [*(_adapter(path) for path in _expanded(adapters) if _absolute(path) not in known), *found]
    if not models:
        raise UnfitFileError(f"{found[0].path if found else 'no file'}: there is no model among the files; give the model that "
                             "it is used with first, as in: sweetspot try model.safetensors --lora lora.safetensors")
    _refuse_twice([*(model.path for model in models), *(adapter.path for adapter in found)],
                  ", or a pattern that leaves one of them out")
    _refuse_misfits(models, found)
    return models, found


def _refuse_twice(paths: Sequence[str], another_way: str = "") -> None:
    """Raises UnfitFileError for a file that is given twice, under one path or two, or by a link to it. Patterns may overlap."""
    first: dict[str, str] = {}
    for path in paths:
        file = identity_of(path, Path())
        if file in first:
            raise UnfitFileError(f"{first[file]!r} and {path!r} are the same file; give it once{another_way}")
        first[file] = path


def _expanded(paths: Sequence[str]) -> list[str]:
    """The files behind patterns, which some shells leave as they are; each once, however the patterns spell its path."""
    files: list[str] = []
    for path in paths:
        if not is_path(path) or Path(path).exists() or not glob.has_magic(path):
            files.append(path)
        elif matching := sorted(glob.glob(path, recursive=True))[:MOST_FILES + 1]:  # noqa: PTH207 - see checkpoint_sweep
            if len(matching) > MOST_FILES:
                raise UnfitFileError(f"{path!r} matches more than {MOST_FILES} files; give the files of one training")
            files += matching
        else:
            raise UnfitFileError(f"{path!r} matches no file")
    first: dict[str, str] = {}
    for path in files:
        first.setdefault(_absolute(path), path)
    return list(first.values())


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if is_path(path) else path


def _place(path: str) -> Path:
    if path.startswith("zoo:"):
        if path not in zoo.NAMES:
            raise UnfitFileError(f"unknown built-in model {path!r}; {did_you_mean(path, zoo.NAMES)}")
        return zoo.resolve(path)
    if not is_path(path):
        try:
            return place(path, Path())
        except HubError as error:
            raise UnfitFileError(str(error)) from None
    if not path:
        raise UnfitFileError("a file's path is empty; expected the path of a model or an adapter")
    if not Path(path).exists():
        beside = [file.name for file in Path(path).parent.glob("*.safetensors")] if Path(path).parent.is_dir() else []
        near = f"; {did_you_mean(Path(path).name, beside, list_known=False)}" if beside else ""
        raise UnfitFileError(f"{path!r} does not exist below {Path.cwd()}{near.rstrip('; ')}")
    return Path(path)


def _model_or_adapter(path: str) -> GivenModel | GivenAdapter:
    place = _place(path)
    if place.is_dir() and (pipeline := own_class(place)):
        raise UnfitFileError(f"{path!r} is sampled by its own pipeline, {pipeline}, of which neither the size nor the steps are "
                             f"known here. Write a suite file: Candidate(model={path!r}) in a Grid with sampler='own', and the "
                             "size and the steps of its model card")
    try:
        model = open_model(place, tolerant=True)
    except (ModelFileError, OSError) as error:
        try:
            return _adapter(path)
        except UnfitFileError:
            _refuse_clip(path, place)
            raise UnfitFileError(str(error)) from None
    return _model(path, model)


def _refuse_clip(path: str, place: Path) -> None:
    """Raises UnfitFileError for a CLIP model, which no other reader knows by name."""
    with suppress(ModelFileError, OSError):
        if any(name.startswith(_EYES) for name in read_header(place)[0]):
            raise UnfitFileError(f"{path!r} is a CLIP model, which scores images and is not merged; give it as "
                                 f"--clip ARCHITECTURE:{path}")


def _model(path: str, model: ModelFile) -> GivenModel:
    denoiser = next((part for part in _DENOISERS if part in model.components), "")
    if not denoiser:
        raise UnfitFileError(_a_part(path, model))
    if model.channels in (8, 9) and not has_zoo_sizes(model):
        raise UnfitFileError(f"{path!r} is a model with {model.channels} input channels, for inpainting or editing, which does "
                             "not draw from text alone; give a model that does")
    if model.family not in TITLES or model.family == "sdxl_refiner":
        raise UnfitFileError(f"{path!r} is {TITLES.get(model.family, 'of an unknown family')}, which cannot be sampled alone; "
                             f"expected one of {', '.join(title for name, title in TITLES.items() if name != 'sdxl_refiner')}")
    if lacking := [part for part in components_of(model) if part not in model.components]:
        raise UnfitFileError(f"{path!r} has no {' and no '.join(lacking)}, only {', '.join(model.components)}, and draws nothing "
                             f"alone; give a whole model. `sweetspot merge --a WHOLE --b {path} --alpha 1 --parts {denoiser} "
                             f"-o OUTPUT` puts it into one, and in a suite Checkpoint(path={path!r}, base='FOLDER') takes the "
                             "rest from a diffusers folder")
    built_in = has_zoo_sizes(model)
    says = f"{TITLES[model.family]} model{' with the sizes of the built-in ones' if built_in else ''}"
    return GivenModel(path=path, family=model.family, says=says, built_in=built_in,
                      v_prediction=model.prediction == "v_prediction",
                      packed=any(info.formats for infos in model.components.values() for info in infos.values()))


def _a_part(path: str, model: ModelFile) -> str:
    part = next(iter(model.components), "")
    return (f"{path!r} has no U-Net or transformer, only {', '.join(model.components)}: it is neither a whole model nor an "
            f"adapter. Leave it out; in a suite file Merge(..., take={{{part!r}: {path!r}}}) uses it")


def _adapter(path: str) -> GivenAdapter:
    place = _place(path)
    try:
        file = recognise_file(place)
    except (AdapterError, ModelFileError, OSError) as error:
        with suppress(ModelFileError, OSError):
            model = open_model(place, tolerant=True)
            if model.components and not set(_DENOISERS) & set(model.components):
                raise UnfitFileError(_a_part(path, model)) from None
        raise UnfitFileError(str(error)) from None
    if what := next((text for kind, text in _WITHOUT_WEIGHT.items() if file.format == kind or kind in file.kinds), ""):
        raise UnfitFileError(f"{path!r} is {what}, which has no weight to sweep; put it into a candidate's adapters, and its "
                             "word into the prompts")
    base = f" for {file.base}" if file.base != "unknown" else ""
    return GivenAdapter(path=path, base=file.base, says=f"adapter ({', '.join(file.kinds) or 'unknown kind'}){base}")


def _refuse_misfits(models: Sequence[GivenModel], adapters: Sequence[GivenAdapter]) -> None:
    first = models[0]
    for other in models[1:]:
        if other.family != first.family:
            raise UnfitFileError(f"{first.path!r} is a {TITLES[first.family]} model and {other.path!r} a {TITLES[other.family]} "
                                 "model; these cannot be merged or compared on one grid. Give models of one family")
        if other.built_in != first.built_in:
            raise UnfitFileError(f"{first.path!r} and {other.path!r} have layers of different sizes; give models of one size")
    for adapter in adapters:
        family = FAMILIES.get(adapter.base, "")
        if family and family != first.family:
            raise UnfitFileError(f"{adapter.path!r} was made for {adapter.base}, but {first.path!r} is a {TITLES[first.family]} "
                                 "model; give an adapter of the model's family")


def left_out(models: Sequence[GivenModel], adapters: Sequence[GivenAdapter]) -> list[str]:
    """A line for each file beside numbered ones that is called as they are without the number: the last of a training has none,
    and a pattern misses it."""
    paths = [*(model.path for model in models), *(adapter.path for adapter in adapters)]
    given = {Path(path).absolute() for path in paths if is_path(path)}
    option = {adapter.path: "--lora " for adapter in adapters}
    saved = [saved_at(path) for path in paths if is_path(path)]
    beside = dict.fromkeys((Path(f"{file.stem}{Path(file.path).suffix}"), option.get(file.path, ""))
                           for file in saved if file.numbered)
    return [f"  {short(str(path), 100)} was not given, and may be the last file of the training; to compare it too, add "
            f"{way}{path}" for path, way in beside if path.absolute() not in given and path.is_file()]


def described(models: Sequence[GivenModel], adapters: Sequence[GivenAdapter]) -> list[str]:
    """A line for each file."""
    given: list[GivenModel | GivenAdapter] = [*models, *adapters]
    return [f"  {short(one.path, 100)}: {one.says}" for one in given]
