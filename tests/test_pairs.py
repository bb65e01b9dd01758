"""The generator of all pairs leaves none out."""

from itertools import combinations, product

import pytest

from tests.pairs import all_pairs


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (8, 8, 3, 3), (1, 4, 1), (3, 8, 9, 3, 2)])
def test_any_two_values_of_different_sequences_stand_together_in_a_row(sizes: tuple[int, ...]) -> None:
    rows = list(all_pairs(*(range(size) for size in sizes)))
    for (one, first), (other, second) in combinations(enumerate(sizes), 2):
        assert {(row[one], row[other]) for row in rows} == set(product(range(first), range(second)))
    assert {row[0] for row in rows} == set(range(sizes[0]))


def test_rows_are_few_and_the_same_every_time() -> None:
    choices = (range(8), range(8), range(3), range(3))
    rows = list(all_pairs(*choices))
    assert rows == list(all_pairs(*choices))
    assert 64 <= len(rows) <= 80
