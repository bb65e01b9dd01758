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
"""Makes one image and marks its phases on the stopwatch."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The number of rounds: always `declared`, then more until `enough` (the number that the percentile needs: 29 for p90, 59 for
    p95, 299 for p99) or until the next one would exceed `budget_seconds`. `seed` draws their orders.

    The rule uses counts and the clock only. A rule based on the values ("until the interval is narrow") would stop when they
    happen to agree, and understate their spread.
    """

    declared: int
    enough: int = 0
    budget_seconds: float = 0.0
    seed: int = 0

    def reached(self, done: int, elapsed_seconds: float) -> str:
        """Why the rounds end after `done` of them, or "" if they continue."""
        if done < self.declared:
            return ""
        if done >= self.enough:
            return f"{done} rounds, as many as requested"
        if elapsed_seconds * (done + 1) / max(done, 1) > self.budget_seconds:
            return f"{done} of {self.enough} rounds: another would exceed the budget of {self.budget_seconds:g} s"
        return ""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One candidate in one round. `switch_seconds` is None if it was already resident (the last one of a round may come first
    in the next). `untimed` holds the passes of switch and warm-up image. `error`, without its traceback (which would keep
    tensors alive), ends the candidate's rounds."""

    name: str
    round: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    switch_seconds: float | None = None
    untimed: tuple[Span, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class Around:
    """What is wrapped around the parts of a visit of `name`: `untimed` around switch and warm-up image (memory is polled there),
    `made` between these two, `before` right before the timed image (the yardstick), `timed` around it (the energy counters).
    `failed` frees the memory of a candidate that raised."""

    untimed: Callable[[str], AbstractContextManager[object]] = nullcontext
    made: Callable[[str], object] = str
    before: Callable[[str], object] = str
    timed: Callable[[str], AbstractContextManager[object]] = nullcontext
    failed: Callable[[], object] = gc.collect


def interleave(names: Sequence[str], rounds: Rounds, enter: Callable[[str], Make], *, around: Around | None = None,
               watch: Callable[[], Stopwatch] = Stopwatch, now: Callable[[], float] = time.perf_counter) -> Iterator[Visit]:
    """Yields the visits of all candidates that have not failed, round by round, in `round_order`.

    `enter(name)` makes a candidate resident and returns the function that makes one image of it. An untimed image follows
    (the weights changed, so caches and allocator are cold), then a timed one. If the candidate was already resident, there is
    only the timed one: the timed image before was its warm-up. Raises ValueError for no names or a duplicate name.
    """
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names are {list(names)}; expected at least one name, and each only once")
    remaining, resident, number, started = list(names), _Resident(), 0, now()
    while remaining and not rounds.reached(number, now() - started):
        for name in round_order(names, number, rounds.seed):
            if name in remaining:
                visit = _visit(name, number, enter, resident, around or Around(), watch)
                if visit.error is not None:
                    remaining.remove(name)
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
            resident.make = _nothing  # releases the former candidate before the next one is made
            with around.untimed(name):
                with cold.phase("switch"):
                    resident.make = enter(name)
                around.made(name)
                resident.make(cold)
                untimed = cold.spans
            resident.name = name
        around.before(name)
        with around.timed(name):
            with timed.phase("total"):
                resident.make(timed)
            seconds = timed.seconds  # waits for the device, so that the counters around it include all its work
        return Visit(name=name, round=number, seconds=seconds, spans=timed.spans,
                     switch_seconds=untimed[0].end_seconds - untimed[0].start_seconds if untimed else None, untimed=untimed)
    except Exception as error:
        failed = error.with_traceback(None)
    failed.__context__ = failed.__cause__ = None
    resident.make = _nothing
    around.failed()
    return Visit(name=name, round=number, error=failed)
