"""Images without an edge are told from images that do not follow their map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.control.edge_map import drawn_edges
from harness.metrics import METRICS
from harness.metrics.contract import ImageSet
from reports.read.run import Run, load_run
from reports.verdict.candidates import label
from reports.verdict.cells import caveats, score_cells
from tests.reports import synthetic


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return load_run(synthetic.write_run(tmp_path, synthetic.merge_suite()))


def sentences(run: Run, f1: float, density: float) -> list[str]:
    """The caveats on edges, where the first three images have these values and all others follow their maps."""
    images = run.images.assign(control_f1=0.8, edge_density=0.1)
    images.loc[images.index[:3], ["control_f1", "edge_density"]] = f1, density
    changed = replace(run, images=images)
    return [text for text in caveats(changed, score_cells(changed)) if "edge" in text]


def test_the_images_without_an_edge_are_counted_by_candidate(run: Run) -> None:
    (sentence,) = sentences(run, 0.0, 0.0)
    assert f"3 of {len(run.images)} images" in sentence
    assert "brightness" in sentence
    assert f"3 of {label(run, str(run.images['candidate'].iloc[0]))}" in sentence


@pytest.mark.parametrize(("f1", "density"), [(0.0, 0.2), (float("nan"), 0.0), (0.7, 0.1)])
def test_images_with_edges_and_without_maps_are_not(run: Run, f1: float, density: float) -> None:
    assert sentences(run, f1, density) == []


def test_images_without_a_common_edge_with_the_baseline_are_counted_by_candidate(run: Run) -> None:
    images = run.images.assign(edge_f1=0.4)
    images.loc[images.index[:3], "edge_f1"] = 0.0
    images.loc[images.index[3:5], "edge_f1"] = float("nan")
    changed = replace(run, images=images)
    (sentence,) = [text for text in caveats(changed, score_cells(changed)) if "edge" in text]
    assert f"edge_f1 of 3 of {len(images) - 2} images is 0" in sentence
    assert f"3 of {label(run, str(images['candidate'].iloc[0]))}" in sentence


def test_a_soft_red_subject_on_gray_has_no_edge_and_a_sharp_white_one_has() -> None:
    def values(colour: tuple[int, int, int]) -> dict[str, float]:
        from scipy.ndimage import gaussian_filter

        image = np.full((64, 64, 3), 128, dtype=np.uint8)
        image[20:44, 20:44] = colour
        soft = np.stack([gaussian_filter(image[..., one].astype(float), 1) for one in range(3)], axis=-1).astype(np.uint8)
        lines = np.zeros((64, 64, 3), dtype=np.uint8)
        lines[18:46, 18:46] = 255
        image_set = ImageSet(images=soft[None], texts=("",), control_maps=(drawn_edges(lines),), other_maps=(None,))
        return dict(METRICS["control_edges"].measure(image_set)[0].values)

    assert values((200, 50, 50)) == {"edge_density": 0.0, "control_f1": 0.0}
    assert values((255, 255, 255))["edge_density"] > 0
