"""Savers of the VAE: pictures decoded one by one, or in tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.savers.contract import SaverReport, Use
from harness.weights.placing import TILE_PIXELS, tile

if TYPE_CHECKING:
    import torch


def slice_batches(module: torch.nn.Module) -> SaverReport:
    """Pictures of a batch are decoded and encoded one after the other."""
    vae: Any = module
    vae.enable_slicing()
    return SaverReport(changed=("decoder", "encoder"), notes=("the VAE takes the pictures of a batch one by one",))


def nothing_to_slice(use: Use) -> str:
    """Why slices of a batch would change nothing."""
    if use.decoded_together != 1:
        return ""
    why = "pictures are decoded one by one on a GPU anyway" if use.device != "cpu" else "batches have one picture"
    return f"{why}, so that there is nothing to slice"


def tile_pictures(module: torch.nn.Module) -> SaverReport:
    """Pictures above the size of a tile are decoded and encoded in tiles, as by Grid(low_memory=("tiled_decoding",))."""
    tile(module)
    return SaverReport(changed=("decoder", "encoder"), notes=(
        f"the VAE takes pictures in tiles of {TILE_PIXELS} x {TILE_PIXELS} pixels, whose group norms see one tile each",))


def nothing_to_tile(use: Use) -> str:
    """Why tiles would change nothing."""
    if "tiled_decoding" in use.low_memory:
        return "the grid's low_memory tiles every candidate's decoding already; remove one of them"
    if max(use.width, use.height) <= TILE_PIXELS:
        return (f"pictures of {use.width} x {use.height} are no larger than a tile of {TILE_PIXELS} x {TILE_PIXELS}, so that "
                "there is nothing to tile")
    return ""
