"""Stages that several candidates have in common: how each ended, kept in main memory so that it is sampled once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from harness.records import Cell
from harness.sampling.arriving import Images

if TYPE_CHECKING:
    import torch

MOST_LATENT_BYTES: Final = 512 << 20
"""Of the latents that are kept: those of 2,000 images of 1024 x 1024 by Stable Diffusion XL."""
MOST_PICTURE_BYTES: Final = 512 << 20
"""Of the pictures that are kept. One that has no room is decoded again."""

Spot: TypeAlias = "tuple[int, int, Cell]"
"""The size of a batch, a place in it, and the cell there: with the same weights, these decide every bit."""


class Pool:
    """Arrays in bounded memory, by the key of a stage and the spot. When it is full, other stages make room, those asked for
    longest ago first; a stage never makes room for itself, because all candidates go through it in the same order."""

    def __init__(self, most_bytes: int) -> None:
        self.bytes, self._most = 0, most_bytes
        self._stages: dict[str, dict[Spot, Any]] = {}

    def get(self, stage: str, spot: Spot) -> Any:
        """The array, or None."""
        if stage not in self._stages:
            return None
        self._stages[stage] = self._stages.pop(stage)  # the last one asked for
        return self._stages[stage].get(spot)

    def put(self, stage: str, spot: Spot, array: Any) -> None:
        """Keeps the array if there is room."""
        own = self._stages[stage] = self._stages.pop(stage, {})
        while self.bytes + array.nbytes > self._most and len(self._stages) > 1:
            self.bytes -= sum(other.nbytes for other in self._stages.pop(next(iter(self._stages))).values())
        if spot not in own and self.bytes + array.nbytes <= self._most:
            own[spot] = array
            self.bytes += array.nbytes

    def clear(self) -> None:
        """Frees everything."""
        self._stages.clear()
        self.bytes = 0


@dataclass(frozen=True, kw_only=True)
class StageStore:
    """The latents and pictures of stages that several candidates have in common."""

    latents: Pool = field(default_factory=lambda: Pool(MOST_LATENT_BYTES))
    pictures: Pool = field(default_factory=lambda: Pool(MOST_PICTURE_BYTES))

    def clear(self) -> None:
        """Frees everything."""
        self.latents.clear()
        self.pictures.clear()


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a stage ended for a batch: its latents (n, c, h, w) on the host, and its pictures (n, height, width, 3) if they are
    kept."""

    latents: torch.Tensor
    pictures: Images | None


@dataclass(frozen=True, kw_only=True)
class Common:
    """One candidate's view of the stages in common. `key` takes the number of a stage, from 0, and the id of a prompt; equal keys
    mean equal images after the stage. It is empty for a stage that no other candidate has."""

    store: StageStore
    key: Callable[[int, str], str]

    def ended(self, cells: Sequence[Cell], stages: int) -> tuple[Ended, ...]:
        """How the first of `stages` stages ended for a batch, as many in a row as are kept for all of its cells."""
        import torch

        known: list[Ended] = []
        for number in range(stages):
            latents = self._all(self.store.latents, number, cells)
            if latents is None:
                break
            pictures = self._all(self.store.pictures, number, cells)
            known.append(Ended(latents=torch.stack(latents), pictures=None if pictures is None else np.stack(pictures)))
        return tuple(known)

    def _all(self, pool: Pool, number: int, cells: Sequence[Cell]) -> list[Any] | None:
        arrays = []
        for place, cell in enumerate(cells):
            key = self.key(number, cell.prompt)
            array = pool.get(key, (len(cells), place, cell)) if key else None
            if array is None:
                return None
            arrays.append(array)
        return arrays

    def keep(self, number: int, cells: Sequence[Cell], latents: torch.Tensor, pictures: Images | None,
             broken: Collection[int] = ()) -> None:
        """Keeps how a stage ended for a batch. `broken` are the places of unusable pictures, which every candidate must meet for
        itself: neither they nor latents that are not finite are kept."""
        import torch

        keys = [self.key(number, cell.prompt) for cell in cells]
        spots = [(len(cells), place, cell) for place, cell in enumerate(cells)]
        new = [place for place, spot in enumerate(spots) if keys[place] and (
            self.store.latents.get(keys[place], spot) is None or self.store.pictures.get(keys[place], spot) is None)]
        if not new:
            return
        on_host = latents.cpu()
        finite = torch.isfinite(on_host).flatten(1).all(1).tolist()
        for place in new:
            if finite[place]:
                self.store.latents.put(keys[place], spots[place], on_host[place].clone())
            if finite[place] and pictures is not None and place not in broken:
                self.store.pictures.put(keys[place], spots[place], pictures[place].copy())
