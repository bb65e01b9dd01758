"""Prompts in rows: CSV files with a header, and JSON Lines. Columns are the fields of Prompt, also as other tools spell them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from harness.declare.listing import first_of
from harness.declare.nearest import did_you_mean
from harness.declare.recipe_files import text_of

Row = tuple[str, Mapping[str, Any]]
"""Where a row is ("line 3"), and its values by column."""
TAG: Final = "tags."
"""A column of this start is a tag: "tags.kind"."""
_FIELDS: Final = {
    "id": "id", "name": "id", "text": "text", "prompt": "text", "positive": "text", "positive prompt": "text",
    "negative": "negative", "negative prompt": "negative", "split": "split", "literal": "literal", "syntax": "syntax"}
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0", "")


def rows_of_csv(file: Path) -> Iterator[Row]:
    """The rows of a CSV file, separated by commas, semicolons or tabs, without empty cells. ValueError names file and line."""
    text = text_of(file)
    head = text.lstrip("\n").partition("\n")[0]
    between = max(",;\t", key=lambda one: sum(_field(name) is not None for name in head.split(one)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
    names: list[str] | None = None
    line = 0
    try:
        for cells in reader:
            place, line = f"line {line + 1}", reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                continue
            if len(cells) != len(names):
                raise ValueError(f"{file.name}, {place}: has {len(cells)} cells, and the header {len(names)}; put a text with a "
                                 f"{'comma' if between == ',' else repr(between)} in quotation marks")
            if len(set(names)) < len(names):
                raise ValueError(f"{file.name}: two columns have one name; the header is {first_of(names, len(names))}")
            yield place, {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()}
    except csv.Error as error:
        raise ValueError(f"{file.name}, line {reader.line_num}: not valid CSV ({error})") from error


def rows_of_jsonl(file: Path) -> Iterator[Row]:
    """The rows of a file with a JSON object on each line. ValueError names the file and the line."""
    for number, line in enumerate(text_of(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file.name}, line {number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{file.name}, line {number}: is {type(row).__name__}, not an object; expected "  # noqa: TRY004
                             '{"prompt": "...", "negative_prompt": "..."}')
        yield f"line {number}", row


def tables(file: Path, rows: Iterable[Row], known: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """The fields of a Prompt for each row, with the row's place. Splits are filled in for all rows or for none.

    ValueError names file, line and column.
    """
    result = [(place, _fields(f"{file.name}, {place}", row, set(known))) for place, row in rows]
    lacking = [place for place, table in result if "split" not in table]
    if lacking and len(lacking) < len(result):
        raise ValueError(f"{file.name}, {lacking[0]}: the split is missing; fill it in for every prompt, or for none")
    return result


def _fields(place: str, row: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    tags: dict[str, str] = {}
    for column, value in row.items():
        name = _field(column)
        if column.startswith(TAG):
            tags[column.removeprefix(TAG)] = str(value)
        elif column == "tags" and isinstance(value, dict):
            tags |= {str(tag): str(word) for tag, word in value.items()}
        elif name is None or name not in known:
            near = did_you_mean(column, sorted(name for name, field in _FIELDS.items() if field in known))
            raise ValueError(f"{place}: unknown column {column!r}; {near}, or call it {TAG + column!r} to keep it as a tag")
        elif name in table:
            raise ValueError(f"{place}: two columns are the {name} of a prompt; remove one of {first_of(list(row))}")
        else:
            table[name] = _value(place, name, value)
    table = {name: value for name, value in table.items() if value is not None}
    if not table.get("text", "").strip():
        raise ValueError(f"{place}: the prompt is empty or missing; expected its text in the column 'prompt'. Remove the row if "
                         "it is not a prompt")
    if "{prompt}" in table["text"]:
        raise ValueError(f"{place}: the text holds {{prompt}}, for which A1111 puts the words of a prompt; write them out")
    return table | ({"tags": tags} if tags else {})


def _value(place: str, name: str, value: Any) -> Any:
    """The value of a field; None for an absent one, which has its default."""
    if name == "literal" and str(value).strip().lower() in _TRUE + _FALSE:
        return str(value).strip().lower() in _TRUE
    if value is None and name != "text":
        return None
    if not isinstance(value, str) or name == "literal":
        expected = "true or false" if name == "literal" else "a text"
        raise ValueError(f"{place}: {name} is {value!r}; expected {expected}")
    return value if name in ("text", "negative") else value.strip()


def _field(column: object) -> str | None:
    """The field of Prompt that a column's name means."""
    return _FIELDS.get(re.sub(r"[\s_-]+", " ", str(column).strip().lower()))
