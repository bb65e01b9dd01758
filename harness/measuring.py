"""Metrics over the images of a candidate: what is due, all of it side by side where that is sound, and the records of it.
run.py asks for every candidate once its images are at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from harness.declare import Suite
from harness.gallery import Gallery
from harness.ledger import Ledger
from harness.metrics import METRICS, ImageScore, ImageSet
from harness.records import Measurement, Sample
from harness.sampling import pool_of_single_threads, small


@dataclass(frozen=True, kw_only=True)
class Meter:
    """The metrics of a suite on a device. `settings` holds by metric the hash of what else decides its values; `clip` loads
    the CLIP scorer when it is first needed."""

    suite: Suite
    ledger: Ledger
    gallery: Gallery
    device: str
    settings: Mapping[str, str]
    clip: Callable[[], Any]

    def measure(self, samples: Sequence[Sample], stage: Callable[[str], AbstractContextManager[None]]) -> None:
        """Every declared metric on every image, each within `stage`. A metric is computed for all images of a candidate or for
        none, so that a resumed run measures in the same batches as an unbroken one."""
        references = self.gallery.present(self.suite.baseline)
        keys = [r.key for r in references] if references else [""] * len(samples)
        due = [name for name in self.suite.metrics if not self.ledger.measured(
            name, METRICS[name].version, self.settings.get(name, ""), zip(samples, keys, strict=True))]
        if not due:
            return
        images: list[ImageSet] = []
        with stage("read the images"):
            images.append(self._images(samples, references))
        if not images:
            return
        # Side by side only where operations take one thread each; a large CLIP model wants the whole device.
        jobs = len(due) if small(self.suite.grid, self.device) else 1
        with pool_of_single_threads(jobs) if jobs > 1 else ThreadPoolExecutor(1) as pool:
            made = {name: pool.submit(self._scores, name, images[0]) for name in due}
            for name in due:
                with stage(f"metric {name}"):
                    self.ledger.add(list(self._records(name, samples, keys, made[name].result())))

    def _images(self, samples: Sequence[Sample], references: Sequence[Sample]) -> ImageSet:
        prompts = {p.id: p.text for p in self.suite.grid.prompts}
        return ImageSet(
            images=self.gallery.pixels(samples), texts=tuple(prompts[s.cell.prompt] for s in samples),
            references=self.gallery.pixels(references) if references else None, device=self.device, clip=None,
            why_no_reference="" if references else f"the baseline {self.suite.baseline!r} was not sampled")

    def _scores(self, name: str, images: ImageSet) -> list[ImageScore]:
        return METRICS[name].measure(replace(images, clip=self.clip()) if name == "clip_score" else images)

    def _without_reference(self, name: str, of: Sample) -> ImageScore:
        """One image measured as if there were no reference, which the baseline could not give."""
        alone = replace(self._images([of], ()), why_no_reference="the baseline's image of this cell is none")
        return self._scores(name, alone)[0]

    def _records(self, name: str, samples: Sequence[Sample], keys: Sequence[str], scores: Sequence[ImageScore],
                 ) -> Iterator[Measurement]:
        row = METRICS[name]
        for s, found, key in zip(samples, scores, keys, strict=True):
            score = found
            if why := self.ledger.defect(s.key):
                score = ImageScore(missing={spec.name: f"the image is none: {why}" for spec in row.values})
            elif key and self.ledger.defect(key):
                # Which values need the reference is the metric's own knowledge: without one it says so itself.
                score = self._without_reference(name, s)
            yield Measurement(sample=s.key, candidate=s.candidate, cell=s.cell, metric=name, reference=key,
                              version=row.version, setting=self.settings.get(name, ""), values=score.values,
                              labels=score.labels, details=score.details, missing=score.missing)
