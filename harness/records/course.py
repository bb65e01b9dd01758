"""Records of a run's course: what a candidate's weights turned out to be, how it ended, and the looks of a race."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.records.images import Cell


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
    """A cell that a look took out of the race: its mean paired difference from the best, and the interval of that look."""

    candidate: str
    guidance: float
    mean: float
    low: float
    high: float


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
    takes back all that were written before it with its number or a higher one."""
    held: list[Look] = []
    for look in looks:
        if look.race == race:
            held = [*(one for one in held if one.number < look.number), look]
    return tuple(held)


def cells_of(look: Look) -> Iterator[Cell]:
    """The cells that a look asked for, of each of its candidates."""
    for prompt in look.prompts:
        for seed in look.seeds:
            for guidance in look.guidances:
                yield Cell(prompt=prompt, seed=seed, guidance=float(guidance))
