"""All pairs of values instead of all combinations: what one value alone or two together break is found by far fewer calls."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from random import Random
from typing import Any


def all_pairs(*choices: Sequence[Any], seed: int = 0) -> Iterator[tuple[Any, ...]]:
    """Tuples with one value of each sequence, so that any two values of different sequences stand together in one of them.

    Greedy: every tuple starts with a pair that is still missing and takes, column by column, the value that completes most of
    the missing ones. The order is the same in every process. Of one sequence each value comes once.
    """
    random = Random(seed)
    if len(choices) == 1:
        yield from ((value,) for value in choices[0])
        return
    missing = {(one, i, other, k): None for one, other in combinations(range(len(choices)), 2)
               for i in range(len(choices[one])) for k in range(len(choices[other]))}
    while missing:
        one, i, other, k = next(iter(missing))
        row = {one: i, other: k}
        columns = [column for column in range(len(choices)) if column not in row]
        random.shuffle(columns)
        for column in columns:
            values = list(range(len(choices[column])))
            random.shuffle(values)
            row[column] = max(values, key=lambda value: sum(_pair(column, value, *known) in missing for known in row.items()))
        for pair in combinations(row.items(), 2):
            missing.pop(_pair(*pair[0], *pair[1]), None)
        yield tuple(choices[column][row[column]] for column in range(len(choices)))


def _pair(one: int, i: int, other: int, k: int) -> tuple[int, int, int, int]:
    return (one, i, other, k) if one < other else (other, k, one, i)
