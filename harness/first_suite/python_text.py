"""Values and calls as Python text. What a file is called cannot end a string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WIDEST: Final = 100


def quoted(text: str) -> str:
    """A string in double quotes where neither kind of quotes is in it, else as repr has it."""
    plain = repr(text)
    return plain if "'" in text or '"' in text else f'"{plain[1:-1]}"'


def numbers(values: Sequence[float]) -> str:
    """A tuple of numbers: "(0, 0.2, 1)"."""
    listed = ", ".join(f"{value:g}" for value in values)
    return f"({listed},)" if len(values) == 1 else f"({listed})"


def call(name: str, *arguments: str) -> str:
    """A call, with an argument on each line if it is long."""
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= WIDEST else f"{name}(\n    {_below(arguments)})"


def listed(items: Sequence[str]) -> str:
    """A list, with an item on each line if it is long."""
    line = f"[{', '.join(items)}]"
    return line if len(line) <= WIDEST else f"[\n    {_below(items)}]"


def _below(items: Sequence[str]) -> str:
    return ",\n    ".join(item.replace("\n", "\n    ") for item in items)
