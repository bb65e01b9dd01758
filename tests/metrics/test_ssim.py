"""Structural similarity against the formula written out, and the pictures that have none."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from harness.metrics import METRICS, ImageSet


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    return METRICS["ssim"].measure(ImageSet(images=image[None], references=reference[None], texts=("a",)))[0].values["ssim"]


def formula(image: np.ndarray, reference: np.ndarray) -> float:
    """Wang et al. 2004, windows of 11 x 11, places where a window fits alone."""
    made = []
    for x, y in ((image[..., c].astype(float), reference[..., c].astype(float)) for c in range(3)):
        def mean(a: np.ndarray) -> np.ndarray:
            return gaussian_filter(a, 1.5, radius=5)[5:-5, 5:-5]

        mx, my = mean(x), mean(y)
        vx, vy, both = mean(x * x) - mx ** 2, mean(y * y) - my ** 2, mean(x * y) - mx * my
        one, two = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        made.append(((2 * mx * my + one) * (2 * both + two) / ((mx ** 2 + my ** 2 + one) * (vx + vy + two))).mean())
    return float(np.mean(made))


@pytest.fixture
def picture() -> np.ndarray:
    drawn = np.random.default_rng(3)
    smooth = gaussian_filter(drawn.uniform(0, 255, (48, 40, 3)), (3, 3, 0))
    return np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def test_an_image_is_like_itself(picture: np.ndarray) -> None:
    assert ssim(picture, picture) == 1


def test_it_is_the_formula_of_its_paper(picture: np.ndarray) -> None:
    noisy = np.clip(picture + np.random.default_rng(1).normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
    assert ssim(noisy, picture) == pytest.approx(formula(noisy, picture), abs=0.02)
    assert ssim(noisy, picture) < 0.9


@pytest.mark.parametrize("size", [(11, 11), (11, 30), (48, 40)])
@pytest.mark.parametrize("levels", [1, 20, 255])
def test_it_is_what_torchmetrics_computes(size: tuple[int, int], levels: int) -> None:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    drawn = np.random.default_rng(levels)
    one = drawn.integers(0, 256, (*size, 3), dtype=np.uint8)
    two = np.clip(one + drawn.normal(0, levels, one.shape), 0, 255).astype(np.uint8)
    tensors = (torch.from_numpy(a.copy()).permute(2, 0, 1)[None].double() for a in (one, two))
    theirs = float(structural_similarity_index_measure(*tensors, data_range=255.0))
    assert ssim(one, two) == pytest.approx(theirs, abs=1e-9)


def test_a_picture_smaller_than_a_window_has_none_and_says_so() -> None:
    tiny = np.zeros((1, 8, 8, 3), np.uint8)
    score = METRICS["ssim"].measure(ImageSet(images=tiny, references=tiny, texts=("a",)))[0]
    assert score.values == {}
    assert "below 11 pixels" in score.missing["ssim"]
