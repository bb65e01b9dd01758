"""Words: numbers carry their unit, missing is never zero, and text cannot act."""

from __future__ import annotations

import pytest

from reports import formatting as words
from tests.rows import row


@pytest.mark.parametrize(("value", "name", "said"), [
    (None, "clip_score", "not measured"), (float("nan"), "", "not measured"), (0.0, "clip_score", "0.00"),
    (0.123, "clipped_share", "12.3 %"), (-1.5, "", "−1.50"), (-0.001, "", "0.00"), (0.1844, "seconds_per_image", "184 ms"),
    (2.5, "seconds_per_image", "2.50 s"), (0.99999, "seconds_per_image", "1.00 s"),
    (0.0918, "seconds_per_image", "91.8 ms"), (0.00241, "seconds_per_image", "2.41 ms"),
    (2**31, "peak_bytes", "2.00 GiB"), (48.0, "psnr_db", "48.00 dB")])
def test_a_number_is_said_in_its_unit(value: float | None, name: str, said: str) -> None:
    assert words.number(value, row(name) if name else None) == said


@pytest.mark.parametrize(("text", "said"), [
    ("\x1b[31mred", "\\x1b[31mred"), ("a\u202eb", "a\\x202eb"), ("two\nlines", "two lines"), ("a\u2028b", "a\\x2028b"),
    ("👩‍🎨", "👩‍🎨"), ("שלום", "שלום")])
def test_control_characters_become_visible_and_letters_stay(text: str, said: str) -> None:
    assert words.visible(text) == said


@pytest.mark.parametrize(("lab", "rgb"), [((0, 0, 0), "#000000"), ((100, 0, 0), "#ffffff"), ((53.24, 80.09, 67.2), "#ff0000"),
                                          ((32.3, 79.19, -107.86), "#0000ff")])
def test_lab_becomes_the_known_srgb_colour(lab: tuple[float, float, float], rgb: str) -> None:
    made = words.lab_to_hex(lab)
    assert all(abs(int(made[i:i + 2], 16) - int(rgb[i:i + 2], 16)) <= 1 for i in (1, 3, 5))


def test_a_long_list_is_cut_and_counted() -> None:
    assert words.listed(list("abcdefgh"), 3) == "a, b and 6 more"
    assert words.listed(["a"]) == "a"
