"""Records of a run's course: what a candidate's weights turned out to be, how it ended, and the looks of a race."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.records.images import Cell

MOST_CELLS: Final = 1_000_000
"""That a look may ask of one candidate. A line edited by hand could ask for more than memory holds."""
_LARGEST: Final = 2**63


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A candidate that could not go on: in which stage, and what was said."""

    candidate: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a candidate's model turned out to be: `inputs` is the content hash of every input file, `identity` the hash
    of all that makes its weights, `declared` the key of the declaration it was made from (Candidate.key), `setting` the
    hash of how it is timed. A sample counts only if its key follows from the last identity announced."""

    candidate: str
    identity: str
    inputs: Mapping[str, str]
    declared: str = ""
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A candidate went through all stages; `reused` of its images stood in the journal already."""

    candidate: str
    identity: str
    sampled: int
    reused: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A cell that a look took out of the race: its mean paired difference from the best, and the interval of that look, all three
    None where there was nothing to compare it with. `why` says in words what ruled it out; empty: it was worse than the best."""

    candidate: str
    guidance: float
    mean: float | None
    low: float | None
    high: float | None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One step of a suite that spends a budget. `race` is the hash of the declaration that it follows: only the looks of the
    present one count, and of several with one `number` the last. `stage` is "search", "select", "refine", "confirm" or "gate".

    Until this look the images of `candidates` x `guidances` x `prompts` x `seeds` were asked for, beside those of the looks
    before; `images` is how many there are by now in all. After it `dropped` are out of the race. `level` is that of the
    look's intervals, `why` says in words what the look came to. It belongs to no candidate: `candidate` stays empty.
    """

    race: str
    number: int
    stage: str
    candidates: tuple[str, ...]
    guidances: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: int
    dropped: tuple[Dropped, ...] = ()
    level: float = 0.95
    why: str = ""
    candidate: str = ""


def standing_looks(looks: Iterable[Look], race: str) -> tuple[Look, ...]:
    """The looks of one race, given in the order in which they were written. A race that begins anew begins at number 1, so a look
    takes back all that were written before it with its number or a higher one. Behind a gap, where a look cannot be read any
    more, none stands: what they dropped and asked for followed from the one that is lost."""
    held: list[Look] = []
    for look in looks:
        if look.race == race:
            held = [*(one for one in held if one.number < look.number), look]
    return tuple(look for place, look in enumerate(held, start=1) if look.number == place)


def refuse_look(look: Look) -> None:
    """TypeError for a look, edited by hand, that is none: other kinds of values than its readers rely on, or numbers that no race
    has."""
    texts = (look.race, look.stage, look.why, *look.candidates, *look.prompts,
             *(text for cell in look.dropped for text in (cell.candidate, cell.why)))
    counts = (look.number, look.images, *look.seeds)
    numbers = (look.level, *look.guidances,
               *(number for cell in look.dropped for number in _numbers(cell)))
    for word, values, kinds in (("text", texts, (str,)), ("whole number", counts, (int,)), ("number", numbers, (int, float))):
        for value in values:
            if type(value) not in kinds or not (isinstance(value, str) or abs(value) < _LARGEST):
                raise TypeError(f"{value!r} is no {word} that a look has")
    if look.number < 1 or look.images < 0 or not 0 < look.level < 1:
        raise TypeError(f"number {look.number}, {look.images} images, level {look.level}")
    if len(look.prompts) * len(look.seeds) * len(look.guidances) > MOST_CELLS:
        raise TypeError(f"more than {MOST_CELLS:,} cells of one candidate")


def _numbers(cell: Dropped) -> tuple[Any, ...]:
    """What must be a number in a dropped cell: its three figures are there together or not at all."""
    figures = (cell.mean, cell.low, cell.high)
    return (cell.guidance,) if figures == (None, None, None) else (cell.guidance, *figures)


def cells_of(look: Look) -> Iterator[Cell]:
    """The cells that a look asked for, of each of its candidates."""
    for prompt in look.prompts:
        for seed in look.seeds:
            for guidance in look.guidances:
                yield Cell(prompt=prompt, seed=seed, guidance=float(guidance))
