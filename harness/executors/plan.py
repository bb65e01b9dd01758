"""Which cells each worker makes next: the lowest number first, a candidate stays with its worker, and only where workers would
idle is the rest of a candidate shared, at the borders of batches. Pure: knows no clock, no process and no file."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from harness.executors.contract import Unit
    from harness.records import Cell

BATCHES_AT_ONCE: Final = 8
"""The most batches of a piece: what is lost with a worker, and how often a driver must be quick."""
DEATHS: Final = 3
"""A unit that ends so many workers at one and the same batch is at fault itself. Two may be chance: of fifty random kills in a
sweep of two thousand batches, one on average meets a batch that was lost before."""

_Batch: TypeAlias = "tuple[Cell, ...]"


@dataclass
class Piece:
    """A part of a unit in the hands of a worker. `left` are its cells that have not arrived; one that is `withdrawn` is still
    made, and nobody wants it."""

    unit: Unit
    batches: tuple[_Batch, ...]
    left: dict[Cell, None]
    withdrawn: bool = False

    @property
    def missing(self) -> list[_Batch]:
        """The batches of which something has not arrived; the empty one of a piece without cells."""
        if not any(self.batches):
            return [*self.batches]
        rest = (tuple(cell for cell in batch if cell in self.left) for batch in self.batches)
        return [batch for batch in rest if batch]


@dataclass
class _Lot:
    """A unit with the batches that are in nobody's hands, and the number of its cells that have not arrived."""

    unit: Unit
    waiting: deque[_Batch]
    left: int


@dataclass
class _Queue:
    """The units of one candidate, lowest number first, and the workers that make it now."""

    name: str
    lots: dict[int, _Lot] = field(default_factory=dict)
    workers: set[int] = field(default_factory=set)
    listed: int | None = None
    """The number under which it is among those that nobody makes."""

    @property
    def first(self) -> _Lot | None:
        """The first unit of which something is in nobody's hands."""
        return next((lot for lot in self.lots.values() if lot.waiting), None)

    @property
    def waiting(self) -> int:
        """Batches in nobody's hands."""
        return sum(len(lot.waiting) for lot in self.lots.values())


class Plan:
    """The units that are owed, and who makes what. `worth` decides whether a worker begins another one's candidate, of which so
    many batches are in nobody's hands and so many workers make it: preparing a model may take longer than the rest."""

    def __init__(self, at_once: int = BATCHES_AT_ONCE,
                 worth: Callable[[int, int], bool] = lambda _batches, _workers: True) -> None:
        self._at_once, self._worth = at_once, worth
        self._queues: dict[str, _Queue] = {}
        self._free: list[tuple[int, str]] = []
        """(number, candidate) of those that no worker makes and of which something waits, sorted."""
        self._now: dict[int, str] = {}
        """The candidate that each worker makes or made last."""
        self._out: dict[int, deque[Piece]] = {}
        self._waiting = 0
        self._deaths: dict[tuple[int, Cell | None], int] = {}
        self._barred: set[tuple[int, str]] = set()

    def join(self, worker: int) -> None:
        """From now on a worker takes part."""
        self._out[worker] = deque()

    @property
    def workers(self) -> Collection[int]:
        """Those that take part."""
        return self._out.keys()

    @property
    def owed(self) -> bool:
        """Whether a cell has not arrived."""
        return bool(self._queues)

    @property
    def waiting(self) -> int:
        """The number of batches that are in nobody's hands."""
        return self._waiting

    def has(self, number: int) -> bool:
        """Whether anything of a unit is still owed."""
        return any(number in queue.lots for queue in self._queues.values())

    def out(self, worker: int) -> int:
        """How many pieces are in the hands of a worker."""
        return len(self._out.get(worker, ()))

    def owe(self, units: Iterable[Unit]) -> None:
        """Adds units, each with a number that no other one has."""
        for unit in units:
            queue = self._queues.setdefault(unit.candidate.name, _Queue(unit.candidate.name))
            if unit.number in queue.lots:
                raise ValueError(f"unit {unit.number} of candidate {unit.candidate.name!r} is owed already")
            lot = _Lot(unit, deque(batches_of(unit)), len(unit.cells))
            in_order = not queue.lots or next(reversed(queue.lots)) < unit.number
            queue.lots[unit.number] = lot
            if not in_order:
                queue.lots = dict(sorted(queue.lots.items()))
            self._waiting += len(lot.waiting)
            self._list(queue)

    def take(self, worker: int) -> Unit | None:
        """What a worker makes next, which is in its hands from now on; None if there is nothing for it."""
        queue = self._chosen(worker)
        if queue is None or (lot := queue.first) is None:
            return None
        if self._now.get(worker) != queue.name:
            self._leave(worker)
            self._now[worker] = queue.name
        queue.workers.add(worker)
        self._list(queue)
        share = self._waiting if len(self._out) == 1 else -(-self._waiting // (2 * len(self._out)))
        count = len(lot.waiting) if lot.unit.floor else min(self._at_once, len(lot.waiting), share)
        batches = tuple(lot.waiting.popleft() for _ in range(count))
        self._waiting -= count
        cells = tuple(cell for batch in batches for cell in batch)
        self._out[worker].append(Piece(lot.unit, batches, dict.fromkeys(cells)))
        return replace(lot.unit, cells=cells, batches=tuple(map(len, batches)))

    def current(self, worker: int) -> Piece | None:
        """The piece that a worker makes now: the one that it was given first."""
        pieces = self._out.get(worker)
        return pieces[0] if pieces else None

    def left(self, worker: int) -> int:
        """How many images of a worker's current piece have not arrived."""
        return len(self._out[worker][0].left)

    def missing(self, worker: int) -> int:
        """How many images that a worker was given have not arrived, and are wanted."""
        return sum(len(piece.left) for piece in self._out.get(worker, ()) if not piece.withdrawn)

    @property
    def candidates(self) -> list[str]:
        """Those of which something is owed."""
        return [*self._queues]

    def arrived(self, worker: int, cells: Iterable[Cell]) -> None:
        """Images of a worker's current piece are here. Raises KeyError for a cell that is not of it."""
        piece = self._out[worker][0]
        for cell in cells:
            del piece.left[cell]
            if not piece.withdrawn:
                self._queues[piece.unit.candidate.name].lots[piece.unit.number].left -= 1

    def ended(self, worker: int) -> bool:
        """A worker came to the end of its current piece. Returns whether all of the unit is here now; what of the piece did not
        come is owed again."""
        piece = self._out[worker].popleft()
        if piece.withdrawn:
            return False
        if piece.left:
            self._put_back(piece)
        return self._complete(piece)

    def lost(self, worker: int) -> tuple[Unit | None, list[Unit]]:
        """Takes a worker out. What it had and did not bring is owed again. Returns the unit that is at fault itself, if it
        ended DEATHS workers at one and the same batch; and the units of which all is here."""
        pieces = self._out.pop(worker, deque())
        blamed = self._blamed(pieces[0]) if pieces else None
        self._leave(worker)
        wanted = [piece for piece in reversed(pieces) if not piece.withdrawn]
        for piece in wanted:
            self._put_back(piece)
        return blamed, [piece.unit for piece in wanted if self._complete(piece)]

    def bar(self, worker: int) -> bool:
        """A worker cannot make the candidate of its current piece, which is owed again. Returns whether none can."""
        piece = self._out[worker].popleft()
        name = piece.unit.candidate.name
        self._barred.add((worker, name))
        if self._now.get(worker) == name:
            self._leave(worker)
        if not piece.withdrawn:
            self._put_back(piece)
        return not piece.withdrawn and all((one, name) in self._barred for one in self._out)

    @property
    def busy(self) -> bool:
        """Whether anything is in the hands of workers, wanted or not."""
        return any(self._out.values())

    def withdraw(self, unwanted: Callable[[Unit], bool], candidates: Collection[str]) -> list[Unit]:
        """Forgets units of these candidates, also what is in the hands of workers. Returns those that were owed."""
        withdrawn: list[Unit] = []
        for pieces in self._out.values():
            for piece in pieces:
                piece.withdrawn = piece.withdrawn or (piece.unit.candidate.name in candidates and unwanted(piece.unit))
        for queue in [self._queues[name] for name in candidates if name in self._queues]:
            for number in [number for number, lot in queue.lots.items() if unwanted(lot.unit)]:
                lot = queue.lots.pop(number)
                self._waiting -= len(lot.waiting)
                withdrawn.append(lot.unit)
            self._list(queue)
        return withdrawn

    def _chosen(self, worker: int) -> _Queue | None:
        """The candidate that a worker goes on with or begins: its own; the first that nobody makes, those last that another
        worker made last; or, if the worker would idle, the one with the most to do."""
        own = self._queues.get(self._now.get(worker, ""))
        if own is not None and own.first is not None and (not own.workers or worker in own.workers):
            return own
        free = [name for _, name in self._free if (worker, name) not in self._barred] if self._barred else [
            name for _, name in self._free[:1 + len(self._now)]]
        if free:
            elsewhere = {name for other, name in self._now.items() if other != worker}
            return self._queues[next((name for name in free if name not in elsewhere), free[0])]
        if self._out[worker]:
            return None
        open_ = [queue for queue in self._queues.values() if (worker, queue.name) not in self._barred]
        fullest = max(open_, key=lambda queue: queue.waiting / (1 + len(queue.workers)), default=None)
        if fullest is None or not fullest.waiting or not self._worth(fullest.waiting, len(fullest.workers)):
            return None
        return fullest

    def _leave(self, worker: int) -> None:
        """A worker no longer makes the candidate that it made."""
        queue = self._queues.get(self._now.pop(worker, ""))
        if queue is not None:
            queue.workers.discard(worker)
            self._list(queue)

    def _put_back(self, piece: Piece) -> None:
        missing = piece.missing
        lot = self._queues[piece.unit.candidate.name].lots[piece.unit.number]
        lot.waiting.extendleft(reversed(missing))
        self._waiting += len(missing)
        self._list(self._queues[piece.unit.candidate.name])

    def _complete(self, piece: Piece) -> bool:
        """Whether all of a piece's unit is here, which is then forgotten."""
        queue = self._queues.get(piece.unit.candidate.name)
        lot = None if queue is None else queue.lots.get(piece.unit.number)
        if queue is None or lot is None or lot.left or lot.waiting:
            return False
        if any(one.unit is piece.unit for pieces in self._out.values() for one in pieces):
            return False
        del queue.lots[piece.unit.number]
        self._list(queue)
        return True

    def _blamed(self, piece: Piece) -> Unit | None:
        if piece.withdrawn or not (piece.left or not any(piece.batches)):
            return None
        place = piece.unit.number, next(iter(piece.left), None)
        self._deaths[place] = self._deaths.get(place, 0) + 1
        return piece.unit if self._deaths[place] >= DEATHS else None

    def _list(self, queue: _Queue) -> None:
        """Keeps the list of free candidates in step, and forgets one of which nothing is owed."""
        lot = None if queue.workers else queue.first
        number = None if lot is None else lot.unit.number
        if number != queue.listed:
            if queue.listed is not None:
                del self._free[bisect_left(self._free, (queue.listed, queue.name))]
            if number is not None:
                insort(self._free, (number, queue.name))
            queue.listed = number
        if not queue.lots:
            self._queues.pop(queue.name, None)


def batches_of(unit: Unit) -> Iterator[_Batch]:
    """The cells of a unit, batch after batch; of one without cells, an empty batch."""
    size = 1 if unit.floor else unit.batch_size
    sizes = unit.batches or [size] * max(1, -(-len(unit.cells) // size))
    start = 0
    for size in sizes:
        yield unit.cells[start:start + size]
        start += size
