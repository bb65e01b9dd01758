"""PSNR per image against hand-made errors."""

import math

import numpy as np
import pytest

from harness.metrics import METRICS, ImageSet


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
