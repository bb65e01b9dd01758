"""Which pictures of the prompts a candidate uses, and a folder of pictures as pictures of prompts."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.declare.candidate import Candidate
from harness.declare.effective_grid import picture_size, stage_grids
from harness.declare.grid import Prompt
from harness.declare.guiding import STAGE_BEFORE, Canny, Control, Reference
from harness.declare.listing import first_of
from harness.declare.prompt_texts import texts_in_key
from harness.declare.stage_candidates import as_candidates
from harness.declare.suite import Suite

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
PICTURES: Final = "pictures"
"""In run.json: the hash of every picture of a prompt that a candidate uses, by its file as declared."""
INPUTS: Final = "inputs"
"""The folder in a run folder where these pictures are kept."""
OF_MAPS: Final = ("control_f1", "control_f1_chance")
"""The values that compare an image with a control map."""
MAP: Final = "map"
SOURCE: Final = "source"
REFERENCE: Final = "reference"
PICTURE: Final = "picture"
MASK: Final = "mask"


@dataclass(frozen=True, kw_only=True)
class PictureUse:
    """One use of the prompts' pictures of a name, in a stage counted from 0. `role` is MAP (a control's map), SOURCE (the picture
    that a control's edges are made of), REFERENCE, PICTURE or MASK; `of` says in a message what asks for it."""

    stage: int
    name: str
    role: str
    of: str


def uses_of(candidate: Candidate) -> Iterator[PictureUse]:
    """The uses of a candidate's stages, in order. The picture of the stage before is not one of a prompt."""
    for stage, one in enumerate(as_candidates(candidate)):
        for control in one.controls:
            name, role = (control.picture.of, SOURCE) if isinstance(control.picture, Canny) else (control.picture, MAP)
            if name != STAGE_BEFORE:
                yield PictureUse(stage=stage, name=name, role=role, of=f"control {control.path!r}")
        for reference in one.references:
            yield PictureUse(stage=stage, name=reference.picture, role=REFERENCE, of=f"reference {reference.path!r}")
        if one.inpaint is not None:
            yield PictureUse(stage=stage, name=one.inpaint.picture, role=PICTURE, of="inpaint")
            yield PictureUse(stage=stage, name=one.inpaint.mask, role=MASK, of="inpaint")


def names_of(candidate: Candidate) -> tuple[str, ...]:
    """The names of the pictures that a candidate uses, each once."""
    return tuple(dict.fromkeys(use.name for use in uses_of(candidate)))


def parts_in_key(candidate: Candidate | None, prompt: Prompt, chunked: Collection[str],
                 contents: Mapping[str, str]) -> tuple[str, ...]:
    """What of a prompt determines a candidate's images, for `sample_key`: the texts, and the contents of the pictures that it
    uses, if it uses any. `contents` are hashes by the files' names as declared."""
    names = () if candidate is None else names_of(candidate)
    pictures = {name: contents.get(prompt.pictures[name], "") for name in names if name in prompt.pictures}
    return (*texts_in_key(prompt, chunked), *(f"{name} {content}" for name, content in sorted(pictures.items())))


def files_used(suite: Suite) -> tuple[str, ...]:
    """The files of the prompts' pictures that any candidate uses, as declared."""
    names = {name for candidate in suite.candidates for name in names_of(candidate)}
    return tuple(sorted({file for prompt in suite.grid.prompts for name, file in prompt.pictures.items() if name in names}))


def input_path(file: str, content: str) -> str:
    """Where in a run folder the picture of a file as declared is kept, by its BLAKE3; run.json has both under "pictures"."""
    suffix = Path(file).suffix.lower()
    return f"{INPUTS}/{content[:32]}{suffix if suffix in SUFFIXES else '.png'}"


def measured_control(suite: Suite) -> Control | None:
    """The control whose map images are measured against: the first that a candidate declares with a picture of the prompts. One
    map stands for all candidates, so that they can be compared."""
    controls = (control for candidate in suite.candidates for one in as_candidates(candidate) for control in one.controls)
    return next((control for control in controls if _source(control) != STAGE_BEFORE), None)


def measured_reference(suite: Suite) -> Reference | None:
    """The reference whose pictures images are measured against: the first that a candidate declares. One picture of a prompt
    stands for all candidates, so that they can be compared."""
    return next((reference for candidate in suite.candidates for one in as_candidates(candidate)
                 for reference in one.references), None)


def map_size(suite: Suite) -> tuple[int, int] | None:
    """Width and height of the maps that images are measured against: those of the stage in which `measured_control` acts. None
    without a control."""
    wanted = measured_control(suite)
    return next(((grid.width, grid.height) for candidate in suite.candidates
                 for one, grid in zip(as_candidates(candidate), stage_grids(suite, candidate), strict=True)
                 if any(control is wanted for control in one.controls)), None)


def beside_maps(suite: Suite) -> dict[str, tuple[int, int]]:
    """By name the candidates whose pictures have another size than the maps, so that OF_MAPS cannot be measured; with that
    size."""
    size = map_size(suite)
    sizes = {} if size is None else {candidate.name: picture_size(suite, candidate) for candidate in suite.candidates}
    return {name: own for name, own in sizes.items() if own != size}


def _source(control: Control) -> str:
    return control.picture.of if isinstance(control.picture, Canny) else control.picture


def with_pictures(prompts: Iterable[Prompt], name: str, folder: str | os.PathLike[str]) -> tuple[Prompt, ...]:
    """The prompts, each with the picture of its id in a folder, "cat.png" for the prompt "cat", under this name.

    Pictures are .png, .jpg, .jpeg or .webp files. Raises ValueError for prompts without a picture and for a prompt with two.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ValueError(f"with_pictures: {os.fspath(folder)!r} is not a folder, seen from {Path.cwd()}")
    completed, missing = [], []
    for prompt in prompts:
        files = [file for suffix in SUFFIXES if (file := place / f"{prompt.id}{suffix}").is_file()]
        if len(files) > 1:
            raise ValueError(f"with_pictures: prompt {prompt.id!r} has two pictures in {os.fspath(folder)!r}, "
                             f"{files[0].name!r} and {files[1].name!r}; remove one")
        if files:
            completed.append(replace(prompt, pictures={**prompt.pictures, name: files[0].as_posix()}))
        else:
            missing.append(prompt.id)
    if missing:
        raise ValueError(f"with_pictures: {len(missing)} prompts have no picture in {os.fspath(folder)!r}: "
                         f"{first_of([*map(repr, missing)])}. Name each file after its prompt's id, such as {missing[0]}.png")
    return tuple(completed)
