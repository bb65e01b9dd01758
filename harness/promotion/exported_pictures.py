"""Images of a run as files that travel: with A1111's `parameters` text, which tools and sites read, and with their origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.declare import Adapter, Checkpoint
from harness.declare.candidate_names import hint
from harness.declare.effective_grid import sampling_block
from harness.declare.listing import first_of
from harness.declare.picture_chunks import texts_of, with_texts
from harness.declare.picture_parameters import to_parameters
from harness.declare.picture_texts import OWN, PARAMETERS
from harness.declare.prompt_groups import groups_of
from harness.hub import HubError, place
from harness.promotion.adapters_in_a1111 import AdaptersInA1111, adapters_in_a1111
from harness.promotion.candidate_in_a1111 import candidate_differences
from harness.promotion.errors import PromotionError
from harness.promotion.export import refuse_several
from harness.promotion.models_folder import Models
from harness.promotion.picture_of_image import as_a1111, differences_in_a1111, picture_of
from harness.promotion.record_files import PROMOTION
from harness.records import Cell, write_atomically
from harness.records.regular_files import LARGEST_IMAGE, lies_below, read_regular
from harness.run_folder.folder import slug
from harness.version import __version__
from harness.weights import content_hash

if TYPE_CHECKING:
    from reports.read.run import Run

OWN_FORMAT: Final = 1
_DEVICE: Final = ("device", "device_name")
_PACKAGES: Final = ("sweetspot", "torch", "diffusers", "transformers")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was exported: the candidate, at one guidance or at all (None), the files that were written, those that were there
    already, and notes for the reader."""

    candidate: str
    guidance: float | None
    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Image:
    """One image of the run: the key of its sample, its cell, and its path in the run folder."""

    key: str
    cell: Cell
    path: str


def export_pictures(folder: Path, candidate: str | None, target: Path, models: Models) -> Exported:
    """Writes the images of a candidate into `target`: all of them, or without a candidate those of the recommended pick at its
    guidance. Each file appears whole, under a name that follows from what it shows.

    Raises PromotionError, before the first file is written, for an unknown candidate, missing and altered images, a folder within
    the run, and a file of that name that is not an export of the same image; ValueError or OSError where the folder is not a run.
    """
    from reports.read.run import load_run

    run = load_run(folder)
    name, guidance = _chosen(run, candidate)
    if lies_below(target, folder):
        raise PromotionError(f"--to {target} is in the run folder {folder}. Choose a folder outside of it")
    files = {target / file_name(name, image): image for image in _images(run, name, guidance)}
    _refuse_others(files.items())
    for image in files.values():
        _read(run, image)
    model, note = _model(run, name, {image.key for image in files.values()}, models)
    adapters = {group.prompts: _adapters(run, name, model, group.candidate.adapters)
                for group in groups_of(run.candidate(name), run.suite.grid.prompts)}
    of_candidate = candidate_differences(run.suite, run.candidate(name))
    written, unchanged, differences = [], [], dict[str, None]()
    for file, image in files.items():
        picture = picture_of(run.suite, run.candidate(name), image.cell, (model.name, model.digest))
        of_prompt = next(words for prompts, words in adapters.items() if image.cell.prompt in prompts)
        otherwise = (*differences_in_a1111(picture), *of_candidate, *of_prompt.differences)
        differences |= dict.fromkeys(otherwise)
        own = {"format": OWN_FORMAT, "picture": asdict(picture), **_origin(run, name, image), "differs_in_a1111": otherwise}
        content = with_texts(_read(run, image), {PARAMETERS: to_parameters(as_a1111(picture, of_prompt)), OWN: json.dumps(own)})
        if file.is_file() and read_regular(file, LARGEST_IMAGE) == content:
            unchanged.append(file)
        else:
            write_atomically(file, content)
            written.append(file)
    return Exported(candidate=name, guidance=guidance, written=tuple(written), unchanged=tuple(unchanged),
                    notes=tuple(filter(None, (note, *differences))))


def file_name(candidate: str, image: _Image) -> str:
    """The name of an export: what the image shows, and the start of its key, so that no two images share a name."""
    cell = image.cell
    return f"{slug(candidate)}-cfg{cell.guidance:g}-{slug(cell.prompt)}-s{cell.seed}-{image.key[:8]}.png"


def _chosen(run: Run, candidate: str | None) -> tuple[str, float | None]:
    """The candidate and, for the pick, its guidance."""
    from reports.verdict.recommending import recommend

    names = [c.name for c in run.suite.candidates]
    if candidate is not None:
        if candidate not in names:
            raise PromotionError(f"suite {run.suite.name!r} has no candidate {candidate!r}; {hint(candidate, names)}")
        return candidate, None
    recommendation = recommend(run)
    if recommendation.pick is None:
        raise PromotionError(f"suite {run.suite.name!r}: {recommendation.sentence} Name a candidate with --candidate: "
                             f"{first_of(names)}")
    return recommendation.pick, recommendation.guidance


def _images(run: Run, name: str, guidance: float | None) -> list[_Image]:
    """The images of a candidate, at one guidance or at all. Raises PromotionError where the run lacks some."""
    rows = run.images[run.images["candidate"] == name].to_dict("records")
    lacking = sum(gap.count for gap in run.missing if gap.candidate == name and gap.value == "image")
    if not rows or lacking:
        raise PromotionError(f"suite {run.suite.name!r}, candidate {name!r}: the run lacks {lacking or 'all'} of its images. Run "
                             "the suite again, which makes what is missing")
    images = [_Image(key=str(row["sample"]), path=str(row["path"]), cell=Cell(
        prompt=str(row["prompt"]), seed=int(row["seed"]), guidance=float(row["guidance"]))) for row in rows]
    return [image for image in images if guidance is None or image.cell.guidance == guidance]


def _origin(run: Run, name: str, image: _Image) -> dict[str, object]:
    """Where an image comes from, in names and hashes, without a path of the machine."""
    weights, packages = run.weights.get(name), run.environment.get("packages")
    versions = {one: str(packages.get(one)) for one in _PACKAGES} if isinstance(packages, dict) else {}
    return {"suite": run.suite.name, "candidate": name, "candidate_key": run.candidate(name).key, "key": image.key,
            "weights": weights.of(image.cell.prompt) if weights else "",
            "prompt": image.cell.prompt, "noise_seed": image.cell.noise_seed,
            "sampling": sampling_block(run.head["sampling"], run.suite, run.candidate(name)),
            "started": run.head.get("started", ""), "packages": versions,
            **{key: str(run.environment[key]) for key in _DEVICE if key in run.environment}, "exported_by": __version__}


def _read(run: Run, image: _Image) -> bytes:
    """The bytes of an image. Raises PromotionError for one that is not what was written."""
    path, data = run.folder / image.path, b""
    try:
        if lies_below(path, run.folder):
            data = read_regular(path, LARGEST_IMAGE)
    except (OSError, ValueError):
        data = b""
    if hashlib.sha256(data).hexdigest() != run.digests.get(image.path):
        raise PromotionError(f"{path} is missing or has changed since it was written. Run the suite again, which makes it again")
    return data


def _refuse_others(files: Iterable[tuple[Path, _Image]]) -> None:
    """Raises PromotionError if a path holds anything but an export of the same image, or cannot hold one."""
    for file, image in files:
        if not file.parent.is_dir() and (file.parent.exists() or file.parent.is_symlink()):
            raise PromotionError(f"--to {file.parent} is not a folder. Give the path of a folder")
        if (file.exists() or file.is_symlink()) and (file.is_symlink() or _key_of(file) != image.key):
            raise PromotionError(f"{file}: another file has this name, and it is kept. Choose another folder, or move that file "
                                 "away")


def _key_of(file: Path) -> str:
    """The key of the image that a file is an export of; empty for any other file."""
    try:
        return str(json.loads(texts_of(file)[OWN])["key"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


@dataclass(frozen=True, kw_only=True)
class _Model:
    """The file with a candidate's weights as A1111 writes it: its name, the first ten digits of its SHA-256, and whether the
    candidate's adapters are fused into it. Empty where there is none."""

    name: str = ""
    digest: str = ""
    fused: bool = False


def _model(run: Run, name: str, keys: set[str], models: Models) -> tuple[_Model, str]:
    """The file with the candidate's weights, and a note where there is none."""
    for fused, files in ((True, _promoted(run, name, keys, models)), (False, _checkpoint(run, name))):
        for model, file in files:
            with file.open("rb") as opened:
                return _Model(name=model, digest=hashlib.file_digest(opened, "sha256").hexdigest()[:10], fused=fused), ""
    return _Model(), (f"no file with the weights of candidate {name!r} was found, so the pictures name no model. "
                      f"{_advice(run, name)}")


def _advice(run: Run, name: str) -> str:
    """How the pictures of a candidate come to name a model."""
    try:
        refuse_several(run.candidate(name))
    except PromotionError as error:
        return f"It cannot be promoted as it is: {error}"
    return "Once it is promoted, an export names it"


def _adapters(run: Run, name: str, model: _Model, adapters: Sequence[Adapter]) -> AdaptersInA1111:
    """The tags and hashes of the adapters of some of the candidate's images; none where the model that is named holds them, which
    a tag would apply once more."""
    weights = run.weights.get(name)
    if model.fused or weights is None:
        return AdaptersInA1111()
    return adapters_in_a1111(adapters, weights.inputs)


def _checkpoint(run: Run, name: str) -> Iterator[tuple[str, Path]]:
    """The file of a candidate that is a model as it is, if it is still the one that ran."""
    model, weights = run.candidate(name).model, run.weights.get(name)
    path = model.path if isinstance(model, Checkpoint) else model
    if not isinstance(path, str) or weights is None or path not in weights.inputs or path.startswith("zoo:"):
        return
    with suppress(HubError):
        file = place(path, Path())
        if file.is_file() and content_hash(file) == weights.inputs[path]:
            yield file.stem, file


def _promoted(run: Run, name: str, keys: set[str], models: Models) -> Iterator[tuple[str, Path]]:
    """The promoted files of a candidate, the newest first: their records list the keys of these images."""
    for model in models.names():
        for number in reversed(models.numbers(model)):
            try:
                version = models.version(model, number)
            except PromotionError:  # damaged; `sweetspot history` says so
                continue
            if version.kind == PROMOTION and (version.candidate, version.suite) == (name, run.suite.name):
                columns, rows = version.data["cells"].get("columns"), version.data["cells"].get("rows")
                if not isinstance(columns, list) or not isinstance(rows, list) or "image" not in columns:
                    continue
                at = columns.index("image")
                listed = {str(row[at]) for row in rows if isinstance(row, list) and len(row) > at}
                if keys <= listed and (file := models.object(version.weights)).is_file():
                    yield model, file
