"""Values on the command line: each function reads one, and argparse says what is wrong with another."""

from __future__ import annotations

import argparse


def megabytes(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of megabytes above 0")
    return number


def count(text: str) -> int:
    """An integer from 1 to 999,999."""
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer below a million")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas, at least one."""
    given = tuple(name.strip() for name in text.split(",") if name.strip())
    if not given:
        raise argparse.ArgumentTypeError("no name given; expected names separated by commas, such as a,b,c")
    return given
