"""Values on the command line: each function reads one, and argparse says what is wrong with another."""

from __future__ import annotations

import argparse
import re
from typing import Final

_BYTES: Final = {"B": 1, "KiB": 2 ** 10, "MiB": 2 ** 20, "GiB": 2 ** 30, "TiB": 2 ** 40, "KB": 10 ** 3, "MB": 10 ** 6,
                 "GB": 10 ** 9, "TB": 10 ** 12}


def megabytes(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of megabytes above 0")
    return number


def positive_minutes(text: str) -> float:
    """A number above 0, at most a week."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 7 * 24 * 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0, at most a week")
    return number


def seconds(text: str) -> float:
    """A number above 0, at most a day."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, at most a day")
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


def memory(text: str) -> int:
    """A number of bytes: "12GiB", "12 GB" or "12" (GiB)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B)?\s*", text)
    number = float(match[1]) * _BYTES[match[2] or "GiB"] if match else 0.0
    if not 0 < number < 2 ** 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of memory; expected a number with a unit, such as 12GiB")
    return round(number)
