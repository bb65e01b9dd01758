"""Whether a model file has the size that its family's built-in configs are for, as far as its header shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from harness.declare import Checkpoint
from harness.hub import place
from harness.records.file_version import FileVersion, version_of
from harness.weights import ModelFile, ModelFileError, open_model, read_header
from harness.weights.content import PICKLE, content_of

_FIRST: Final = "conv_in.weight"
"""The first layer of a U-Net, from which the widths of all others follow."""


@dataclass(frozen=True, kw_only=True)
class _Width:
    """The channels of a U-Net's first layer, those of the built-in configs, whether the model is of the zoo's size, and whether
    it has more than a U-Net."""

    channels: int
    usual: int
    of_zoo: bool
    whole: bool


def size_problem(model: Checkpoint, root: Path) -> str:
    """Why a model that names no configs needs some, because it is not of its family's size; "" for one that may not. Files that
    cannot be opened are named by another check, and pickles by the run."""
    try:
        path = place(model.path, root)
        if model.configs is not None or model.path.startswith("zoo:") or not path.is_file():
            return ""
        width = _width(path, version_of(path))
    except (ModelFileError, OSError, ValueError):
        return ""
    if width is None:
        return ""
    if not width.whole:
        return (f"model {model.path!r} is a U-Net alone, which begins with {width.channels} channels, and with {width.usual} in "
                f"the configs of its family. Give what it lacks: Checkpoint(path={model.path!r}, base='FOLDER'), where FOLDER is "
                "the diffusers folder of a model of the same kind and size")
    config, where = ("zoo:config", "") if width.of_zoo else ("FOLDER", ", where FOLDER holds the model's own diffusers configs")
    return (f"model {model.path!r} {'has the sizes of the built-in models: its' if width.of_zoo else 'has unusual sizes: its'} "
            f"U-Net begins with {width.channels} channels, and with {width.usual} in the configs of its family. Give its own: "
            f"Checkpoint(path={model.path!r}, config={config!r}){where}")


def has_zoo_sizes(model: ModelFile) -> bool:
    """Whether a U-Net has the names and sizes of the built-in models."""
    from harness.zoo.store import PARTS

    stored = read_header(PARTS / "unet.safetensors")[0]
    return {name: info.shape for name, info in model.components.get("unet", {}).items()} == {
        name: tensor.shape for name, tensor in stored.items()}


@lru_cache(maxsize=1024)
def _width(path: Path, version: FileVersion) -> _Width | None:  # noqa: ARG001 - part of the key
    """The width of a model; None if it is that of its family, or if the header or the built-in configs do not show it."""
    from harness.weights.live_pipeline import CONFIGS

    if content_of(path).kind == PICKLE:
        return None
    model = open_model(path, tolerant=True)
    first = model.components.get("unet", {}).get(_FIRST)
    config = CONFIGS / (model.family or "sd1") / "unet" / "config.json"
    if first is None or not config.is_file():
        return None
    usual = json.loads(config.read_text(encoding="utf-8"))["block_out_channels"][0]
    if first.shape[0] == usual:
        return None
    return _Width(channels=first.shape[0], usual=usual, of_zoo=has_zoo_sizes(model),
                  whole=len(model.components) > 1)
