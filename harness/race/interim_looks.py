"""What a race asks for: rectangles of candidates, guidances, prompts and seeds, sampled one after the other, each a Look in the
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
    """What a look came to: see Look."""

    why: str
    dropped: tuple[Dropped, ...] = ()
    level: float = 0.95


class Asking:
    """The looks of one race so far, and which cells they asked for of each candidate. `sample` runs one candidate
    up to the cells given; a candidate that fails is asked for nothing more."""

    def __init__(self, run: SuiteRun, sample: Callable[[Candidate, Iterable[Cell]], list[Failure]],
                 expect: Callable[[int], None]) -> None:
        """`expect` hears how many images are to come before each look except the first, which the session announced."""
        self.run, self._sample, self._expect = run, sample, expect
        self.looks: list[Look] = []
        self.failures: list[Failure] = []
        self.failed: set[str] = set()
        self._asked: dict[str, set[Cell]] = {}

    @property
    def spent(self) -> int:
        """How many different images there are of what was asked for."""
        gallery = self.run.gallery
        return len({s.key for name, cells in self._asked.items() for s in gallery.at_hand(name) if s.cell in cells})

    def wanted(self, plan: Rectangle) -> int:
        """How many images of a rectangle were not asked for yet."""
        cells = set(plan.cells())
        return sum(len(cells - self._asked.get(name, set())) for name in plan.candidates)

    def sound(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those that have not failed."""
        return tuple(name for name in names if name not in self.failed)

    def look(self, stage: str, plan: Rectangle, others: Sequence[Candidate] = ()) -> Look:
        """Samples a rectangle, whose candidates are of the suite or `others`; the look is written once more is known of it."""
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
        """The race is over: later looks of an earlier race no longer count."""
        self.write()
        if self.looks and len(self.run.ledger.looks(self.run.race)) > len(self.looks):
            self.run.ledger.add([self.looks[-1]])

    def write(self) -> None:
        """Writes those looks to the journal that it does not have yet."""
        for look in self.looks:
            self.run.ledger.look(look)
