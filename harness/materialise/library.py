"""The model files that recipes name, each opened once, and their names in recipes and messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.adapters import AdapterError, Reading, Shapes, read_changes, recognise_file
from harness.adapters.hypernetwork import Hypernetwork, is_hypernetwork, read_hypernetwork
from harness.declare import Adapter, Checkpoint, Ensemble, Fused, Merge, Model, Recipe, Relay
from harness.declare.models import one_recipe
from harness.hub import place
from harness.records.file_version import FileVersions
from harness.weights import ModelFile, ModelFileError, content_hash
from harness.weights.companion import with_companion
from harness.weights.families import IS_ADAPTER
from harness.weights.hashing import HashingApart
from harness.weights.layout import unstackable
from harness.weights.module_names import config_of, in_module_names, other_spelling, share_names
from harness.weights.norm_scales import module_of, norms_spelled_like
from harness.weights.numbering import Numbering
from harness.weights.relayout import in_diffusers_names, in_names_of
from harness.weights.structural import COMPONENT, open_any, structural

_Place = tuple[Path, bool, Path | None]
"""What of a checkpoint decides its tensors: the file, whether its EMA weights are taken, and the folder of its base."""


class MaterialiseError(ValueError):
    """A candidate cannot be built from its files."""


class Library:
    """Opens the files that recipes name. Relative paths are resolved below `root`. Opened files stay in memory, so each must keep
    the version that is noted in `versions` before anything of it is read. `hashing` is a process that hashes them already."""

    def __init__(self, root: Path, versions: FileVersions | None = None, hashing: HashingApart | None = None) -> None:
        self.root, self.versions, self.hashing = root, FileVersions() if versions is None else versions, hashing
        self._files: dict[_Place, ModelFile] = {}
        self._configured: dict[_Place, ModelFile] = {}
        self._renumbered: dict[tuple[_Place, int, int], ModelFile] = {}
        self._respelled: dict[tuple[_Place, Path], ModelFile] = {}
        self._networks: dict[Path, Hypernetwork | None] = {}
        self._readings: dict[tuple[Path, Path, Path | None], Reading] = {}

    def path(self, reference: str) -> Path:
        """The file or folder of a path, a `zoo:` name or an address of the hub."""
        path = place(reference, self.root)
        if reference.startswith("zoo:"):
            return path
        # A link keeps its own name: that of its target in a cache is a hash, and a textual inversion's word may be the name.
        return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()

    def open(self, checkpoint: Checkpoint) -> ModelFile:
        """The opened model, with its EMA weights as the U-Net if the checkpoint has ema=True, with what it lacks from its base if
        it has one, and with its transformer in diffusers' names if it has a folder of configs. Raises ModelFileError."""
        place = self._place(checkpoint)
        if place not in self._files:
            self.refuse_changed(files_of_checkpoint(checkpoint))
            self._files[place] = self._opened(place)
        if checkpoint.configs is None or "transformer" not in self._files[place].components:
            return self._files[place]
        if place not in self._configured:
            self._configured[place] = in_diffusers_names(self._files[place])
        return self._configured[place]

    def _place(self, checkpoint: Checkpoint) -> _Place:
        return self.path(checkpoint.path), checkpoint.ema, None if checkpoint.base is None else self.path(checkpoint.base)

    @staticmethod
    def _opened(place: _Place, beside: Numbering | None = None) -> ModelFile:
        path, ema, base = place
        model = open_any(path, ema=ema, beside=beside)
        if model.structural:
            with suppress(AdapterError):
                adapter = recognise_file(path)
                raise ModelFileError(f"{path}: this is an adapter ({adapter.says}), {IS_ADAPTER}; expected a model.")
        return model if base is None else with_companion(model, base)

    def open_alike(self, checkpoints: Iterable[Checkpoint]) -> dict[str, ModelFile]:
        """The opened models of one merge by name, with transformers in the names of the first, or in diffusers' names if one of
        them has these and only some of the layers that the original code has in one tensor. A part of a model that does not
        show its family counts as a part of the others', and its blocks are numbered like theirs where its own names leave
        that open. Raises ModelFileError, and MaterialiseError for a part whose names do not fit the other models."""
        opened = {name_of(checkpoint): (checkpoint, self.open(checkpoint)) for checkpoint in checkpoints}
        if unnamed := next((file for _, file in opened.values() if file.structural), None):
            opened = {name: (checkpoint, _structural_like(file, unnamed)) for name, (checkpoint, file) in opened.items()}
            opened = {name: (checkpoint, self._spelled_like(checkpoint, file, [one for _, one in opened.values()]))
                      for name, (checkpoint, file) in opened.items()}
        files = {}
        for name, (checkpoint, file) in opened.items():
            numbering = file.numbering
            for other_name, (_, other) in opened.items():
                if why := numbering.contradiction(other.numbering):
                    raise MaterialiseError(f"{name}: its names do not fit the blocks of {other_name}: {why}. Merge models of one "
                                           "architecture")
                numbering = numbering.beside(other.numbering)
            family = file.family or next((other.family for _, other in opened.values() if other.family), "")
            files[name] = self._numbered(checkpoint, file, numbering.of_family(family))
            if not file.family and {"unet", "transformer"} & file.components.keys():
                files[name] = replace(files[name], family=family)
        if not any(file.structural for file in files.values()) and any(unstackable(file) for file in files.values()):
            # Of a tensor that the original code has in one, some models have the rows of some layers alone.
            files = {name: in_diffusers_names(file) for name, file in files.items()}
        frame = next((file for file in files.values() if "transformer" in file.components), None)
        return {name: norms_spelled_like(in_names_of(file, frame), frame) for name, file in files.items()} if frame else files

    def _spelled_like(self, checkpoint: Checkpoint, file: ModelFile, models: Iterable[ModelFile]) -> ModelFile:
        """A model of an architecture that is known by its tensors alone, in the names of diffusers' module if one of these models
        has them, and a config to know them by."""
        for other in models if file.structural and file.module is None else ():
            folder = other.path if other.is_folder else other.companion and other.companion.path
            config = other.module or (config_of(folder) if folder else None)
            if config is None or not other.structural or not other_spelling(file, other):
                continue
            place = (self._place(checkpoint), config)
            if place not in self._respelled:
                try:
                    self._respelled[place] = in_module_names(file, config)
                except ModelFileError:
                    if not share_names(file, other):
                        raise
                    self._respelled[place] = file  # what the names have in common decides, as without a config
            return self._respelled[place]
        return file

    def _numbered(self, checkpoint: Checkpoint, file: ModelFile, numbering: Numbering) -> ModelFile:
        if file.structural:
            return file
        counts = (numbering.layer_count, numbering.level_count)
        if counts == (file.numbering.layer_count, file.numbering.level_count):
            return file if numbering == file.numbering else replace(file, numbering=numbering)
        place = (self._place(checkpoint), *counts)
        if place not in self._renumbered:
            self._renumbered[place] = self._opened(place[0], numbering)
        return self._renumbered[place]

    def adapter(self, reference: str, model: ModelFile) -> Reading:
        """The adapter file of a path or `zoo:` name, read against a model. A hypernetwork has no changes. Raises
        AdapterError."""
        if net := self.hypernetwork(reference):
            return Reading(source=net.source, format="hypernetwork", changes={}, keys=net.keys, facts=net.facts)
        place = (self.path(reference), model.path, None if model.companion is None else model.companion.path)
        if place not in self._readings:
            self.refuse_changed([reference])
            paired = not model.structural or bool(model.recognised and model.recognised.row.paired_as)
            self._readings[place] = read_changes(place[0], shapes_of(model), model.family, paired=paired)
        return self._readings[place]

    def hypernetwork(self, reference: str) -> Hypernetwork | None:
        """The hypernetwork at a path; None for any other file. Raises AdapterError."""
        path = self.path(reference)
        if path not in self._networks:
            self.refuse_changed([reference])
            self._networks[path] = read_hypernetwork(path) if is_hypernetwork(path) else None
        return self._networks[path]

    def content(self, reference: str, weights_of: Collection[str] | None = None) -> str:
        """The BLAKE3 of the file or folder of a path or `zoo:` name; of a folder of which only the weights of some components are
        used, without all other weights. Raises ChangedFileError as `refuse_changed` does."""
        self.refuse_changed([reference])
        digest = content_hash(self.path(reference), weights_of)
        self.refuse_changed([reference])
        return digest

    def refuse_changed(self, references: Iterable[str]) -> None:
        """Raises ChangedFileError naming the first of the files and folders that is not what it was when it was first opened.
        Call it before anything that was read of them is used or recorded."""
        for reference in references:
            self.versions.refuse_changed(reference, self.path(reference))


def _structural_like(file: ModelFile, whole: ModelFile) -> ModelFile:
    """A part of a model whose architecture is not known by name, which may look like a part of a known one."""
    if file.structural or file.uses_ema or (part := structural(file.path)) is None:
        return file
    part = norms_spelled_like(part, whole)
    mine, theirs = part.components[COMPONENT], whole.components[COMPONENT]
    fits = all(key in theirs and info.shape == theirs[key].shape for key, info in mine.items())
    return part if fits else file


def shapes_of(model: ModelFile) -> Shapes:
    """{component: {module path: shape of its weight}}, against which adapters are read."""
    return {component: {path: info.shape for key, info in infos.items() if (path := module_of(key))}
            for component, infos in model.components.items()}


def checkpoint_of(model: str | Checkpoint | Relay | Ensemble) -> Checkpoint:
    """A leaf of a recipe as a Checkpoint. A zoo checkpoint gets the zoo's config. Raises MaterialiseError for what is no single
    set of weights."""
    leaf = one_recipe(model)
    assert not isinstance(leaf, Merge | Fused)
    if isinstance(leaf, str):
        leaf = Checkpoint(path=leaf)
    return replace(leaf, config="zoo:config") if leaf.configs is None and leaf.path.startswith("zoo:") else leaf


def frame_of(model: Model) -> Checkpoint:
    """The checkpoint that provides everything that is not merged: the leftmost leaf."""
    while isinstance(model, Merge | Fused | Relay | Ensemble):
        model = model.a if isinstance(model, Merge) else model.model if isinstance(model, Fused) else model.models[0]
    return checkpoint_of(model)


def leaves(model: Model) -> Iterator[Checkpoint]:
    """Yields every checkpoint of a recipe, left to right; models that only give components come last."""
    if isinstance(model, Merge | Fused | Relay | Ensemble):
        for parent in parents_of(model):
            yield from leaves(parent)
    else:
        yield checkpoint_of(model)


def merges_of(model: Model) -> Iterator[Merge]:
    """Yields every merge of a recipe, the outermost first."""
    if isinstance(model, Merge):
        yield model
    if isinstance(model, Merge | Fused | Relay | Ensemble):
        for parent in parents_of(model):
            yield from merges_of(parent)


def fusings_of(model: Model) -> Iterator[Fused]:
    """Yields every fusion of adapters in a recipe, the outermost first."""
    if isinstance(model, Fused):
        yield model
    if isinstance(model, Merge | Fused | Relay | Ensemble):
        for parent in parents_of(model):
            yield from fusings_of(parent)


def adapters_of(model: Model) -> Iterator[Adapter]:
    """Yields every adapter that a recipe fuses, the innermost last."""
    for fused in fusings_of(model):
        yield from fused.adapters


def parents_of(model: Merge | Fused | Relay | Ensemble) -> tuple[Recipe, ...]:
    """The models that another is made of; models that only give components come last."""
    if isinstance(model, Relay | Ensemble):
        return model.models
    return (model.model,) if isinstance(model, Fused) else (*model.models, *model.take.values())


def name_of(checkpoint: Checkpoint) -> str:
    """The name of a checkpoint in expressions and messages: its path as declared, and its base."""
    name = f"{checkpoint.path} (EMA)" if checkpoint.ema else checkpoint.path
    return name if checkpoint.base is None else f"{name} with {checkpoint.base}"


def files_of_checkpoint(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The files and folders of a checkpoint that hold weights."""
    return (checkpoint.path,) if checkpoint.base is None else (checkpoint.path, checkpoint.base)
