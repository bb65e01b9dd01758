"""The images of one suite's run: which exist, which are in the shared cache, and the sampling of the others in batches of one
shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from harness.cache import ImageCache, shared_key
from harness.declare import Candidate, Grid, Prompt, Suite, short_hash
from harness.declare.effective_grid import picture_size, run_grid, sampling_block, stage_grids
from harness.declare.picture_uses import PICTURES, names_of, parts_in_key
from harness.declare.same_text import prompts_hash
from harness.declare.stages import stage_name
from harness.post import PostProcess
from harness.probes.environment import deciding_pixels
from harness.probes.fits import free_memory, not_fitting, out_of_memory
from harness.records import Cell, Fit, Intermediate, NoiseFloor, Sample, Weights
from harness.records.reusable import smaller_batches
from harness.run.batch_packing import GridKeys, pack
from harness.run.common_stages import Beginnings
from harness.run.image_making import FIRST, RAW, ImageMaking, Written
from harness.run.overflow import Fp16OverflowError
from harness.run_folder.ledger import Ledger
from harness.runtimes import packages_of
from harness.sampling import (
    NOT_FINITE,
    Common,
    Later,
    SamplingError,
    StageStore,
    TextState,
    batches,
    from_png,
    kinds,
    lengths_of,
    sample,
    threads_per_operation,
)

if TYPE_CHECKING:
    from harness.materialise import LiveStage, Phase
    from harness.probes.fits import OutOfMemory
    from harness.sampling import Images

WRITES_AHEAD: Final = 4
DERIVED_AT_ONCE: Final = 16
"""Images whose post-steps are applied before they are written."""
FLOOR_CELLS: Final = 4
"""Number of images that are sampled again at batch 1, to measure the effect of batching."""
FLOOR_MEAN_LEVELS: Final = 2.0
"""Largest mean difference, in levels from 0 to 255, of an image that is made once more. Rounding in batches stays below it;
images of different weights or texts are far above it."""


Done: TypeAlias = "Callable[[Sequence[Sample], Images], None]"
"""Called with images and their pixels once they are written."""


@dataclass(frozen=True, kw_only=True)
class PreparedCandidate:
    """A candidate ready to sample: its declaration, its weights, the phases of its first stage, the later stages, and the text
    embeddings of all. One that `may_widen` is made once more in bf16 where it overflows. With `post`, what is sampled are the raw
    pictures, whose keys follow from the weights `raw`. Where prompts bring adapters of their own, it makes the images of
    `prompts` (ids) alone; None means all. `common` are the weights up to each stage, from the first, that other candidates have
    too."""

    candidate: Candidate
    weights: Weights
    phases: tuple[Phase, ...]
    stages: tuple[LiveStage, ...] = ()
    texts: Mapping[str, TextState]
    may_widen: bool = False
    post: PostProcess | None = None
    raw: Weights | None = None
    prompts: frozenset[str] | None = None
    common: tuple[Weights | None, ...] = ()

    def makes(self, cell: Cell) -> bool:
        """Whether the image of a cell is made with these adapters."""
        return self.prompts is None or cell.prompt in self.prompts


class Gallery:
    """Images by candidate and cell, each with the key of everything that determines it. An image counts while its key follows
    from the current weights, texts and setting, and its file is the one that was written. The wanted cells of a candidate are
    the whole grid, or the part that a race requests; an image has the same key in both."""

    def __init__(self, suite: Suite, ledger: Ledger, cache: ImageCache, head: Mapping[str, Any]) -> None:
        """`head` is the run's: its sampling block, and the environment, which determines last bits in a shared cache."""
        self.ledger, self.cache = ledger, cache
        self._setting: Mapping[str, Any] = head["sampling"]
        self._environment: Mapping[str, Any] = head["environment"]
        self._contents: Mapping[str, str] = head.get(PICTURES, {})
        self._grids: dict[tuple[object, ...], _CellsOfGrid] = {}
        self._prompts = prompts_hash(suite.grid.prompts)
        self._stages = StageStore()
        self.take(suite)
        self._sizes: dict[tuple[str, bool], int] = {}
        self._refused: dict[tuple[tuple[int, int], bool], Fit] = {}
        """By size of images and kind of cells, with guidance or without: what refused them the last time, in this session or,
        with a batch size that was fitted, in an earlier one."""
        self._parts: dict[str, tuple[Cell, ...]] = {}

    @property
    def refusals(self) -> list[dict[str, Any]]:
        """What was refused the last time, as run.json keeps it for later sessions."""
        return [{"width": width, "height": height, "guided": guided, "batch_size": fit.batch_size, "candidate": fit.candidate,
                 "why": fit.why} for ((width, height), guided), fit in self._refused.items()]

    def remember(self, refusals: object) -> None:
        """Takes up what an earlier session on the same model of device was refused: candidates that begin now have smaller
        batches. What is not as `refusals` writes it is left out."""
        for entry in refusals if isinstance(refusals, list) else ():
            with suppress(TypeError, KeyError, ValueError):
                size = int(entry["batch_size"])
                if 1 < size <= self.suite.grid.images_per_batch:
                    fit = Fit(candidate=str(entry["candidate"]), batch_size=size, fits=False, why=str(entry["why"]))
                    self._refused[(int(entry["width"]), int(entry["height"])), bool(entry["guided"])] = fit

    def take(self, suite: Suite) -> None:
        """Takes the suite with the candidates that it has now. Its grid must be the same as before."""
        self.suite, self._beginnings = suite, Beginnings.of(suite)
        self._candidates = {candidate.name: candidate for candidate in suite.candidates}

    def in_common(self, candidate: Candidate) -> tuple[bool, ...]:
        """For each stage of a candidate, from the first: whether another one has it too, and all before it."""
        return self._beginnings.in_common(self.suite, candidate)

    def forget_stages(self) -> None:
        """Frees the memory of stages that candidates have in common; they are sampled again where they are needed."""
        self._stages.clear()

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
        return self._of(name).cells

    def wanted(self, name: str) -> tuple[Cell, ...]:
        """The wanted cells of a candidate, in the grid's order."""
        return self._parts.get(name, self.cells(name))

    def absent(self, candidate: Candidate, weights: Weights) -> list[Cell]:
        """The wanted cells whose image is neither in this run nor in the shared cache, in the grid's order."""
        keys = self._keys(candidate.name, weights, self.suite.grid.images_per_batch)
        missing = self.ledger.missing(candidate.name, [(cell, keys[cell]) for cell in self.wanted(candidate.name)])
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

    def make(self, prepared: PreparedCandidate, absent: Sequence[Cell], done: Done) -> None:
        """Samples the absent cells. If memory runs out, the batch size is halved for the remaining ones of their kind, with or
        without guidance, and for those of all candidates that begin later, so that pairs of images are made alike. A Fit records
        it, and the keys of those images depend on the smaller size. At batch size 1 the out-of-memory error is raised."""
        name, device = prepared.candidate.name, prepared.phases[0].enter().device
        shape = self._shape(name)
        remaining = list(absent)
        if self._takes_over(name):
            remaining = self._absent(prepared)
        for guided in (False, True):
            part = [cell for cell in remaining if (cell.guidance != 1) is guided]
            while part:
                size = self._sizes[name, guided]
                refused = self._try(prepared, part, size, done)
                if refused is None:
                    break
                fit = self._refusal(refused, prepared, size)
                self.ledger.add([fit])
                free_memory(str(device))
                for kind in {guided, True}:  # with guidance, a batch needs more
                    if size // 2 < self._sizes[name, kind]:
                        self._sizes[name, kind], self._refused[shape, kind] = size // 2, fit
                part = [cell for cell in self._absent(prepared) if (cell.guidance != 1) is guided]

    def _absent(self, prepared: PreparedCandidate) -> list[Cell]:
        return [cell for cell in self.absent(prepared.candidate, prepared.weights) if prepared.makes(cell)]

    def _takes_over(self, name: str) -> bool:
        """Sets the batch sizes with which a candidate begins. Returns whether they are the smaller ones of an earlier candidate;
        that larger ones are not tried is recorded then."""
        if (name, True) in self._sizes:
            return False
        for guided in (False, True):
            fit = self._refused.get((self._shape(name), guided))
            self._sizes[name, guided] = self.suite.grid.images_per_batch if fit is None else fit.batch_size // 2
        if fit is None:
            return False
        self.ledger.add([replace(
            fit, candidate=name, setting=self.ledger.setting(name), asked_bytes=None, free_bytes=None,
            why=f"not tried with {fit.batch_size} images, because {fit.candidate!r} had no room for them: {fit.why}")])
        return True

    def _shape(self, name: str) -> tuple[int, int]:
        return picture_size(self.suite, self.candidate(name))

    def measure_floor(self, prepared: PreparedCandidate) -> None:
        """Samples a few images again, one at a time, and records how far they differ from those made in batches. Differences
        between candidates that are smaller than this noise floor mean nothing. Raises SamplingError for stored images that are
        not the candidate's."""
        own = [s for s in self.present(prepared.candidate.name) if prepared.makes(s.cell)]
        sound = {s.cell for s in own if not self.ledger.defect(s.key)}
        of_grid = self._of(prepared.candidate.name)
        eligible = [c for c in of_grid.cells if c.guidance != 1 and c in sound] or [c for c in of_grid.cells if c in sound]
        chosen = eligible[::max(1, len(eligible) // FLOOR_CELLS)][:FLOOR_CELLS]
        records = []
        for (cell,), (alone,) in sample(prepared.phases, of_grid.grid, [(cell,) for cell in chosen], prepared.texts,
                                              later=Later(stages=prepared.stages)):
            stored: Sample | Intermediate = self.ledger.samples[prepared.candidate.name, cell]
            raw = next((one for one in self.ledger.made_of(stored.key) if one.name == RAW), None)
            batched = from_png(self.ledger.read(stored if raw is None else raw)).astype(int)
            distance = np.abs(batched - alone)
            if distance.mean() > FLOOR_MEAN_LEVELS:
                raise SamplingError(
                    f"the stored image of prompt {cell.prompt!r}, seed {cell.seed}, guidance {cell.guidance:g} is not the one "
                    f"that this candidate makes: made once more it differs by {distance.max()} of 255 levels, "
                    f"{distance.mean():.3g} in the mean, which is more than rounding. Run again with --fresh, and without a "
                    "shared cache that others can write to")
            records.append(NoiseFloor(candidate=prepared.candidate.name, cell=cell, batch_size=self.suite.grid.images_per_batch,
                                      largest_levels=int(distance.max()), changed_share=float((distance > 0).mean()),
                                      setting=prepared.weights.identity))
        self.ledger.add(records)

    def pixels(self, samples: Sequence[Sample]) -> Images:
        """The pixels (n, height, width, 3), uint8, hashed as they are read. Raises AlteredImageError for a changed file."""
        return np.stack([from_png(self.ledger.read(s)) for s in samples])

    def _try(self, prepared: PreparedCandidate, absent: Sequence[Cell], size: int, done: Done) -> OutOfMemory | None:
        """Samples at one batch size. Returns None when all is done, or the allocator's error when memory ran out."""
        try:
            grid = self._of(prepared.candidate.name).grid
            todo = pack(grid, absent, size, lengths_of(prepared.phases, prepared.texts, grid, prepared.stages))
            name = prepared.candidate.name
            raw = {} if prepared.raw is None else self._keys(name, prepared.raw, size)
            self._make(prepared, todo, ImageMaking(candidate=name, keys=self._keys(name, prepared.weights, size),
                                                   post=prepared.post, raw_keys=raw), done)
        except Exception as error:
            refused = out_of_memory(error, str(prepared.phases[0].enter().device))
            if refused is not None and size == 1:
                self.ledger.add([self._refusal(refused, prepared, 1)])
            if refused is None or size == 1:
                raise
            return refused
        return None

    def _refusal(self, refused: OutOfMemory, prepared: PreparedCandidate, size: int) -> Fit:
        return replace(not_fitting(refused, prepared.candidate.name, size), setting=self.ledger.setting(prepared.candidate.name))

    def _make(self, prepared: PreparedCandidate, todo: Sequence[tuple[Cell, ...]], making: ImageMaking, done: Done) -> None:
        """Samples batches. A second thread writes images and journal while the next batch is computed. Raises Fp16OverflowError
        at the first image that overflows, if the candidate may widen."""
        pending: list[Future[None]] = []
        of_grid = self._of(prepared.candidate.name)

        def note(cell: Cell, why: str) -> None:
            if prepared.may_widen and why == NOT_FINITE:
                raise Fp16OverflowError(why)
            making.defects[cell] = why

        def beside(cells: Sequence[Cell], name: str, pictures: Images) -> None:
            for cell, picture in of_grid.own(cells, pictures).items():
                making.stages.setdefault(cell, {})[name] = picture

        with ThreadPoolExecutor(max_workers=1) as writer:
            try:
                for cells, images in sample(prepared.phases, of_grid.grid, todo, prepared.texts, note,
                                            Later(stages=prepared.stages, beside=beside, common=self._common(prepared))):
                    new = of_grid.own(cells, images)
                    pending.append(writer.submit(self._write, making, new, done))
                    if len(pending) > WRITES_AHEAD:  # a full disk is noticed now, and memory stays bounded
                        pending.pop(0).result()
            finally:
                for written in pending:
                    written.result()
        self.ledger.flush()

    def _common(self, prepared: PreparedCandidate) -> Common | None:
        """What of a candidate's stages is in common with others."""
        if not any(prepared.common):
            return None
        of_grid = self._of(prepared.candidate.name)

        def key(number: int, prompt: str) -> str:
            weights = prepared.common[number]
            return "" if weights is None else of_grid.stage_key(weights.of(prompt))

        return Common(store=self._stages, key=key)

    def _write(self, making: ImageMaking, images: Mapping[Cell, Images], done: Done) -> None:
        self._store(making, [making.of(cell, image) for cell, image in images.items()], done)

    def _store(self, making: ImageMaking, images: Sequence[Written], done: Done) -> None:
        """Puts images on record, with what they were made of, and into the shared cache."""
        of_grid = self._of(making.candidate)
        if bad := [defect for image in images for defect in image.defects]:
            # Defects are written before the images: an image must never be on record without its defect.
            self.ledger.add(bad)
        self.ledger.store([file for image in images for file in image.files])
        for image in images:
            for record, data in image.files if not image.defects else ():
                if data:
                    self.cache.put(of_grid.shared_key(record.key), data)
        done([image.sample for image in images], np.stack([image.pixels for image in images]))

    def derive(self, candidate: Candidate, weights: tuple[Weights, Weights], post: PostProcess, absent: Sequence[Cell],
               done: Done) -> list[Cell]:
        """The cells that are still absent when the post-steps were applied to all raw pictures that are there: those of another
        candidate, of this one before its post-steps were changed, or in the shared cache. `weights` are those of the candidate
        and of its raw pictures."""
        name, remaining = candidate.name, list(absent)
        for size in (self.suite.grid.images_per_batch, *self._smaller(name)):
            making = ImageMaking(candidate=name, post=post, keys=self._keys(name, weights[0], size),
                                 raw_keys=self._keys(name, weights[1], size))
            for start in range(0, len(remaining), DERIVED_AT_ONCE):
                part = [self._derived(making, cell) for cell in remaining[start:start + DERIVED_AT_ONCE]]
                if images := [image for image in part if image is not None]:
                    self._store(making, images, done)
            present = {cell for cell in remaining if not self.ledger.missing(name, [(cell, making.keys[cell])])}
            remaining = [cell for cell in remaining if cell not in present]
        self.ledger.flush()
        return remaining

    def _derived(self, making: ImageMaking, cell: Cell) -> Written | None:
        key, raw_key = making.keys[cell], making.raw_keys[cell]
        raw = self.ledger.picture(raw_key)
        if raw is None:
            candidate = self._candidates[making.candidate]
            data = self.cache.get(self._of(making.candidate).shared_key(raw_key), picture_size(self.suite, replace(
                candidate, post=())))
            if data is None or (shared := self._shared_stages(candidate, making, cell)) is None:
                return None
            making.stages[cell] = {name: from_png(picture) for name, picture in shared.items()}
            return making.of(cell, from_png(data))
        if why := self.ledger.defect(raw_key):
            making.defects[cell] = why
        stages = tuple(one for one in self.ledger.made_of(raw.key if isinstance(raw, Sample) else raw.sample)
                       if one.name != RAW and one.sample != key)
        first = next((one for one in stages if one.name == FIRST), None)
        if making.needs_first_stage and first is None:
            return None
        pixels = [None if one is None else from_png(self.ledger.read(one)) for one in (raw, first)]
        return making.derived(cell, raw, (pixels[0], pixels[1]), stages)

    def _fetched(self, candidate: Candidate, weights: Weights, missing: Sequence[Cell]) -> list[Cell]:
        """The cells that are still missing after adopting the images that the shared cache has, with the pictures of their
        earlier stages. An image with post-steps is made of its raw picture there, which is kept beside it (`derive`)."""
        if candidate.post:
            return list(missing)
        of_grid, size = self._of(candidate.name), self._shape(candidate.name)
        making = ImageMaking(candidate=candidate.name, keys=self._keys(
            candidate.name, weights, self.suite.grid.images_per_batch))
        absent: list[Cell] = []
        for cell in missing:
            data = self.cache.get(of_grid.shared_key(making.keys[cell]), size)
            stages = None if data is None else self._shared_stages(candidate, making, cell)
            if data is None or stages is None:
                absent.append(cell)
            else:
                self.ledger.store(making.fetched(cell, data, stages))
        return absent

    def _shared_stages(self, candidate: Candidate, making: ImageMaking, cell: Cell) -> dict[str, bytes] | None:
        """The pictures of a candidate's earlier stages that the shared cache has, by name; None unless all are there. An image
        without them is sampled again."""
        of_grid, pictures = self._of(candidate.name), dict[str, bytes]()
        for number, grid in enumerate(stage_grids(self.suite, candidate)[:-1]):
            name = stage_name(number)
            data = self.cache.get(of_grid.shared_key(making.stage_key(cell, name)), (grid.width, grid.height))
            if data is None:
                return None
            pictures[name] = data
        return pictures

    def _keys(self, name: str, weights: Weights, size: int) -> dict[Cell, str]:
        """The key of each cell's image of a candidate with these weights, in batches of this size."""
        of_grid, chunked = self._of(name), self.ledger.chunked(name, self._prompts)
        if not weights.by_prompt:
            return of_grid.keys(weights.identity, size, chunked)
        return {cell: of_grid.keys(weights.of(cell.prompt), size, chunked)[cell] for cell in of_grid.cells}

    def _of(self, name: str) -> _CellsOfGrid:
        """The cells of a candidate. What a search only tries is sampled as the grid says."""
        candidate = self._candidates.get(name)
        packages = () if candidate is None else packages_of(candidate.runtime)
        place = (None, (), None, ()) if candidate is None else (
            candidate.sampling, names_of(candidate), candidate.inpaint, packages)
        if place not in self._grids:
            grid = run_grid(self.suite, candidate)
            block = self._setting if candidate is None else sampling_block(self._setting, self.suite, candidate)
            self._grids[place] = _CellsOfGrid(grid, block, self._environment, lambda prompt, chunked: parts_in_key(
                candidate, prompt, chunked, self._contents), packages)
        return self._grids[place]

    def _smaller(self, name: str) -> list[int]:
        return smaller_batches(self.suite.grid.images_per_batch, self.ledger.fits(name))


class _CellsOfGrid:
    """The cells of one effective grid, with the keys of their images."""

    def __init__(self, grid: Grid, block: Mapping[str, Any], facts: Mapping[str, Any],
                 parts: Callable[[Prompt, frozenset[str]], tuple[str, ...]], packages: Sequence[str]) -> None:
        """`block` is the grid's sampling block, `facts` the environment in run.json, which is that of the suite's own grid, and
        `parts` is what of a prompt determines an image, of whose texts those at some places are read in chunks. `packages` are
        those of the runtime, whose versions show in last bits."""
        self.grid, self._parts = grid, parts
        self._environment = deciding_pixels({**facts, "threads_per_operation": threads_per_operation(grid, str(block["device"]))}
                                            if "threads_per_operation" in facts else facts, packages)
        self.cells = tuple(cell for batch in batches(grid) for cell in batch)
        self._numbers = {cell: number for kind in kinds(grid) for number, cell in enumerate(kind)}
        self._block, self._keys = block, dict[tuple[int, frozenset[str]], GridKeys]()

    def keys(self, identity: str, batch_size: int, chunked: frozenset[str]) -> dict[Cell, str]:
        """The key of each cell's image, made of weights of `identity` in batches of this size; `chunked` are the places of texts
        that are read in chunks."""
        if (batch_size, chunked) not in self._keys:
            texts = {prompt.id: self._parts(prompt, chunked) for prompt in self.grid.prompts}
            self._keys[batch_size, chunked] = GridKeys(self.cells, texts, {**self._block, "batch_size": batch_size})
        return self._keys[batch_size, chunked].of(identity)

    def stage_key(self, identity: str) -> str:
        """The key of how a stage ends whose weights, with those of all before it, have this identity."""
        return short_hash([identity, self._block])

    def shared_key(self, key: str) -> str:
        """The key of an image in a cache that several machines share."""
        return shared_key(key, self._environment)

    def own(self, cells: Sequence[Cell], images: Images) -> dict[Cell, Images]:
        """The images of a batch without its repetitions. Of a repeated cell, the image at the cell's own place is kept."""
        by_cell: dict[Cell, Images] = {}
        for place, (cell, image) in enumerate(zip(cells, images, strict=True)):
            if cell not in by_cell or self._numbers[cell] % len(cells) == place:
                by_cell[cell] = image
        return by_cell
