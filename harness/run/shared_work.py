"""The images of a suite made for a shared cache, beside other processes that do the same. There is no run folder, and nothing is
measured or timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from harness.cache import ImageCache
from harness.cache.claims import Claims
from harness.declare import Candidate, Suite, grid_of
from harness.declare.effective_grid import picture_size
from harness.executors.contract import Batch, Event, Failed, Overflowed, Ready, Refused, Unit
from harness.executors.in_process import InProcess
from harness.executors.maker import Maker
from harness.records import Cell, Fit, Weights
from harness.records.reusable import smaller_batches
from harness.run.batch_sizes import BatchSizes
from harness.run.common_stages import Beginnings
from harness.run.image_keys import ImageKeys
from harness.run.image_making import ImageMaking
from harness.run.shared_images import Refusal, SharedImages
from harness.run.work_parts import WorkPart, parts_of
from harness.sampling import threads_for

RETRIES_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 31.0)
"""Waits before an image is offered again to a cache that does not have it afterwards: a minute in all."""
POLL_SECONDS: Final = 3.0
"""Waits between two looks at parts that others make."""

_ROUNDED: Final = 0.02
"""The share by which sizes of memory differ that are said to be one: messages round them."""


class NotStoredError(RuntimeError):
    """A cache that does not take images, or does not keep them; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What is sampled of a candidate: the weights, and the places of texts that are read in chunks."""

    weights: Weights
    chunked: frozenset[str]


@dataclass(kw_only=True)
class Outcome:
    """What a process did: how many images it `made` and found `there`, by candidate how many are still `owed`, and why it
    failed."""

    made: int = 0
    there: int = 0
    owed: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class SharedWork:
    """Makes parts of a suite's images. `head` has its sampling block, environment and contents of pictures as run.json has them.
    `sample_of` says what is sampled of a candidate now, which changes where it runs in bf16; `claims` is None where nobody else
    has these parts."""

    suite: Suite
    head: Mapping[str, Any]
    maker: Maker
    cache: ImageCache
    claims: Claims | None
    sample_of: Callable[[Candidate], Sampled]
    say: Callable[[str], None]
    wait: Callable[[float], None] = time.sleep
    outcome: Outcome = field(default_factory=Outcome)

    def __post_init__(self) -> None:
        self._keys = ImageKeys(self.suite, self.head)
        self._shared = SharedImages(self.cache, self.suite)
        self._sizes = BatchSizes(largest=self.suite.grid.images_per_batch)
        self._beginnings = Beginnings.of(self.suite)
        self._known: dict[str, Sampled] = {}
        self._overflow: dict[str, str] = {}
        self._again: set[str] = set()
        self._parts: Sequence[WorkPart] = ()

    def go(self, parts: Sequence[WorkPart]) -> Outcome:
        """Makes all parts that are owed and nobody else makes, waits for what others make, and takes over what they leave. Raises
        NotStoredError, and ClaimError where parts cannot be claimed."""
        self._parts = parts
        for candidate in {part.candidate.name: part.candidate for part in parts}.values():
            self._take_overflow(candidate)
        self._again.clear()
        pending, waiting = list(range(len(parts))), False
        while pending:
            others = [number for number in pending if not self._done(parts[number])]
            if others and len(others) == len(pending):
                if not waiting:
                    self.say(self._waiting([parts[number] for number in others]))
                waiting = True
                self.wait(POLL_SECONDS)
            elsewhere = set(others)
            pending = [number for number, part in enumerate(parts) if number in elsewhere or part.candidate.name in self._again]
            self._again.clear()
        self._count(parts)
        return self.outcome

    def _done(self, part: WorkPart) -> bool:
        """Whether this process is through with a part: all is there, or its candidate failed."""
        name = part.candidate.name
        if name in self.outcome.failures:
            return True
        owed = self._owed(part)
        unsound = [] if owed else self._unsound(part)
        if not (owed or unsound):
            self.outcome.there += len(part.cells)
            return True
        key = self._keys.of(name).shared_key(part.key(self._sampled(part.candidate).weights.identity))
        if self.claims is not None and not self.claims.take(key):
            self._take_overflow(part.candidate)
            return False
        try:
            # Another may have made some of it between the look and the claim.
            if cells := unsound or self._owed(part):
                self._make(part, cells)
        finally:
            if self.claims is not None:
                self.claims.give_back(key)
        return True

    def _make(self, part: WorkPart, cells: Sequence[Cell]) -> None:
        """Makes cells of a part; smaller batches where memory is refused, and in bf16 where it overflows."""
        candidate, remaining, started = part.candidate, list(cells), time.perf_counter()
        shape, of_grid = picture_size(self.suite, candidate), self._keys.of(candidate.name)
        self._sizes.learn(candidate.name, shape, self._binding(candidate))
        if (fit := self._sizes.begin(candidate.name, shape)) is not None:
            self._refuse(candidate, fit, guided=True)
            remaining = self._owed(part)
        while remaining:
            end = self._run(part, remaining)
            if isinstance(end, Refused):
                self._sizes.halve(candidate.name, shape, end.fit, guided=part.guided)
                self._refuse(candidate, end.fit, guided=part.guided)
                self.say(f"{candidate.name}: no memory for {end.fit.batch_size} images; going on with batches of "
                          f"{self._sizes.of(candidate.name, guided=part.guided)}")
            elif isinstance(end, Overflowed):
                self._shared.put_overflow(of_grid, self._sampled(candidate).weights.identity, end.why)
                self._widen(candidate, end.why)
            elif isinstance(end, Failed):
                self.outcome.failures[candidate.name] = f"{end.stage}: {end.error}: {end.message}"
                self.say(f"{candidate.name} failed, {self.outcome.failures[candidate.name]}")
                return
            else:
                break
            remaining = self._owed(part)
        self.outcome.made += len(cells)
        self.say(f"{candidate.name}: {len(cells)} images in {time.perf_counter() - started:.1f} s; this worker made "
                  f"{self.outcome.made} so far")

    def _run(self, part: WorkPart, cells: Sequence[Cell]) -> Event | None:
        """Makes cells in batches of the present size. Returns what ended it early."""
        candidate = part.candidate
        size = self._sizes.of(candidate.name, guided=part.guided)
        making, end = self._making(candidate, size), None  # type: ImageMaking, Event | None
        unit = Unit(number=0, candidate=candidate, group=part.group, cells=tuple(cells), batch_size=size,
                    weights=self._sampled(candidate).weights, in_bf16=self._overflow.get(candidate.name, ""),
                    in_common=self._beginnings.in_common(self.suite, candidate))
        with threads_for(grid_of(self.suite, candidate), self.maker.bench.device):
            for event in InProcess(worker=self.maker).run(unit, lambda batch: self._store(candidate, making, batch)):
                end = None if isinstance(event, Ready) else event
        return end

    def _store(self, candidate: Candidate, making: ImageMaking, batch: Batch) -> None:
        """Puts a batch into the cache. Raises NotStoredError if it is not there afterwards, after some attempts."""
        of_grid = self._keys.of(candidate.name)
        for picture in batch.pictures:
            written = making.of(picture)
            for seconds in RETRIES_SECONDS:
                if seconds:
                    self.wait(seconds)
                self._shared.put(of_grid, written)
                if self._shared.has(candidate, of_grid, picture.cell, making):
                    break
            else:
                raise NotStoredError(f"the shared cache does not take images: {self._reasons()}. What is in it stays; make room, "
                                     "or the server reachable, and start the workers again")

    def _count(self, parts: Sequence[WorkPart]) -> None:
        """Counts what is owed at the end. Raises NotStoredError where the cache did not keep what this process found or made."""
        owed = {part.candidate.name: 0 for part in parts}
        for part in parts:
            owed[part.candidate.name] += len(self._owed(part))
        self.outcome.owed = {name: count for name, count in owed.items() if count}
        if lost := {name: count for name, count in self.outcome.owed.items() if name not in self.outcome.failures}:
            raise NotStoredError(f"the shared cache did not keep {sum(lost.values())} images of {', '.join(lost)}. It holds "
                                 f"less than all of the suite's images, or lets them go too early ({self._reasons()}); give it "
                                 "more room (?max_bytes= of a folder, maxmemory and ?ttl= of Redis)")

    def _owed(self, part: WorkPart) -> list[Cell]:
        """The cells of a part that the cache has no image of, at any batch size that memory left."""
        candidate, of_grid = part.candidate, self._keys.of(part.candidate.name)
        remaining = list(part.cells)
        for making in self._makings(candidate):
            remaining = [cell for cell in remaining if not self._shared.has(candidate, of_grid, cell, making)]
            if not remaining:
                break
        return remaining

    def _unsound(self, part: WorkPart) -> list[Cell]:
        """The cells of a part whose images, which are all there, cannot be used: damaged, or signed with another secret. Looked
        at is the first one and, if it cannot be used, the others."""
        candidate, of_grid = replace(part.candidate, post=()), self._keys.of(part.candidate.name)
        unsound: list[Cell] = []
        for cell in part.cells:
            if any(self._shared.image(candidate, of_grid, cell, making) for making in self._makings(part.candidate)):
                if not unsound:
                    return []
            else:
                unsound.append(cell)
        return unsound

    def _binding(self, candidate: Candidate) -> list[Refusal]:
        """The refusals of memory that hold here: those of a device with as much memory, and those that images in the cache are
        due to, so that all images of a candidate are made alike."""
        of_grid, identity = self._keys.of(candidate.name), self._sampled(candidate).weights.identity
        largest = self.suite.grid.images_per_batch
        refusals = self._shared.refusals(of_grid, identity, largest)
        alike = [refusal for refusal in refusals if _as_large(refusal.fit.total_bytes, self.head)]
        others = [refusal for refusal in refusals if refusal not in alike]
        sizes = smaller_batches(largest, [refusal.fit for refusal in others])
        makings = [self._making(candidate, size) for size in sizes]
        # Where memory was refused in the middle of a part, its last image is of the smaller batches.
        last = {part.cells[-1] for part in (*parts_of(self.suite, [candidate]), *self._parts) if part.candidate is candidate}
        followed = any(self._shared.has(candidate, of_grid, cell, making) for making in makings for cell in last)
        return refusals if followed else alike

    def _makings(self, candidate: Candidate) -> Iterator[ImageMaking]:
        """How images of a candidate can have been made: in batches of the declared size, and smaller ones."""
        largest = self.suite.grid.images_per_batch
        yield self._making(candidate, largest)
        identity = self._sampled(candidate).weights.identity
        refusals = self._shared.refusals(self._keys.of(candidate.name), identity, largest)
        for size in smaller_batches(largest, [refusal.fit for refusal in refusals]):
            yield self._making(candidate, size)

    def _making(self, candidate: Candidate, size: int) -> ImageMaking:
        sampled = self._sampled(candidate)
        return ImageMaking(candidate=candidate.name, keys=self._keys.keys(
            candidate.name, sampled.weights, size, sampled.chunked))

    def _refuse(self, candidate: Candidate, fit: Fit, *, guided: bool) -> None:
        self._shared.refuse(self._keys.of(candidate.name), self._sampled(candidate).weights.identity,
                            [Refusal(fit=fit, guided=guided)])

    def _take_overflow(self, candidate: Candidate) -> None:
        """Lets a candidate run in bf16 where another process found that it overflows in fp16."""
        if self.maker.bench.may_widen(candidate):
            why = self._shared.overflow(self._keys.of(candidate.name), self._sampled(candidate).weights.identity)
            if why:
                self._widen(candidate, why)

    def _widen(self, candidate: Candidate, why: str) -> None:
        self.say(f"{candidate.name} overflows in fp16, now in bf16: {why}")
        self._overflow[candidate.name] = why
        self.maker.let_go()
        self.maker.bench.widen(candidate, why)
        self._known.pop(candidate.name, None)
        self._again.add(candidate.name)

    def _sampled(self, candidate: Candidate) -> Sampled:
        if candidate.name not in self._known:
            self._known[candidate.name] = self.sample_of(candidate)
        return self._known[candidate.name]

    def _waiting(self, parts: Sequence[WorkPart]) -> str:
        holders: dict[str, int] = {}
        for part in parts:
            key = self._keys.of(part.candidate.name).shared_key(part.key(self._sampled(part.candidate).weights.identity))
            holder = (self.claims.holder(key) if self.claims is not None else "") or "nobody any more"
            holders[holder] = holders.get(holder, 0) + 1
        return "waiting for parts that others make: " + ", ".join(f"{count} by {holder}" for holder, count in holders.items())

    def _reasons(self) -> str:
        reasons = self.cache.facts().reasons
        return "; ".join(f"{count} x {reason}" for reason, count in reasons.items()) or "it gave no reason"


def _as_large(total_bytes: int | None, head: Mapping[str, Any]) -> bool:
    """Whether a device whose memory has this size, as a message rounds it, is as large as the one of this run.json."""
    here = head["environment"].get("device_total_bytes")
    return total_bytes is not None and isinstance(here, int) and abs(total_bytes - here) <= here * _ROUNDED
