"""Interleaved rounds: every candidate is timed once a round, so that a machine that slows down slows all alike.

It knows no models. Only one candidate is resident at a time, because all share one pipeline whose weights are rewritten in place.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

from harness.probes.clock import Stopwatch
from harness.records import Span

Make: TypeAlias = Callable[[Stopwatch], None]
"""Makes one image, its phases marked on the stopwatch."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How many rounds: `declared` are always made, then more until `enough` (what the wanted percentile needs: 29 for
    p90, 59 for p95, 299 for p99) or until the next one would pass `budget_seconds`. `seed` draws their orders.

    It looks at counts and at the clock only. A rule that looked at the values ("until the interval is narrow") would stop
    when they happen to agree, and understate their spread.
    """

    declared: int
    enough: int = 0
    budget_seconds: float = 0.0
    seed: int = 0

    def reached(self, done: int, elapsed_seconds: float) -> str:
        """Why the rounds end after `done` of them, or "" while they go on."""
        if done < self.declared:
            return ""
        if done >= self.enough:
            return f"{done} rounds, as many as were asked for"
        if elapsed_seconds * (done + 1) / max(done, 1) > self.budget_seconds:
            return f"{done} of {self.enough} rounds: another would pass the budget of {self.budget_seconds:g} s"
        return ""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One candidate in one round. `switch_seconds` is None where it was resident already (the last one of a round may
    come first in the next), and `untimed` holds the passages of switch and warm-up image. `error`, without its
    traceback (which would keep tensors alive), ends the candidate's rounds."""

    name: str
    round: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    switch_seconds: float | None = None
    untimed: tuple[Span, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class Around:
    """What is put around the parts of a visit of `name`: `untimed` around switch and warm-up image (memory is polled
    there), `before` just ahead of the timed image (the yardstick), `timed` around it (the energy counters); `failed` gives
    back the memory of a candidate that raised."""

    untimed: Callable[[str], AbstractContextManager[object]] = nullcontext
    before: Callable[[str], object] = str
    timed: Callable[[str], AbstractContextManager[object]] = nullcontext
    failed: Callable[[], object] = gc.collect


def interleave(names: Sequence[str], rounds: Rounds, enter: Callable[[str], Make], *, around: Around | None = None,
               watch: Callable[[], Stopwatch] = Stopwatch, now: Callable[[], float] = time.perf_counter) -> Iterator[Visit]:
    """Round by round every candidate that has not failed, in `round_order`; one visit at a time, as it is made.

    `enter(name)` makes a candidate resident and returns what makes one image of it; then follow an untimed image (the
    weights changed, so caches and allocator are cold) and a timed one. Where the candidate is resident already, only the
    timed one follows: the timed image before it was its warm-up. Raises ValueError for no names or for a name given twice.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names are {list(names)}; expected at least one, each once")
    left, resident, number, started = list(names), _Resident(), 0, now()
    while left and not rounds.reached(number, now() - started):
        for name in round_order(names, number, rounds.seed):
            if name in left:
                visit = _visit(name, number, enter, resident, around or Around(), watch)
                if visit.error is not None:
                    left.remove(name)
                yield visit
        number += 1


def round_order(names: Sequence[str], number: int, seed: int = 0) -> tuple[str, ...]:
    """The order of round `number`: blocks of len(names) rounds, in each of which every candidate has every place once.

    A block is the rotations of one permutation drawn from `seed` and the block, in drawn order. Rotations alone would put
    the same candidate before another in every round, and its heat with it; a new permutation per block does not.
    """
    block, place = divmod(number, len(names))
    drawn = random.Random(f"{seed} {block}")
    permutation, rotations = list(names), list(range(len(names)))
    drawn.shuffle(permutation)
    drawn.shuffle(rotations)
    return tuple(permutation[rotations[place]:] + permutation[:rotations[place]])


def _nothing(watch: Stopwatch) -> None:
    """Makes no image: nobody is resident."""


class _Resident:
    """Which candidate is resident, and what makes its images."""

    def __init__(self) -> None:
        self.name = ""
        self.make: Make = _nothing


def _visit(name: str, number: int, enter: Callable[[str], Make], resident: _Resident, around: Around,
           watch: Callable[[], Stopwatch]) -> Visit:
    cold, timed, switched = watch(), watch(), resident.name != name
    untimed: tuple[Span, ...] = ()
    try:
        if switched:
            resident.name = ""
            resident.make = _nothing  # lets go of the former candidate before the next is made
            with around.untimed(name):
                with cold.phase("switch"):
                    resident.make = enter(name)
                resident.make(cold)
                untimed = cold.spans
            resident.name = name
        around.before(name)
        with around.timed(name):
            with timed.phase("total"):
                resident.make(timed)
            seconds = timed.seconds  # waits for the device, so that what is read around it reads all of it
        return Visit(name=name, round=number, seconds=seconds, spans=timed.spans,
                     switch_seconds=untimed[0].end_seconds - untimed[0].start_seconds if untimed else None, untimed=untimed)
    except Exception as error:
        failed = error.with_traceback(None)
    failed.__context__ = failed.__cause__ = None
    resident.make = _nothing
    around.failed()
    return Visit(name=name, round=number, error=failed)
