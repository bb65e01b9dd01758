"""The index of a run's journal: the content of its lines in columns that load at once, and the stat of every image. A missing
or invalid index costs time, never correctness."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, Final, TypeAlias

from harness.records import Cell, Sample, write_atomically
from harness.records.regular_files import open_regular, read_regular
from harness.records.reusable import Claim, sha_of

INDEX_FORMAT: Final = 3
"""Written in the index's first line. An index of another format is ignored: the journal is read, and a new index replaces it.
Format 1 also held measurements whose values no run can have written, format 2 CLIP scores of the beginnings of long prompts."""

LARGEST_INDEX: Final = 2 << 30

Stat: TypeAlias = tuple[int, int, int, int]
"""Size, mtime and ctime in nanoseconds, inode."""


@dataclass(kw_only=True)
class JournalContent:
    """The content of a journal. `samples` is by candidate and cell, `by_key` by the key of an image, `others` are the lines of
    all other kinds in order, `stats` maps a path to an image's hash and the stat it had with this hash."""

    samples: dict[tuple[str, Cell], Sample] = field(default_factory=dict)
    by_key: dict[str, Sample] = field(default_factory=dict)
    measured: dict[tuple[str, str], dict[str, Claim]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    stats: dict[str, tuple[str, Stat]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    lines: int = 0


def stat_of(path: str | Path) -> Stat:
    """The stat by which an unchanged file is recognised. It includes ctime because no program can set it back."""
    status = os.stat(path)  # noqa: PTH116  # a Path costs as much as the call
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def save(path: Path, content: JournalContent, journal: Path) -> None:
    """Writes the index of the whole journal atomically; writes nothing if the journal ends in a torn line."""
    with open_regular(journal) as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            return
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    body = json.dumps(_columns(content), ensure_ascii=False, separators=(",", ":")).encode()
    head = {"format": INDEX_FORMAT, "journal_sha256": digest, "journal_stat": stat_of(journal), "lines": content.lines,
            "body_sha256": hashlib.sha256(body).hexdigest()}
    write_atomically(path, json.dumps(head).encode() + b"\n" + body)


def load(path: Path, journal: Path) -> tuple[JournalContent, int] | None:
    """The index and the number of journal bytes that it covers; None unless it is whole and belongs to this journal.

    The covered part of the journal counts as unchanged if its stat is the recorded one, or else if its hash is.
    """
    try:
        head_line, _, body = read_regular(path, LARGEST_INDEX).partition(b"\n")
        head = json.loads(head_line)
        if head["format"] != INDEX_FORMAT or hashlib.sha256(body).hexdigest() != head["body_sha256"]:
            return None
        covered = head["journal_stat"][0]
        if [*stat_of(journal)] != head["journal_stat"] and _digest(journal, covered) != head["journal_sha256"]:
            return None
        content = _restored(json.loads(body))
        content.lines = head["lines"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None
    return content, covered


def _digest(path: Path, size: int) -> str:
    """SHA-256 of the first `size` bytes, or of a shorter file as a whole, which then matches no recorded hash."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            digest.update(part)
            size -= len(part)
    return digest.hexdigest()


def _columns(content: JournalContent) -> dict[str, Any]:
    """The content in columns. Rows that a later one of the same key replaced come first, so reading in order gives the same
    result."""
    rows = [s for s in content.samples.values() if content.by_key.get(s.key) is not s] + list(content.by_key.values())
    cells = {cell: number for number, cell in enumerate(dict.fromkeys(s.cell for s in rows))}
    names = {name: number for number, name in enumerate(dict.fromkeys(s.candidate for s in rows))}
    return {
        "names": list(names), "cells": [[getattr(c, f) for c in cells] for f in ("prompt", "seed", "guidance")],
        "candidate": [names[s.candidate] for s in rows], "cell": [cells[s.cell] for s in rows],
        "key": [s.key for s in rows], "path": [s.path for s in rows], "sha256": [s.sha256 for s in rows],
        "current": [int(content.samples.get((s.candidate, s.cell)) is s) for s in rows],
        "stat": [_stat_or_nothing(content.stats.get(s.path), s.sha256) for s in rows],
        "measured": [_claims(*place, claims, content.by_key) for place, claims in content.measured.items()],
        "others": content.others, "damaged": content.damaged,
    }


def _stat_or_nothing(known: tuple[str, Stat] | None, sha256: str) -> Stat | None:
    return known[1] if known is not None and known[0] == sha256 else None


def _claims(candidate: str, metric: str, claims: Mapping[str, Claim], by_key: Mapping[str, Sample]) -> dict[str, Any]:
    """One metric of one candidate in columns, without claims about images that were since made again with other bits."""
    live = {key: claim for key, claim in claims.items() if claim[3:] == (sha_of(key, by_key), sha_of(claim[2], by_key))}
    return {"candidate": candidate, "metric": metric, "key": list(live), "version": _folded([c[0] for c in live.values()]),
            "setting": _folded([c[1] for c in live.values()]), "reference": _folded([c[2] for c in live.values()])}


def _folded(column: Sequence[Any]) -> Any:
    """A column as a list, or as a single value if all its values are equal."""
    return column[0] if len(set(column)) == 1 else list(column)


def _unfolded(column: Any) -> Iterable[Any]:
    return column if isinstance(column, list) else repeat(column)


def _restored(columns: Mapping[str, Any]) -> JournalContent:
    content = JournalContent(others=columns["others"], damaged=columns["damaged"])
    cells = [Cell(prompt=p, seed=s, guidance=g) for p, s, g in zip(*columns["cells"], strict=True)]
    names = columns["names"]
    for name, cell, key, path, sha256, current, stat in zip(
            *(columns[c] for c in ("candidate", "cell", "key", "path", "sha256", "current", "stat")), strict=True):
        row = Sample(key=key, candidate=names[name], cell=cells[cell], path=path, sha256=sha256)
        content.by_key[key] = row
        if current:
            content.samples[row.candidate, row.cell] = row
        if stat is not None:
            content.stats[path] = (sha256, tuple(stat))
    for group in columns["measured"]:
        references = [r for _, r in zip(group["key"], _unfolded(group["reference"]), strict=False)]
        shas = [content.by_key[k].sha256 if k in content.by_key else "" for k in group["key"]]
        others = [sha_of(r, content.by_key) for r in references] if any(references) else repeat("")
        claims = zip(_unfolded(group["version"]), _unfolded(group["setting"]), references, shas, others, strict=False)
        content.measured[group["candidate"], group["metric"]] = dict(zip(group["key"], claims, strict=False))
    return content
