"""What a blind session puts on disk: its key (which token is which image) and the sheets of answers that raters send back.
Sheets come from outside and every word is checked."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from harness.records import write_atomically

FOLDER: Final = "blind"
KEY_FORMAT: Final = "sweetspot blind key 1"
SHEET_FORMAT: Final = "sweetspot blind answers 1"
RATING: Final = "rating"
PREFERENCE: Final = "preference"
LOWEST, HIGHEST = 1, 10
"""Scores are whole numbers of these ten; there is no 0, so that a key not pressed cannot be mistaken for one."""
OUTCOMES: Final = ("a", "b", "tie")
SHEET_BYTES: Final = 1 << 20
KEY_BYTES: Final = 16 << 20
NAME_LENGTH: Final = 60
SESSION: Final = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One image of a session: its sample key, the SHA-256 of its file, and the cell it stands in."""

    sample: str
    sha256: str
    candidate: str
    prompt: str
    seed: int
    guidance: float


@dataclass(frozen=True, kw_only=True)
class Session:
    """What only the run folder knows. `shows` gives by token the image that was shown, or the two of a duel, as places in
    `images`; `repeats` gives by the token of a second showing that of the first. `raters` is how many are expected."""

    session: str
    mode: str
    raters: int
    images: tuple[Shown, ...]
    shows: Mapping[str, tuple[int, ...]]
    repeats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The answers of one rater by token: a score from 1 to 10, or for a duel "a", "b" or "tie"."""

    session: str
    mode: str
    rater: str
    answers: Mapping[str, int | str]


def key_path(run: Path, session: str) -> Path:
    """Where the key of a session lies."""
    return run / FOLDER / f"{session}.key.json"


def sheet_path(run: Path, sheet: Sheet) -> Path:
    """Where the answers of a rater lie. The name is made harmless; two raters never share one, however alike they are
    written, and one rater has one, however the name is capitalised."""
    same = unicodedata.normalize("NFKC", sheet.rater).casefold()
    slug = re.sub(r"[^a-z0-9]+", "-", same).strip("-")[:24] or "rater"
    return run / FOLDER / f"ratings-{sheet.session}-{slug}-{hashlib.sha256(same.encode()).hexdigest()[:6]}.json"


def write_key(run: Path, session: Session) -> Path:
    """Writes a key, whole or not at all; returns its path."""
    body = {f.name: getattr(session, f.name) for f in fields(session)}
    body["images"] = [{f.name: getattr(one, f.name) for f in fields(one)} for one in session.images]
    path = key_path(run, session.session)
    write_atomically(path, _text({"format": KEY_FORMAT, **body}))
    return path


def write_sheet(run: Path, sheet: Sheet) -> str:
    """Stores a checked sheet; "new", "same" when it was there already, or "replaced" when the rater had sent another."""
    path, text = sheet_path(run, sheet), _text({"format": SHEET_FORMAT, **{f.name: getattr(sheet, f.name)
                                                                          for f in fields(sheet)}})
    before = path.read_bytes() if path.exists() else None
    if before == text:
        return "same"
    write_atomically(path, text)
    return "new" if before is None else "replaced"


def read_key(path: Path) -> Session:
    """The key in a file. ValueError names the file and what is wrong with it."""
    data = _json(path, KEY_BYTES)
    try:
        session = _session(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not the key of a blind session ({error}); make the page anew, or restore the file") from error
    if path.name != key_path(path, session.session).name:
        raise ValueError(f"{path}: it is the key of session {session.session}, and is not named after it")
    return session


def read_sheet(path: Path, keys: Mapping[str, Session]) -> Sheet:
    """A rater's answers, checked against the keys of the run's sessions by session id. ValueError names file and fault."""
    data = _json(path, SHEET_BYTES)
    try:
        return _sheet(data, keys)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_keys(run: Path) -> tuple[dict[str, Session], list[str]]:
    """The readable keys of a run folder by session id, and a sentence for each that is not."""
    sessions, damaged = dict[str, Session](), []
    for path in sorted((run / FOLDER).glob("*.key.json")):
        try:
            key = read_key(path)
            sessions[key.session] = key
        except (OSError, ValueError) as error:
            damaged.append(str(error))
    return sessions, damaged


def read_sheets(run: Path, keys: Mapping[str, Session]) -> tuple[list[Sheet], list[str]]:
    """The stored sheets of a run folder, and a sentence for each that cannot be read or has another's name."""
    sheets, damaged = list[Sheet](), []
    for path in sorted((run / FOLDER).glob("ratings-*.json")):
        try:
            sheet = read_sheet(path, keys)
        except (OSError, ValueError) as error:
            damaged.append(str(error))
            continue
        if path == sheet_path(run, sheet):
            sheets.append(sheet)
        else:
            damaged.append(f"{path}: answers of {sheet.rater!r}, which belong into {sheet_path(run, sheet).name}; take the "
                           "rater's file again with `sweetspot blind RUN --take FILE`")
    return sheets, damaged


def _session(data: dict[str, Any]) -> Session:
    _exactly(data, ("format", *(f.name for f in fields(Session))))
    if data["format"] != KEY_FORMAT:
        raise ValueError(f"its format is {data['format']!r}; expected {KEY_FORMAT!r}")
    images = tuple(_shown(one) for one in _list(data["images"]))
    shows = {str(t): tuple(_place(i, len(images)) for i in _list(places)) for t, places in data["shows"].items()}
    width = {RATING: 1, PREFERENCE: 2}[data["mode"]]
    if any(len(places) != width for places in shows.values()):
        raise ValueError("a token stands for another number of images than its mode says")
    repeats = {str(second): str(first) for second, first in data["repeats"].items()}
    if strays := [t for pair in repeats.items() for t in pair if t not in shows]:
        raise ValueError(f"repeats names the unknown token {strays[0]!r}")
    if not SESSION.fullmatch(data["session"]) or type(data["raters"]) is not int:
        raise ValueError("session is not 12 hex digits, or raters is no number")
    return Session(session=data["session"], mode=data["mode"], raters=data["raters"], images=images, shows=shows,
                   repeats=repeats)


def _sheet(data: dict[str, Any], keys: Mapping[str, Session]) -> Sheet:
    _exactly(data, ("format", *(f.name for f in fields(Sheet))))
    if data["format"] != SHEET_FORMAT:
        raise ValueError(f"format is {str(data['format'])[:40]!r}; expected {SHEET_FORMAT!r}")
    rater = _name(data["rater"])
    session = keys.get(data["session"]) if isinstance(data["session"], str) else None
    if session is None:
        raise ValueError(f"session {str(data['session'])[:40]!r} is not one of this run; it has {_known(keys)}. "
                         "Was the page made from another run?")
    if data["mode"] != session.mode:
        raise ValueError(f"mode is {str(data['mode'])[:40]!r}; the session asked for {session.mode!r}")
    return Sheet(session=session.session, mode=session.mode, rater=rater, answers=_answers(data["answers"], session))


def _text(body: Mapping[str, Any]) -> bytes:
    return (json.dumps(body, ensure_ascii=False, allow_nan=False, indent=1, default=dict) + "\n").encode()


def _json(path: Path, most: int) -> dict[str, Any]:
    """The JSON object in a file of at most so many bytes; a key that stands twice in it is refused, for one would be lost."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path}: larger than {most >> 20} MiB; expected the small file that the blind page exports")
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); expected the file that the blind page exports") from error
    if isinstance(content, dict):
        return content
    raise ValueError(f"{path}: holds a {type(content).__name__}; expected a JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)[:40]!r} stands twice in one object")
    return entries


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _exactly(data: Mapping[str, Any], names: Sequence[str]) -> None:
    if absent := [name for name in names if name not in data]:
        raise ValueError(f"it has no {absent[0]!r}")
    if strays := [name for name in data if name not in names]:
        raise ValueError(f"unknown entry {strays[0][:40]!r}; expected {', '.join(names)}")


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        raise ValueError(f"rater is {str(name)[:40]!r}; expected a printable name of 1 to {NAME_LENGTH} characters")
    return unicodedata.normalize("NFC", name.strip())


def _answers(given: object, session: Session) -> dict[str, int | str]:
    if not isinstance(given, dict) or not given:
        raise ValueError("answers is not an object with at least one answer")
    if strays := [token for token in given if token not in session.shows]:
        raise ValueError(f"unknown token {strays[0][:40]!r} among the answers: session {session.session} never showed it")
    for token, answer in given.items():
        if session.mode == PREFERENCE and answer not in OUTCOMES:
            raise ValueError(f"answers[{token!r}] is {str(answer)[:40]!r}; expected one of {', '.join(map(repr, OUTCOMES))}")
        if session.mode == RATING and (type(answer) is not int or not LOWEST <= answer <= HIGHEST):
            raise ValueError(f"answers[{token!r}] is {str(answer)[:40]!r}; expected a whole number from {LOWEST} to {HIGHEST}")
    return {token: given[token] for token in sorted(given)}


def _shown(data: Mapping[str, Any]) -> Shown:
    _exactly(data, tuple(f.name for f in fields(Shown)))
    shown = Shown(**data)
    words = (shown.sample, shown.sha256, shown.candidate, shown.prompt)
    sound = all(isinstance(word, str) for word in words) and type(shown.seed) is int
    if not sound or not isinstance(shown.guidance, int | float) or not abs(shown.guidance) < 1e6:
        raise TypeError(f"an image is {str(data)[:120]}")
    return shown


def _list(given: object) -> list[Any]:
    if not isinstance(given, list):
        raise TypeError(f"{str(given)[:40]!r} is no list")
    return given


def _place(index: object, count: int) -> int:
    if type(index) is not int or not 0 <= index < count:
        raise ValueError(f"{str(index)[:40]!r} is not the place of an image")
    return index


def _known(keys: Mapping[str, Session]) -> str:
    return ", ".join(keys) or "none: make a page first with `sweetspot blind RUN`"
