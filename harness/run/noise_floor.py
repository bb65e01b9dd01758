"""The noise floor: how far a few images made one at a time differ from those made in batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.records import Cell, Intermediate, NoiseFloor, Sample
from harness.run.image_making import RAW
from harness.run.images import Gallery
from harness.sampling import SamplingError, from_png

if TYPE_CHECKING:
    from harness.sampling import Images

FLOOR_CELLS: Final = 4
"""Number of images that are sampled again at batch 1, to measure the effect of batching."""
FLOOR_MEAN_LEVELS: Final = 2.0
"""Largest mean difference, in levels from 0 to 255, of an image that is made once more. Rounding in batches stays below it;
images of different weights or texts are far above it."""


def floor_cells(gallery: Gallery, name: str, prompts: frozenset[str] | None) -> list[Cell]:
    """The cells of a candidate to be made once more, of these prompts (ids) or of all: usable ones, with guidance if there are
    any."""
    own = [s for s in gallery.present(name) if prompts is None or s.cell.prompt in prompts]
    sound = {s.cell for s in own if not gallery.ledger.defect(s.key)}
    cells = gallery.cells(name)
    eligible = [c for c in cells if c.guidance != 1 and c in sound] or [c for c in cells if c in sound]
    return eligible[::max(1, len(eligible) // FLOOR_CELLS)][:FLOOR_CELLS]


def floor_records(gallery: Gallery, name: str, identity: str, alone: Mapping[Cell, Images]) -> list[NoiseFloor]:
    """How far the pictures `alone` differ from those of batches. Differences between candidates that are smaller than this noise
    floor mean nothing. Raises SamplingError for stored images that are not the candidate's."""
    ledger, records = gallery.ledger, []
    for cell, picture in alone.items():
        stored: Sample | Intermediate = ledger.samples[name, cell]
        raw = next((one for one in ledger.made_of(stored.key) if one.name == RAW), None)
        distance = np.abs(from_png(ledger.read(stored if raw is None else raw)).astype(int) - picture)
        if distance.mean() > FLOOR_MEAN_LEVELS:
            raise SamplingError(
                f"the stored image of prompt {cell.prompt!r}, seed {cell.seed}, guidance {cell.guidance:g} is not the one "
                f"that this candidate makes: made once more it differs by {distance.max()} of 255 levels, "
                f"{distance.mean():.3g} in the mean, which is more than rounding. Run again with --fresh, and without a "
                "shared cache that others can write to")
        records.append(NoiseFloor(candidate=name, cell=cell, batch_size=gallery.suite.grid.images_per_batch,
                                  largest_levels=int(distance.max()), changed_share=float((distance > 0).mean()),
                                  setting=identity))
    return records
