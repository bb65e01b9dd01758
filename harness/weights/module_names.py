"""Models whose architecture is known by their tensors alone, in the names of diffusers' module: a file in its authors' names
merges with a diffusers folder of the same architecture, and its tensors are put into the module of a folder."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.declare.listing import first_of
from harness.weights.converted_names import converted
from harness.weights.files import ModelFileError, read_json
from harness.weights.header_claims import short
from harness.weights.live_module import built_empty
from harness.weights.model import ModelFile

_COMPONENT: Final = "transformer"


def config_of(folder: Path) -> Path | None:
    """The config of the denoiser in a diffusers folder, or of the folder of a denoiser alone; None for other folders."""
    places = [folder / part / "config.json" for part in ("transformer", "unet")] + [folder / "config.json"]
    return next((place for place in places if place.is_file()), None)


def other_spelling(model: ModelFile, beside: ModelFile) -> bool:
    """Whether two models are of one architecture, as far as is known, and each has names that the other has not."""
    mine, theirs = (one.components[_COMPONENT].keys() for one in (model, beside))
    rows = [one.recognised.row for one in (model, beside) if one.recognised is not None]
    return len({id(row) for row in rows}) < 2 and not mine <= theirs and not theirs <= mine


def share_names(model: ModelFile, beside: ModelFile) -> bool:
    """Whether most names of a model are those of another."""
    return 2 * _share(model.components[_COMPONENT], beside.components[_COMPONENT]) > 1


def in_module_names(model: ModelFile, config: Path) -> ModelFile:
    """`model` with its transformer in the names of the module of a config, if it has other names; as it is if most of its names
    are those of the module, and diffusers does not make more of them. Raises ModelFileError as `converted`."""
    infos, known = model.components[_COMPONENT], module_shapes(config)
    share = _share(infos, known)
    if share == 1:
        return model
    read = read_json(config)
    kind = str(read.get("_class_name"))
    try:
        parameters, unused = converted(model.path, kind, infos, read)
    except ModelFileError:
        if 2 * share < 1:
            raise
        return model
    if _share(parameters, known) <= share:
        return model
    left_over = {infos[name].source: infos[name] for name in unused}
    said = (f"transformer: diffusers' {kind} has no use for {len(unused)} tensors of the file: {first_of([*map(short, unused)])}",
            ) if unused else ()
    return replace(model, components={**model.components, _COMPONENT: parameters}, other={**model.other, **left_over},
                   unused=tuple(left_over), module=config, warnings=(*model.warnings, *said))


def _share(names: Collection[str], known: Container[str]) -> float:
    return sum(name in known for name in names) / max(len(names), 1)


def module_shapes(config: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the parameters of the module of a config. Raises ModelFileError."""
    import diffusers

    def build(read: dict[str, Any]) -> Any:
        name = str(read.get("_class_name"))
        kind: Any = getattr(diffusers, name, None)
        if name not in dir(diffusers) or diffusers.ModelMixin not in getattr(kind, "__mro__", ()):
            raise TypeError(f"its class {short(name)} is not one of diffusers {diffusers.__version__}")
        return kind.from_config(read)

    return {name: tuple(tensor.shape) for name, tensor in built_empty("module", config, build).state_dict().items()}
