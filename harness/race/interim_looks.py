"""The interim looks of a race: each samples a rectangle of candidates, guidances, prompts and seeds, and is a Look in the
journal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.declare import Candidate, Grid, grid_of
from harness.records import Cell, Dropped, Failure, Look
from harness.records.events import all_cells
from harness.run.batch_packing import in_order
from harness.run.suite_run import SuiteRun
from harness.samplers import candidate_work


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """All of `candidates` x `guidances` x `prompts` x `seeds`, of each candidate at those of its own guidance scales that are
    among them."""

    candidates: tuple[str, ...]
    guidances: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def cells(self, own: Collection[float] | None = None) -> Iterator[Cell]:
        """The cells of a candidate with these guidance scales of its `own`; by default at all."""
        return all_cells(self.prompts, self.seeds, tuple(g for g in self.guidances if own is None or g in own))


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
        return sum(len(self._cells(plan, name) - self._asked.get(name, set())) for name in plan.candidates)

    def size(self, plan: Rectangle, others: Sequence[Candidate] = ()) -> int:
        """The number of images of a rectangle, whose candidates are in the suite or in `others`."""
        return sum(len(self._cells(plan, name, others)) for name in plan.candidates)

    def _cells(self, plan: Rectangle, name: str, others: Sequence[Candidate] = ()) -> set[Cell]:
        """The cells of a rectangle that a candidate has."""
        return set(plan.cells(self.scales_of(name, others)))

    def scales_of(self, name: str, others: Sequence[Candidate] = ()) -> frozenset[float]:
        """The guidance scales of a candidate; those of the grid for one that is neither in the suite nor in `others`."""
        return frozenset(map(float, self._grid(name, others).guidance_scales))

    def work_of(self, name: str, guidance: float) -> float:
        """How much work the denoiser has with one image of a candidate."""
        return candidate_work(self.run.suite, self._candidate(name), guidance)

    def _grid(self, name: str, others: Sequence[Candidate] = ()) -> Grid:
        return grid_of(self.run.suite, self._candidate(name, others))

    def _candidate(self, name: str, others: Sequence[Candidate] = ()) -> Candidate | None:
        return next((c for c in (*self.run.suite.candidates, *others) if c.name == name), None)

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
            self._asked.setdefault(name, set()).update(self._cells(plan, name, others))
        ordered = [candidate for candidate in (*in_order(self.run.suite), *others) if candidate.name in plan.candidates]
        self.run.ahead([(candidate, self._asked[candidate.name]) for candidate in ordered])
        for candidate in ordered:
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
