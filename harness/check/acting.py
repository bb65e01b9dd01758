"""What is wrong with how strongly, and in which of the steps, a control or a reference acts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import combinations

from harness.check.phrases import number
from harness.declare import Control, Reference
from harness.declare.syntax.parsed import LARGEST_WEIGHT


def acting_problems(one: Control | Reference) -> Iterator[str]:
    """One phrase per problem of the weight, and of the shares of the steps."""
    if not (number(one.weight) and abs(one.weight) <= LARGEST_WEIGHT):
        yield f"weight is {one.weight!r}; expected a number from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
    if not (number(one.start) and number(one.end) and 0 <= one.start < one.end <= 1):
        yield f"start is {one.start!r} and end {one.end!r}; expected shares of the steps, 0 <= start < end <= 1"


def given_twice(several: Collection[Control | Reference]) -> Iterator[str]:
    """The path of each that has the file and the picture of another, in some of the same steps."""
    for one, other in combinations(several, 2):
        if _seen(one) == _seen(other) and one.start < other.end and other.start < one.end:
            yield one.path


def _seen(one: Control | Reference) -> tuple[object, ...]:
    return one.path, one.picture, one.kind if isinstance(one, Control) else ""
