"""The survey of a whole model that some merge methods need before the first key is merged: the cosine methods need the range
of similarities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.declare import short_hash
from harness.merge import Altered, Expression, Merged, Source, evaluate
from harness.merge.expression import merges

if TYPE_CHECKING:
    from torch import Tensor

Read = Callable[[Source], "Tensor"]


def needs_survey(expressions: Iterable[Expression]) -> bool:
    """Whether any merge among them needs a survey of the whole model."""
    return any(merge.group for expression in expressions for merge in merges(expression))


def surveyed(keys: Mapping[str, Expression], read: Read, known: dict[str, tuple[float, float]]) -> dict[str, Expression]:
    """The expressions with the limits of every surveyed merge filled in, the innermost merges first.

    All keys of one merge in one component are surveyed together, on the widened tensors. Limits in `known` are not computed
    again; new ones are added to it.
    """
    done: set[str] = set()
    expressions = dict(keys)
    while ready := {merge.group for expression in expressions.values() for merge in merges(expression)
                    if merge.group and merge.group not in done
                    and not any(m.group and m.group not in done for part in merge.inputs for m in merges(part))}:
        limits = {group: _known_limits(group, expressions.values(), read, known) for group in sorted(ready)}
        expressions = {key: _filled(expression, limits) for key, expression in expressions.items()}
        done |= ready
    return expressions


def _known_limits(group: str, expressions: Iterable[Expression], read: Read, known: dict[str, tuple[float, float]]
                  ) -> tuple[float, float]:
    """The limits of one group. They are cached by the surveyed keys, not by the merge alone: a nested merge may have fewer
    keys if the outer alpha does not need them."""
    members = [merge for expression in expressions for merge in merges(expression) if merge.group == group]
    place = short_hash([group, sorted({member.key for member in members})])
    if place not in known:
        known[place] = _limits(members, read)
    return known[place]


def _limits(members: Sequence[Merged], read: Read) -> tuple[float, float]:
    import torch

    row = members[0].method
    assert row.survey is not None and row.limits_of is not None  # only methods with both get a group
    with one_thread():
        values = [row.survey(*(evaluate(part, read, dtype="F32") for part in member.inputs)) for member in members]
    return row.limits_of(torch.cat([value.double().cpu().flatten() for value in values]))


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which torch uses only this thread, like the workers that write files. The split of a sum among threads
    shows in its last bits, and a merge must not depend on the number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _filled(expression: Expression, limits: Mapping[str, tuple[float, float]]) -> Expression:
    if isinstance(expression, Source):
        return expression
    if isinstance(expression, Altered):
        return replace(expression, input=_filled(expression.input, limits))
    inputs = tuple(_filled(part, limits) for part in expression.inputs)
    call = replace(expression.call, limits=limits[expression.group]) if expression.group in limits else expression.call
    return replace(expression, inputs=inputs, call=call)
