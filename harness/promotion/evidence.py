"""What reports found about a candidate, as plain data: the door (cli.py) fills it in, since nothing below it imports reports.
Promotion decides and writes its record from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.declare import Suite
from harness.records import Cell


class PromotionError(ValueError):
    """A promotion, verification or rollback that is refused; the text names suite, candidate, gate or file, and what to do."""


def in_words(error: Exception) -> str:
    """What a command says instead of a traceback. Refusals speak for themselves; for what else run folders and records edited by
    hand bring about in code that takes them at their word, the kind of error belongs to it."""
    said = str(error)
    return said if isinstance(error, ValueError | OSError) and said else f"{type(error).__name__}: {said or 'no message'}"


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """One gate on one candidate, as `reports.gates.Verdict`: status is passed, failed, inconclusive or not_measured."""

    gate: str
    candidate: str
    status: str
    observed: float | None
    low: float | None
    high: float | None
    limit: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean with its 95 % interval over `prompts` prompts and `images` images; None where it could not be had, and `why`."""

    unit: str
    mean: float | None
    low: float | None
    high: float | None
    prompts: int
    images: int
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image of the candidate: its cell, its key, and its values; None for one that was not measured."""

    cell: Cell
    key: str
    values: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A run as far as the promotion of one candidate needs it.

    `rulings` are all gates of the suite, those without candidates judged on this one. `unfinished` are sentences on what the
    run lacks. `inputs` holds the content hashes of every candidate's input files, `identity` is that of the candidate's weights.
    `guidance` is the recommended scale, `pick` the recommended candidate and `tied` those tied with it. `floor_levels` is
    the largest difference that a batch alone made, in levels of 0 to 255; None where it was not measured.
    """

    folder: Path
    suite: Suite
    head: Mapping[str, Any]
    candidate: str
    rulings: tuple[Ruling, ...]
    unfinished: tuple[str, ...]
    identity: str
    inputs: Mapping[str, Mapping[str, str]]
    guidance: float | None
    pick: str | None
    tied: tuple[str, ...]
    figures: Mapping[str, Figure]
    rows: tuple[Row, ...]
    floor_levels: int | None
