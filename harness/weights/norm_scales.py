"""The scales of norms, which tools call `.scale` or `.weight`: one tensor under two names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from harness.weights.files import ModelFileError
from harness.weights.model import ModelFile, TensorInfo

WEIGHT_NAMES: Final = (".weight", ".scale")
"""What a file may call the weight of a module. Black Forest Labs' norms have a scale, and newer files of ComfyUI a weight."""
_NORM: Final = re.compile(r"(?P<path>.*(?:norms?|ln)(?:_[a-z]+)*(?:\.[0-9]+)?)\.(?P<leaf>scale|weight)")


def other_spelling(key: str) -> str:
    """The other name of a norm's scale; "" for all other tensors."""
    match = _NORM.fullmatch(key)
    return f"{match['path']}.{'weight' if match['leaf'] == 'scale' else 'scale'}" if match else ""


def spelled_twice(keys: Collection[str]) -> tuple[str, str] | None:
    """A tensor of a norm that these keys hold under both names, or None."""
    return next(((key, twin) for key in keys if key.endswith(".scale") and (twin := other_spelling(key)) in keys), None)


def weight_key(path: str, keys: Collection[str]) -> str:
    """The name of the weight of the module `path` among `keys`: with `.weight`, unless only `.scale` is there."""
    scale = f"{path}.scale"
    return scale if scale in keys and f"{path}.weight" not in keys else f"{path}.weight"


def module_of(key: str) -> str:
    """The module that a weight belongs to; "" for tensors that are not the weight of a module."""
    return key.rpartition(".")[0] if key.endswith(".weight") or (key.endswith(".scale") and other_spelling(key)) else ""


def norms_spelled_like(model: ModelFile, other: ModelFile) -> ModelFile:
    """`model` with the scales of its norms under the names that `other` uses. Raises ModelFileError for one that `model` holds
    under both names."""
    components = {component: _respelled(model, infos, other.components.get(component, {}))
                  for component, infos in model.components.items()}
    return replace(model, components=components) if components != model.components else model


def _respelled(model: ModelFile, infos: Mapping[str, TensorInfo], names: Collection[str]) -> Mapping[str, TensorInfo]:
    if both := spelled_twice(infos):
        raise ModelFileError(f"{model.path}: {both[0]!r} and {both[1]!r} are the same tensor; expected only one. Remove the "
                             "other.")
    renamed = {key: other_spelling(key) for key in infos if key not in names and other_spelling(key) in names}
    return {renamed.get(key, key): info for key, info in infos.items()} if renamed else infos
