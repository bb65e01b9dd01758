"""The provenance in the header of a written file, enough to reproduce it: recipe, hashes of all inputs, tool version,
coverage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness.declare import Checkpoint, Fused, Merge, Model, Recipe, plain, restore
from harness.hub import address_of, is_path
from harness.materialise.denoiser_kind import kind_of_result
from harness.materialise.file_layout import FilePlan
from harness.materialise.library import Library, adapters_of, checkpoint_of, files_of_checkpoint, leaves, merges_of, name_of
from harness.merge import MERGE_METHODS
from harness.records.file_version import files_of
from harness.version import __version__
from harness.weights import ModelFile, ModelFileError
from harness.weights.comfy_layers import HEADER as QUANTIZATION
from harness.weights.scaled_codes import header_of_kept

RECIPE: Final = "sweetspot.recipe"
INPUTS: Final = "sweetspot.inputs"
SOURCES: Final = "sweetspot.sources"
_ARCHITECTURES: Final = {"sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2", "sdxl": "stable-diffusion-xl-v1-base",
                         "sdxl_refiner": "stable-diffusion-xl-v1-refiner", "flux": "flux-1", "sd3": "stable-diffusion-v3"}
_PREDICTIONS: Final = {"v_prediction": "v"}
_IMPLEMENTATIONS: Final = {**dict.fromkeys(("ldm", "sgm", "sai"), "https://github.com/Stability-AI/generative-models"),
                           "bfl": "https://github.com/black-forest-labs/flux"}
_MOST_LINEAGE: Final = 20_000
"""Most characters of a parent's own recipe; a longer one is left out."""
MOST_NESTED: Final = 100
"""Declarations within one another in the recipe of a header. Planning takes time with the square of it."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The contents of a header: the recipe with file names instead of paths, and each input's BLAKE3 and size in bytes by
    name. `sources` are the hashes of merge methods that are not built in."""

    recipe: Recipe
    inputs: Mapping[str, Mapping[str, Any]]
    version: str
    methods: Mapping[str, int]
    sources: Mapping[str, str]


def input_names(model: Model, library: Library, bases: Iterable[str] = ()) -> dict[str, str]:
    """{reference: name in the header}: the file's name, with a number if two files have the same name. A `zoo:` name and an
    address of the hub are names by themselves. `bases` are the companion folders of which anything is written."""
    names: dict[str, str] = {}
    for reference in dict.fromkeys([*(leaf.path for leaf in leaves(model)), *bases, *(a.path for a in adapters_of(model))]):
        name = base = _written(library.path(reference).name) if is_path(reference) else reference
        number = 2
        while name in names.values():
            name, number = f"{base} ({number})", number + 1
        names[reference] = name
    return names


def renamed(model: Recipe, names: Mapping[str, str]) -> Recipe:
    """The recipe with every path replaced. Configs are removed, since no weight depends on them, and so are companion folders
    without a name."""
    if isinstance(model, Fused):
        return Fused(model=renamed(model.model, names),
                     adapters=tuple(replace(adapter, path=names[adapter.path]) for adapter in model.adapters))
    if not isinstance(model, Merge):
        leaf = checkpoint_of(model)
        base = None if leaf.base is None else names.get(leaf.base)
        return Checkpoint(path=names[leaf.path], ema=leaf.ema, base=base) if leaf.ema or base else names[leaf.path]
    return replace(model, a=renamed(model.a, names), b=renamed(model.b, names),
                   c=None if model.c is None else renamed(model.c, names), more=tuple(renamed(m, names) for m in model.more),
                   take={part: renamed(m, names) for part, m in model.take.items()})


def metadata(plan: FilePlan, library: Library, hashes: Mapping[str, str], title: str) -> dict[str, str]:
    """The metadata of the file that `plan` describes. `hashes` holds the BLAKE3 of each input by reference.

    It contains no date, machine or folder: the same recipe with the same files gives the same bytes.
    """
    model, frame = plan.recipe.model, plan.recipe.files[next(iter(plan.recipe.files))]
    names = input_names(model, library, plan.bases)
    shown = {leaf.base: library.path(leaf.base).name for leaf in leaves(model) if leaf.base is not None} | names
    inputs = {names[reference]: {"blake3": hashes[reference], "bytes": size_of(library.path(reference)),
                                 **_lineage(plan, reference)} for reference in names}
    versions = {merge.method: MERGE_METHODS[merge.method].version for merge in merges_of(model)}
    own = {method: source for method in versions if (source := MERGE_METHODS.source(method))}
    counts = {_without_folders(component, shown): {status: len(keys) for status, keys in statuses.items()}
              for component, statuses in plan.coverage.items()}
    header = {"format": "pt", **modelspec(frame, title, names, kind_of_result(plan.recipe).prediction),
             RECIPE: _json(plain(renamed(model, names))), INPUTS: _json(inputs), "sweetspot.version": __version__,
             "sweetspot.methods": _json(versions),
             "sweetspot.coverage": _json({"keys": counts, "notes": [_without_folders(note, shown) for note in plan.notes]})}
    if own:
        header[SOURCES] = _json(own)
    if codes := header_of_kept(frame.metadata.get(QUANTIZATION, ""), plan.spans):
        header[QUANTIZATION] = codes  # without it, loaders would take the copied codes for values
    return {key: _written(text) for key, text in header.items()}


def modelspec(frame: ModelFile, title: str, names: Mapping[str, str], prediction: str) -> dict[str, str]:
    """The texts by which other tools know a file that is written in a frame's layout, made of inputs of these names.
    `prediction` is "epsilon", "v_prediction" or "" if nothing states it."""
    said = {"modelspec.sai_model_spec": "1.0.1", "modelspec.title": title,
            "modelspec.architecture": _ARCHITECTURES.get(frame.family, frame.family),
            "modelspec.implementation": _IMPLEMENTATIONS.get(_layout_written(frame), "diffusers"),
            "modelspec.merged_from": ", ".join(names.values())}
    if prediction:
        said["modelspec.prediction_type"] = _PREDICTIONS.get(prediction, prediction)
    return {key: _written(text) for key, text in said.items()}


def _layout_written(frame: ModelFile) -> str:
    """The layout of a file made from this frame: its own, or the original code's for a folder."""
    return {"flux": "bfl", "sd3": "sai"}.get(frame.family, "ldm") if frame.is_folder else frame.layout


def read_provenance(path: Path, header: Mapping[str, str]) -> Provenance:
    """The provenance in the `header` (metadata) of the file `path`. Raises ModelFileError if it has none or a damaged one."""
    if RECIPE not in header or INPUTS not in header:
        raise ModelFileError(f"{path}: its header holds no recipe; expected a file written by `sweetspot merge`. "
                             "Only such files can be reproduced.")
    try:
        declared, inputs = json.loads(header[RECIPE]), json.loads(header[INPUTS])
        if (depth := _nesting(declared)) > MOST_NESTED:
            raise ValueError(f"models are nested {depth} deep; expected at most {MOST_NESTED}")  # noqa: TRY301
        recipe = restore(declared)
        names = list(dict.fromkeys([*(name for leaf in leaves(recipe) for name in files_of_checkpoint(leaf)),
                                    *(a.path for a in adapters_of(recipe))]))
        recorded_inputs = {name: {"blake3": str(inputs[name]["blake3"]), "bytes": int(inputs[name]["bytes"])} for name in names}
        if outside := next((name for name in names if not _is_name(name)), None):
            raise ValueError(f"{outside!r} is not the name of a file")  # noqa: TRY301  one message for all errors
        versions = {str(method): int(version) for method, version in json.loads(header.get("sweetspot.methods", "{}")).items()}
        sources = {str(method): str(source) for method, source in json.loads(header.get(SOURCES, "{}")).items()}
        # Renaming visits every field that holds a model.
        return Provenance(recipe=renamed(recipe, {name: name for name in names}), inputs=recorded_inputs, methods=versions,
                          sources=sources, version=header.get("sweetspot.version", ""))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelFileError(f"{path}: the recipe in its header cannot be read ({repr(error)[:200]}); expected what `sweetspot "
                             "merge` writes. The header was changed.") from None


def size_of(path: Path) -> int:
    """Size in bytes of a file, or of all files in a folder that are not hidden, as in its hash."""
    return sum(file.stat().st_size for file in files_of(path))


def _lineage(plan: FilePlan, reference: str) -> dict[str, Any]:
    """The recipe in an input's own header, if it has one, so that a merge of merges can be traced to its roots."""
    paths = {name_of(leaf): leaf.path for leaf in leaves(plan.recipe.model)}
    for name, file in plan.recipe.files.items():
        if paths.get(name) == reference and len(file.metadata.get(RECIPE, "")) < _MOST_LINEAGE:
            own = {word: file.metadata[key] for word, key in (("recipe", RECIPE), ("inputs", INPUTS)) if key in file.metadata}
            return {word: text for word, text in own.items() if len(text) < _MOST_LINEAGE}
    return {}


def _nesting(declared: Any) -> int:
    """How many declarations lie within one another, at most."""
    inner = declared.values() if isinstance(declared, dict) else declared if isinstance(declared, list) else ()
    return (isinstance(declared, dict) and "is" in declared) + max(map(_nesting, inner), default=0)


def _is_pinned(name: str) -> bool:
    address = address_of(name)
    return address is not None and address.is_pinned


def _is_name(name: str) -> bool:
    """Whether this is a plain file name, without a path that leaves its folder, or says by itself what is meant."""
    plain_name = name == Path(name).name and name not in ("", "..") and "\0" not in name
    return name.startswith("zoo:") or _is_pinned(name) or plain_name


def _without_folders(note: str, names: Mapping[str, str]) -> str:
    """A note with the inputs' names in the header instead of their paths."""
    for reference in sorted((path for path in names if "/" in path), key=len, reverse=True):
        note = note.replace(reference, names[reference])
    return note


def _written(text: str) -> str:
    """Text that can be encoded as UTF-8. File names need not be valid UTF-8, and no reader opens an invalid header."""
    return text.encode(errors="replace").decode()


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=False)
