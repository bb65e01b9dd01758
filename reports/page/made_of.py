"""The pictures that an image was made of and with, beside it on the page: those that its prompt gave, of its earlier stages, and
before its post-steps. One that is missing has its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from blake3 import blake3

from harness.declare import Candidate, Prompt
from harness.declare.picture_uses import MAP, MASK, PICTURE, PICTURES, REFERENCE, SOURCE, input_path, uses_of
from harness.records.regular_files import LARGEST_IMAGE, read_regular
from reports import formatting as words
from reports.page.thumbnails import Files
from reports.read.run import Run

ROLES: Final[Mapping[str, str]] = {MAP: "control", SOURCE: "control made of", REFERENCE: "reference",
                                   PICTURE: "picture to change", MASK: "mask"}
RAW: Final = "raw"
BEFORE_POST: Final = "before post-steps"
LONGEST: Final = 60
NOT_KEPT: Final = "not kept beside this image, which may be from a shared cache"
NO_INPUT: Final = "not in the run folder"


@dataclass
class MadeOf:
    """What the explorer is told: `names` are captions, `of` has for every image pairs of places, one of a name and one of a
    picture among `paths`, or -1 and the place of a reason among `reasons`. `paths` come after those of the images, and `digests`
    are their SHA-256."""

    names: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    of: list[list[list[int]]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """For JSON; empty where no image has anything beside it."""
        return {"names": self.names, "reasons": self.reasons, "of": self.of} if self.names else {}


def made_of(run: Run, files: Files, images: Sequence[tuple[str, str, str]], first: int) -> MadeOf:
    """`images` are candidate, prompt and key of every image, in the order of their places; `first` is the place of the first
    picture that is not one of them."""
    made = MadeOf()
    prompts = {prompt.id: prompt for prompt in run.suite.grid.prompts}
    recipes = {c.name: _recipe(c) for c in run.suite.candidates}
    inputs = _inputs(run, files)
    places: dict[str, int] = {}
    for candidate, prompt, sample in images:
        row = []
        for name, path, digest, why in _pictures(run, recipes[candidate], prompts[prompt], (sample, inputs)):
            if path and path not in places:
                places[path] = first + len(made.paths)
                made.paths.append(path)
                made.digests[path] = digest
            row.append([_at(made.names, name), places[path]] if path else [_at(made.names, name), -1, _at(made.reasons, why)])
        made.of.append(row)
    return made


def _recipe(candidate: Candidate) -> tuple[dict[str, str], list[str]]:
    """What images of a candidate are made of: the names of the prompts' pictures with their titles, and those of what a run keeps
    beside an image."""
    titles = {use.name: words.visible(words.shortened(f"{ROLES[use.role]} {use.name!r}", LONGEST)) for use in uses_of(candidate)}
    return titles, [*(f"stage {number}" for number in range(1, len(candidate.stages) + 1)), *([RAW] if candidate.post else ())]


def _pictures(run: Run, recipe: tuple[dict[str, str], list[str]], prompt: Prompt,
              of: tuple[str, Mapping[str, tuple[str, str]]]) -> Iterator[tuple[str, str, str, str]]:
    """Name, path, digest and why there is none, of each picture of an image, in the order in which they come in."""
    (sample, inputs), (titles, expected) = of, recipe
    for name, title in titles.items():
        path, digest = inputs.get(prompt.pictures.get(name, ""), ("", ""))
        yield title, path, digest, NO_INPUT
    records = {one.name: one for one in run.made_of.get(sample, ())}
    for name in [*expected, *(name for name in records if name not in expected)]:
        record = records.get(name)
        title = BEFORE_POST if name == RAW else words.visible(words.shortened(name, LONGEST))
        yield (title, "", "", NOT_KEPT) if record is None else (title, record.path, record.sha256, "")


def _inputs(run: Run, files: Files) -> dict[str, tuple[str, str]]:
    """Path and SHA-256 of the pictures that the prompts gave, by file as declared, of those that are in the run folder and are
    still what the run was given."""
    kept = {}
    for file, content in run.head.get(PICTURES, {}).items():
        path = input_path(file, content)
        try:
            data = read_regular(files.find(path), LARGEST_IMAGE)
        except (OSError, ValueError):
            continue
        if blake3(data).hexdigest() == content:
            kept[file] = (path, sha256(data).hexdigest())
    return kept


def _at(listed: list[str], text: str) -> int:
    if text not in listed:
        listed.append(text)
    return listed.index(text)
