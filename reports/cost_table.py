"""The page's section on cost as rows of ready-made text: one table of what every candidate costs, and the readings behind it.
Called by page.py; the numbers come from costs.py and broken.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from harness.records import Reading
from reports import words
from reports.broken import RULE, broken
from reports.candidates import label, label_with_role
from reports.costs import (
    FAILED,
    Seconds,
    energy,
    incomparable,
    latency_percentiles,
    peak_memory,
    seconds_apart,
    seconds_per_image,
)
from reports.decision import Recommendation
from reports.load import Run

ABSENT: Final = "not measured: "
POWER: Final = {"energy_joules": "energy", "sm_clock_start": "SM clock, start", "sm_clock_lowest": "lowest",
                "sm_clock_end": "end", "memory_clock_start": "memory clock, start", "memory_clock_end": "end",
                "temperature_start": "temperature, start", "temperature_end": "end"}
NOTES: Final = (
    "p50 and p90 are those of the timed rounds, and “at most” is their upper bound (95 %, whatever the distribution).",
    "A step is one denoising step. The first switch to a candidate may merge and read files, the later ones do not need to; load "
    "is that of the model they share.",
    "Energy is the whole board's, what it draws when idle included.",
    RULE)


@dataclass(frozen=True, kw_only=True)
class Said:
    """One cell: what is said, and in small print below it."""

    said: str
    below: str = ""


def cost_section(run: Run, rec: Recommendation) -> dict[str, Any]:
    """`groups` and `columns` are the two lines of heads, `rows` the cells; a column that nobody has, for one and the same
    reason, becomes a sentence of `absent`. `readings` and `power` are the tables behind the fold."""
    names = [c.name for c in run.suite.candidates]
    columns = _columns(run)
    cells = {name: [_cell(run, name, head) for _, head in columns] for name in names}
    absent, kept = [], []
    for place, (group, head) in enumerate(columns):
        said = {cells[name][place].said for name in names}
        if len(said) == 1 and head != "p90" and (why := said.pop()).startswith(ABSENT):
            absent.append(f"{f'{group}, {head}' if head else group}: {why}.")
        else:
            kept.append(place)
    heads = [columns[place] for place in kept]
    return {"groups": _groups(heads), "columns": [head for _, head in heads], "absent": absent, "notes": NOTES,
            "rows": [{"name": label_with_role(run, n), "pick": n == rec.pick, "cells": [cells[n][place] for place in kept]}
                     for n in names],
            "readings": memory_readings(run), "power": power_rows(run)}


def same_twice(max_level: float, psnr_db: float | None, where: str) -> str:
    """The noise floor in one sentence: by how much two runs of the same thing differ, `max_level` in levels of 0..255."""
    if max_level == 0:
        return f"Two runs of the same thing ({words.visible(where)}) gave the same image, bit for bit."
    decibel = "" if psnr_db is None else f", {words.number(psnr_db, 'psnr_db')}"
    return (f"Two runs of the same thing ({words.visible(where)}) differ by at most {max_level:g} of 255 levels{decibel}: what "
            "differs by no more between two candidates is noise.")


def _columns(run: Run) -> list[tuple[str, str]]:
    """Group and head of every column; which reading and which batch size stand in the heads, where all have the same."""
    sizes = {record.batch_size for record in run.latency.values()}
    image = f"Seconds per image{f' at batch {sizes.copy().pop()}' if len(sizes) == 1 else ''}"
    names = {peak_memory(run, c.name).name for c in run.suite.candidates if peak_memory(run, c.name).value is not None}
    memory = "Peak VRAM" if names and not any("rss" in n for n in names) else "Peak memory"
    return [(memory, words.reading(names.pop()) if len(names) == 1 else ""), (image, "p50"), (image, "p90"), (image, "text"),
            (image, "step"), (image, "decode"), ("Style switch", "first"), ("Style switch", "later"), ("Load", ""),
            ("Energy", "per image"), ("Energy", "mean power"), ("Failed images", ""), *([("Batch", "")] if len(sizes) > 1 else [])]


def _groups(heads: list[tuple[str, str]]) -> list[tuple[str, int]]:
    """Neighbouring columns of one group as (group, number of columns)."""
    found: list[tuple[str, int]] = []
    for group, _ in heads:
        if found and found[-1][0] == group:
            found[-1] = (group, found[-1][1] + 1)
        else:
            found.append((group, 1))
    return found


def _cell(run: Run, name: str, head: tuple[str, str] | str) -> Said:
    raise NotImplementedError
