"""MS-SSIM is 1 for equal images, falls with the damage, and forgives fine noise more than SSIM does."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from harness.metrics import METRICS, ImageSet

SIDE = 192


def score(metric, image, reference):
    return METRICS[metric].measure(ImageSet(images=image[None], references=reference[None], texts=("a",)))[0]


@pytest.fixture(scope="module")
def image():
    coarse = np.random.default_rng(0).uniform(0, 255, (12, 12, 3))
    return np.clip(zoom(coarse, (SIDE / 12, SIDE / 12, 1), order=1), 0, 255).astype(np.uint8)


def noisy(image, spread, seed=1):
    drawn = np.random.default_rng(seed).normal(0, spread, image.shape)
    return np.clip(image + drawn, 0, 255).round().astype(np.uint8)


def test_equal_images_have_one_and_more_damage_less(image):
    values = [score("ms_ssim", noisy(image, spread), image).values["ms_ssim"] for spread in (0, 5, 20, 60)]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0


def test_fine_noise_costs_less_than_in_ssim(image):
    ours, theirs = (score(metric, noisy(image, 20), image).values[metric] for metric in ("ms_ssim", "ssim"))
    assert ours > theirs + 0.1


def test_it_is_the_product_of_the_scales_that_the_paper_defines(image):
    other = noisy(image, 10)
    weights, constants = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333), ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
    per_channel = []
    for channel in range(3):
        x, y = (np.asarray(a[..., channel], dtype=float) for a in (image, other))
        value = 1.0
        for scale, weight in enumerate(weights):
            def mean(v):
                return gaussian_filter(v, 1.5, radius=5, mode="mirror")

            mx, my = mean(x), mean(y)
            contrast = (2 * (mean(x * y) - mx * my) + constants[1]) / (
                mean(x * x) - mx * mx + mean(y * y) - my * my + constants[1])
            luminance = (2 * mx * my + constants[0]) / (mx * mx + my * my + constants[0])
            part = contrast * luminance if scale == 4 else contrast
            value *= max(part.mean(), 0) ** weight
            x, y = (a.reshape(len(a) // 2, 2, -1, 2).mean(axis=(1, 3)) for a in (x, y))
        per_channel.append(value)
    assert score("ms_ssim", other, image).values["ms_ssim"] == pytest.approx(np.mean(per_channel), abs=0.02)


def test_images_too_small_for_five_scales_have_a_reason():
    tiny = np.zeros((64, 175, 3), dtype=np.uint8)
    assert "below 176" in score("ms_ssim", tiny, tiny).missing["ms_ssim"]
    wide = np.zeros((176, 176, 3), dtype=np.uint8)
    assert score("ms_ssim", wide, wide).values["ms_ssim"] == 1
