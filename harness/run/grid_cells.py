"""The cells of one effective grid, with the keys of their images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.cache import shared_key
from harness.declare import Grid, Prompt, short_hash
from harness.probes.environment import deciding_pixels
from harness.records import Cell
from harness.run.batch_packing import GridKeys
from harness.sampling import batches, threads_per_operation


class CellsOfGrid:
    """The cells of one effective grid, with the keys of their images."""

    def __init__(self, grid: Grid, block: Mapping[str, Any], facts: Mapping[str, Any],
                 parts: Callable[[Prompt, frozenset[str]], tuple[str, ...]], packages: Sequence[str]) -> None:
        """`block` is the grid's sampling block, `facts` the environment in run.json, which is that of the suite's own grid, and
        `parts` is what of a prompt determines an image, of whose texts those at some places are read in chunks. `packages` are
        those of the runtime, whose versions show in last bits."""
        self.grid, self._parts = grid, parts
        self._environment = deciding_pixels({**facts, "threads_per_operation": threads_per_operation(grid, str(block["device"]))}
                                            if "threads_per_operation" in facts else facts, packages)
        self.cells = tuple(cell for batch in batches(grid) for cell in batch)
        self._block, self._keys = block, dict[tuple[int, frozenset[str]], GridKeys]()

    def keys(self, identity: str, batch_size: int, chunked: frozenset[str]) -> dict[Cell, str]:
        """The key of each cell's image, made of weights of `identity` in batches of this size; `chunked` are the places of texts
        that are read in chunks."""
        if (batch_size, chunked) not in self._keys:
            texts = {prompt.id: self._parts(prompt, chunked) for prompt in self.grid.prompts}
            self._keys[batch_size, chunked] = GridKeys(self.cells, texts, {**self._block, "batch_size": batch_size})
        return self._keys[batch_size, chunked].of(identity)

    def stage_key(self, identity: str) -> str:
        """The key of how a stage ends whose weights, with those of all before it, have this identity."""
        return short_hash([identity, self._block])

    def shared_key(self, key: str) -> str:
        """The key of an image in a cache that several machines share."""
        return shared_key(key, self._environment)
