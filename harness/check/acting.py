"""What is wrong with how strongly, and in which of the steps, a control or a reference acts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import combinations

from harness.check.phrases import number
from harness.declare import Candidate, Control, Reference
from harness.declare.step_shares import Acting, idle_span
from harness.declare.syntax.parsed import LARGEST_WEIGHT


def acting_problems(one: Control | Reference) -> Iterator[str]:
    """One phrase per problem of the weight, and of the shares of the steps."""
    if not (number(one.weight) and abs(one.weight) <= LARGEST_WEIGHT):
        yield f"weight is {one.weight!r}; expected a number from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
    yield from acting_shares(one)


def acting_shares(one: Acting) -> Iterator[str]:
    """A phrase for shares of the steps in which nothing can act."""
    if not (number(one.start) and number(one.end) and 0 <= one.start < one.end <= 1):
        yield f"start is {one.start!r} and end {one.end!r}; expected shares of the steps, 0 <= start < end <= 1"


def idle_spans(stage: Candidate, steps: int) -> Iterator[str]:
    """A phrase for each adapter, control and reference that acts in none of the `steps` that a stage runs."""
    acting: tuple[Acting, ...] = (*stage.adapters, *stage.controls, *stage.references)
    for one in acting:
        if steps >= 1 and not any(acting_shares(one)) and (idle := idle_span(one, steps)):
            yield idle


def given_twice(several: Collection[Control | Reference]) -> Iterator[str]:
    """The path of each that has the file and the picture of another, in some of the same steps."""
    for one, other in combinations(several, 2):
        if _seen(one) == _seen(other) and one.start < other.end and other.start < one.end:
            yield one.path


def _seen(one: Control | Reference) -> tuple[object, ...]:
    return one.path, one.picture, one.kind if isinstance(one, Control) else ""
