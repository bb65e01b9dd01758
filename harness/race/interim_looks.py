"""The interim looks of a race: each samples a rectangle of candidates, guidances, prompts and seeds, and is a Look in the
journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.declare import Candidate
from harness.records import Cell, Dropped, Failure, Look
from harness.records.events import all_cells
from harness.run.batch_packing import in_order
from harness.run.suite_run import SuiteRun


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """All of `candidates` x `guidances` x `prompts` x `seeds`."""

    candidates: tuple[str, ...]
    guidances: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def cells(self) -> Iterator[Cell]:
        """The cells of each of its candidates."""
        return all_cells(self.prompts, self.seeds, self.guidances)

    def __len__(self) -> int:
        return len(self.candidates) * len(self.guidances) * len(self.prompts) * len(self.seeds)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a look; the fields are those of Look."""

    why: str
    dropped: tuple[Dropped, ...] = ()
    level: float = 0.95


class Asking:
    """The looks of one race so far, and the cells that they requested of each candidate. `sample` runs one candidate on the
    given cells. After a failure, nothing more is requested of a candidate."""

    def __init__(self, run: SuiteRun, sample: Callable[[Candidate, Iterable[Cell]], list[Failure]],
                 expect: Callable[[int], None]) -> None:
        """`expect` is called with the number of images before each look except the first, which the session announced."""
        self.run, self._sample, self._expect = run, sample, expect
        self.looks: list[Look] = []
        self.failures: list[Failure] = []
        self.failed: set[str] = set()
        self._asked: dict[str, set[Cell]] = {}

    @property
    def spent(self) -> int:
        """The number of different requested images that exist."""
        gallery = self.run.gallery
        return len({s.key for name, cells in self._asked.items() for s in gallery.at_hand(name) if s.cell in cells})

    def wanted(self, plan: Rectangle) -> int:
        """The number of images of a rectangle that were not requested yet."""
        cells = set(plan.cells())
        return sum(len(cells - self._asked.get(name, set())) for name in plan.candidates)

    def sound(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names of the candidates that have not failed."""
        return tuple(name for name in names if name not in self.failed)

    def look(self, stage: str, plan: Rectangle, others: Sequence[Candidate] = ()) -> Look:
        """Samples a rectangle, whose candidates are in the suite or in `others`. `close` records the look."""
        self.write()
        look = Look(race=self.run.race, number=len(self.looks) + 1, stage=stage, candidates=plan.candidates,
                    guidances=plan.guidances, prompts=plan.prompts, seeds=plan.seeds, images=0)
        self.ask(plan, others)
        self.looks.append(look)
        return look

    def ask(self, plan: Rectangle, others: Sequence[Candidate] = ()) -> None:
        """Samples a rectangle."""
        if self.looks or others:
            self._expect(self.wanted(plan))
        for name in plan.candidates:
            self._asked.setdefault(name, set()).update(plan.cells())
        for candidate in (*in_order(self.run.suite), *others):
            if candidate.name in plan.candidates:
                failures = self._sample(candidate, self._asked[candidate.name])
                self.failures += failures
                self.failed |= {failure.candidate for failure in failures}

    def close(self, look: Look, outcome: Outcome) -> None:
        """Records the result of a look; may be called again when more is known."""
        self.looks[look.number - 1] = replace(look, images=self.spent, dropped=outcome.dropped, level=outcome.level,
                                              why=outcome.why)

    def end(self) -> None:
        """Ends the race: later looks of an earlier race no longer count."""
        self.write()
        if self.looks and len(self.run.ledger.looks(self.run.race)) > len(self.looks):
            self.run.ledger.add([self.looks[-1]])

    def write(self) -> None:
        """Writes the looks that are not in the journal yet."""
        for look in self.looks:
            self.run.ledger.look(look)
