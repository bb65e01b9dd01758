"""What may be typed as a number or a list on the command line."""

import argparse

import pytest

from harness.commands.arguments import count, megabytes, names


def test_numbers_and_names_are_read() -> None:
    assert (megabytes("2.5"), count("12"), names("a, b,,c")) == (2.5, 12, ("a", "b", "c"))


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "ten", ""])
def test_only_a_number_above_zero_is_a_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}'"):
        megabytes(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "\u0663", "1000000", "9" * 5000, ""])
def test_only_a_whole_number_from_one_is_a_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="positive integer"):
        count(text)


def test_a_list_names_somebody() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a,b,c"):
        names(" , ")
