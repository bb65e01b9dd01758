"""The pick of one run against the pick of another: what a change of the recommendation gains or loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from harness.declare.effective_grid import whole_grid
from harness.declare.same_text import distinct, effective_prompts
from harness.records import ValueSpec
from reports import formatting as words
from reports.compare.common_places import Pair
from reports.compare.costs import ABSENT, BETTER, SAME, TIED, WORSE, Cost, of_picks
from reports.compare.pairs import Cell, paired, word_of
from reports.read.objective import depends_on_prompt
from reports.read.run import Run
from reports.statistics.intervals import Estimate
from reports.verdict.candidates import label
from reports.verdict.recommendation import Recommendation

FEWEST_HELD_OUT: Final = 2


@dataclass(frozen=True, kw_only=True)
class PickMoved:
    """B's pick minus A's pick in one value."""

    value: str
    spec: ValueSpec
    difference: Estimate
    word: str


@dataclass(frozen=True, kw_only=True)
class Picks:
    """The old and the new pick, in words, and the new one minus the old one by value; `why` says why there are no rows.
    `held_out`: on the prompts that are confirm prompts in both runs. `changed`: they are not one candidate at one guidance.
    `costs` are those of the new one over the old one where they are two candidates, `within` says that both were taken in B."""

    before: str = ""
    after: str = ""
    rows: tuple[PickMoved, ...] = ()
    why: str = ""
    held_out: bool = False
    changed: bool = False
    costs: tuple[Cost, ...] = ()
    within: bool = False

    def of(self, value: str) -> PickMoved | None:
        """The row of a value."""
        return next((row for row in self.rows if row.value == value), None)

    @property
    def compared(self) -> bool:
        """Whether any value could be compared."""
        return any(row.word != ABSENT for row in self.rows)

    @property
    def leading(self) -> PickMoved | None:
        """The row that decides: the objective's, else the first that was measured."""
        measured = [row for row in self.rows if row.word != ABSENT]
        return next((row for row in measured if row.value == "objective"), measured[0] if measured else None)


def compare_picks(a: tuple[Run, Recommendation], b: tuple[Run, Recommendation], values: Mapping[str, ValueSpec],
                  prompts: set[str], alike: Pair) -> Picks:
    """The pick of B minus that of A in `values`, over the `prompts` that are the same in both: those that had no part in either
    choice, where there are two of them at least, else all. What is counted over all images of a prompt is compared in `alike`,
    the runs on what both have."""
    cells = [_cell(rec) for _, rec in (a, b)]
    if cells[0] is None or cells[1] is None:
        return Picks(why=f"{'A' if cells[0] is None else 'B'} recommends nothing")
    named = [f"{label(run, cell[0])} at CFG {cell[1]:g}" for (run, _), cell in zip((a, b), cells, strict=True) if cell]
    held_out = [{p.id for p in run.suite.grid.prompts if p.split == "confirm"} for run, _ in (a, b)]
    unseen = prompts & held_out[0] & held_out[1]
    confirmed = distinct(p for p in effective_prompts(whole_grid(b[0].suite)) if p.id in unseen) >= FEWEST_HELD_OUT
    rows = []
    for value, spec in values.items():
        sides = alike if depends_on_prompt(value, b[0].suite.objective, b[0].values) else (a[0], b[0])
        of = paired((sides[0], cells[0]), (sides[1], cells[1]), spec, unseen if confirmed else prompts)
        if lone := [f"{g:g}" for run, g in ((sides[0], cells[0][1]), (sides[1], cells[1][1]))
                    if g not in whole_grid(run.suite).guidance_scales]:
            why = f"it depends on the other images of a prompt, and one run alone has CFG {' and '.join(dict.fromkeys(lone))}"
            of = replace(of, difference=Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=why))
        rows.append(PickMoved(value=value, spec=spec, difference=of.difference, word=word_of(of, spec.better)))
    costs, within = of_picks(a[0], b[0], cells[0][0], cells[1][0]) if cells[0][0] != cells[1][0] else ((), False)
    return Picks(before=named[0], after=named[1], rows=tuple(rows), held_out=confirmed, changed=cells[0] != cells[1],
                 costs=costs, within=within,
                 why="" if rows else "no value is measured alike in both")


def picks_in_words(of: Picks) -> str:
    """How the new pick compares with the old one, in a clause."""
    if not of.before:
        return f"the picks were not compared: {of.why}"
    names = f"the new pick, {of.after}, {{}} the old one, {of.before}" if of.changed else f"the pick is still {of.after}, {{}}"
    row = of.leading
    if row is None:
        why = of.why or next((r.difference.why for r in of.rows if r.difference.why), "")
        return f"{names.format('could not be compared with' if of.changed else 'not compared')} ({why})"
    if row.word == SAME:
        return names.format("has the very same images as" if of.changed else "with the very same images")
    d = row.difference
    verb = {BETTER: "better than", WORSE: "worse than", TIED: "not shown to differ from"}.get(row.word, "other than")
    where = f"{words.plural(d.prompts, 'held-out confirm prompt' if of.held_out else 'common prompt, unconfirmed')}"
    numbers = f"{words.signed(d.mean, row.spec)} {words.interval(d.low, d.high, row.spec)}"
    said = names.format(f"is {verb}" if of.changed else f"{verb} before")
    return f"{said} ({words.title(row.spec)} {numbers} on {where})"


def _cell(rec: Recommendation) -> Cell | None:
    """The pick's cell. Where modes are compared over all guidance scales, that of the recommended one."""
    return None if rec.pick is None or rec.guidance is None else (rec.pick, float(rec.guidance))
