"""What is written of one candidate's images: the images, and beside each the pictures that it was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness.declare import ColourTransfer, short_hash
from harness.declare.post_steps import FIRST_STAGE
from harness.executors.contract import Image, Picture
from harness.post import PostProcess
from harness.records import Cell, Defect, Intermediate, Sample
from harness.run_folder.folder import slug
from harness.sampling import from_png, to_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RAW: Final = "raw"
"""The name of the picture before the post-steps."""
FIRST: Final = "stage 1"


def as_png(image: Image) -> bytes:
    """A picture as a PNG file."""
    return image if isinstance(image, bytes) else to_png(image)


def as_pixels(image: Image) -> NDArray[np.uint8]:
    """The pixels of a picture."""
    return from_png(image) if isinstance(image, bytes) else image


@dataclass(frozen=True, kw_only=True)
class Written:
    """An image with everything that is written of it: the files in order, the image last, the image as it was made, and its
    defects."""

    files: tuple[tuple[Sample | Intermediate, bytes], ...]
    made: Image
    defects: tuple[Defect, ...] = ()

    @property
    def sample(self) -> Sample:
        """The record of the image."""
        record = self.files[-1][0]
        assert isinstance(record, Sample)
        return record

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The image's pixels."""
        return as_pixels(self.made)


@dataclass(frozen=True, kw_only=True)
class ImageMaking:
    """How the images of one candidate are written. `keys` are those of the images. With `post`, what is sampled is the raw
    picture of an image, and `raw_keys` are the keys of these."""

    candidate: str
    keys: Mapping[Cell, str]
    post: PostProcess | None = None
    raw_keys: Mapping[Cell, str] = field(default_factory=dict)

    @property
    def needs_first_stage(self) -> bool:
        """Whether a post-step takes the colours of the first stage."""
        steps = () if self.post is None else self.post.steps
        return any(isinstance(step, ColourTransfer) and step.to == FIRST_STAGE for step in steps)

    def of(self, picture: Picture) -> Written:
        """What is written of a sampled picture."""
        cell, image = picture.cell, picture.image
        files = [self._picture(cell, name, self.stage_key(cell, name), as_png(stage)) for name, stage in picture.stages.items()]
        keys = [self.keys[cell]]
        if self.post is not None:
            first = picture.stages.get(FIRST)
            final, notes = self.post.apply(as_pixels(image), None if first is None else as_pixels(first))
            files.append(self._picture(cell, RAW, self.raw_keys[cell], as_png(image), notes))
            keys.append(self.raw_keys[cell])
            image = final
        return Written(files=(*files, self.image(cell, as_png(image))), made=image,
                       defects=self._defects(cell, keys, picture.why))

    def _defects(self, cell: Cell, keys: Sequence[str], why: str) -> tuple[Defect, ...]:
        return tuple(Defect(candidate=self.candidate, cell=cell, sample=key, why=why) for key in keys) if why else ()

    def sampled_key(self, cell: Cell) -> str:
        """The key of what is sampled: of the raw picture where there are post-steps, and else of the image."""
        return self.raw_keys.get(cell, self.keys[cell])

    def stage_key(self, cell: Cell, name: str) -> str:
        """The key of the picture of an earlier stage."""
        return short_hash([self.sampled_key(cell), name])

    def fetched(self, cell: Cell, data: bytes, stages: Mapping[str, bytes]) -> list[tuple[Sample | Intermediate, bytes]]:
        """What is written of a finished image that a shared cache has, and of the pictures of its earlier stages by name."""
        return [*(self._picture(cell, name, self.stage_key(cell, name), picture) for name, picture in stages.items()),
                self.image(cell, data)]

    def derived(self, cell: Cell, raw: Sample | Intermediate, pixels: tuple[Any, Any],
                stages: tuple[Intermediate, ...], why: str) -> Written:
        """What is written of an image whose raw picture is there already. `pixels` are those of the raw picture, and of its first
        stage if there are several; `stages` are the pictures of its stages. Their files are shared. `why` says why the raw
        picture is unusable, if it is."""
        assert self.post is not None
        final, notes = self.post.apply(*pixels)
        key = self.keys[cell]
        shared = [Intermediate(candidate=self.candidate, cell=cell, sample=key, name=one.name, key=one.key, path=one.path,
                               sha256=one.sha256) for one in stages]
        shared.append(Intermediate(candidate=self.candidate, cell=cell, sample=key, name=RAW, key=raw.key, path=raw.path,
                                   sha256=raw.sha256, notes=notes))
        return Written(files=(*((one, b"") for one in shared), self.image(cell, to_png(final))), made=final,
                       defects=self._defects(cell, [key], why))

    def _picture(self, cell: Cell, name: str, key: str, data: bytes, notes: tuple[str, ...] = ()) -> tuple[Intermediate, bytes]:
        path = self._path(cell, key, f"-{slug(name)}")
        return Intermediate(candidate=self.candidate, cell=cell, sample=self.keys[cell], name=name, key=key, path=path,
                            sha256=hashlib.sha256(data).hexdigest(), notes=notes), data

    def image(self, cell: Cell, data: bytes) -> tuple[Sample, bytes]:
        """The record of a finished image."""
        key = self.keys[cell]
        return Sample(key=key, candidate=self.candidate, cell=cell, path=self._path(cell, key),
                      sha256=hashlib.sha256(data).hexdigest()), data

    def _path(self, cell: Cell, key: str, what: str = "") -> str:
        return f"images/{slug(self.candidate)}/{slug(cell.prompt)}-seed{cell.seed}-cfg{cell.guidance:g}{what}-{key[:8]}.png"
