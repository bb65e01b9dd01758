"""Savers of the VAE: pictures decoded one by one, or in tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.declare import Grid
from harness.savers.contract import Decoding, SaverReport
from harness.weights.placing import TILE_PIXELS, tile

if TYPE_CHECKING:
    import torch


def decoding_of(grid: Grid, device: str) -> Decoding:
    """The pictures that a grid decodes on a device."""
    together = 1 if device != "cpu" else 0 if isinstance(grid.batch_size, str) else grid.batch_size
    return Decoding(device=device, width=grid.width, height=grid.height, together=together, low_memory=grid.low_memory)


def slice_batches(module: torch.nn.Module) -> SaverReport:
    """Pictures of a batch are decoded and encoded one after the other."""
    vae: Any = module
    vae.enable_slicing()
    return SaverReport(changed=("decoder", "encoder"), notes=("the VAE takes the pictures of a batch one by one",))


def nothing_to_slice(decoding: Decoding) -> str:
    """Why slices of a batch would change nothing."""
    if decoding.together != 1:
        return ""
    why = "pictures are decoded one by one on a GPU anyway" if decoding.device != "cpu" else "batches have one picture"
    return f"{why}, so that there is nothing to slice"


def tile_pictures(module: torch.nn.Module) -> SaverReport:
    """Pictures above the size of a tile are decoded and encoded in tiles, as by Grid(low_memory=("tiled_decoding",))."""
    tile(module)
    return SaverReport(changed=("decoder", "encoder"), notes=(
        f"the VAE takes pictures in tiles of {TILE_PIXELS} x {TILE_PIXELS} pixels, whose group norms see one tile each",))


def nothing_to_tile(decoding: Decoding) -> str:
    """Why tiles would change nothing."""
    if "tiled_decoding" in decoding.low_memory:
        return "the grid's low_memory tiles every candidate's decoding already"
    if max(decoding.width, decoding.height) <= TILE_PIXELS:
        return (f"pictures of {decoding.width} x {decoding.height} are no larger than a tile of {TILE_PIXELS} x {TILE_PIXELS}, "
                "so that there is nothing to tile")
    return ""
