"""Passwords and tokens in a declaration, which run.json, the journal and the page would keep and show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from harness.declare import Suite, plain
from harness.records.harmless_text import without_secrets

_DRAWN: Final = ("text", "negative")
"""Fields of a prompt, which may hold any words."""


def secret_problems(suite: Suite) -> Iterator[str]:
    """One phrase per field that holds an address with a password or a token."""
    for place, text in _texts(plain(suite), ""):
        if (public := without_secrets(text)) != text:
            yield (f"{place} holds an address with a name, a password or a token, which the run folder and its page would show: "
                   f"{public!r} without it. Remove it, and give a file that you have downloaded")


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text in a plain value, with the names of the fields that lead to it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not (place.startswith("grid.prompts") and key in _DRAWN):
                yield from _texts(inner, f"{place}.{key}" if place else str(key))
                yield from _texts(key, f"a key of {place}") if isinstance(key, str) else ()
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            name = inner.get("name", inner.get("id")) if isinstance(inner, dict) else None
            yield from _texts(inner, f"{place}[{without_secrets(name) if isinstance(name, str) else number}]")
