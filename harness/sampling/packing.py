"""Packs the missing cells of a grid into batches of one shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from harness.declare import Grid
from harness.records import Cell
from harness.sampling.batches import kinds


def pack(grid: Grid, missing: Sequence[Cell], size: int = 0,
         lengths: Callable[[Cell], Hashable] = lambda _: None) -> tuple[tuple[Cell, ...], ...]:
    """The missing cells in batches of exactly `size` cells (0: the grid's batch size). Unfilled places repeat the first cell of
    the batch; these repetitions are dropped when the images are written.

    The last bits of an image depend on the shape of its batch, which is part of its key, so all batches have this shape. The
    other cells in the batch do not matter. With several threads per operation the place in the batch can matter, so a cell
    keeps its place in the batches of the whole grid, unless that takes over a quarter more batches than close packing. Cells of
    different kinds are batched separately (sampling.kinds), and so are those whose texts have other `lengths`: those of its
    neighbours must not change a cell's.
    """
    wanted, size = set(missing), size or grid.images_per_batch
    packed: list[tuple[Cell, ...]] = []
    for part in kinds(grid):
        alike: dict[Hashable, list[tuple[int, Cell]]] = {}
        for number, cell in enumerate(part):
            if cell in wanted:
                alike.setdefault(lengths(cell), []).append((number % size, cell))
        for placed in alike.values():
            packed += _batches(placed, size)
    return tuple(packed)


def _batches(placed: Sequence[tuple[int, Cell]], size: int) -> list[tuple[Cell, ...]]:
    """Batches of `size` cells, from pairs of (preferred place, cell); see pack."""
    closely = -(-len(placed) // size)
    columns: list[list[Cell]] = [[] for _ in range(size)]
    for place, cell in placed:
        columns[place].append(cell)
    if max(map(len, columns)) > closely + max(1, closely // 4):
        columns = [[cell for _, cell in placed[place::size]] for place in range(size)]
    batches = []
    for row in range(max(map(len, columns))):
        filled = [column[row] if row < len(column) else None for column in columns]
        first = next(cell for cell in filled if cell is not None)
        batches.append(tuple(cell or first for cell in filled))
    return batches
