"""Two cells of two runs held against each other image by image: all that both were asked for, or nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeAlias

import pandas as pd

from harness.records import ValueSpec
from reports.compare.common_places import on_common_images
from reports.compare.costs import ABSENT, BETTER, CHANGED, SAME, TIED, WORSE
from reports.read.lacking import asked_places, lacking
from reports.read.objective import depends_on_prompt
from reports.read.run import Run
from reports.statistics.intervals import Estimate, paired_difference

Cell: TypeAlias = tuple[str, float]
"""(candidate, guidance)."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A cell of B minus a cell of A in one value, and whether every pair is one and the same image."""

    difference: Estimate
    same_images: bool


def paired(before: tuple[Run, Cell], after: tuple[Run, Cell], spec: ValueSpec, prompts: Collection[str]) -> Paired:
    """The mean of B's value minus A's over the prompts and seeds that both cells were asked for, paired by prompt and seed; not
    measured, with the reason, where either lacks some of them."""
    sides = (("A", *before), ("B", *after))
    whole = [run.images for _, run, _ in sides]
    if any(depends_on_prompt(spec.name, run.suite.objective, run.values) for _, run, _ in sides):
        whole = on_common_images(before, after)
    tables = [_rows(table, cell, prompts) for table, (_, _, cell) in zip(whole, sides, strict=True)]
    both = set.intersection(*({(p, s) for p, s, _ in asked_places(run, name, prompts, scale)} for _, run, (name, scale) in sides))
    why = ""
    for side, run, (name, scale) in sides:
        lack = lacking(run, name, spec.name, {(prompt, seed, scale) for prompt, seed in both})
        why = why or (f"{side}: {lack.why}" if lack.why else "")
    difference = paired_difference(tables[1], tables[0], spec, by=("prompt", "seed"))
    if difference.mean is None:
        gone = next((f"{side}: {run.why_missing(cell[0], spec.name)}" for side, run, cell in sides
                     if run.why_missing(cell[0], spec.name)), "")
        difference = replace(difference, why=why or gone or difference.why)
    elif why:
        difference = Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=why)
    return Paired(difference=difference, same_images=_same_images((before[0], tables[0]), (after[0], tables[1])))


def word_of(of: Paired, better: str) -> str:
    """The word of a difference B - A: equal values of the very same images are the same; a value without a better direction is
    "changed"."""
    d = of.difference
    if d.mean is None or d.low is None:
        return ABSENT
    if of.same_images and d.mean == d.low == d.high == 0:
        return SAME
    if not d.distinct:
        return TIED
    if better not in ("higher", "lower"):
        return CHANGED
    return BETTER if (d.mean > 0) == (better == "higher") else WORSE


def _same_images(*sides: tuple[Run, pd.DataFrame]) -> bool:
    mine, theirs = ({(prompt, seed): run.digests.get(str(path), "") for prompt, seed, path in zip(
        rows["prompt"], rows["seed"], rows["path"], strict=True)} for run, rows in sides)
    return bool(mine) and all(mine.values()) and mine == theirs


def _rows(table: pd.DataFrame, cell: Cell, prompts: Collection[str]) -> pd.DataFrame:
    return table[(table["candidate"] == cell[0]) & (table["guidance"] == cell[1]) & table["prompt"].isin(list(prompts))]
