"""Images handed to workers ahead of the time when their candidate is taken through its stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from harness.declare import Candidate
from harness.executors.contract import Unit
from harness.executors.with_crew import WithCrew
from harness.records import Cell, Fit, Weights
from harness.run.owed_images import OwedImages


@dataclass(frozen=True, kw_only=True)
class Known:
    """A candidate whose files were read: its weights, the cells whose images are owed, and those whose images were derived from
    others on the way. `fresh` says that nothing of it is reused."""

    weights: Weights
    absent: tuple[Cell, ...]
    derived: frozenset[Cell] = frozenset()
    fresh: bool = False


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What was handed over of a candidate."""

    candidate: Candidate
    known: Known
    cells: frozenset[Cell]


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """The images of several candidates that are made side by side by `crew`. What comes of them is what would come of one after
    the other: where memory is refused for one, those after it are made again in smaller batches."""

    owed: OwedImages
    crew: WithCrew
    read: Callable[[Candidate, Iterable[Cell] | None], Known | None]
    """Reads a candidate's files; None for one that must be taken through its stages first."""
    _handed: dict[str, Handed] = field(default_factory=dict)

    def hand(self, asked: Sequence[tuple[Candidate, Iterable[Cell] | None]]) -> None:
        """Hands over all that candidates, in their order, lack of these cells; None is the whole grid. An image that several have
        in common is made for the first of them."""
        keys = set[str]()
        # All are read before the first is made: what comes of one must not decide what is known of another.
        read = [(candidate, known) for candidate, cells in asked if (known := self.read(candidate, cells)) is not None]
        for candidate, known in read:
            own = self.owed.sampled_keys(candidate, known.weights)
            absent = [cell for cell in known.absent if known.fresh or own[cell] not in keys]
            keys |= {own[cell] for cell in absent}
            self._handed[candidate.name] = Handed(candidate=candidate, known=known, cells=frozenset(absent))
            if absent:  # a candidate begins with what was refused by then: not before it has to
                self.owed.hand(candidate, known.weights, absent)

    def of(self, name: str) -> Handed | None:
        """What was handed over of a candidate."""
        return self._handed.get(name)

    def forget(self, name: str) -> None:
        """Lets the workers make nothing more of a candidate."""
        self._handed.pop(name, None)
        self.crew.drop_candidate(name)

    def outdate(self, name: str, fit: Fit, *, guided: bool) -> None:
        """Memory was refused to a candidate. Batches of this size, handed over of it and of those after it, are forgotten with
        what was made in them, and handed over again."""
        gallery, sizes = self.owed.gallery, self.owed.sizes
        shape = gallery.shape(name)

        def outdated(unit: Unit) -> bool:
            other = unit.candidate.name
            return unit.batch_size > fit.batch_size // 2 and unit.guided in {guided, True} and gallery.shape(other) == shape and (
                other == name or other in self._handed)

        dropped: dict[str, list[Cell]] = {}
        for unit in self.crew.drop(outdated):
            handed = self._handed[unit.candidate.name]
            keys = gallery.making(unit.candidate, handed.known.weights, unit.batch_size).keys
            gallery.ledger.forget(unit.candidate.name, {keys[cell] for cell in unit.cells})
            dropped.setdefault(unit.candidate.name, []).extend(unit.cells)
        for other, cells in dropped.items():
            if other != name:
                handed = self._handed[other]
                sizes.restart(other)
                self.owed.hand(handed.candidate, handed.known.weights, cells)
