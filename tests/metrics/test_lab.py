"""CIE Lab and CIEDE2000 against published values."""

import numpy as np
import pytest

from harness.metrics.lab import chroma, ciede2000, lab_from_srgb

# Pairs and differences of Sharma, Wu and Dalal (2005), table 1: hue wrap-around, near neutrals, the blue rotation.
SHARMA = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 3.1571, -77.2803), (50.0, 0.0, -82.7485), 2.8615),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("rgb", "lab"), [
    ((255, 255, 255), (100.0, 0.0, 0.0)),
    ((0, 0, 0), (0.0, 0.0, 0.0)),
    ((255, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 255, 0), (87.73, -86.18, 83.18)),
    ((0, 0, 255), (32.30, 79.19, -107.86)),
    ((119, 119, 119), (50.03, 0.0, 0.0)),
])
def test_srgb_becomes_the_known_lab(rgb, lab):
    assert lab_from_srgb(np.array(rgb, dtype=np.uint8)) == pytest.approx(lab, abs=0.02)


@pytest.mark.parametrize(("first", "second", "expected"), SHARMA)
def test_ciede2000_agrees_with_the_published_pairs(first, second, expected):
    forward = ciede2000(np.array(first), np.array(second))
    assert forward == pytest.approx(expected, abs=1e-4)
    assert ciede2000(np.array(second), np.array(first)) == pytest.approx(forward, abs=1e-9)


def test_ciede2000_broadcasts_to_a_matrix():
    colours = np.array([row[0] for row in SHARMA])
    matrix = ciede2000(colours[:, None], colours[None])
    assert matrix.shape == (len(SHARMA), len(SHARMA))
    assert np.diag(matrix) == pytest.approx(0.0, abs=1e-9)


def test_grays_have_no_chroma():
    assert chroma(lab_from_srgb(np.full((1, 3), 90, dtype=np.uint8))) == pytest.approx(0.0, abs=0.02)
