"""The post-steps of a candidate, with the files that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.declare import ColourTransfer, Lut, PostStep, Temperature, Upscale, plain, short_hash
from harness.declare.picture_file import read_picture
from harness.declare.post_steps import FIRST_STAGE
from harness.post.colour_transfer import COLOUR_TRANSFER_VERSION, transferred
from harness.post.cube import read_cube
from harness.post.lut import LUT_VERSION, through_lut
from harness.post.temperature import TEMPERATURE_VERSION, warmed
from harness.post.upscaling import UPSCALE_VERSION, upscaled, upscaled_size

Picture = NDArray[np.uint8]


class PostError(ValueError):
    """Post-steps that cannot be applied; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class PostRow:
    """A kind of post-step: the `version` of its arithmetic, and how a step is prepared. `prepare` takes the step and the path of
    its file, and gives the function from (picture, picture of the first stage) to the new picture and a note about it."""

    version: int
    prepare: Callable[[Any, Path | None], Callable[[Picture, Picture | None], tuple[Picture, str]]]
    file: Callable[[Any], str] = lambda _: ""


def _transfer(step: ColourTransfer, path: Path | None) -> Callable[[Picture, Picture | None], tuple[Picture, str]]:
    given = None if path is None else read_picture(path)

    def apply(image: Picture, first: Picture | None) -> tuple[Picture, str]:
        reference = first if given is None else given
        if reference is None:
            raise PostError(f"ColourTransfer(to={FIRST_STAGE!r}): the candidate has one stage; give a picture file")
        return transferred(image, reference, step.method, step.strength), ""

    return apply


def _lut(step: Lut, path: Path | None) -> Callable[[Picture, Picture | None], tuple[Picture, str]]:
    assert path is not None
    cube = read_cube(path)
    return lambda image, _: (through_lut(image, cube, step.strength), "")


POST_STEPS: Final[Mapping[type, PostRow]] = {
    ColourTransfer: PostRow(version=COLOUR_TRANSFER_VERSION, prepare=_transfer,
                            file=lambda step: "" if step.to == FIRST_STAGE else step.to),
    Lut: PostRow(version=LUT_VERSION, prepare=_lut, file=lambda step: str(step.path)),
    Temperature: PostRow(version=TEMPERATURE_VERSION, prepare=lambda step, _: lambda image, _: warmed(image, step.max_kelvin)),
    Upscale: PostRow(version=UPSCALE_VERSION, prepare=lambda step, _: lambda image, _: (
        upscaled(image, upscaled_size((image.shape[1], image.shape[0]), step.factor), step.method), "")),
}
"""By declaration, how a post-step is done."""


@dataclass(frozen=True, kw_only=True)
class PostProcess:
    """Prepared post-steps. `identity` is the hash of everything that determines what they do."""

    steps: tuple[PostStep, ...]
    identity: str
    _prepared: tuple[Callable[[Picture, Picture | None], tuple[Picture, str]], ...]

    def apply(self, image: Picture, first: Picture | None = None) -> tuple[Picture, tuple[str, ...]]:
        """uint8 sRGB (h, w, 3) after all steps, each rounded to 8 bits, and the notes of steps that left it as it was. `first` is
        the picture of the first stage, if there are several."""
        notes = []
        for step, function in zip(self.steps, self._prepared, strict=True):
            image, note = function(image, first)
            notes += [f"{type(step).__name__}: {note}"] if note else []
        return image, tuple(notes)


def files_of(steps: Iterable[PostStep]) -> tuple[str, ...]:
    """The files that post-steps need, as declared."""
    return tuple(dict.fromkeys(filter(None, (POST_STEPS[type(step)].file(step) for step in steps))))


def process_of(steps: Sequence[PostStep], path: Callable[[str], Path], content: Callable[[str], str]) -> PostProcess:
    """The steps with their files read. `path` gives the path of a file as declared, `content` the hash of its content. Raises
    PictureError or CubeError for a file that cannot be used."""
    prepared, facts = [], []
    for step in steps:
        row = POST_STEPS[type(step)]
        file = row.file(step)
        prepared.append(row.prepare(step, path(file) if file else None))
        # By content, so that a renamed file makes the same pictures.
        declared = {name: content(file) if file and value == file else value for name, value in plain(step).items()}
        facts.append([row.version, declared])
    return PostProcess(steps=tuple(steps), identity=short_hash(facts), _prepared=tuple(prepared))


def size_after(steps: Iterable[PostStep], size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture after post-steps."""
    for step in steps:
        if isinstance(step, Upscale):
            size = upscaled_size(size, step.factor)
    return size
