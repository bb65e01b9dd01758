"""What the prompts of a run leave open about its pick, and how many would settle it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from reports import formatting as words
from reports.read.run import Run
from reports.statistics.settling import JointTest, Needed, prompts_to_leave_out, prompts_to_settle
from reports.statistics.tied_set import PRIOR_PROMPTS, moderated
from reports.verdict.candidates import label, label_with_role
from reports.verdict.recommendation import Comparison, Scored, Settling
from reports.verdict.scoring import cell_distances, on_common_images
from reports.verdict.sentences import at_counterpart

ABOUT: Final = ("So many prompts show the difference in 8 of 10 repeats, if it and the spread are exactly as measured. Both are "
                "estimates: take the numbers for sizes. What is tied is compared on the prompts that chose the pick, which "
                "flatter it.")


def of_comparisons(run: Run, comparisons: Sequence[Comparison]) -> tuple[Settling, ...]:
    """For each control that the pick is tied with in objective at its own guidance, or at its counterpart."""
    settling = []
    for c in comparisons:
        needed = prompts_to_settle(c.difference) if c.word == "tied" and c.value == "objective" else None
        if needed is not None and at_counterpart(run, c):
            settling.append(Settling(other=c.other, guidance=c.other_guidance, split=c.split, difference=c.difference,
                                     needed=needed))
    return tuple(settling)


def of_tied_cells(table: pd.DataFrame, pick: Scored, cells: Sequence[Scored]) -> tuple[Settling, ...]:
    """For each cell that is tied with the best one, on the `table` that chose the pick; those that need the fewest prompts first.
    Without the cells of which constraints leave open whether they compete."""
    tied = [c for c in cells if c.tied and c.family is not None]
    keys = [(c.candidate, c.guidance) for c in tied]
    if pick.family is None or len(tied) < 2:
        return ()
    distances = cell_distances(on_common_images(table, keys), (pick.candidate, pick.guidance), pick.family.level)
    apart = [(cell, of) for cell, key in zip(tied, keys, strict=True) if cell != pick and (of := distances.get(key)) is not None
             and of.mean is not None and of.error is not None]
    if not apart:
        return ()
    prompts = apart[0][1].prompts
    means = np.array([of.mean for _, of in apart])
    own = np.array([of.error for _, of in apart]) ** 2 * prompts
    error = np.sqrt(moderated(own, pick.family.shared, prompts) / prompts)
    if not error.all():
        return ()
    family = JointTest(limit=pick.family.limit, level=pick.family.level, prompts=prompts, prior=PRIOR_PROMPTS)
    needed = prompts_to_leave_out(np.abs(means), error, family)
    half = pick.family.limit * error
    settling = [
        Settling(other=cell.candidate, guidance=cell.guidance, split="select", chosen=True, needed=count, difference=replace(
            of, mean=-float(mean), low=-float(mean + h), high=float(h - mean), error=float(e)))
        for (cell, of), mean, h, e, count in zip(apart, means, half, error, needed, strict=True)]
    return tuple(sorted(settling, key=lambda s: _count(s.needed)))


def settling_sentences(run: Run, settling: Sequence[Settling]) -> tuple[str, ...]:
    """How many prompts would settle what is open: a sentence for each control on its prompts, one for the tied cells, and one for
    what cannot be said."""
    known = [s for s in settling if s.needed.sayable]
    sentences = [f"To show whether the pick differs from {label_with_role(run, s.other)} takes "
                 f"{words.settled(s.needed, f'{s.split} prompt')}." for s in known if not s.chosen]
    if tied := [s for s in known if s.chosen]:
        sentences.append(_of_tied(run, tied))
    for there in dict.fromkeys(s.needed.there for s in settling if not s.needed.sayable):
        splits = dict.fromkeys(s.split for s in settling if s.needed.there == there)
        sentences.append(f"How many {' or '.join(splits)} prompts would settle what is tied cannot be said from {there}.")
    return tuple(sentences)


def _of_tied(run: Run, tied: Sequence[Settling]) -> str:
    """The first of the tied cells that prompts would separate from the pick, half of them, and the last."""
    first, half, last = tied[0], tied[(len(tied) - 1) // 2], tied[-1]
    if len(tied) == 1 or first.needed.prompts is None:
        what = _named(run, first) if len(tied) == 1 else f"any of the {len(tied)} pairs that are tied with it"
        return f"To separate the pick from {what} takes {words.settled(first.needed, 'select prompt')}."
    steps = [f"{words.enough(first.needed)} for {_named(run, first)}"]
    if len(tied) > 2 and half.needed != first.needed:
        steps.append(f"{words.enough(half.needed)} for half of the {len(tied)} pairs")
    steps.append(f"{words.enough(last.needed)} for {'all' if len(tied) > 2 else _named(run, last)}")
    return (f"Select prompts that would separate the pick from what is tied with it (now {first.needed.there}): "
            f"{', '.join(steps)}.")


def _named(run: Run, of: Settling) -> str:
    return f"{label(run, of.other)} at CFG {of.guidance:g}"


def _count(needed: Needed) -> float:
    return float("inf") if needed.prompts is None else needed.prompts
