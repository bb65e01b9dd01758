"""Measures metrics on images: finds what is missing, measures it in batches while other images are sampled, and records it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.declare import Suite, grid_of
from harness.declare.pairing import Pairing, with_baseline
from harness.declare.prompt_texts import scored_text
from harness.metrics import METRICS, ImageScore, ImageSet
from harness.metrics.user_metrics import ScoreCountError
from harness.records import Cell, Measurement, Sample
from harness.records.events import METRIC_STAGE
from harness.run.images import Gallery
from harness.run.prompt_pictures import PromptPictures
from harness.run.prompt_poses import PromptPoses
from harness.run_folder.ledger import Ledger
from harness.sampling import cores, pool_of_single_threads, small
from harness.savers import SAVERS

if TYPE_CHECKING:
    from harness.sampling import Images

MEASURED_AHEAD: Final = 4
IMAGES_AT_ONCE: Final = 64


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """Images to measure: their samples, and their pixels (n, h, w, 3) if already in memory."""

    samples: Sequence[Sample]
    pixels: Images | None = None

    def of(self, places: Sequence[int]) -> ImageBatch:
        """The images at these places."""
        pixels = None if self.pixels is None else self.pixels[list(places)]
        return ImageBatch(samples=[self.samples[p] for p in places], pixels=pixels)


@dataclass(kw_only=True)
class Meter:
    """The metrics of a suite on a device. `settings` is {metric: hash of everything else that determines its values}. `clip`
    loads the CLIP scorer when it is first needed. A metric never depends on other images, so the order does not matter."""

    suite: Suite
    ledger: Ledger
    gallery: Gallery
    device: str
    settings: Mapping[str, str]
    clip: Callable[[], Any]
    pictures: PromptPictures
    poses: PromptPoses
    _ahead: deque[tuple[Future[None], ...]] = field(default_factory=deque)
    """By batch: what measures it."""
    _pool: ThreadPoolExecutor | None = None
    _cores: ThreadPoolExecutor | None = None
    _baseline: Mapping[Cell, Sample] = field(default_factory=dict)
    """By cell of the candidate that is measured: the baseline's image that stands beside it."""
    _name: str = ""
    """The candidate whose images are fed."""
    _alone: bool = False
    """Whether nothing may be computed beside the sampling of the candidate."""

    def begin(self, name: str) -> None:
        """Announces that the next images are of this candidate. Its references are the baseline's images, if all exist. While the
        baseline itself is sampled there are none yet, and paired metrics wait for `measure`."""
        self.settle()
        savers = [saver for candidate in self.suite.candidates if candidate.name == name for saver in candidate.savers]
        self._alone = any(SAVERS[saver].whole_process for saver in savers)
        self._baseline = {} if name == self.suite.baseline else self._beside(name)
        self._name = name

    def wants(self, name: str, *, patient: bool) -> bool:
        """Whether images of a candidate, of several workers perhaps, are to be fed now: the last that was announced. One who is
        not `patient` feeds none while others wait."""
        return name == self._name and not self._alone and (patient or len(self._ahead) <= MEASURED_AHEAD)

    def feed(self, samples: Sequence[Sample], pixels: Images) -> None:
        """Measures images that were just written, on separate threads while the next ones are sampled. Metrics that fail here
        are tried again by `measure`, which reports the error. All metrics wait for `measure` where a saver of the candidate acts
        on the whole process, as their arithmetic would change too."""
        if self._alone:
            return
        if self._pool is None:
            self._pool = pool_of_single_threads(1) if self._small else ThreadPoolExecutor(1)
        names = [name for name in self.suite.metrics if self._baseline or not METRICS[name].paired]
        batch = ImageBatch(samples=samples, pixels=pixels)
        if not self._on_gpu:
            self._ahead.append((self._pool.submit(self._quietly, names, batch),))
        else:
            # The GPU makes images faster than one core measures them.
            self._cores = self._cores or pool_of_single_threads(cores())
            on_cores = [name for name in names if not METRICS[name].needs_clip]
            self._ahead.append((
                self._pool.submit(self._quietly, [name for name in names if METRICS[name].needs_clip], batch),
                *(self._cores.submit(self._quietly, on_cores, batch.of([place])) for place in range(len(samples)))))
        while len(self._ahead) > MEASURED_AHEAD:  # pixels wait in memory
            self._first_ready()

    def measure(self, samples: Sequence[Sample], stage: Callable[[str], AbstractContextManager[None]]) -> None:
        """Measures every declared metric that is still missing on images of a candidate, each within `stage`. If a metric fails
        on one image, it is tried on each of the others alone, and the error is raised in `stage` at the end."""
        self.settle()
        self._baseline = self._beside(samples[0].candidate) if samples else {}
        batch = ImageBatch(samples=samples)
        due = {name: places for name in self.suite.metrics if (places := self._due(name, batch))}
        if not due:
            return
        # In parallel only if operations use one thread each; on a CPU a large CLIP model needs all cores.
        jobs = min(len(due), cores()) if self._small or self._on_gpu else 1
        with pool_of_single_threads(jobs) if jobs > 1 else ThreadPoolExecutor(1) as pool:
            results = {name: pool.submit(self._all, name, batch.of(places)) for name, places in due.items()}
            for name, scores in results.items():
                with stage(f"{METRIC_STAGE}{name}"):
                    if (error := scores.result()) is not None:
                        raise error
        self.ledger.flush()

    def settle(self) -> None:
        """Waits until all images passed to `feed` are measured."""
        while self._ahead:
            self._first_ready()

    def close(self) -> None:
        """Ends the threads."""
        for pool in (self._pool, self._cores):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def _first_ready(self) -> None:
        with suppress(IndexError):  # another thread waited for the last
            for measured in self._ahead.popleft():
                measured.result()

    @property
    def _on_gpu(self) -> bool:
        """Whether images are made on a GPU, so that the cores are free for metrics."""
        return self.device.startswith("cuda")

    @property
    def _small(self) -> bool:
        return all(small(grid_of(self.suite, candidate), self.device) for candidate in self.suite.candidates)

    def _beside(self, name: str) -> dict[Cell, Sample]:
        """The baseline's images by the cell of a candidate that each stands beside; empty unless all that are wanted exist."""
        images = {s.cell: s for s in self.gallery.present(self.suite.baseline)}
        cells = self.gallery.cells(name) if images else ()
        scales = {scale: self._pairing(name, scale).scale for scale in dict.fromkeys(cell.guidance for cell in cells)}
        pairs = {cell: replace(cell, guidance=scale) for cell in cells if (scale := scales[cell.guidance]) is not None}
        return {cell: images[other] for cell, other in pairs.items() if other in images}

    def _pairing(self, name: str, guidance: float) -> Pairing:
        return with_baseline(self.suite, self.gallery.candidate(name), guidance)

    def _reference(self, name: str, cell: Cell) -> str:
        """The key of the baseline's image that a metric compares with; empty if it needs none."""
        baseline_image = self._baseline.get(cell) if METRICS[name].paired else None
        return baseline_image.key if baseline_image is not None else ""

    def _due(self, name: str, batch: ImageBatch) -> list[int]:
        """The places of the images that have no valid measurement of a metric."""
        return [place for place, s in enumerate(batch.samples) if not self.ledger.measured(
            name, METRICS[name].version, self.settings.get(name, ""), [(s, self._reference(name, s.cell))])]

    def _quietly(self, names: Sequence[str], batch: ImageBatch) -> None:
        for name in names:
            with suppress(Exception):  # `measure` tries again and reports the error
                self._take(name, batch)

    def _all(self, name: str, batch: ImageBatch) -> Exception | None:
        """Measures a metric on many images, some at a time to bound memory. Returns the first error."""
        first_error = None
        for start in range(0, len(batch.samples), IMAGES_AT_ONCE):
            error = self._each(name, batch.of(range(start, min(start + IMAGES_AT_ONCE, len(batch.samples)))))
            first_error = first_error or error
        return first_error

    def _each(self, name: str, batch: ImageBatch) -> Exception | None:
        """Measures a metric on all images together or, if that fails, one by one. Returns the first error."""
        try:
            self._take(name, batch)
        except Exception as error:
            if len(batch.samples) == 1 or isinstance(error, ScoreCountError):
                return error
            errors = [failure for place in range(len(batch.samples))
                      if (failure := self._each(name, batch.of([place]))) is not None]
            return errors[0] if errors else None
        return None

    def _take(self, name: str, batch: ImageBatch) -> None:
        parts: dict[str, list[int]] = {}
        for place, s in enumerate(batch.samples):
            parts.setdefault(self._why_alone(name, s), []).append(place)
        for why, places in parts.items():
            part = batch if len(parts) == 1 else batch.of(places)
            self.ledger.add(list(self._records(name, part, METRICS[name].measure(self._images(name, part, why)))), durable=False)

    def _why_alone(self, name: str, sample: Sample) -> str:
        """Why an image has no reference that a metric asks for; empty if it has one or needs none."""
        if not METRICS[name].paired or sample.cell in self._baseline:
            return ""
        return (self._pairing(sample.candidate, sample.cell.guidance).why
                or f"the baseline {self.suite.baseline!r} was not sampled")

    def _images(self, name: str, batch: ImageBatch, why_not: str = "") -> ImageSet:
        """The input of a metric; with `why_not`, without references."""
        prompts = {p.id: scored_text(p) for p in self.suite.grid.prompts}
        references = [self._baseline[s.cell] for s in batch.samples] if METRICS[name].paired and not why_not else []
        asks, posed = METRICS[name].uses_pictures, METRICS[name].uses_poses
        asked = [s.cell.prompt for s in batch.samples]
        return ImageSet(
            images=self.gallery.pixels(batch.samples) if batch.pixels is None else np.asarray(batch.pixels),
            texts=tuple(prompts[s.cell.prompt] for s in batch.samples), device=self.device,
            references=self.gallery.pixels(references) if references else None,
            clip=self.clip() if METRICS[name].needs_clip else None, styles=self.suite.styles,
            shown=self.pictures.shown(asked) if asks else (),
            all_shown=self.pictures.all_shown() if asks else (),
            control_maps=self.pictures.control_maps(asked) if asks else (),
            pictures=self.pictures.by_name(asked) if asks else {},
            other_maps=self.pictures.other_maps(asked) if asks else (), why_no_reference=why_not,
            poses=self.poses.of(asked) if posed else (), other_poses=self.poses.others(asked) if posed else (),
            detector=self.poses.detector if posed else None)

    def _records(self, name: str, batch: ImageBatch, scores: Sequence[ImageScore]) -> Iterator[Measurement]:
        row = METRICS[name]
        for place, (s, measured) in enumerate(zip(batch.samples, scores, strict=True)):
            score, key = measured, self._reference(name, s.cell)
            if why := self.ledger.defect(s.key):
                score = ImageScore(missing={spec.name: f"unusable image: {why}" for spec in row.values})
            elif key and self.ledger.defect(key):
                # Only the metric knows which values need the reference: without one it reports them as missing.
                score = row.measure(self._images(name, batch.of([place]), "the baseline's image of this cell is unusable"))[0]
            yield Measurement(sample=s.key, candidate=s.candidate, cell=s.cell, metric=name, reference=key,
                              version=row.version, setting=self.settings.get(name, ""), values=score.values,
                              labels=score.labels, details=score.details, missing=score.missing)
