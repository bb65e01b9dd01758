"""Packs the missing cells of a grid into batches of the declared shape, and computes the keys of their images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from harness.declare import Candidate, Grid, Suite, plain, short_hash
from harness.records import Cell
from harness.sampling import kinds


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


def in_order(suite: Suite) -> tuple[Candidate, ...]:
    """The candidates in the cheapest order: the baseline first, because the others are compared with it; then grouped by files,
    merge recipe, adapters and quantization, each in the order in which the suite first names it."""
    seen: dict[str, int] = {}

    def place(candidate: Candidate) -> list[int]:
        model = plain(candidate.model)
        steps = [_frame(model), short_hash(model), short_hash(candidate.adapters), candidate.number_format]
        return [seen.setdefault(f"{depth} {step}", len(seen)) for depth, step in enumerate(steps)]

    places = {candidate.name: place(candidate) for candidate in suite.candidates}
    return tuple(sorted(suite.candidates, key=lambda c: (c.name != suite.baseline, places[c.name])))


def _frame(model: Any) -> str:
    """The file that gives a model its architecture: the leftmost in its recipe."""
    while isinstance(model, dict):
        model = model.get("a", model.get("model", model.get("path")))
    return str(model)


class GridKeys:
    """The keys of all cells of a grid, equal to those of records.sample_key, at a tenth of the cost: the part of cells and
    texts is serialised once for all identities."""

    def __init__(self, cells: Sequence[Cell], texts: Mapping[str, tuple[str, ...]], setting: Mapping[str, Any]) -> None:
        """`texts` are those of `sample_key` by prompt id, `setting` the sampling block of run.json."""
        ends = {prompt: ",".join(map(_json, (*pair, sorted(setting.items())))) for prompt, pair in texts.items()}
        self._cells = tuple(cells)
        self._ends = [f",{c.noise_seed},{_json(float(c.guidance))},{ends[c.prompt]}]".encode() for c in cells]
        self._known: dict[str, dict[Cell, str]] = {}

    def of(self, identity: str) -> dict[Cell, str]:
        """Key by cell, in the grid's order, for weights of `identity`."""
        if identity not in self._known:
            start = hashlib.sha256(f"[{_json(identity)}".encode())
            keys = {}
            for cell, end in zip(self._cells, self._ends, strict=True):
                digest = start.copy()
                digest.update(end)
                keys[cell] = digest.hexdigest()[:16]
            self._known[identity] = keys
        return self._known[identity]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
