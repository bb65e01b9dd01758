"""The edges of drawn shapes, and how far they follow a map, against what is counted by hand."""

import numpy as np
import pytest

from harness.control.edge_map import drawn_edges, edge_f1, edges_of, lines_of, reach
from harness.metrics import METRICS, ImageSet


def square(top=16, left=16, side=24, size=64, level=200):
    picture = np.full((size, size, 3), 40, dtype=np.uint8)
    picture[top:top + side, left:left + side] = level
    return picture


def control_f1(image, wanted, other=None):
    return METRICS["control_edges"].measure(ImageSet(
        images=image[None], texts=("",), control_maps=(wanted,), other_maps=() if other is None else (other,)))[0]


def test_a_straight_border_is_one_line_of_pixels():
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    picture[:, 16:] = 255
    edges = edges_of(picture)
    assert edges[4:-4].sum(axis=1).tolist() == [1] * 24
    assert set(np.flatnonzero(edges[16])) <= {15, 16}


def test_a_flat_picture_has_no_edge():
    assert not edges_of(np.full((16, 16, 3), 77, dtype=np.uint8)).any()


def test_a_slope_below_the_thresholds_is_shading():
    slope = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None] * 3, 64, axis=0).repeat(3, axis=2)
    assert not edges_of(slope).any()


def test_a_faint_line_counts_only_where_it_joins_a_strong_one():
    picture = np.zeros((40, 64, 3), dtype=np.uint8)
    picture[20:] = np.linspace(200, 45, 64)[:, None]  # fades to the right, where it is faint alone
    assert edges_of(picture)[18:22, 60].any()
    picture[:, :40] = 0
    picture[20:, 40:] = 45
    assert not edges_of(picture)[18:22, 60].any()


def test_the_outline_of_a_square_has_the_length_of_its_sides():
    assert edges_of(square()).sum() == pytest.approx(4 * 24, abs=8)


@pytest.mark.parametrize(("shift", "value"), [(0, 1.0), (1, 1.0)])
def test_edges_within_reach_follow(shift, value):
    assert edge_f1(edges_of(square()), edges_of(square(16 + shift, 16 + shift))) == pytest.approx(value, abs=0.02)


def test_edges_three_pixels_off_do_not_follow():
    assert edge_f1(edges_of(square()), edges_of(square(19, 19))) < 0.2


def test_f1_is_that_of_precision_and_recall():
    drawn, wanted = np.zeros((2, 20, 20), dtype=bool)
    drawn[5, 0:10] = True      # half of what is drawn is wanted
    wanted[5, 0:4] = True      # with one pixel of reach: 5 of 10 drawn are near, all 4 wanted are found
    assert edge_f1(drawn, wanted) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_nothing_in_both_has_no_f1_and_nothing_in_one_has_none():
    empty, line = np.zeros((8, 8), dtype=bool), np.eye(8, dtype=bool)
    assert edge_f1(empty, empty) is None
    assert edge_f1(empty, line) == edge_f1(line, empty) == 0.0


def test_the_reach_grows_with_the_picture():
    assert [reach(size, 2 * size) for size in (64, 256, 512, 1024)] == [1, 1, 2, 4]


def test_a_drawn_map_is_black_and_white_and_has_the_edges():
    drawn = drawn_edges(square())
    assert set(np.unique(drawn)) == {0, 255}
    assert (lines_of(drawn) == edges_of(square())).all()


def test_an_image_follows_its_map_and_not_the_next_prompts():
    score = control_f1(square(), drawn_edges(square()), drawn_edges(square(3, 36, 18)))
    assert score.values["control_f1"] == 1.0
    assert score.values["control_f1_chance"] < 0.3
    assert score.values["edge_density"] == edges_of(square()).mean()


def test_without_a_map_the_density_alone_is_measured():
    score = control_f1(square(), None)
    assert {"control_f1", "control_f1_chance"} == score.missing.keys()
    assert score.values.keys() == {"edge_density"}


def test_a_map_of_another_size_is_missing_with_the_sizes():
    score = control_f1(square(), drawn_edges(square(size=48)))
    assert "48 x 48" in score.missing["control_f1"]
    assert "64 x 64" in score.missing["control_f1"]


def test_edges_are_compared_with_the_baselines():
    pair = ImageSet(images=square()[None], texts=("",), references=square(17, 17)[None])
    assert METRICS["edges"].measure(pair)[0].values["edge_f1"] == pytest.approx(1.0, abs=0.02)


def test_two_pictures_without_edges_have_no_f1():
    flat = np.full((1, 16, 16, 3), 9, dtype=np.uint8)
    score = METRICS["edges"].measure(ImageSet(images=flat, texts=("",), references=flat))[0]
    assert not score.values
    assert "edge" in score.missing["edge_f1"]
