"""The model files that recipes name, each opened once, and the names that recipes and messages have for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness import zoo
from harness.adapters import Reading, Shapes, read_changes
from harness.adapters.hypernetwork import Hypernetwork, is_hypernetwork, read_hypernetwork
from harness.declare import Adapter, Checkpoint, Fused, Merge, Model
from harness.weights import ModelFile, content_hash, open_model

_WEIGHT: Final = ".weight"


class MaterialiseError(ValueError):
    """A candidate that cannot be made from its files."""


class Library:
    """Opens what recipes name, looking relative paths up below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[tuple[Path, bool], ModelFile] = {}
        self._networks: dict[Path, Hypernetwork | None] = {}
        self._readings: dict[tuple[Path, Path], Reading] = {}

    def path(self, reference: str) -> Path:
        """The file or folder behind a path or `zoo:` name."""
        return zoo.resolve(reference) if reference.startswith("zoo:") else (self.root / reference).resolve()

    def open(self, checkpoint: Checkpoint) -> ModelFile:
        """The opened model, with its EMA weights as the U-Net where the checkpoint says so. Raises ModelFileError."""
        place = (self.path(checkpoint.path), checkpoint.ema)
        if place not in self._files:
            self._files[place] = open_model(place[0], ema=checkpoint.ema)
        return self._files[place]

    def adapter(self, reference: str, model: ModelFile) -> Reading:
        """The adapter file behind a path or `zoo:` name, read against a model; a hypernetwork changes nothing of it. Raises
        AdapterError."""
        if net := self.hypernetwork(reference):
            return Reading(source=net.source, format="hypernetwork", changes={}, keys=net.keys, facts=net.facts)
        place = (self.path(reference), model.path)
        if place not in self._readings:
            self._readings[place] = read_changes(place[0], shapes_of(model), model.family)
        return self._readings[place]

    def hypernetwork(self, reference: str) -> Hypernetwork | None:
        """The hypernetwork behind a path, None for a file that is something else. Raises AdapterError."""
        path = self.path(reference)
        if path not in self._networks:
            self._networks[path] = read_hypernetwork(path) if is_hypernetwork(path) else None
        return self._networks[path]

    def content(self, reference: str) -> str:
        """BLAKE3 of the file or folder behind a path or `zoo:` name."""
        return content_hash(self.path(reference))


def shapes_of(model: ModelFile) -> Shapes:
    """{component: {module path: shape of its weight}}: what adapters are read against."""
    return {component: {key.removesuffix(_WEIGHT): info.shape for key, info in infos.items() if key.endswith(_WEIGHT)}
            for component, infos in model.components.items()}


def checkpoint_of(model: str | Checkpoint) -> Checkpoint:
    """A leaf of a recipe as a Checkpoint; those of the zoo bring their config."""
    if isinstance(model, Checkpoint):
        return model
    return Checkpoint(path=model, config="zoo:config" if model.startswith("zoo:") else None)


def frame_of(model: Model) -> Checkpoint:
    """The checkpoint that gives all that is not merged: the leftmost leaf."""
    while isinstance(model, Merge | Fused):
        model = model.a if isinstance(model, Merge) else model.model
    return checkpoint_of(model)


def leaves(model: Model) -> Iterator[Checkpoint]:
    """Every checkpoint of a recipe, left to right, models to take components from last."""
    if isinstance(model, Merge | Fused):
        for parent in parents_of(model):
            yield from leaves(parent)
    else:
        yield checkpoint_of(model)


def merges_of(model: Model) -> Iterator[Merge]:
    """Every merge of a recipe, the outermost first."""
    if isinstance(model, Merge):
        yield model
    if isinstance(model, Merge | Fused):
        for parent in parents_of(model):
            yield from merges_of(parent)


def fusings_of(model: Model) -> Iterator[Fused]:
    """Every fusing of adapters in a recipe, the outermost first."""
    if isinstance(model, Fused):
        yield model
    if isinstance(model, Merge | Fused):
        for parent in parents_of(model):
            yield from fusings_of(parent)


def adapters_of(model: Model) -> Iterator[Adapter]:
    """Every adapter that a recipe fuses, the innermost last."""
    for fused in fusings_of(model):
        yield from fused.adapters


def parents_of(model: Merge | Fused) -> tuple[Model, ...]:
    """The models that one is made of, those it only takes components from last."""
    return (model.model,) if isinstance(model, Fused) else (*model.models, *model.take.values())


def name_of(checkpoint: Checkpoint) -> str:
    """What expressions and messages call a checkpoint: its path as declared."""
    return f"{checkpoint.path} (EMA)" if checkpoint.ema else checkpoint.path
