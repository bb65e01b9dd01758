"""The keys of a suite's images, of everything that determines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.declare import Suite
from harness.declare.effective_grid import run_grid, sampling_block
from harness.declare.picture_uses import PICTURES, names_of, parts_in_key
from harness.records import Cell, Weights
from harness.run.grid_cells import CellsOfGrid
from harness.runtimes import packages_of


class ImageKeys:
    """The cells of each candidate with the keys of their images. Candidates that are sampled alike share them."""

    def __init__(self, suite: Suite, head: Mapping[str, Any]) -> None:
        """`head` is the run's: its sampling block, its environment, and the contents of the prompts' pictures."""
        self._setting: Mapping[str, Any] = head["sampling"]
        self._environment: Mapping[str, Any] = head["environment"]
        self._contents: Mapping[str, str] = head.get(PICTURES, {})
        self._grids: dict[tuple[object, ...], CellsOfGrid] = {}
        self.take(suite)

    def take(self, suite: Suite) -> None:
        """Takes the suite with the candidates that it has now. Its grid must be the same as before."""
        self._suite = suite
        self._candidates = {candidate.name: candidate for candidate in suite.candidates}

    def keys(self, name: str, weights: Weights, size: int, chunked: frozenset[str]) -> dict[Cell, str]:
        """The key of each cell's image of a candidate with these weights, in batches of this size; `chunked` are the places of
        texts that are read in chunks."""
        of_grid = self.of(name)
        if not weights.by_prompt:
            return of_grid.keys(weights.identity, size, chunked)
        return {cell: of_grid.keys(weights.of(cell.prompt), size, chunked)[cell] for cell in of_grid.cells}

    def of(self, name: str) -> CellsOfGrid:
        """The cells of a candidate. What a search only tries is sampled as the grid says."""
        candidate = self._candidates.get(name)
        packages = () if candidate is None else packages_of(candidate.runtime)
        place = (None, (), None, ()) if candidate is None else (
            candidate.sampling, names_of(candidate), candidate.inpaint, packages)
        if place not in self._grids:
            grid = run_grid(self._suite, candidate)
            block = self._setting if candidate is None else sampling_block(self._setting, self._suite, candidate)
            self._grids[place] = CellsOfGrid(grid, block, self._environment, lambda prompt, chunked: parts_in_key(
                candidate, prompt, chunked, self._contents), packages)
        return self._grids[place]
