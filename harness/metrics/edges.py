"""Do the edges of an image follow a control map, and are they where the baseline's are?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.control.edge_map import edge_f1, edges_of, lines_of
from harness.metrics.contract import ImageScore, ImageSet

NO_MAP: Final = "the prompt has no control map"
NO_OTHER_MAP: Final = "no other prompt has a control map of this size"
NO_LINES: Final = "neither the image nor the control map has an edge"
NO_EDGES_IN_BOTH: Final = "neither the image nor the baseline's has an edge"


def measure_control_edges(image_set: ImageSet) -> list[ImageScore]:
    """`control_f1` and `control_f1_chance` (0 to 1): the F1 of the image's edges with the lines of its prompt's control map, and
    with those of the next prompt's; `edge_density`, the share of its pixels that are edges."""
    scores = []
    for place, image in enumerate(image_set.images):
        edges = edges_of(image)
        values, missing = {"edge_density": float(edges.mean())}, dict[str, str]()
        for name, maps, none in (("control_f1", image_set.control_maps, NO_MAP),
                                 ("control_f1_chance", image_set.other_maps, NO_OTHER_MAP)):
            f1 = _f1(edges, maps, place)
            if isinstance(f1, float):
                values[name] = f1
            else:
                missing[name] = none if f1 is None else f1
        scores.append(ImageScore(values=values, missing=missing))
    return scores


def measure_edges(image_set: ImageSet) -> list[ImageScore]:
    """`edge_f1` (0 to 1): the F1 of the image's edges with those of the baseline's image."""
    if image_set.references is None:
        return [ImageScore(missing=image_set.no_reference("edge_f1")) for _ in image_set.images]
    values = [edge_f1(edges_of(image), edges_of(reference))
              for image, reference in zip(image_set.images, image_set.references, strict=True)]
    return [ImageScore(missing={"edge_f1": NO_EDGES_IN_BOTH}) if value is None else ImageScore(values={"edge_f1": value})
            for value in values]


def _f1(edges: NDArray[np.bool_], maps: Sequence[NDArray[np.uint8] | None], place: int) -> float | str | None:
    """The F1 with the map at a place; None without a map, and the reason where there is no F1."""
    control_map = maps[place] if maps else None
    if control_map is None:
        return None
    if control_map.shape[:2] != edges.shape:
        return (f"the control map is {control_map.shape[1]} x {control_map.shape[0]} pixels and the image "
                f"{edges.shape[1]} x {edges.shape[0]}")
    value = edge_f1(edges, lines_of(control_map))
    return NO_LINES if value is None else value
