"""Gates on values that images have: a mean, a paired difference from another candidate, or a ratio to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pandas as pd

from harness.declare import PROMOTED, Gate
from harness.declare.effective_grid import whole_grid
from harness.declare.same_text import distinct, effective_prompts
from reports import formatting as words
from reports.gates import promoted_baseline as against
from reports.gates.outcome import Seen, Verdict, decided, nothing, other_of
from reports.gates.ratios import ratio_of_means, times
from reports.read.beside import beside, scale_at, scales_of
from reports.read.lacking import asked_places, lacking
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean, paired_difference
from reports.verdict.candidates import label
from reports.verdict.confirm_looks import gate_level
from reports.verdict.recommendation import Recommendation
from reports.verdict.saturation import cannot_tell, saturated

FEWEST_HELD_OUT: Final = 2
"""Confirm prompts that a suite declares before a pick is judged on them alone: one gives no interval."""


def judge(run: Run, rec: Recommendation, gate: Gate, name: str) -> Verdict:
    """A value per image, at the recommended guidance."""
    return decided(run, gate, name, _images(run, rec, gate, (name, other_of(run, gate))))


def _images(run: Run, rec: Recommendation, gate: Gate, names: tuple[str, str | None]) -> Seen:
    """The estimate of a per-image value, and what it was taken from."""
    name, other = names
    at = None if rec.guidance is None else scale_at(run, name, rec.guidance)
    if rec.guidance is not None and at is None:
        return Seen(estimate=nothing(_no_counterpart(run, name, rec.guidance)))
    chosen = not gate.candidates and _held_out(run, at) >= FEWEST_HELD_OUT
    rows = run.images[run.images["split"] == "confirm"] if chosen else run.images
    mine = rows[rows["candidate"] == name]
    mine = mine if at is None else mine[mine["guidance"] == at]
    if chosen and mine["prompt"].nunique() < FEWEST_HELD_OUT:
        return Seen(estimate=nothing("the confirm prompts were not sampled, and the prompts that the pick was chosen on "
                                     "cannot judge it"))
    scales = scales_of(run, name) if at is None else (at,)
    theirs = mine.iloc[:0] if other is None or other == PROMOTED else beside(
        rows[rows["candidate"] == other], scales_of(run, other), scales)
    judged = [mine, *([theirs] if other not in (None, PROMOTED) else [])]
    why, note = _asked(run, at, gate, (name, other, chosen), judged)
    if why:
        return Seen(estimate=nothing(why))
    level = gate_level(run.suite)
    if other is None:
        mean = cluster_mean(mine, run.row(gate.value), level)
        known = run.why_missing(name, gate.value) if mean.mean is None else ""
        return Seen(estimate=replace(mean, why=known or mean.why), note=note)
    if other == PROMOTED:
        promoted, said = against.comparable(run, mine, gate.value)
        if promoted is None:
            return Seen(estimate=nothing(said))
        theirs, named = promoted, f"{against.called(run)} ({said})"
    else:
        named = label(run, other)
        if at is not None and (where := scale_at(run, other, at)) != at and where is not None:
            named += f" at CFG {where:g}"
    return _against(run, gate, (mine, theirs), (note, named))


def _against(run: Run, gate: Gate, of: tuple[pd.DataFrame, pd.DataFrame], said: tuple[str, str]) -> Seen:
    """The difference of two candidates' images, or their ratio."""
    (mine, theirs), (note, named), level = of, said, gate_level(run.suite)
    if saturated(run, mine, theirs, gate.value):
        return Seen(estimate=nothing(cannot_tell(gate.value)))
    if gate.ratio is None:
        return Seen(estimate=paired_difference(mine, theirs, run.row(gate.value), level=level), note=f"{note}, minus {named}")
    return Seen(estimate=ratio_of_means(mine, theirs, gate.value, level),
                times=times(mine, theirs, run.row(gate.value), gate.ratio, level), note=f"{note}, ratio to {named}")


def _held_out(run: Run, guidance: float | None) -> int:
    return distinct(p for p in effective_prompts(whole_grid(run.suite), guidance) if p.split == "confirm")


def _no_counterpart(run: Run, name: str, guidance: float) -> str:
    listed = ", ".join(f"{scale:g}" for scale in scales_of(run, name))
    return f"{label(run, name)} is sampled at CFG {listed}, of which none is the counterpart of CFG {guidance:g}"


def _asked(run: Run, at: float | None, gate: Gate, of: tuple[str, str | None, bool],
           judged: Sequence[pd.DataFrame]) -> tuple[str, str]:
    """Why a gate cannot be judged on the cells that it is about, or an empty string, and these cells in words.

    The pick was chosen for doing well on the select prompts, so it is judged on the confirm prompts (if two are declared); a
    candidate named in the gate is judged on all prompts, in a race on those that it was asked for. A comparison is about what
    both were asked for. Nothing is judged on the images that happen to have a value; of people's ratings, which are of the images
    that people were shown, the words say how many prompts these are of. `judged` are the images of each."""
    name, other, chosen = of
    declared = [p.id for p in run.suite.grid.prompts if p.split == "confirm" or not chosen]
    places = asked_places(run, name, declared, at)
    named = other if other != PROMOTED else None
    if named is not None:
        if none := next((g for g in {place[2] for place in places} if scale_at(run, named, g) is None), None):
            return _no_counterpart(run, named, none), ""
        theirs = asked_places(run, named, declared)
        places = {place for place in places if (*place[:2], scale_at(run, named, place[2])) in theirs}
    lacks = [(name, lacking(run, name, gate.value, places))]
    if named is not None:
        lacks.append((named, lacking(run, named, gate.value, {
            (prompt, seed, scale) for prompt, seed, at_mine in places if (scale := scale_at(run, named, at_mine)) is not None})))
    why = next((f"{'' if who == name else f'{label(run, who)}: '}{lack.why}" for who, lack in lacks if lack.why), "")
    prompts = set.intersection({place[0] for place in places}, *(
        set(rows.loc[rows[gate.value].notna(), "prompt"]) for rows in judged if gate.value in rows.columns))
    return why, _note(at, prompts, (declared, chosen, max(k.excused for _, k in lacks)))


def _note(guidance: float | None, prompts: set[str], of: tuple[list[str], bool, int]) -> str:
    """Which prompts were judged, in words: "all prompts at CFG 8", or "8 of 12 prompts" where a race asked for no more, or
    people rated no more."""
    declared, chosen, excused = of
    what = "confirm prompts" if chosen else "prompts"
    whole = what if chosen else f"all {what}"
    at = "" if guidance is None else f" at CFG {guidance:g}"
    few = f"{len(prompts)} of {len(declared)} {what}"
    left_out = f", without {words.plural(excused, 'unusable image')}" if excused else ""
    return f"{whole if prompts == set(declared) else few}{at}{left_out}"
