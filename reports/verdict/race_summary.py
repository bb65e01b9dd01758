"""What a race spent and what it dropped when, as rows of ready-made text. Nothing where a suite has no budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from harness.declare import grid_of
from harness.declare.effective_grid import cells_of
from harness.records import Dropped, Look
from reports import formatting as words
from reports.read.interim_looks import dropped_cells, exits
from reports.read.run import Run
from reports.verdict.candidates import label

STAGES: Final = {"search": "search", "select": "select", "refine": "refine", "confirm": "confirm", "gate": "gates"}
NAMED: Final = 4


@dataclass(frozen=True, kw_only=True)
class Spent:
    """`images` were made; the grid of the declared candidates has `whole`. `beside_whole` compares the two, and `summary` is the
    sentence with the looks by their stage."""

    images: int
    whole: int
    beside_whole: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class LookRow:
    """One look as text: what it sampled, what it dropped, how many images there were then, and what it came to."""

    number: int
    stage: str
    candidates: str
    guidances: str
    prompts: str
    dropped: str
    images: str
    why: str


@dataclass(frozen=True, kw_only=True)
class DropRow:
    """One cell that a look took out of the race, and how far it was behind the best then, or what ruled it out."""

    candidate: str
    guidance: str
    look: int
    behind: str


def spent(run: Run) -> Spent | None:
    """What the looks of a race came to; None where there were none."""
    if not run.looks:
        return None
    added = run.head.get("added", ())
    absent = {*run.head.get("not_offered", ()), *run.head.get("not_selected", ())}
    declared = [c for c in run.suite.candidates if c.name not in added and c.name not in absent]
    whole = sum(cells_of(grid_of(run.suite, candidate)) for candidate in declared)
    images = run.looks[-1].images
    # Added candidates are no part of the declared grid, so a share of it would say nothing; it can be more than 100 %.
    beside = "" if not whole else f"; the whole grid of the declared candidates has {whole:,}" if added else (
        f", {100 * images / whole:.0f} % of the {whole:,} of the whole grid")
    more = f", {words.plural(len(added), 'candidate')} added during the sweep" if added else ""
    return Spent(images=images, whole=whole, beside_whole=beside, summary=f"{images:,} images in {_looks(run)}{more}{beside}.")


def _looks(run: Run) -> str:
    """How many looks there were, by their stage where they had several: "4 interim looks (2 select, 1 refine, 1 confirm)"."""
    stages = Counter(STAGES.get(look.stage, words.visible(look.stage)) for look in run.looks)
    counts = f" ({', '.join(f'{count} {stage}' for stage, count in stages.items())})" if len(stages) > 1 else ""
    return words.plural(len(run.looks), "interim look") + counts


def spending_section(run: Run) -> dict[str, Any] | None:
    """The page's section: the sentence, the looks, the dropped cells, and whom no look has left in the race."""
    total = spent(run)
    if total is None:
        return None
    return {"said": total.summary, "looks": look_rows(run), "drops": drop_rows(run),
            "exits": [{"name": _label(run, name), "said": said} for name, said in exit_words(run).items()]}


def look_rows(run: Run) -> list[LookRow]:
    """One row per look, in order."""
    return [LookRow(number=look.number, stage=STAGES.get(look.stage, words.visible(look.stage)),
                    candidates=f"{len(look.candidates)}: {words.listed([_label(run, n) for n in look.candidates], NAMED)}",
                    guidances=", ".join(f"{g:g}" for g in look.guidances), dropped=_dropped(run, look), images=f"{look.images:,}",
                    prompts=f"{len(look.prompts)} × {words.plural(len(look.seeds), 'seed')}", why=words.visible(look.why))
            for look in run.looks]


def drop_rows(run: Run) -> list[DropRow]:
    """One row per dropped cell, in the order in which they were dropped."""
    return [DropRow(candidate=_label(run, name), guidance=f"{guidance:g}", look=look.number,
                    behind=words.visible(cell.why) or _behind(cell))
            for (name, guidance), (look, cell) in dropped_cells(run.looks).items()]


def exit_words(run: Run) -> dict[str, str]:
    """By name, for every candidate of which nothing is left in the race: "dropped at look 2, −3.1 [−5.0, −1.2]", or "ruled out at
    look 2: " and by what; of the cell that held out longest."""
    return {name: f"ruled out at interim look {out.look}: {words.visible(out.last.why)}" if out.last.why else
            f"dropped at interim look {out.look}, {_behind(out.last)}" for name, out in exits(run.suite, run.looks).items()}


def _behind(cell: Dropped) -> str:
    """How far a dropped cell was behind the best."""
    if cell.mean is None or cell.low is None or cell.high is None:
        return "not measured"
    return f"{words.signed(cell.mean)} {words.interval(cell.low, cell.high)}"


def _dropped(run: Run, look: Look) -> str:
    """The cells that a look dropped, by candidate."""
    by_name: dict[str, list[str]] = {}
    for cell in look.dropped:
        by_name.setdefault(cell.candidate, []).append(f"{cell.guidance:g}")
    phrases = [f"{_label(run, name)} at CFG {', '.join(scales)}" for name, scales in by_name.items()]
    return words.listed(phrases, NAMED) if phrases else "–"


def _label(run: Run, name: str) -> str:
    """A candidate's label; the name of one that was only tried."""
    return label(run, name) if any(c.name == name for c in run.suite.candidates) else words.visible(name)
