"""The sentences of a sweep's recommendation: how the pick compares, and the reasons for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from harness.declare import DESIRABILITY, Objective, Suite
from harness.declare.interpolate import NOT_REFINED
from harness.declare.swept_axis import CHEAPER, axes_of_pick, sides_of_pick
from harness.records import Look, ValueSpec
from harness.records.values import spec_of
from reports import formatting as words
from reports.read.beside import scale_at, scales_of
from reports.read.roles import numeric_axes
from reports.read.run import Run
from reports.statistics.intervals import spans_range, within_range
from reports.verdict.candidates import label, label_with_role, parents
from reports.verdict.picking import scales_apart
from reports.verdict.race_summary import spent
from reports.verdict.recommendation import Comparison, Recommendation
from reports.verdict.steps import steps_reasons

TRAINED: Final = ("step", "epoch")
"""Axes that count how long something was trained."""


def sweep_evidence(run: Run, rec: Recommendation, preferred: str = "") -> str:
    """How the pick compares with its rivals on the held-out prompts, and which cells did as well where it was chosen;
    `preferred` are the ends of axes that the objective chose it for."""
    against = [c for c in rec.comparisons if c.value == "objective" and at_counterpart(run, c)]
    where = f"{_where(against)} " if any(c.difference.prompts for c in against) else ""
    told = f"{where}it is {_told(run, against)}" if against else "there is no rival to compare it with"
    return "; ".join(filter(None, (told, _tied(run, rec, preferred))))


def objective_words(objective: Objective, values: Mapping[str, ValueSpec]) -> str:
    """What an image's objective is, in one sentence; `values` are the rows of the run."""
    if objective.maximise == DESIRABILITY:
        names = words.listed([words.title(spec_of(values, d.metric)) for d in objective.desirabilities], 99)
        start = f"100 × the weighted geometric mean of the desirabilities of {names}"
    else:
        start = words.title(spec_of(values, objective.maximise))
    less = [f"{p.weight:g} × {words.title(spec_of(values, p.metric))}{f' beyond {p.allowance:g}' if p.allowance else ''}"
            for p in objective.penalties]
    limits = [f"{words.title(spec_of(values, c.metric))} {'at most' if c.at_most is not None else 'at least'} "
            f"{c.at_most if c.at_most is not None else c.at_least:g}" for c in objective.constraints]
    formula = " − ".join([start, *less])
    return f"Objective of an image: {formula}{'; a cell must keep ' + ', '.join(limits) if limits else ''}."


def tied_in_words(rec: Recommendation) -> str:
    """How many cells are tied with the best one, itself counted: "3 of 18 cells"."""
    return f"{sum(c.tied for c in rec.cells)} of {len(rec.cells)} cells"


def _tied(run: Run, rec: Recommendation, preferred: str) -> str:
    """What the select prompts leave open: how many cells are tied, and which of them share the candidate or the guidance of the
    pick; empty where none is. `preferred` says what the pick is for lack of a difference."""
    others = sum(c.tied for c in rec.cells) - 1
    if others < 1 or rec.pick is None:
        return ""
    if others + 1 == len(rec.cells):
        return (f"on the prompts used to choose, all {len(rec.cells)} cells are tied: which of them is best was not decided"
                + (f", and of those nearest to the best the pick has {preferred}, as the objective prefers" if preferred else ""))
    parts, named = [], 0
    for scale, names in _by_scale(run, rec).items():
        parts.append(f"{_span(run, names)} at CFG {scale:g}")
        named += len(names)
    if scales := [scale for scale in rec.tied_guidances if scale != rec.guidance]:
        reach = f"{scales[0]:g}" if len(scales) == 1 else f"{scales[0]:g}–{scales[-1]:g}"
        parts.append(f"CFG {reach} at {label(run, rec.pick)}")
        named += len(scales)
    among = f" ({'among them ' if named < others else ''}{', '.join(parts)})" if parts else ""
    axes = [words.visible(axis) for axis in numeric_axes(run.suite)]
    pairs = words.plural(others, f"other {axes[0] if len(axes) == 1 else 'candidate'}/CFG pair" if len(axes) < 2 else
                         f"other {'/'.join(axes)}/CFG combination")
    return f"on the prompts used to choose, {pairs} did about as well{among}"


def _by_scale(run: Run, rec: Recommendation) -> dict[float, tuple[str, ...]]:
    """The candidates that are tied beside the pick, without itself, by the guidance scale of their images there."""
    names_at: dict[float, tuple[str, ...]] = {}
    for name in rec.tied_candidates:
        scale = None if rec.guidance is None else scale_at(run, name, rec.guidance)
        if name != rec.pick and scale is not None:
            names_at[scale] = (*names_at.get(scale, ()), name)
    return names_at


def preferred_ends(suite: Suite, pick: str, near: int) -> str:
    """Which ends of axes the objective prefers, and what the pick has there: "the lowest step (500)"; empty without any, and
    where the pick is the only one of `near` cells within one standard error of the best, so that no preference decided."""
    if near < 2:
        return ""
    chosen = next(c for c in suite.candidates if c.name == pick)
    decisive = axes_of_pick(suite)
    sides = {axis: side for axis, side in sides_of_pick(suite).items() if axis in decisive and side != "middle"}
    ends = {axis: f"the {side} {words.visible(axis)} ({chosen.axes[axis]:g}"
                  f"{', the earliest of these' if axis in TRAINED and side == 'lowest' else ''})" for axis, side in sides.items()}
    first, later = ([end for axis, end in ends.items() if (axis in CHEAPER) == cheap] for cheap in (True, False))
    scale = sides_of_pick(suite).get("guidance", "middle")
    if later and scale != "middle" and len(suite.grid.guidance_scales) > 1 and not scales_apart(suite):
        later = [f"the {scale} CFG, and there {words.listed(later)}"]
    return words.listed([*first, *later]) if ends else ""


def preference_reasons(suite: Suite, pick: str, near: int) -> tuple[str, ...]:
    """Which ends of axes the objective preferred among the `near` cells as measured; empty where it names none."""
    if ends := preferred_ends(suite, pick, near):
        return (f"Of the {near} tied cells within one standard error of the best the pick has {ends}, as the objective prefers.",)
    if preferred_ends(suite, pick, 2):
        return ("No other tied cell is within one standard error of the best, so the preferences of the objective decided "
                "nothing.",)
    return ()


def _span(run: Run, names: tuple[str, ...]) -> str:
    axis = run.axis
    # Where candidates share a value of the axis they differ in something else too, and a range of it would hide that.
    if axis is None or any(n not in run.axis_values for n in names):
        return words.listed([label(run, n) for n in names])
    values = sorted(float(run.candidate(n).axes[axis]) for n in names)
    return f"{axis} {values[0]:g}–{values[-1]:g}" if len(set(values)) > 1 else f"{axis} {values[0]:g}"


def _where(against: Sequence[Comparison]) -> str:
    prompts = max(c.difference.prompts for c in against)
    return (f"on {words.plural(prompts, 'held-out confirm prompt')}" if against[0].split == "confirm"
            else "on the prompts used to choose, unconfirmed,")


def at_counterpart(run: Run, of: Comparison) -> bool:
    """Whether this is how the pick stands beside another: at its guidance scale, or at the other's counterpart of it; at the best
    scale of one that has several others, and so no counterpart."""
    return of.guidance is None or scale_at(run, of.other, of.guidance) in (None, of.other_guidance)


def _told(run: Run, comparisons: list[Comparison]) -> str:
    phrases = []
    for c in comparisons:
        scale = "" if c.other_guidance == c.guidance else f" at CFG {c.other_guidance:g}"
        other, d = f"{label_with_role(run, c.other)}{scale}", c.difference
        if c.word == "not measured":
            phrases.append(f"not compared with {other} ({d.why})")
        elif c.word == "tied":
            phrases.append(f"tied with {other} ({words.signed(d.mean)} {words.interval(d.low, d.high)})")
        else:
            # The word gives the direction, so size and interval have no sign.
            low, high = (d.low, d.high) if d.low is None or d.high is None or (d.mean or 0.0) >= 0 else (-d.high, -d.low)
            phrases.append(f"{c.word} than {other} by {words.number(abs(d.mean or 0.0))} {words.interval(low, high)}")
    return words.listed(phrases)


def sweep_reasons(run: Run, rec: Recommendation) -> tuple[str, ...]:
    """Why this pick: the best cell, the tied set, tied parents, and what CLIP score alone would have said."""
    sentences = [*_best_reasons(run, rec), *_parent_ties(run, rec)]
    for c in rec.comparisons:
        if not at_counterpart(run, c):
            sentences.append(f"Against {label_with_role(run, c.other)} at its own best CFG {c.other_guidance:g} the pick is "
                             f"{c.word}: {words.estimate(c.difference, difference=True)} ({c.split} prompts).")
    sentences += steps_reasons(run, rec)
    return (*sentences, *_clip_reasons(run, rec))


def _clip_reasons(run: Run, rec: Recommendation) -> list[str]:
    """What CLIP score alone would have picked, and why not to follow it where it asks for more guidance."""
    if rec.clip_alone is None or rec.clip_alone_at_pick is None or rec.pick is None or rec.guidance is None:
        return []
    (name, scale), at_pick = rec.clip_alone, rec.clip_alone_at_pick
    if (name, scale) == (rec.pick, rec.guidance):
        return [f"By CLIP score alone {label(run, name)} at CFG {scale:g} would win too."]
    also = ("" if name == rec.pick or len(scales_of(run, rec.pick)) < 2 else
            f", and {label(run, rec.pick)} would be used at CFG {at_pick:g}{' too' if at_pick == rec.guidance else ''}")
    less = words.listed([words.title(run.row(p.metric)).lower() for p in run.suite.objective.penalties])
    why = (": alignment scores tend to rise with guidance while images burn out"
           f"{f', so the objective counts {less} against them' if run.suite.objective.penalties else ''}"
           if max(scale, at_pick) > rec.guidance else "")
    return [f"By CLIP score alone {label(run, name)} at CFG {scale:g} would win{also}{why}."]


def _best_reasons(run: Run, rec: Recommendation) -> list[str]:
    """The best cell and what is tied with it, and how far the pick is from it. Where constraints are open, the cell that all are
    measured from is the best of those that are shown to keep them (see scoring.score_table)."""
    competing = [c for c in rec.cells if c.complete and not c.ruled_out and c.objective.mean is not None]
    best = max(competing, key=lambda c: c.objective.mean or 0.0)
    start = max((c for c in competing if c.behind.mean == 0.0), key=lambda c: c.objective.mean or 0.0, default=best)
    mine = next(c for c in rec.cells if c.candidate == rec.pick and c.guidance == rec.guidance)
    tied = [c for c in rec.cells if c.tied]
    unkept = any(c.behind.distinct and (c.behind.mean or 0.0) < 0 for c in tied)
    count = tied_in_words(rec)
    at = f"{words.estimate(best.objective)}: {label(run, best.candidate)} at CFG {best.guidance:g}"
    if start != best:
        sentences = [f"The highest mean objective is {at}, but the data do not show whether it meets the constraints. The "
                f"best of the cells that are shown to meet them is {label(run, start.candidate)} at CFG {start.guidance:g}; "
                f"{count} are tied with it or, until that is known, ahead of it."]
    elif unkept:
        sentences = [f"The highest mean objective is {at}. No cell is shown to meet the constraints, so no cell is excluded "
                     f"for being worse than another: {count} are left."]
    else:
        sentences = [f"The highest mean objective is {at}; {count} are tied with it."]
    if mine != start:
        aside = "" if mine.behind.distinct else ": such a difference may well be chance"
        range_of_objective = run.row("objective")
        if spans_range(mine.behind, range_of_objective):
            sentences.append(f"The pick differs from it by {words.signed(mine.behind.mean)}; how much of that is chance cannot "
                             f"be said from {words.plural(mine.behind.prompts, 'prompt')}.")
        else:
            behind = within_range(mine.behind, range_of_objective)
            sentences.append(f"The pick differs from it by {words.estimate(behind, difference=True)}{aside}.")
    return sentences


def _parent_ties(run: Run, rec: Recommendation) -> list[str]:
    if rec.pick in parents(run.suite):
        return [f"{label_with_role(run, rec.pick or '')} itself wins: no mixture is tied with the best cell."]
    sentences = []
    for name in parents(run.suite):
        cells = [c for c in rec.cells if c.tied and c.candidate == name]
        if cells:
            scales = ", ".join(f"{c.guidance:g}" for c in sorted(cells, key=lambda c: c.guidance))
            what = "adapter" if rec.axis == "weight" else "merge"
            sentences.append(f"{label_with_role(run, name)} is tied too, at CFG {scales}: on these prompts the {what} is not "
                             "shown to be better.")
    return sentences


def race_reasons(run: Run) -> tuple[str, ...]:
    """What an adaptive sweep spent, and why it ended."""
    looks, total = [look for look in run.looks if look.stage == "select"], spent(run)
    if not looks or total is None:
        return ()
    dropped = sum(len(look.dropped) for look in looks)
    return (f"The sweep was adaptive: {words.plural(len(looks), 'interim look')} at the select prompts dropped "
            f"{words.plural(dropped, 'cell')}; {total.images:,} images were sampled{total.beside_whole}. The last one: "
            f"{looks[-1].why.rstrip('.')}.", *_not_refined(looks))


def _not_refined(looks: Sequence[Look]) -> list[str]:
    """Why looks before the last added no candidate between some neighbours."""
    notes = dict.fromkeys(note.rstrip(".") for look in looks[:-1] for note in look.why.split("; ")
                          if note.startswith(NOT_REFINED) and note not in looks[-1].why)
    return [f"{note[0].upper()}{note[1:]}." for note in notes]
