"""PSNR per image against hand-made errors."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.image import PeakSignalNoiseRatio

from harness.metrics import METRICS, ImageSet
from harness.metrics.psnr import decibel, squared_error


def psnr(images, references, why=""):
    return METRICS["psnr"].measure(ImageSet(images=images, texts=("",) * len(images), references=references,
                                            why_no_reference=why))


def gray(*levels):
    return np.stack([np.full((8, 8, 3), level, dtype=np.uint8) for level in levels])


def test_psnr_is_the_formula_of_the_textbook():
    assert psnr(gray(110), gray(100))[0].values["psnr_db"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-5)


def test_psnr_is_taken_per_image_and_never_pooled():
    low, high = (score.values["psnr_db"] for score in psnr(gray(110, 101), gray(100, 100)))
    assert low == pytest.approx(28.13, abs=0.01)
    assert high == pytest.approx(48.13, abs=0.01)


def test_an_exact_match_is_counted_and_has_no_decibels():
    exact, near = psnr(gray(100, 101), gray(100, 100))
    assert exact.values == {"exact_match": 1.0}
    assert exact.labels == {"psnr": "exact"}
    assert near.values["exact_match"] == 0.0
    assert near.values["psnr_db"] < 49


def test_a_missing_reference_is_a_reason_and_not_a_number():
    score = psnr(gray(1), None, why="no baseline image of seed 3")[0]
    assert score.values == {}
    assert score.missing["psnr_db"] == "no baseline image of seed 3"


def test_differences_below_zero_do_not_wrap_around():
    assert psnr(gray(0), gray(255))[0].values["psnr_db"] == pytest.approx(0.0, abs=1e-5)


def test_one_changed_value_gives_the_textbooks_decibels():
    image = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    changed = image.copy()
    changed[7, 300, 2] += 1
    assert psnr(changed[None], image[None])[0].values["psnr_db"] == pytest.approx(10 * math.log10(255**2 * image.size), abs=1e-5)


def test_squared_errors_are_exact_at_the_largest_difference():
    black, white = (np.full((700, 900, 3), level, dtype=np.uint8) for level in (0, 255))
    assert squared_error(black, white) == squared_error(white, black) == 65025 * black.size


def test_psnr_is_symmetric_and_torchmetrics_own_to_a_ten_millionth():
    rng = np.random.default_rng(0)
    for spread in (1, 3, 20, 200):
        image = rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)
        other = np.clip(image + rng.integers(-spread, spread + 1, image.shape), 0, 255).astype(np.uint8)
        metric = PeakSignalNoiseRatio(data_range=255.0, dim=(1, 2, 3), reduction="none")
        metric.update(torch.from_numpy(image[None]).double(), torch.from_numpy(other[None]).double())
        assert decibel(image, other) == decibel(other, image)
        assert decibel(image, other) == pytest.approx(metric.compute().item(), abs=1e-7)
