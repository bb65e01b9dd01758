"""The images of one suite's run: which exist, which are in the shared cache, which can be made of those that are there, and
how new ones are put on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from harness.cache import ImageCache
from harness.declare import Candidate, Suite
from harness.declare.effective_grid import picture_size
from harness.declare.same_text import prompts_hash
from harness.executors.contract import Picture
from harness.post import PostProcess
from harness.records import Cell, Defect, Fit, Sample, Weights
from harness.records.reusable import smaller_batches
from harness.run.common_stages import Beginnings
from harness.run.image_keys import ImageKeys
from harness.run.image_making import FIRST, RAW, ImageMaking, Written
from harness.run.shared_images import Refusal, SharedImages
from harness.run_folder.ledger import Ledger
from harness.sampling import from_png

if TYPE_CHECKING:
    from harness.sampling import Images

DERIVED_AT_ONCE: Final = 16
"""Images whose post-steps are applied before they are written."""

Done: TypeAlias = "Callable[[Sequence[Sample], Callable[[], Images]], None]"
"""Called with images, and what gives their pixels, once they are written."""


class Gallery:
    """Images by candidate and cell, each with the key of everything that determines it. An image counts while its key follows
    from the current weights, texts and setting, and its file is the one that was written. The wanted cells of a candidate are
    the whole grid, or the part that a race requests; an image has the same key in both."""

    def __init__(self, suite: Suite, ledger: Ledger, cache: ImageCache, head: Mapping[str, Any]) -> None:
        """`head` is the run's: its sampling block, and the environment, which determines last bits in a shared cache."""
        self.ledger, self.cache = ledger, cache
        self._image_keys = ImageKeys(suite, head)
        self._prompts = prompts_hash(suite.grid.prompts)
        self.take(suite)
        self._parts: dict[str, tuple[Cell, ...]] = {}
        self._shared = SharedImages(cache, suite)
        self._learned: dict[str, list[Refusal]] = {}

    def take(self, suite: Suite) -> None:
        """Takes the suite with the candidates that it has now. Its grid must be the same as before."""
        self.suite, self._beginnings = suite, Beginnings.of(suite)
        self._candidates = {candidate.name: candidate for candidate in suite.candidates}
        self._image_keys.take(suite)

    def in_common(self, candidate: Candidate) -> tuple[bool, ...]:
        """For each stage of a candidate, from the first: whether another one has it too, and all before it."""
        return self._beginnings.in_common(self.suite, candidate)

    def candidate(self, name: str) -> Candidate | None:
        """The candidate of that name; None for one that a search only tries."""
        return self._candidates.get(name)

    def want(self, name: str, cells: Iterable[Cell] | None) -> None:
        """Sets the wanted cells of a candidate; None means its whole grid."""
        self._parts.pop(name, None)
        if cells is not None:
            asked = set(cells)
            self._parts[name] = tuple(cell for cell in self.cells(name) if cell in asked)

    def cells(self, name: str) -> tuple[Cell, ...]:
        """All cells of a candidate's grid, in the order in which cells are listed everywhere."""
        return self._image_keys.of(name).cells

    def wanted(self, name: str) -> tuple[Cell, ...]:
        """The wanted cells of a candidate, in the grid's order."""
        return self._parts.get(name, self.cells(name))

    def absent(self, candidate: Candidate, weights: Weights, cells: Iterable[Cell] | None = None) -> list[Cell]:
        """Those of some cells, by default the wanted ones, whose image is neither in this run nor in the shared cache, in their
        order."""
        keys = self._keys(candidate.name, weights, self.suite.grid.images_per_batch)
        missing = self.ledger.missing(candidate.name, [
            (cell, keys[cell]) for cell in (self.wanted(candidate.name) if cells is None else cells)])
        for size in self._smaller(candidate.name):
            keys = self._keys(candidate.name, weights, size)
            missing = self.ledger.missing(candidate.name, [(cell, keys[cell]) for cell in missing])
        return self._fetched(candidate, weights, missing)

    def present(self, name: str) -> list[Sample]:
        """The images of a candidate's current weights, one for each wanted cell in order; empty unless all exist."""
        wanted = self.wanted(name)
        sound = self._sound(name, wanted)
        return sound if len(sound) == len(wanted) else []

    def at_hand(self, name: str) -> list[Sample]:
        """All images of a candidate's current weights, in the grid's order, whether wanted now or not."""
        return self._sound(name, self.cells(name))

    def _sound(self, name: str, cells: Sequence[Cell]) -> list[Sample]:
        weights = self.ledger.weights(name)
        if weights is None:
            return []
        allowed = [self._keys(name, weights, size) for size in (self.suite.grid.images_per_batch, *self._smaller(name))]
        samples = [(cell, self.ledger.samples.get((name, cell))) for cell in cells]
        return [s for cell, s in samples if s is not None and any(s.key == k[cell] for k in allowed)]

    def pixels(self, samples: Sequence[Sample]) -> Images:
        """The pixels (n, height, width, 3), uint8, hashed as they are read. Raises AlteredImageError for a changed file."""
        return np.stack([from_png(self.ledger.read(s)) for s in samples])

    def shape(self, name: str) -> tuple[int, int]:
        """Width and height of a candidate's pictures."""
        return picture_size(self.suite, self.candidate(name))

    def making(self, candidate: Candidate, weights: Weights, size: int, *, raw: Weights | None = None,
               post: PostProcess | None = None) -> ImageMaking:
        """How a candidate's images of these weights are written, made in batches of this size. With `post`, what is sampled are
        the raw pictures, whose keys follow from the weights `raw`."""
        name = candidate.name
        return ImageMaking(candidate=name, keys=self._keys(name, weights, size), post=post,
                           raw_keys={} if raw is None else self._keys(name, raw, size))

    def store(self, making: ImageMaking, images: Sequence[Written]) -> list[Sample]:
        """Puts images on record, with what they were made of, and into the shared cache."""
        of_grid = self._image_keys.of(making.candidate)
        if bad := [defect for image in images for defect in image.defects]:
            # Defects are written before the images: an image must never be on record without its defect.
            self.ledger.add(bad)
        self.ledger.store([file for image in images for file in image.files])
        for image in images:
            self._shared.put(of_grid, image)
        return [image.sample for image in images]

    def derive(self, candidate: Candidate, weights: tuple[Weights, Weights], post: PostProcess, absent: Sequence[Cell],
               done: Done) -> list[Cell]:
        """The cells that are still absent when the post-steps were applied to all raw pictures that are there: those of another
        candidate, of this one before its post-steps were changed, or in the shared cache. `weights` are those of the candidate
        and of its raw pictures."""
        name, remaining = candidate.name, list(absent)
        for size, refusals in self._to_try(candidate, weights[1]):
            making = self.making(candidate, weights[0], size, raw=weights[1], post=post)
            for start in range(0, len(remaining), DERIVED_AT_ONCE):
                part = [self._derived(making, cell) for cell in remaining[start:start + DERIVED_AT_ONCE]]
                if images := [image for image in part if image is not None]:
                    self._learn(candidate, refusals)
                    done(self.store(making, images), partial(_pixels, images))
            present = {cell for cell in remaining if not self.ledger.missing(name, [(cell, making.keys[cell])])}
            remaining = [cell for cell in remaining if cell not in present]
            if not remaining:
                break
        self.ledger.flush()
        return remaining

    def _derived(self, making: ImageMaking, cell: Cell) -> Written | None:
        key, raw_key = making.keys[cell], making.raw_keys[cell]
        raw = self.ledger.picture(raw_key)
        if raw is None:
            candidate = replace(self._candidates[making.candidate], post=())
            shared = self._shared.image(candidate, self._image_keys.of(making.candidate), cell, making)
            return None if shared is None else making.of(Picture(
                cell=cell, image=from_png(shared.data), why=shared.why,
                stages={name: from_png(picture) for name, picture in shared.stages.items()}))
        stages = tuple(one for one in self.ledger.made_of(raw.key if isinstance(raw, Sample) else raw.sample)
                       if one.name != RAW and one.sample != key)
        first = next((one for one in stages if one.name == FIRST), None)
        if making.needs_first_stage and first is None:
            return None
        pixels = [None if one is None else from_png(self.ledger.read(one)) for one in (raw, first)]
        return making.derived(cell, raw, (pixels[0], pixels[1]), stages, self.ledger.defect(raw_key))

    def _fetched(self, candidate: Candidate, weights: Weights, missing: Sequence[Cell]) -> list[Cell]:
        """The cells that are still missing after adopting the images that the shared cache has, with the pictures of their
        earlier stages. An image with post-steps is made of its raw picture there, which is kept beside it (`derive`)."""
        remaining = list(missing)
        if candidate.post or not self._shared.active:
            return remaining
        for size, refusals in self._to_try(candidate, weights):
            making = self.making(candidate, weights, size)
            adopted = {cell for cell in remaining if self._adopted(candidate, making, cell, refusals)}
            remaining = [cell for cell in remaining if cell not in adopted]
            if not remaining:
                break
        return remaining

    def _adopted(self, candidate: Candidate, making: ImageMaking, cell: Cell, refusals: list[Refusal]) -> bool:
        """Whether the shared cache has the image of a cell, which is then on record here."""
        image = self._shared.image(candidate, self._image_keys.of(candidate.name), cell, making)
        if image is None:
            return False
        self._learn(candidate, refusals)
        if image.why:
            self.ledger.add([Defect(candidate=candidate.name, cell=cell, sample=making.keys[cell], why=image.why)])
        self.ledger.store(making.fetched(cell, image.data, image.stages))
        return True

    def _to_try(self, candidate: Candidate, weights: Weights) -> Iterator[tuple[int, list[Refusal]]]:
        """The batch sizes at which images of these weights may have been made, with the refusals in the shared cache that explain
        smaller ones."""
        largest = self.suite.grid.images_per_batch
        yield largest, []
        refusals = self._shared.refusals(self._image_keys.of(candidate.name), weights.identity, largest)
        fits = [*(refusal.fit for refusal in refusals), *self.ledger.fits(candidate.name)]
        yield from ((size, refusals) for size in smaller_batches(largest, fits))

    def _learn(self, candidate: Candidate, refusals: list[Refusal]) -> None:
        """Records, once, the refusals of memory elsewhere that images of smaller batches in the shared cache are due to."""
        if refusals and candidate.name not in self._learned:
            self._learned[candidate.name] = refusals
            self.ledger.add([replace(refusal.fit, candidate=candidate.name, setting=self.ledger.setting(candidate.name))
                             for refusal in refusals])

    def learned(self, name: str) -> Sequence[Refusal]:
        """The refusals of memory elsewhere that images of a candidate are due to."""
        return self._learned.get(name, ())

    def share_refusal(self, candidate: Candidate, identity: str, fit: Fit, *, guided: bool) -> None:
        """Lets others know that memory for a batch of a candidate was refused; `identity` is that of what is sampled."""
        self._shared.refuse(self._image_keys.of(candidate.name), identity, [Refusal(fit=fit, guided=guided)])

    def overflowed_elsewhere(self, candidate: Candidate, weights: Weights) -> str:
        """Why a candidate of which these weights are sampled, in fp16, was made in bf16 by others; empty if it was not."""
        return self._shared.overflow(self._image_keys.of(candidate.name), weights.identity)

    def share_overflow(self, candidate: Candidate, weights: Weights, why: str) -> None:
        """Lets others know that a candidate of which these weights are sampled overflows in fp16."""
        self._shared.put_overflow(self._image_keys.of(candidate.name), weights.identity, why)

    def _keys(self, name: str, weights: Weights, size: int) -> dict[Cell, str]:
        """The key of each cell's image of a candidate with these weights, in batches of this size."""
        return self._image_keys.keys(name, weights, size, self.ledger.chunked(name, self._prompts))

    def _smaller(self, name: str) -> list[int]:
        return smaller_batches(self.suite.grid.images_per_batch, self.ledger.fits(name))


def _pixels(images: Sequence[Written]) -> Images:
    return np.stack([image.pixels for image in images])
