"""Prompts read from files: tables in TOML, or a text with a prompt on each line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from harness.declare.nearest import did_you_mean
from harness.declare.recipe_files import parsed, text_of
from harness.declare.suite import SPLITS, Prompt

_LONGEST_ID: Final = 60


def read_prompts(path: Path | str, *, negative: str = "", syntax: str = "") -> tuple[Prompt, ...]:
    """Prompts from a .toml file of `[[prompt]]` tables with the fields of Prompt, or from a .txt file with a prompt on each line.

    `negative` is the negative prompt of those that have none of their own, and `syntax` the syntax of those that name none. In a
    .txt file empty lines and lines that begin with # are left out, a prompt's id is made of its words, and the lines are taken in
    turns for the splits "select" and "confirm".
    ValueError names the file and what is wrong in it.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix == ".txt":
        tables = list(_lines(file))
    elif suffix == ".toml":
        tables = _tables(file)
    else:
        raise ValueError(f"{file.name}: expected a .toml file with [[prompt]] tables, or a .txt file with a prompt on each line")
    if not tables:
        raise ValueError(f"{file.name}: holds no prompts; expected {'a prompt on each line' if suffix == '.txt' else _EXPECTED}")
    return tuple(Prompt(**({"negative": negative, "syntax": syntax} | table)) for table in tables)


_EXPECTED: Final = "[[prompt]] tables with id and text"


def _tables(file: Path) -> list[dict[str, Any]]:
    data = parsed(file)
    for name in data:
        if name != "prompt":
            near = "; did you mean [[prompt]]?" if name.lower().rstrip("s") == "prompt" else ""
            raise ValueError(f"{file.name}: unknown {'table' if isinstance(data[name], dict | list) else 'field'} {name!r}{near} "
                             f"Expected {_EXPECTED}")
    tables = data.get("prompt", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{file.name}: [prompt] is one table; expected {_EXPECTED}, with double brackets")
    for number, table in enumerate(tables, start=1):
        _check(table, f"{file.name}, prompt {number}")
    return tables


def _check(table: Mapping[str, Any], place: str) -> None:
    known = {f.name for f in fields(Prompt)}
    if extra := set(table) - known:
        raise ValueError(f"{place}: unknown field {min(extra)!r}; {did_you_mean(min(extra), known)}")
    if absent := {"id", "text"} - set(table):
        raise ValueError(f"{place}: field {min(absent)!r} is missing")


def _id(text: str) -> str:
    """The words of a text as an id; of a long one the first, with a hash of all."""
    words = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    if 0 < len(words) <= _LONGEST_ID:
        return words
    return f"{words[:_LONGEST_ID - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The fields of a Prompt for each line. Raises ValueError for a prompt that is given twice: it would count as two."""
    lines_by_id: dict[str, int] = {}
    for number, line in enumerate(text_of(file).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name = _id(text)
        if name in lines_by_id:
            raise ValueError(f"{file.name}, line {number}: has the words of line {lines_by_id[name]}; remove one of them, or "
                             "give ids in a .toml file")
        split = SPLITS[len(lines_by_id) % 2]
        lines_by_id[name] = number
        yield {"id": name, "text": text, "split": split}
