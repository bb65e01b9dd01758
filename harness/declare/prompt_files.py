"""Prompts read from files: texts, tables, and pictures that carry their prompts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Final

from harness.declare.grid import SPLITS, Prompt
from harness.declare.listing import brief, first_of
from harness.declare.nearest import did_you_mean
from harness.declare.picture_chunks import PICTURES
from harness.declare.picture_text import PictureText
from harness.declare.picture_texts import picture_text
from harness.declare.prompt_tables import rows_of_csv, rows_of_jsonl, tables
from harness.declare.prompt_texts import shown_text
from harness.declare.recipe_files import parsed, text_of
from harness.declare.syntax import PLAIN, SYNTAXES, syntax_named

_LONGEST_ID: Final = 60
_LOOKED_AT: Final = 1000
"""Files beside a missing one whose names are compared with its name."""
PICTURE_TAG: Final = "picture"
"""The tag of a prompt that was read from a picture: the picture's file."""
OTHERS_TAG: Final = "others"
"""The tag that names what else the picture says of how it was made."""
_VERSIONS: Final = ("Version", "app_version")


def read_prompts(path: Path | str, *, negative: str = "", syntax: str = "") -> tuple[Prompt, ...]:
    """Prompts from a file, or from a folder of pictures.

    - .txt: a prompt on each line; empty lines and lines that begin with # are left out.
    - .csv: a header with the fields of Prompt, or "prompt" and "negative prompt", as in the styles.csv of A1111; .jsonl: an
      object of the same fields on each line.
    - .toml: `[[prompt]]` tables with the fields of Prompt.
    - .png, .webp, .jpg: pictures of A1111, Forge, ComfyUI or InvokeAI, which carry their prompts; see `picture_text`. A text that
      several pictures of a folder have is one prompt. What they say of seed, sampler, model and so on goes into its tags.

    `negative` is the negative prompt of those that have none of their own, and `syntax` the syntax of those that name none; a
    picture names that of its tool. Where a file gives no ids, they are made of the words of the prompts; where it gives no
    splits, the prompts are taken in turns for "select" and "confirm" (in .toml all are "select"). ValueError names the file
    and what is wrong in it.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    syntax = syntax_named(syntax)
    if syntax and syntax not in SYNTAXES:
        raise ValueError(f"{file.name}: unknown syntax {syntax!r}; {did_you_mean(syntax, SYNTAXES)}")
    _refuse_missing(file)
    if file.is_dir() or suffix in PICTURES:
        prompts = list(_pictures(file))
    elif suffix == ".txt":
        prompts = list(_lines(file, syntax))
    elif suffix in _ROWS:
        prompts = list(_of_rows(file, tables(file, _ROWS[suffix](file), [f.name for f in fields(Prompt)]), syntax))
    elif suffix == ".toml":
        prompts = _tables(file)
    else:
        raise ValueError(f"{file.name}: expected {_KINDS}")
    if not prompts:
        expected = _EXPECTED if suffix == ".toml" else "a prompt on each line" if suffix == ".txt" else _KINDS
        raise ValueError(f"{file.name}: holds no prompts; expected {expected}")
    return tuple(Prompt(**({"negative": negative, "syntax": syntax} | table)) for table in prompts)


_ROWS: Final = {".csv": rows_of_csv, ".tsv": rows_of_csv, ".jsonl": rows_of_jsonl}
_KINDS: Final = ("a .toml file with [[prompt]] tables, a .csv or .jsonl file with a column 'prompt', a .txt file with a prompt "
                 "on each line, or pictures (.png, .webp, .jpg, or a folder of them)")
_EXPECTED: Final = "[[prompt]] tables with id and text"


def _refuse_missing(file: Path) -> None:
    """Raises FileNotFoundError with the nearest names beside a file that is not there."""
    if not file.exists():
        others = islice(file.parent.iterdir(), _LOOKED_AT) if file.parent.is_dir() else ()
        beside = [other.name for other in others if other.exists()]  # a link may lead nowhere
        near = did_you_mean(file.name, beside, list_known=False)
        raise FileNotFoundError(f"{str(file)!r} does not exist below {Path.cwd()}{f'; {near}' if near else ''}")


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


def _sense(text: str, syntax: object) -> str:
    """What makes two prompts the same one: of plain texts the words; with markup all signs count."""
    return _id(text) if syntax in ("", PLAIN) else " ".join(text.lower().split())


def _bare_id(text: str, syntax: object, taken: Collection[str]) -> str:
    """An id of the words without markup; with a hash of the text where a prompt of other markup has it."""
    name = _id(shown_text(Prompt(id="", text=text, syntax=str(syntax))) or text)
    return _apart(name, text) if name in taken else name


def _apart(name: str, text: str) -> str:
    return f"{name[:_LONGEST_ID - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _lines(file: Path, syntax: str) -> Iterator[dict[str, Any]]:
    """The fields of a Prompt for each line. Raises ValueError for a prompt that is given twice: it would count as two."""
    lines_by_words: dict[str, int] = {}
    names = set[str]()
    for number, line in enumerate(text_of(file).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        words = _sense(text, syntax)
        if words in lines_by_words:
            raise ValueError(f"{file.name}, line {number}: has the words of line {lines_by_words[words]}; remove one of them, or "
                             "give ids in a .toml file")
        split = SPLITS[len(lines_by_words) % 2]
        lines_by_words[words] = number
        name = _bare_id(text, syntax, names)
        names.add(name)
        yield {"id": name, "text": text, "split": split}


def _of_rows(file: Path, rows: list[tuple[str, dict[str, Any]]], syntax: str) -> Iterator[dict[str, Any]]:
    """The rows with an id and a split each. Raises ValueError for an id that is given twice: it would count as two prompts."""
    places: dict[str, str] = {}
    names = {table["id"] for _, table in rows if "id" in table}
    for place, table in rows:
        key = table.get("id") or _sense(table["text"], table.get("syntax", syntax))
        if key in places:
            what = "id" if "id" in table else "words"
            raise ValueError(f"{file.name}, {place}: has the {what} of {places[key]}; remove one of them, or give each an id")
        split = SPLITS[len(places) % 2]
        places[key] = place
        name = table.get("id") or _bare_id(table["text"], table.get("syntax", syntax), names)
        names.add(name)
        yield {"split": split} | table | {"id": name}


def _pictures(path: Path) -> Iterator[dict[str, Any]]:
    """A prompt for each text of the pictures at a path. Raises ValueError for a picture that cannot be read, with its name."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith("."))
    groups: dict[tuple[str, str], list[tuple[str, PictureText]]] = {}
    for file in files:
        picture = picture_text(file)
        _refuse_unusable(picture, file)
        groups.setdefault((picture.prompt, picture.negative), []).append((file.name, picture))
    names = set[str]()
    for number, ((text, negative), group) in enumerate(groups.items()):
        name = _bare_id(text, group[0][1].syntax, ())
        if name in names:  # another weight or another negative text
            name = _apart(name, repr((text, negative)))
        names.add(name)
        first, picture = group[0]
        tags = {PICTURE_TAG: first if len(group) == 1 else f"{first} and {len(group) - 1} more", "tool": picture.tool}
        # Of several pictures of one text the settings that they share count as its settings.
        tags |= {key: brief(value, 100) for key, value in picture.settings.items()
                 if all(other.settings.get(key) == value for _, other in group)}
        if others := list(dict.fromkeys(other for _, one in group for other in one.others if other not in _VERSIONS)):
            tags[OTHERS_TAG] = first_of(others, 8)
        table = {"id": name, "text": text, "split": SPLITS[number % 2], "tags": tags}
        if picture.syntax in SYNTAXES:
            table["syntax"] = picture.syntax
        yield table | ({"negative": negative} if negative else {})


def _refuse_unusable(picture: PictureText, file: Path) -> None:
    """Raises ValueError for a picture whose texts a Prompt cannot hold."""
    if not picture.prompt.strip():
        raise ValueError(f"{file.name}: its prompt is empty; remove the picture, or give a file of prompts")
    for one, two in ((picture.prompt, picture.second_prompt), (picture.negative, picture.second_negative)):
        if two:
            raise ValueError(f"{file.name}: its two text encoders got different texts, and a Prompt is one text. Write the one "
                             f"that you mean into a .txt file: {brief(one, 200)!r} or {brief(two, 200)!r}")
