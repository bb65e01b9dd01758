"""What is written of one candidate's images: the images, and beside each the pictures that it was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness.declare import ColourTransfer, short_hash
from harness.declare.post_steps import FIRST_STAGE
from harness.post import PostProcess
from harness.records import Cell, Defect, Intermediate, Sample
from harness.run_folder.folder import slug
from harness.sampling import to_png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RAW: Final = "raw"
"""The name of the picture before the post-steps."""
FIRST: Final = "stage 1"


@dataclass(frozen=True, kw_only=True)
class Written:
    """An image with everything that is written of it: the files in order, the image last, its pixels, and its defects."""

    files: tuple[tuple[Sample | Intermediate, bytes], ...]
    pixels: NDArray[np.uint8]
    defects: tuple[Defect, ...] = ()

    @property
    def sample(self) -> Sample:
        """The record of the image."""
        record = self.files[-1][0]
        assert isinstance(record, Sample)
        return record


@dataclass(frozen=True, kw_only=True)
class ImageMaking:
    """How the images of one candidate are written. `keys` are those of the images. With `post`, what is sampled is the raw
    picture of an image, and `raw_keys` are the keys of these. `defects` are reasons why images are unusable, and `stages` the
    pictures of earlier stages; both are filled while batches are made."""

    candidate: str
    keys: Mapping[Cell, str]
    post: PostProcess | None = None
    raw_keys: Mapping[Cell, str] = field(default_factory=dict)
    defects: dict[Cell, str] = field(default_factory=dict)
    stages: dict[Cell, dict[str, Any]] = field(default_factory=dict)

    @property
    def needs_first_stage(self) -> bool:
        """Whether a post-step takes the colours of the first stage."""
        steps = () if self.post is None else self.post.steps
        return any(isinstance(step, ColourTransfer) and step.to == FIRST_STAGE for step in steps)

    def of(self, cell: Cell, image: NDArray[np.uint8]) -> Written:
        """What is written of a sampled picture, uint8 (h, w, 3)."""
        stages = self.stages.pop(cell, {})
        files = [self._picture(cell, name, self.stage_key(cell, name), to_png(picture)) for name, picture in stages.items()]
        keys = [self.keys[cell]]
        if self.post is not None:
            final, notes = self.post.apply(image, stages.get(FIRST))
            files.append(self._picture(cell, RAW, self.raw_keys[cell], to_png(image), notes))
            keys.append(self.raw_keys[cell])
            image = final
        why = self.defects.get(cell)
        defects = () if why is None else tuple(
            Defect(candidate=self.candidate, cell=cell, sample=key, why=why) for key in keys)
        return Written(files=(*files, self.image(cell, to_png(image))), pixels=image, defects=defects)

    def stage_key(self, cell: Cell, name: str) -> str:
        """The key of the picture of an earlier stage."""
        return short_hash([self.raw_keys.get(cell, self.keys[cell]), name])

    def fetched(self, cell: Cell, data: bytes, stages: Mapping[str, bytes]) -> list[tuple[Sample | Intermediate, bytes]]:
        """What is written of a finished image that a shared cache has, and of the pictures of its earlier stages by name."""
        return [*(self._picture(cell, name, self.stage_key(cell, name), picture) for name, picture in stages.items()),
                self.image(cell, data)]

    def derived(self, cell: Cell, raw: Sample | Intermediate, pixels: tuple[Any, Any],
                stages: tuple[Intermediate, ...]) -> Written:
        """What is written of an image whose raw picture is there already. `pixels` are those of the raw picture, and of its first
        stage if there are several; `stages` are the pictures of its stages. Their files are shared."""
        assert self.post is not None
        final, notes = self.post.apply(*pixels)
        key = self.keys[cell]
        shared = [Intermediate(candidate=self.candidate, cell=cell, sample=key, name=one.name, key=one.key, path=one.path,
                               sha256=one.sha256) for one in stages]
        shared.append(Intermediate(candidate=self.candidate, cell=cell, sample=key, name=RAW, key=raw.key, path=raw.path,
                                   sha256=raw.sha256, notes=notes))
        defects = () if cell not in self.defects else (
            Defect(candidate=self.candidate, cell=cell, sample=key, why=self.defects[cell]),)
        return Written(files=(*((one, b"") for one in shared), self.image(cell, to_png(final))), pixels=final, defects=defects)

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
