"""The batch sizes that candidates of a session are sampled with: those of the grid, or smaller ones where memory was refused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from harness.records import Fit
from harness.run.shared_images import Refusal, smallest

Shape: TypeAlias = "tuple[int, int]"
"""Width and height of a candidate's pictures."""


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """`largest` is the grid's batch size. What refused one candidate memory holds for all with pictures of the same size that
    begin later, so that pairs of images are made alike."""

    largest: int
    _sizes: dict[tuple[str, bool], int] = field(default_factory=dict)
    _refused: dict[tuple[Shape, bool], Fit] = field(default_factory=dict)
    """By size of images and kind of cells, with guidance or without: what refused them the last time, in this session or, with a
    batch size that was fitted, in an earlier one."""

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
                if 1 < size <= self.largest:
                    fit = Fit(candidate=str(entry["candidate"]), batch_size=size, fits=False, why=str(entry["why"]))
                    self._refused[(int(entry["width"]), int(entry["height"])), bool(entry["guided"])] = fit

    def of(self, name: str, *, guided: bool) -> int:
        """The batch size of a candidate that has begun."""
        return self._sizes[name, guided]

    def learn(self, name: str, shape: Shape, refusals: Sequence[Refusal]) -> None:
        """Takes up what memory refused elsewhere for a candidate: the rest of its images, and candidates that begin later, have
        smaller batches."""
        for guided in (False, True):
            fit = smallest(refusals, guided=guided)
            known = self._refused.get((shape, guided))
            if fit is not None and (known is None or fit.batch_size < known.batch_size):
                self._refused[shape, guided] = fit
        if refusals and (name, True) not in self._sizes:
            self._begin(name, shape)

    def begin(self, name: str, shape: Shape) -> Fit | None:
        """Sets the batch sizes with which a candidate begins. Returns a record where they are the smaller ones of an earlier
        candidate: that larger ones are not tried."""
        if (name, True) in self._sizes:
            return None
        self._begin(name, shape)
        if (fit := self._refused.get((shape, True))) is None:
            return None
        return replace(fit, candidate=name, asked_bytes=None, free_bytes=None,
                       why=f"not tried with {fit.batch_size} images, because {fit.candidate!r} had no room for them: {fit.why}")

    def restart(self, name: str) -> None:
        """Lets a candidate begin again, with the sizes that hold by then."""
        for guided in (False, True):
            self._sizes.pop((name, guided), None)

    def halve(self, name: str, shape: Shape, fit: Fit, *, guided: bool) -> None:
        """Halves the size of the refused batch, for the candidate and for all that begin later. With guidance, a batch needs
        more: what has no room without it has none with it."""
        for kind in {guided, True}:
            if fit.batch_size // 2 < self._sizes[name, kind]:
                self._sizes[name, kind], self._refused[shape, kind] = fit.batch_size // 2, fit

    def _begin(self, name: str, shape: Shape) -> None:
        for guided in (False, True):
            fit = self._refused.get((shape, guided))
            self._sizes[name, guided] = self.largest if fit is None else fit.batch_size // 2
