"""The work of a suite's images in parts that processes can share out: a candidate, and up to eight batches of its cells."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.declare import Candidate, Suite, short_hash
from harness.declare.effective_grid import run_grid
from harness.declare.prompt_groups import groups_of
from harness.records import Cell
from harness.sampling import kinds

BATCHES: Final = 8
"""The most batches of a part. What a killed process had not stored of it is made again."""


@dataclass(frozen=True, kw_only=True)
class WorkPart:
    """Cells of one candidate that are made alike; `group` is that of their prompts."""

    candidate: Candidate
    group: int
    cells: tuple[Cell, ...]

    @property
    def guided(self) -> bool:
        """Whether the cells have guidance."""
        return self.cells[0].guidance != 1

    def key(self, identity: str) -> str:
        """A key of the part, for weights of this identity."""
        return short_hash(["part", identity, self.group, [[cell.prompt, cell.seed, cell.guidance] for cell in self.cells]])


def parts_of(suite: Suite, candidates: Sequence[Candidate], wanted: Collection[Cell] | None = None) -> list[WorkPart]:
    """The parts of the candidates' images, or of the `wanted` cells of them: one candidate after the other, each in the order of
    sampling. It is the same list in every process."""
    cells = None if wanted is None else set(wanted)
    return [part for candidate in candidates for part in _of_candidate(suite, candidate, cells)]


def share(parts: Sequence[WorkPart], number: int, of: int) -> list[WorkPart]:
    """Share `number`, from 1, of so many of equal size: neighbours, so that few candidates are materialised in each."""
    return list(parts[len(parts) * (number - 1) // of:len(parts) * number // of])


def from_place(parts: Sequence[WorkPart], place: float) -> list[WorkPart]:
    """The parts from a place, from 0 to 1, on, and then those before it: of the same candidate first."""
    start = min(int(len(parts) * place), max(len(parts) - 1, 0))
    return [*parts[start:], *parts[:start]]


def _of_candidate(suite: Suite, candidate: Candidate, wanted: set[Cell] | None) -> Iterator[WorkPart]:
    grid = run_grid(suite, candidate)
    groups = groups_of(candidate, suite.grid.prompts)
    most = BATCHES * suite.grid.images_per_batch
    for number, group in enumerate(groups):
        own = set(group.prompts)
        for kind in kinds(grid):
            cells = [cell for cell in kind if (len(groups) == 1 or cell.prompt in own) and (wanted is None or cell in wanted)]
            yield from (WorkPart(candidate=candidate, group=number, cells=tuple(cells[start:start + most]))
                        for start in range(0, len(cells), most))
