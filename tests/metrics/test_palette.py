"""Palette drift on flat pictures, and the subject's colour on drawn shapes."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from harness.metrics import METRICS, ImageSet
from harness.metrics import palette as palette_module
from harness.metrics.colour_names import NAMED, nearest_name
from harness.metrics.lab import ciede2000, lab_from_srgb
from harness.metrics.palette import farthest_first, palette, palette_drift, share_units

COLOURS = {"red": (222, 38, 46), "orange": (246, 134, 32), "yellow": (250, 216, 44), "green": (42, 166, 76),
           "blue": (42, 92, 226), "purple": (128, 50, 174), "pink": (250, 142, 192), "black": (38, 36, 42)}
BACKGROUNDS = {"white": (246, 247, 247), "gray": (142, 142, 145), "green": (108, 190, 122), "blue": (92, 132, 222)}


def drawn(colour, background, shape="ellipse", size=64, outline=(30, 30, 30)):
    picture = Image.new("RGB", (size, size), background)
    box = (size * 0.22, size * 0.25, size * 0.8, size * 0.78)
    getattr(ImageDraw.Draw(picture), shape)(box, fill=colour, outline=outline, width=max(1, size // 32))
    return np.asarray(picture)


def flat(*rgb):
    return np.full((32, 32, 3), rgb, dtype=np.uint8)


def dominant(*images):
    scores = METRICS["palette"].measure(ImageSet(images=np.stack(images), texts=("",) * len(images)))
    return [score.labels["dominant"] for score in scores]


@pytest.mark.parametrize("background", sorted(BACKGROUNDS))
@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_a_drawn_shape_is_called_by_its_colour(colour, background):
    if colour == background:
        pytest.skip("a green shape on green cannot be told from its background")
    shapes = [drawn(COLOURS[colour], BACKGROUNDS[background], shape) for shape in ("ellipse", "rectangle")]
    assert dominant(*shapes) == [colour, colour]


def test_shading_and_noise_leave_the_name_alone():
    slope = np.linspace(0.6, 1.15, 64)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 4, (64, 64, 3))
    shaded = np.clip(drawn(COLOURS["red"], BACKGROUNDS["gray"]) * slope + noise, 0, 255).astype(np.uint8)
    assert dominant(shaded) == ["red"]


def test_the_name_does_not_depend_on_the_size_of_the_picture():
    assert dominant(drawn(COLOURS["blue"], BACKGROUNDS["white"], size=512)) == ["blue"]


def test_an_outline_does_not_outweigh_the_fill():
    picture = Image.fromarray(drawn(COLOURS["yellow"], BACKGROUNDS["white"]))
    ImageDraw.Draw(picture).rectangle((20, 40, 44, 46), fill=(25, 25, 28))
    assert dominant(np.asarray(picture)) == ["yellow"]


def test_a_picture_of_background_only_has_no_dominant_colour():
    assert dominant(flat(222, 38, 46)) == ["none"]


def test_skin_is_a_distractor():
    assert dominant(drawn((235, 195, 165), (60, 100, 200), outline=None)) == ["none"]


def test_every_named_colour_is_nearest_to_itself():
    for name, rgb in NAMED.items():
        assert nearest_name(lab_from_srgb(np.array(rgb, dtype=np.uint8)) * (0.45, 1, 1)) == name


def test_drift_between_flat_pictures_is_their_colour_difference():
    red, blue = flat(200, 30, 30), flat(30, 30, 200)
    expected = float(ciede2000(lab_from_srgb(red[0, 0]), lab_from_srgb(blue[0, 0])))
    assert palette_drift(palette(red), palette(blue)) == pytest.approx(expected, abs=1e-9)


def test_drift_counts_the_moved_share_only():
    half = flat(0, 0, 0)
    half[:, 16:] = 255
    whole = float(ciede2000(np.array([0.0, 0, 0]), np.array([100.0, 0, 0])))
    assert palette_drift(palette(half), palette(flat(0, 0, 0))) == pytest.approx(whole / 2, abs=0.01)


def test_drift_does_not_care_where_the_colours_are():
    picture = drawn(COLOURS["green"], BACKGROUNDS["white"])
    assert palette_drift(palette(picture), palette(picture[::-1].copy())) == pytest.approx(0.0, abs=0.5)


def test_a_baselines_picture_is_clustered_once_for_all_that_are_compared_with_it(monkeypatch):
    clustered = []
    monkeypatch.setattr(palette_module, "palette", lambda image: clustered.append(image) or palette(image))
    reference = drawn((12, 34, 56), BACKGROUNDS["white"], "rectangle")
    own = [drawn(COLOURS[name], BACKGROUNDS["white"]) for name in ("red", "green")]
    drifts = [METRICS["palette"].measure(ImageSet(images=image[None], texts=("",), references=reference[None]))[0]
              .values["palette_drift"] for image in own]
    assert [sum(np.array_equal(image, one) for image in clustered) for one in (reference, *own)] == [1, 1, 1]
    assert drifts == [palette_drift(palette(image), palette(reference)) for image in own]


def test_clusters_are_reported_by_falling_share():
    image = drawn(COLOURS["red"], BACKGROUNDS["white"])
    score = METRICS["palette"].measure(ImageSet(images=image[None], texts=("",)))[0]
    shares = [row[3] for row in score.details["clusters"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0, abs=1e-3)


def test_farthest_first_stops_at_the_number_of_distinct_colours():
    points = np.array([[0.0, 0, 0], [0, 0, 0], [9, 0, 0]])
    assert len(farthest_first(points, 5)) == 2


def test_share_units_always_sum_to_a_hundred():
    for seed in range(20):
        shares = np.random.default_rng(seed).dirichlet(np.ones(5))
        units = share_units(shares)
        assert units.sum() == 100
        assert np.abs(units / 100 - shares).max() < 0.01
