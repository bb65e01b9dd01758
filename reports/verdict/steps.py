"""Candidates that differ in their number of steps alone, and what fewer steps give up and save."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.declare import Candidate, grid_of, plain, short_hash
from reports import formatting as words
from reports.read.run import Run
from reports.statistics.intervals import Estimate, holm, paired_difference
from reports.verdict.candidates import label, present
from reports.verdict.cells import select_rows
from reports.verdict.costs import FEWEST_ROUNDS, seconds_per_image, speed
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_rows

AXIS = "steps"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Candidates that are equal but for their steps: (steps, name), the fewest first. `name` says what they have in common and
    other lines have not: the sampler and its schedule, and the values on other axes."""

    name: str
    places: tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True)
class Saving:
    """The fewest steps of a line that are tied with the best cell, beside its most steps: the paired difference in the objective
    (fewest minus most), and how much faster they are, with the lowest and the highest ratio of timed rounds; or why that is not
    known."""

    line: Line
    fewest: int
    most: int
    difference: Estimate
    faster: tuple[float, float, float] | None
    why: str = ""


def lines_of(run: Run) -> tuple[Line, ...]:
    """The lines of at least two different numbers of steps, in the order in which candidates are declared."""
    groups: dict[str, list[Candidate]] = {}
    for name in present(run):
        candidate = run.candidate(name)
        groups.setdefault(_but_for_steps(candidate), []).append(candidate)
    lines = []
    for group in groups.values():
        places = sorted((grid_of(run.suite, candidate).steps, candidate.name) for candidate in group)
        if len({steps for steps, _ in places}) > 1:
            lines.append((group[0], tuple(places)))
    names = [_named(run, first, shown=False) for first, _ in lines]
    return tuple(Line(name=name if names.count(name) == 1 else _named(run, first, shown=True), places=places)
                 for (first, places), name in zip(lines, names, strict=True))


def _but_for_steps(candidate: Candidate) -> str:
    """A hash of all that a candidate is besides its name and steps."""
    own = None if candidate.sampling is None else replace(candidate.sampling, steps=None)
    axes = {axis: value for axis, value in candidate.axes.items() if axis != AXIS}
    return short_hash(plain(replace(candidate, name="", axes=axes, sampling=own if own is not None and own.given else None)))


def _named(run: Run, candidate: Candidate, *, shown: bool) -> str:
    grid = grid_of(run.suite, candidate)
    schedule = grid.sampling.schedule if grid.sampling is not None else None
    axes = [f"{words.visible(axis)} {value if isinstance(value, str) else format(value, 'g')}"
            for axis, value in candidate.axes.items() if axis not in (AXIS, "sampler", "schedule")]
    parts = [" ".join(filter(None, (grid.sampler, schedule))), *axes, *([f"as {label(run, candidate.name)}"] if shown else [])]
    return ", ".join(parts)


def savings(run: Run, rec: Recommendation) -> tuple[Saving, ...]:
    """What each line saves with the fewest steps that are in the tied set, by the objective of the select prompts; the intervals
    hold for all lines together at 95 % (Holm's steps). Lines without a tied cell, or with none but that of their most steps, are
    left out: a wide interval alone is no reason to take fewer steps."""
    rows = shown_rows(run, rec, select_rows(run))
    tied = {cell.candidate for cell in rec.cells if cell.tied}
    chosen = []
    for line in lines_of(run):
        most, longest = line.places[-1]
        fewest = next(((steps, name) for steps, name in line.places if name in tied and steps < most), None)
        if fewest is not None and "objective" in rows.columns:
            chosen.append((line, fewest, (most, longest)))
    raw = [paired_difference(rows[rows["candidate"] == name], rows[rows["candidate"] == longest], run.row("objective"),
                             by=("prompt", "seed")) for _, (_, name), (_, longest) in chosen]
    made = []
    for (line, (steps, name), (most, longest)), difference in zip(chosen, holm(raw, run.row("objective")), strict=True):
        if difference.word in ("tied", "better"):
            faster, why = _faster(run, name, longest)
            made.append(Saving(line=line, fewest=steps, most=most, difference=difference, faster=faster, why=why))
    return tuple(made)


def _faster(run: Run, name: str, longest: str) -> tuple[tuple[float, float, float] | None, str]:
    ratio, word = speed(run, longest, name)
    mine, theirs = seconds_per_image(run, name), seconds_per_image(run, longest)
    if ratio is None or word != "slower" or None in (mine.fastest, mine.slowest, theirs.fastest, theirs.slowest):
        once = min(mine.rounds, theirs.rounds) < FEWEST_ROUNDS
        return None, (word if ratio is None else "one timed round shows no difference in speed" if once else
                      "the timed rounds show no clear difference in speed")
    return (ratio, (theirs.fastest or 0.0) / (mine.slowest or 1.0), (theirs.slowest or 0.0) / (mine.fastest or 1.0)), ""


def steps_reasons(run: Run, rec: Recommendation) -> tuple[str, ...]:
    """That 8 steps are tied with 30 and 3.6 times faster, for every line, with the intervals of both."""
    made = savings(run, rec)
    several = len(lines_of(run)) > 1
    sentences = []
    for saving in made:
        whose = f"With {saving.line.name}, " if several else ""
        word = "tied with" if saving.difference.word == "tied" else "better than"
        quality = f"{words.signed(saving.difference.mean)} {words.interval(saving.difference.low, saving.difference.high)}"
        pace = (f"{saving.faster[0]:.1f} times faster [{saving.faster[1]:.1f}, {saving.faster[2]:.1f}]" if saving.faster else
                f"how much faster is not known ({saving.why})")
        sentences.append(f"{whose}{saving.fewest} steps are {word} {saving.most} (objective {quality}, "
                         f"{words.plural(saving.difference.prompts, 'prompt')}): {pace}.")
    return tuple(sentences)
