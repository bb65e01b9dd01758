"""The style of an image by CLIP: drawn photos and anime of the zoo are told apart, and what cannot be told is said."""

import numpy as np
import pytest

from harness.metrics.clip import load_scorer
from harness.metrics.contract import ImageSet
from harness.metrics.styles import measure_styles, probabilities
from harness.zoo.draw import random_scene, render

STYLES = {"photo": "a photo of a red ball on a white background", "anime": "an anime drawing of a red ball on a white background"}


def test_equal_scores_share_the_probability():
    assert probabilities(np.array([[70.0, 70.0, 70.0]])) == pytest.approx(np.full((1, 3), 1 / 3))


def test_a_point_of_score_is_a_factor_of_e():
    (pair,) = probabilities(np.array([[71.0, 70.0]]))
    assert pair[0] / pair[1] == pytest.approx(np.e)


def test_without_styles_the_value_is_missing_with_the_reason():
    images = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    score = measure_styles(ImageSet(images=images, texts=("x",), clip=load_scorer()))[0]
    assert score.missing == {"style_certainty": "the suite declares no styles"}


def test_the_leanings_of_an_image_add_up_to_one_and_name_the_likeliest():
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for score in measure_styles(ImageSet(images=images, texts=("x", "x"), clip=load_scorer(), styles=STYLES)):
        leanings = score.details["leanings"]
        assert sum(leanings.values()) == pytest.approx(1.0, abs=1e-3)
        assert score.labels["style"] == max(leanings, key=leanings.get)
        assert score.values["style_certainty"] == pytest.approx(max(leanings.values()), abs=1e-3)


@pytest.mark.parametrize("style", ["photo", "anime"])
def test_drawn_pictures_are_taken_for_what_they_are(style):
    rng = np.random.default_rng(3)
    images = np.stack([render(random_scene(rng, (style,))) for _ in range(12)])
    looks = {"photo": "a photo", "anime": "an anime drawing", "sketch": "a pencil sketch"}
    found = measure_styles(ImageSet(images=images, texts=("",) * 12, clip=load_scorer(), styles=looks))
    assert sum(score.labels["style"] == style for score in found) >= 10
