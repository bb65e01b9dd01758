"""Palettes of pictures too large for clustering pixel by pixel: colours counted in bins, clusters found again."""

import numpy as np
import pytest

from harness.metrics import METRICS, ImageSet
from harness.metrics.colour_counts import count_colours
from harness.metrics.colour_names import _median
from harness.metrics.lab import ciede2000, lab_from_means, lab_from_srgb
from harness.metrics.palette import CLUSTERS, SMALL_SIDE, palette, palette_drift
from tests.metrics.scenes import altered, scene, stripes

SIDE = 128


def halves(left, right, share=0.5):
    picture = np.full((SIDE, SIDE, 3), right, dtype=np.uint8)
    picture[:, : round(SIDE * share)] = left
    return picture


def test_every_pixel_is_counted_in_one_bin():
    colours = count_colours(scene(0, SIDE))
    assert colours.counts.sum() == SIDE * SIDE
    assert np.array_equal(np.unique(colours.bins), colours.used)


def test_a_bin_keeps_the_mean_of_its_own_pixels():
    colours = count_colours(halves((8, 16, 24), (9, 17, 31), share=0.25))
    expected = lab_from_means(np.array([8.75, 16.75, 29.25]))
    assert len(colours.used) == 1
    assert colours.lab[0] == pytest.approx(expected, abs=1e-9)


def test_whole_codes_have_the_same_lab_by_either_way():
    codes = np.random.default_rng(0).integers(0, 256, (200, 3), dtype=np.uint8)
    assert np.array_equal(lab_from_means(codes.astype(np.float64)), lab_from_srgb(codes))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 31), (127, 128, 129)])
def test_one_colour_is_one_cluster_of_just_that_colour(colour):
    flat = palette(halves(colour, colour))
    assert flat.shares.tolist() == [1.0]
    assert np.array_equal(flat.centres[0], lab_from_srgb(np.array(colour, dtype=np.uint8)))
    assert not flat.members.any()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_two_colours_keep_their_shares_and_their_places(share):
    two = palette(halves((200, 40, 40), (40, 60, 200), share))
    assert sorted(two.shares.tolist()) == sorted((share, 1 - share))
    red = int(np.argmax(two.centres[:, 1] > 50))
    assert np.array_equal(two.members == red, np.arange(SIDE)[None].repeat(SIDE, 0) < share * SIDE)


def test_fine_stripes_stay_two_colours():
    shares = palette(stripes(1, SIDE)).shares.tolist()
    assert shares == [0.5, 0.5]


def test_as_many_colours_as_clusters_are_all_kept():
    columns = np.array([(240, 20, 20), (20, 240, 20), (20, 20, 240), (240, 240, 20), (20, 20, 20)], dtype=np.uint8)
    picture = columns[np.arange(SIDE) % CLUSTERS][None].repeat(SIDE, 0)
    found = palette(picture)
    assert len(found.centres) == CLUSTERS
    distances = ciede2000(found.centres[:, None], lab_from_srgb(columns)[None])
    assert distances.min(axis=1).max() < 1e-9


def test_drift_of_a_moved_share_is_the_colour_difference_of_that_share():
    black, white = (0, 0, 0), (255, 255, 255)
    whole = float(ciede2000(*lab_from_srgb(np.array([black, white], dtype=np.uint8))))
    assert palette_drift(palette(halves(black, white, 0.75)), palette(halves(black, white))) == pytest.approx(whole / 4, abs=0.01)


@pytest.mark.parametrize("seed", [0, 2, 3, 4])
def test_one_pixel_hardly_moves_a_palette(seed):
    """Not so on scene 1, whose two best clusterings are as good as each other: there a pixel decides, by 2 dE00."""
    picture = scene(seed, SIDE)
    changed = picture.copy()
    changed[SIDE // 2, SIDE // 2] = 255 - changed[SIDE // 2, SIDE // 2]
    assert palette_drift(palette(picture), palette(changed)) < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_where_the_pixels_lie_does_not_move_a_palette(seed):
    picture = scene(seed, SIDE)
    shuffled = np.random.default_rng(0).permutation(picture.reshape(-1, 3)).reshape(picture.shape)
    assert palette_drift(palette(picture), palette(shuffled)) == pytest.approx(0.0, abs=1e-9)


def test_the_same_picture_has_the_same_palette_again_and_among_others():
    images = np.stack([scene(seed, SIDE) for seed in range(3)])
    references = np.stack([altered(image, 9) for image in images])
    measure = METRICS["palette"].measure
    together = measure(ImageSet(images=images, references=references, texts=("",) * 3))
    for n in range(3):
        assert measure(ImageSet(images=images[n:n + 1], references=references[n:n + 1], texts=("",)))[0] == together[n]


@pytest.mark.parametrize(("height", "width"), [(97, 1), (1, 97), (200, 30)])
def test_narrow_pictures_have_palettes(height, width):
    assert max(height, width) > SMALL_SIDE
    assert palette(scene(0, 200)[:height, :width]).members.shape == (height, width)


def test_the_median_of_counted_values_is_that_of_the_values_themselves():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values, counts = rng.normal(size=5), rng.integers(0, 4, 5) + np.eye(5, dtype=np.int64)[0]
        assert _median(values, counts) == np.median(np.repeat(values, counts))
