"""The presets of merge block weighted by their usual names, as formulas instead of lists of decimals.

Source of names and values: https://github.com/hako-mikan/sd-webui-supermerger/blob/main/scripts/mbwpresets_master.txt"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

PLACES: Final = 25
"""IN00 to IN11, M00, OUT00 to OUT11: the blocks of Stable Diffusion 1, for which the presets are written."""
_MIDDLE: Final = 12

_Curve = Callable[[float], float]


def _fold(value: float) -> float:
    """The value reflected at both ends into 0..1: 1.25 becomes 0.75, 2.25 becomes 0.25."""
    rest = value % 2.0
    return min(rest, 2.0 - rest)


def _smoothstep(t: float) -> float:
    return t * t * (3.0 - 2.0 * t)


def _cosine(t: float) -> float:
    return (1.0 + math.cos(math.pi * t)) / 2.0


def _fake_hermite(t: float) -> float:
    return t * (25 / 6 + t * (19 / 3 * t - 19 / 2))


def _true_hermite(t: float) -> float:
    """The published table starts at 0, although its cubic gives 1/24 there."""
    return 1 / 24 + t * (25 / 6 + t * (77 / 12 * t - 77 / 8)) if t > 0 else 0.0


def _reverse(curve: _Curve) -> _Curve:
    return lambda t: 1.0 - curve(t)


def _steeper(times: int) -> _Curve:
    return lambda t: _fold(times * _smoothstep(t))


def _oftener(times: int) -> _Curve:
    return lambda t: _smoothstep(_fold(times * t))


def _sampled(curve: _Curve) -> tuple[float, ...]:
    """The curve over the depth t = 0 (IN00) to 1 (OUT11), rounded so that 0 and 1 are exact: there a merge is one of its
    parents, bit for bit."""
    return tuple(round(curve(place / (PLACES - 1)), 12) for place in range(PLACES))


def _by_place(rule: Callable[[int], float]) -> tuple[float, ...]:
    """The values of a function of the signed distance from M00: -12 is IN00, 12 is OUT11."""
    return tuple(float(rule(place - _MIDDLE)) for place in range(PLACES))


def _wrap(blocks: int) -> tuple[float, ...]:
    """B in the outermost `blocks` blocks, half of them at each end."""
    return _by_place(lambda d: abs(d) > _MIDDLE - blocks / 2)


def _ring(first: int, last: int) -> tuple[float, ...]:
    """B in the blocks whose distance from M00 is `first` to `last`, on both sides."""
    return _by_place(lambda d: first <= abs(d) <= last)


_CURVES: Final[dict[str, _Curve]] = {
    "SMOOTHSTEP": _smoothstep, "REVERSE-SMOOTHSTEP": _reverse(_smoothstep),
    **{name: curve for n in (2, 3, 4) for name, curve in (
        (f"SMOOTHSTEP*{n}", _steeper(n)), (f"R_SMOOTHSTEP*{n}", _reverse(_steeper(n))))},
    **{name: curve for n in (2, 3, 4) for name, curve in (
        (f"SMOOTHSTEP/{n}", _oftener(n)), (f"R_SMOOTHSTEP/{n}", _reverse(_oftener(n))))},
    "COSINE": _cosine, "REVERSE_COSINE": _reverse(_cosine),
    "TRUE_CUBIC_HERMITE": _true_hermite, "TRUE_REVERSE_CUBIC_HERMITE": _reverse(_true_hermite),
    "FAKE_CUBIC_HERMITE": _fake_hermite, "FAKE_REVERSE_CUBIC_HERMITE": _reverse(_fake_hermite),
}

PRESETS: Final[dict[str, tuple[float, ...]]] = {
    "GRAD_V": _by_place(lambda d: abs(d) / _MIDDLE), "GRAD_A": _by_place(lambda d: 1 - abs(d) / _MIDDLE),
    "FLAT_25": (0.25,) * PLACES, "FLAT_75": (0.75,) * PLACES,
    "WRAP08": _wrap(8), "WRAP12": _wrap(12), "WRAP14": _wrap(14), "WRAP16": _wrap(16),
    "MID12_50": _by_place(lambda d: 0.5 if -7 <= d <= 6 else 0.0),
    "OUT07": _by_place(lambda d: d > 5), "OUT12": _by_place(lambda d: d > 0),
    "OUT12_5": _by_place(lambda d: 1.0 if d > 0 else 0.5 if d == 0 else 0.0),
    "RING08_SOFT": _by_place(lambda d: 1.0 if 4 <= abs(d) <= 6 else 0.5 if abs(d) in (3, 7) else 0.0),
    "RING08_5": _ring(3, 6), "RING10_5": _ring(3, 7), "RING10_3": _ring(2, 6),
    **{name: _sampled(curve) for name, curve in _CURVES.items()},
    "ALL_A": (0.0,) * PLACES, "ALL_B": (1.0,) * PLACES,
}
"""{name: alpha of IN00 to IN11, M00, OUT00 to OUT11}. BASE is `preset_base(name)`."""


def preset_base(name: str) -> float:
    """The alpha of BASE in a preset: 0, except 1 for ALL_B."""
    return 1.0 if name == "ALL_B" else 0.0


def interpolated(values: Sequence[float], place: float) -> float:
    """The value at `place`, from 0 (the first of `values`) to len(values) - 1 (the last), with linear interpolation. It is
    exact at each value, and between two equal ones."""
    low = min(int(place), len(values) - 2)
    share = place - low
    return values[low + 1] if share == 1.0 else values[low] + share * (values[low + 1] - values[low])
