"""Records of a run's events: a candidate's weights, how it ended, and the interim looks of a race."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from harness.records.images import Cell

MOST_CELLS: Final = 1_000_000
"""Most cells that a look may request of one candidate. A line edited by hand could request more than memory holds."""
METRIC_STAGE: Final = "metric "
"""What the stage of a failure begins with where a metric failed; its name follows."""
_LARGEST: Final = 2**63


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A candidate that failed: in which stage, and with which error."""

    candidate: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The identity of a candidate's model: `inputs` is the content hash of every input file, `identity` the hash of
    everything that determines its weights, `declared` the key of its declaration (Candidate.key), `setting` the hash of how
    it is timed. A sample counts only if its key follows from the last identity in the journal.

    Where prompts bring adapters of their own, `by_prompt` has the identity for every prompt, and `identity` stands for all of
    them together. It is empty otherwise, and in records of earlier versions."""

    candidate: str
    identity: str
    inputs: Mapping[str, str]
    declared: str = ""
    setting: str = ""
    by_prompt: Mapping[str, str] = field(default_factory=dict)

    def of(self, prompt: str) -> str:
        """The identity of the weights that make the images of a prompt, given by its id."""
        return self.by_prompt.get(prompt, self.identity)


@dataclass(frozen=True, kw_only=True)
class SessionStart:
    """The images that follow in the journal were written in this environment: `environment` is the hash of one in run.json,
    `started` the time in UTC. It belongs to no candidate, so `candidate` is empty. Earlier versions did not write it."""

    environment: str
    started: str
    candidate: str = ""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A candidate completed all stages; `reused` of its images were in the journal already."""

    candidate: str
    identity: str
    sampled: int
    reused: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A cell that a look dropped from the race: its mean paired difference from the best and the interval of that look, all
    three None if there was nothing to compare it with. `why` says what ruled it out; empty means it was worse than the best."""

    candidate: str
    guidance: float
    mean: float | None
    low: float | None
    high: float | None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One interim look of a race. `race` is the hash of its declaration: only the looks of the current declaration count, and
    of several with the same `number` the last. `stage` is "search", "select", "refine", "confirm" or "gate".

    The look requested the images of `candidates` x `guidances` x `prompts` x `seeds`, in addition to those of earlier looks;
    `images` is the total so far. `dropped` left the race after it. `level` is that of the look's intervals, `why` says in
    words how it ended. A look belongs to no candidate, so `candidate` is empty.
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
    """The valid looks of one race, given in the order in which they were written. A race that starts again starts at number 1,
    so a look replaces all earlier ones with its number or a higher one. After a gap, where a look is no longer readable, no look
    is valid: what later looks dropped and requested followed from the lost one."""
    valid: list[Look] = []
    for look in looks:
        if look.race == race:
            valid = [*(one for one in valid if one.number < look.number), look]
    return tuple(look for place, look in enumerate(valid, start=1) if look.number == place)


def refuse_look(look: Look) -> None:
    """Raises TypeError for a malformed Look, edited by hand: values of other types than its readers rely on, or numbers that no
    race produces."""
    texts = (look.race, look.stage, look.why, *look.candidates, *look.prompts,
             *(text for cell in look.dropped for text in (cell.candidate, cell.why)))
    counts = (look.number, look.images, *look.seeds)
    numbers = (look.level, *look.guidances,
               *(number for cell in look.dropped for number in _numbers(cell)))
    for word, values, kinds in (("text", texts, (str,)), ("an integer", counts, (int,)), ("a number", numbers, (int, float))):
        for value in values:
            if type(value) not in kinds or not (isinstance(value, str) or abs(value) < _LARGEST):
                raise TypeError(f"a look holds {value!r}; expected {word}")
    if look.number < 1 or look.images < 0 or not 0 < look.level < 1:
        raise TypeError(f"a look has number {look.number}, {look.images} images and level {look.level}")
    if len(look.prompts) * len(look.seeds) * len(look.guidances) > MOST_CELLS:
        raise TypeError(f"a look has more than {MOST_CELLS:,} cells of one candidate")


def _numbers(cell: Dropped) -> tuple[Any, ...]:
    """The values of a dropped cell that must be numbers: its three figures are present together or not at all."""
    figures = (cell.mean, cell.low, cell.high)
    return (cell.guidance,) if figures == (None, None, None) else (cell.guidance, *figures)


def cells_of(look: Look) -> Iterator[Cell]:
    """The cells that a look requested of each of its candidates."""
    return all_cells(look.prompts, look.seeds, look.guidances)


def all_cells(prompts: Iterable[str], seeds: Sequence[int], guidances: Sequence[float]) -> Iterator[Cell]:
    """Every cell of prompts x seeds x guidance scales, in that order."""
    for prompt in prompts:
        for seed in seeds:
            for guidance in guidances:
                yield Cell(prompt=prompt, seed=seed, guidance=float(guidance))
