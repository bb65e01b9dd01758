"""The presets are the trade's: a few numbers of each family, pinned."""

import pytest

from harness.merge.presets import PRESETS, interpolated, preset_base

IN = {f"IN{n:02d}": n for n in range(12)}
PLACE = {**IN, "M00": 12, **{f"OUT{n:02d}": 13 + n for n in range(12)}}


def test_the_38_presets_have_25_values_from_0_to_1() -> None:
    assert len(PRESETS) == 38
    assert all(len(values) == 25 and all(0 <= v <= 1 for v in values) for values in PRESETS.values())


@pytest.mark.parametrize(("name", "pinned"), [
    ("GRAD_V", {"IN00": 1, "IN01": 0.9166666667, "M00": 0, "OUT05": 0.5, "OUT11": 1}),
    ("GRAD_A", {"IN00": 0, "IN06": 0.5, "M00": 1, "OUT10": 0.0833333333}),
    ("FLAT_25", {"IN00": 0.25, "OUT11": 0.25}),
    ("FLAT_75", {"M00": 0.75}),
    ("WRAP08", {"IN03": 1, "IN04": 0, "OUT07": 0, "OUT08": 1}),
    ("WRAP14", {"IN06": 1, "IN07": 0, "OUT04": 0, "OUT05": 1}),
    ("MID12_50", {"IN04": 0, "IN05": 0.5, "OUT05": 0.5, "OUT06": 0}),
    ("OUT07", {"OUT04": 0, "OUT05": 1}),
    ("OUT12_5", {"IN11": 0, "M00": 0.5, "OUT00": 1}),
    ("RING08_SOFT", {"IN05": 0.5, "IN06": 1, "IN08": 1, "IN09": 0.5, "IN10": 0, "OUT02": 0.5, "OUT06": 0.5, "OUT07": 0}),
    ("RING08_5", {"IN05": 0, "IN06": 1, "IN09": 1, "IN10": 0, "OUT02": 1, "OUT05": 1, "OUT06": 0}),
    ("RING10_5", {"IN05": 1, "IN10": 0}),
    ("RING10_3", {"IN05": 0, "IN06": 1, "IN10": 1, "IN11": 0}),
    ("SMOOTHSTEP", {"IN01": 0.00506365740740741, "IN06": 0.15625, "M00": 0.5, "OUT11": 1}),
    ("REVERSE-SMOOTHSTEP", {"IN01": 0.994936342592593, "OUT11": 0}),
    ("SMOOTHSTEP*2", {"IN01": 0.0101273148148148, "M00": 1, "OUT11": 0}),
    ("R_SMOOTHSTEP*3", {"IN01": 0.984809027777778, "M00": 0.5, "OUT11": 0}),
    ("SMOOTHSTEP*4", {"IN07": 0.822337962962963, "M00": 0}),
    ("SMOOTHSTEP/2", {"IN01": 0.0196759259259259, "M00": 1}),
    ("R_SMOOTHSTEP/3", {"IN01": 0.95703125, "M00": 0.5}),
    ("SMOOTHSTEP/4", {"IN01": 0.0740740740740741, "IN06": 1, "M00": 0}),
    ("COSINE", {"IN01": 0.995722430686905, "M00": 0.5, "OUT11": 0}),
    ("REVERSE_COSINE", {"IN01": 0.00427756931309475}),
    ("TRUE_CUBIC_HERMITE", {"IN00": 0, "IN01": 0.199031876929012, "M00": 0.520833333333333, "OUT11": 1}),
    ("TRUE_REVERSE_CUBIC_HERMITE", {"IN00": 1, "IN01": 0.800968123070988}),
    ("FAKE_CUBIC_HERMITE", {"IN01": 0.157576195987654, "M00": 0.5}),
    ("FAKE_REVERSE_CUBIC_HERMITE", {"IN01": 0.842423804012346}),
    ("ALL_A", {"M00": 0}), ("ALL_B", {"M00": 1}),
])
def test_a_preset_has_the_numbers_of_the_trade(name: str, pinned: dict[str, float]) -> None:
    for slot, value in pinned.items():
        assert PRESETS[name][PLACE[slot]] == pytest.approx(value, abs=1e-9), slot


def test_the_ends_of_a_curve_are_exactly_a_and_b() -> None:
    assert (PRESETS["TRUE_CUBIC_HERMITE"][0], PRESETS["TRUE_CUBIC_HERMITE"][-1]) == (0.0, 1.0)
    assert (PRESETS["COSINE"][0], PRESETS["COSINE"][-1]) == (1.0, 0.0)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith(("R_", "REVERSE"))])
def test_a_reversed_preset_and_its_counterpart_sum_to_one(name: str) -> None:
    forward = {"R_": "", "REVERSE-": "", "REVERSE_": ""}
    mark = next(mark for mark in forward if name.startswith(mark))
    assert [a + b for a, b in zip(PRESETS[name], PRESETS[name.removeprefix(mark)], strict=True)] == pytest.approx([1] * 25)


def test_only_all_b_gives_base_to_b() -> None:
    assert [name for name in PRESETS if preset_base(name)] == ["ALL_B"]


def test_between_two_values_it_is_linear_and_at_each_of_them_exact() -> None:
    assert interpolated((0.0, 1.0, 3.0), 1.5) == 2.0
    assert [interpolated(PRESETS["SMOOTHSTEP"], float(n)) for n in range(25)] == list(PRESETS["SMOOTHSTEP"])


@pytest.mark.parametrize("place", [0.1, 0.7, 1.3])
def test_between_two_equal_values_nothing_is_rounded(place: float) -> None:
    assert interpolated((0.3, 0.3, 0.3), place) == 0.3
