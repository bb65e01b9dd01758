"""Gates on values that images have: a mean, a paired difference from another candidate, or a ratio to it."""

from __future__ import annotations

from typing import Final

import pandas as pd

from harness.declare import PROMOTED, Gate
from reports.gates import promoted_baseline as against
from reports.gates.outcome import Seen, Verdict, decided, nothing, other_of
from reports.gates.ratios import ratio_of_means, times
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean, paired_difference
from reports.verdict.candidates import label
from reports.verdict.confirm_looks import gate_level
from reports.verdict.recommendation import Recommendation

FEWEST_HELD_OUT: Final = 2
"""Confirm prompts that a suite declares before a pick is judged on them alone: one gives no interval."""


def judge(run: Run, rec: Recommendation, gate: Gate, name: str) -> Verdict:
    """A value per image, at the recommended guidance."""
    return decided(run, gate, name, _images(run, rec, gate, (name, other_of(run, gate))))


def _images(run: Run, rec: Recommendation, gate: Gate, names: tuple[str, str | None]) -> Seen:
    """The estimate of a per-image value, and what it was taken from."""
    name, other = names
    rows, note = _rows(run, rec, chosen=not gate.candidates)
    mine = rows[rows["candidate"] == name]
    held_out = sum(p.split == "confirm" for p in run.suite.grid.prompts)
    there = mine.loc[mine["split"] == "confirm", "prompt"].nunique()
    if not gate.candidates and held_out >= FEWEST_HELD_OUT > there:
        return Seen(estimate=nothing("the confirm prompts were not sampled, and the prompts that the pick was chosen on "
                                     "cannot judge it"))
    level = gate_level(run.suite)
    if other is None:
        return Seen(estimate=cluster_mean(mine, run.row(gate.value), level), note=note)
    if other == PROMOTED:
        theirs, said = against.comparable(run, mine, gate.value)
        if theirs is None:
            return Seen(estimate=nothing(said))
        named = f"{against.called(run)} ({said})"
    else:
        theirs, named = rows[rows["candidate"] == other], label(run, other)
    if gate.ratio is None:
        return Seen(estimate=paired_difference(mine, theirs, run.row(gate.value), level=level), note=f"{note}, minus {named}")
    return Seen(estimate=ratio_of_means(mine, theirs, gate.value, level),
                times=times(mine, theirs, run.row(gate.value), gate.ratio, level), note=f"{note}, ratio to {named}")


def _rows(run: Run, rec: Recommendation, *, chosen: bool) -> tuple[pd.DataFrame, str]:
    """The images a gate reads, at the recommended guidance. The pick was chosen for doing well on the select prompts, so
    it is judged on the confirm prompts (if two are declared); a candidate named in the gate is judged on all prompts."""
    rows = run.images if rec.guidance is None else run.images[run.images["guidance"] == rec.guidance]
    at = "" if rec.guidance is None else f" at CFG {rec.guidance:g}"
    held_out = rows[rows["split"] == "confirm"]
    if chosen and sum(p.split == "confirm" for p in run.suite.grid.prompts) >= FEWEST_HELD_OUT:
        return held_out, f"confirm prompts{at}"
    return rows, f"all prompts{at}"
