"""A list in a message is bounded, whatever is in it: whole entries, the first always, and a count of the others."""

import pytest

from harness.declare.listing import LONGEST_LIST, brief, first_of


@pytest.mark.parametrize(("entries", "most", "between", "text"), [
    ([], 3, ", ", ""), (["a"], 3, ", ", "a"), (list("abc"), 3, ", ", "a, b, c"), (list("abcdefg"), 3, ", ", "a, b, c and 4 more"),
    (list("abc"), 1, ", ", "a and 2 more"), (list("abcd"), 2, "; ", "a; b and 2 more"),
    ([150 * "x"] * 5, 5, ", ", f"{150 * 'x'}, {150 * 'x'} and 3 more")])
def test_the_first_entries_are_whole_and_the_others_counted(entries: list[str], most: int, between: str, text: str) -> None:
    assert first_of(entries, most, between) == text


@pytest.mark.parametrize("length", [1, 80, 159, 161, 10**6])
@pytest.mark.parametrize("count", [1, 3, 10**4])
@pytest.mark.parametrize("most", [1, 3, 60])
def test_no_list_is_longer_than_its_bound(length: int, count: int, most: int) -> None:
    assert len(first_of([length * "x"] * count, most)) <= LONGEST_LIST + len(" and 10000 more")


def test_a_long_message_keeps_its_start_and_its_end() -> None:
    text = f"start{10**6 * 'x'}end"
    assert (brief(text)[:5], brief(text)[-3:], len(brief(text)) <= 2000) == ("start", "end", True)
