"""Properties every row of METRICS keeps, so that a new row is tested without writing a test."""

import math

import numpy as np
import pytest

from harness.metrics import METRICS, ImageScore, ImageSet
from harness.testing import check_metric
from tests.metrics.scenes import scene

IDEAL = {"psnr": {"exact_match": 1.0}, "palette": {"palette_drift": 0.0}}


@pytest.fixture(params=sorted(METRICS))
def name(request):
    return request.param


def pictures(count=5, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def large(seed=0):
    return np.stack([scene(seed + n, 128) for n in range(3)])


def image_set(tiny_clip, images, references=None):
    texts = tuple(f"a red ball {n % 3}" for n in range(len(images)))
    return ImageSet(images=images, texts=texts, references=references, clip=tiny_clip)


def test_the_row_keeps_the_contract_that_users_can_check(name, tiny_clip):
    check_metric(METRICS[name], clip=tiny_clip, tolerance=1e-4 if METRICS[name].needs_clip else 1e-12)


def test_no_value_is_nan_or_infinite(name, tiny_clip):
    flat = np.stack([np.full((16, 16, 3), level, dtype=np.uint8) for level in (0, 128, 255)])
    for score in METRICS[name].measure(image_set(tiny_clip, flat, flat[::-1].copy())):
        assert all(math.isfinite(value) for value in score.values.values())


def test_the_same_images_get_the_same_scores_again(name, tiny_clip):
    for images, references in ((pictures(), pictures(seed=1)), (large(), large(seed=3))):
        first, again = (METRICS[name].measure(image_set(tiny_clip, images, references)) for _ in range(2))
        assert first == again


def test_a_large_image_scores_the_same_alone_as_among_others(name, tiny_clip):
    images, references = large(), large(seed=3)
    whole = METRICS[name].measure(image_set(tiny_clip, images, references))
    alone = METRICS[name].measure(ImageSet(images=images[2:], references=references[2:], texts=("a red ball 2",), clip=tiny_clip))
    assert alone[0].values == pytest.approx(whole[2].values, rel=1e-12 if name != "clip_score" else 1e-4)
    assert alone[0].labels == whole[2].labels


def test_one_changed_pixel_of_ten_thousand_moves_a_value_by_little(name, tiny_clip):
    images, references = large(), large(seed=3)
    changed = images.copy()
    changed[:, 60, 70] = 255 - changed[:, 60, 70]
    before, after = (METRICS[name].measure(image_set(tiny_clip, i, references)) for i in (images, changed))
    for one, other in zip(before, after, strict=True):
        assert one.values == pytest.approx(other.values, abs=0.2)


def test_identical_images_get_the_ideal_reference_values(name, tiny_clip):
    for score in METRICS[name].measure(image_set(tiny_clip, pictures(), pictures())):
        assert {key: score.values[key] for key in IDEAL.get(name, {})} == IDEAL.get(name, {})


def test_only_a_paired_metric_takes_notice_of_references(name, tiny_clip):
    with_them, without = (METRICS[name].measure(image_set(tiny_clip, large(), r)) for r in (large(seed=3), None))
    assert (with_them != without) == METRICS[name].paired


def test_the_row_says_what_its_values_are(name):
    row = METRICS[name]
    assert row.version >= 1
    assert all(spec.unit and spec.definition and "\n" not in spec.definition for spec in row.values)
    assert all(spec.better in ("higher", "lower", "nearer") for spec in row.values)


def test_value_names_are_unique_over_the_table():
    names = [spec.name for row in METRICS.values() for spec in row.values]
    assert len(names) == len(set(names))


def test_float_images_are_refused_instead_of_rescaled_twice():
    with pytest.raises(ValueError, match="expected uint8"):
        ImageSet(images=np.zeros((1, 8, 8, 3), dtype=np.float32), texts=("a",))  # type: ignore[arg-type]


def test_a_prompt_per_image_and_a_reference_per_image_are_required():
    with pytest.raises(ValueError, match="one prompt per image"):
        ImageSet(images=pictures(2), texts=("a",))
    with pytest.raises(ValueError, match="must have the shape"):
        ImageSet(images=pictures(2), texts=("a", "b"), references=pictures(1))


def test_an_empty_score_is_just_empty():
    assert (ImageScore().values, ImageScore().missing) == ({}, {})
