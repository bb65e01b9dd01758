"""The sweep over what one training saved: LoRAs or whole models, by step or epoch."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

from harness.adapters.live_plan import AdapterError
from harness.adapters.open_adapter import PEFT_CONFIG
from harness.adapters.recognising import recognise_file
from harness.declare import MODELS, Adapter, Candidate, Checkpoint, Ensemble, Fused, Merge, Model, Relay
from harness.declare.listing import first_of
from harness.declare.models import references
from harness.declare.swept_values import swept_numbers
from harness.hub import HubError, is_path, place
from harness.weights.header_claims import short
from harness.weights.opening import open_model
from harness.weights.safetensors_header import ModelFileError
from harness.weights.training_files import SavedAt, saved_at

Files: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
FAMILIES: Final = {"Stable Diffusion 1": "sd1", "Stable Diffusion 2": "sd2", "Stable Diffusion XL": "sdxl",
                   "Stable Diffusion XL refiner": "sdxl_refiner", "Flux.1": "flux", "Stable Diffusion 3": "sd3"}
"""The families of models by the base that an adapter's tensors show."""
MOST_FILES: Final = 1000
_TENSORS: Final = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


def checkpoint_sweep(model: Model | Files | None, files: Files | None = None, weights: Iterable[float] = (0.6, 0.8, 1.0), *,
                     last: int | None = None, precision: str = "") -> tuple[Candidate, ...]:
    """Which of the files that one training saved? One candidate per file and weight, "step=500 weight=0.8", both of which are
    axes, and the model alone as "weight=0". checkpoint_sweep("out/model-*.safetensors"), without a model, sweeps whole models:
    "step=500".

    `files` is a pattern such as "out/style-*.safetensors", below the working directory, or a list of files, or the folders that
    some trainers write. The step is in a file's header or name, as kohya's sd-scripts, AI-Toolkit, OneTrainer, diffusers,
    SimpleTuner, diffusion-pipe and DiffSynth write it. Where a file has no step the axis is "epoch". `last` is the number of the
    one file without any, such as kohya's last without metadata. Candidates are in the order of training. `precision` is that of
    a Candidate.

    Raises ValueError if no file matches, for files of two trainings, two with the same number, files that count steps beside
    files that count epochs, and files of another family than the model.
    """
    base, given = (None, model) if files is None else (model, files)
    if given is None or isinstance(given, Checkpoint | Merge | Fused | Relay | Ensemble):
        raise ValueError("checkpoint_sweep: no files are given; expected a pattern such as 'out/style-*.safetensors'")
    listed = [float(weight) for weight in swept_numbers(weights, "checkpoint_sweep: weights", "(0.6, 0.8, 1.0)")]
    saved = [saved_at(path) for path in _paths(given)]
    _refuse_other_training(saved, last)
    axis, numbered = _along(saved, last)
    one = None if base is None else _model(base)
    _refuse_other_family(one, [file.path for _, file in numbered])
    if one is None:
        return tuple(Candidate(name=f"{axis}={at}", axes={axis: at}, model=file.path, precision=precision)
                     for at, file in numbered)
    if not any(listed):
        raise ValueError(f"checkpoint_sweep: the weights are {listed}; expected some above 0, such as (0.6, 0.8, 1.0)")
    alone = Candidate(name="weight=0", model=one, axes={axis: numbered[0][0], "weight": 0.0}, precision=precision)
    return (alone, *(Candidate(name=f"{axis}={at} weight={weight:g}", model=one, precision=precision,
                               axes={axis: at, "weight": weight}, adapters=(Adapter(path=file.path, weight=weight),))
                     for at, file in numbered for weight in listed if weight))


def _model(model: Model | Files) -> Model:
    if isinstance(model, MODELS):
        return model
    if isinstance(model, os.PathLike):
        return os.fspath(model)
    raise ValueError(f"checkpoint_sweep: the model is {model!r}; expected a file or a merge, and the files after it")


def _paths(files: Files) -> list[str]:
    """The files of a pattern or list. A folder with the tensors of an adapter stands for these."""
    listed = [os.fspath(files)] if isinstance(files, str | os.PathLike) else [os.fspath(file) for file in files]
    paths: dict[str, None] = {}
    for pattern in listed:
        matching = [pattern]
        if is_path(pattern) and not Path(pattern).exists():  # a file may have brackets in its name
            matching = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not matching:
            raise ValueError(f"checkpoint_sweep: {pattern!r} matches no file below {Path.cwd()}{_beside(Path(pattern).parent)}")
        paths |= dict.fromkeys(map(_of_folder, matching))
    if len(paths) > MOST_FILES:
        raise ValueError(f"checkpoint_sweep: {first_of(listed)} matches {len(paths)} files; expected at most {MOST_FILES}. Give "
                         "a pattern of the files of one training")
    if not paths:
        raise ValueError("checkpoint_sweep: the list of files is empty; expected the files of one training")
    return list(paths)


def _of_folder(path: str) -> str:
    folder = Path(path)
    if not is_path(path) or not folder.is_dir() or (folder / PEFT_CONFIG).exists():
        return path
    return next((str(folder / name) for name in _TENSORS if (folder / name).is_file()), path)


def _beside(folder: Path) -> str:
    """What is in the folder that a pattern looks into."""
    if not folder.is_dir():
        return "" if glob.has_magic(str(folder)) else f", where there is no folder {str(folder)!r}"
    names = sorted(file.name for file in folder.iterdir() if file.suffix == ".safetensors")
    return f"; the folder has {first_of(names)}" if names else "; the folder has no .safetensors file"


def _refuse_other_training(saved: Sequence[SavedAt], last: int | None) -> None:
    """Raises ValueError where two files are not of the same training, by their headers or else by their names."""
    counted = [file for file in saved if file.numbered] if last is not None else saved
    for what, values in (("training sessions (ss_session_id)", [(file.session, file) for file in saved]),
                         ("output names (ss_output_name)", [(file.output, file) for file in saved]),
                         ("names", [] if all(file.output for file in saved) else [(file.stem, file) for file in counted])):
        first: dict[str, SavedAt] = {}
        for value, file in values:
            if value:
                first.setdefault(value, file)
        if len(first) > 1:
            (one, a), (other, b), *_ = first.items()
            raise ValueError(
                f"checkpoint_sweep: {a.path!r} and {b.path!r} are of two {what}, {short(one)} and {short(other)}; give the files "
                f"of one training, or number them yourself: adapter_files(model, {{1: {a.path!r}, 2: {b.path!r}}})")


def _along(saved: Sequence[SavedAt], last: int | None) -> tuple[str, list[tuple[int, SavedAt]]]:
    """The axis that all files have, step before epoch, and the files with their numbers in rising order."""
    bare = [file for file in saved if file.step is None and file.epoch is None]
    if len(bare) > (last is not None):
        a = bare[0].path
        way = "give last=, its number, if it is the last of the training" if len(bare) == 1 < len(saved) else "rename the files"
        raise ValueError(f"checkpoint_sweep: neither header nor name of {a!r} says after how many steps or epochs it was saved; "
                         f"{way}, or number the files yourself: adapter_files(model, {{1: {a!r}}})")
    if last is not None and not bare:
        raise ValueError(f"checkpoint_sweep: last is {last}, but every file has a number of its own; remove last")
    known = [file for file in saved if file not in bare]
    if not known:
        raise ValueError(f"checkpoint_sweep: only {bare[0].path!r} is given, which has no number; give the files before it too")
    axis = next((axis for axis in ("step", "epoch") if all(getattr(file, axis) is not None for file in known)), "")
    if not axis:
        stepped, other = (next(file for file in known if getattr(file, axis) is None) for axis in ("epoch", "step"))
        raise ValueError(f"checkpoint_sweep: {stepped.path!r} is known by its step, {stepped.step}, and {other.path!r} by its "
                         f"epoch, {other.epoch}; give files that count alike, with a pattern that leaves the others out")
    numbered = sorted([(getattr(file, axis), file) for file in known] + [(int(last or 0), file) for file in bare],
                      key=lambda one: one[0])
    for (low, one), (high, other) in pairwise(numbered):
        if low == high:
            raise ValueError(f"checkpoint_sweep: {one.path!r} and {other.path!r} are both of {axis} {low}; remove one of them")
    if bare and numbered[-1][1] is not bare[0]:
        raise ValueError(f"checkpoint_sweep: last is {last}, but {numbered[-1][1].path!r} is of {axis} {numbered[-1][0]}; "
                         "expected a higher number")
    return axis, numbered


def _refuse_other_family(model: Model | None, paths: Sequence[str]) -> None:
    """Raises ValueError for a file that is known not to fit: an adapter of another family than the model, a whole model beside a
    model, whole models of two families. What a header leaves open is for the check and the run to find."""
    if model is None:
        families: dict[str, str] = {}
        for path in paths:
            if base := _adapter_base(path):
                raise ValueError(f"checkpoint_sweep: {path!r} is an adapter for {base}; give the model that it is used with "
                                 "first: checkpoint_sweep('model.safetensors', files)")
            families.setdefault(family_of(path), path)
        if len(known := {family: path for family, path in families.items() if family}) > 1:
            (one, a), (other, b), *_ = known.items()
            raise ValueError(f"checkpoint_sweep: {a!r} is a model of the family {one} and {b!r} of {other}; give files of one "
                             "training")
        return
    of_models = {reference: family for reference in references(model) if (family := family_of(reference))}
    for path in paths:
        base = _adapter_base(path)
        if not base and (family := family_of(path)):
            raise ValueError(f"checkpoint_sweep: {path!r} is a whole model ({family}), not an adapter; leave the model before it "
                             "out to compare whole models")
        fits = FAMILIES.get(base, "")
        for reference, family in of_models.items() if fits else ():
            if family != fits:
                raise ValueError(f"checkpoint_sweep: {path!r} is an adapter for {base}, but {reference!r} is a model of the "
                                 f"family {family}; give a model that it was trained for")


def family_of(reference: str) -> str:
    """The family of a model by its header; empty if it cannot be told."""
    if reference.startswith("zoo:"):
        return "sd1"
    try:
        return open_model(place(reference, Path()), tolerant=True).family
    except (ModelFileError, HubError, OSError):
        return ""


def _adapter_base(path: str) -> str:
    """What an adapter was made for, "unknown" included; empty for a file that is not recognised as an adapter."""
    try:
        return recognise_file(place(path, Path())).base
    except (AdapterError, ModelFileError, HubError, OSError):
        return ""
