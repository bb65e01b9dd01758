"""The twelve subjects of the zoo as lists of polygons, each with the role its colour comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Part = tuple[Points, str]
"""A polygon of shape (n, 2), x right and y down in [-1, 1], and its role: "main", "back", or a name in FIXED."""

FIXED: dict[str, tuple[int, int, int]] = {
    "brown": (125, 75, 45),
    "skin": (250, 208, 178),
    "white": (246, 244, 240),
    "dark": (38, 34, 40),
    "glass": (196, 224, 240),
    "gold": (248, 226, 120),
    "stem": (58, 128, 62),
    "nose": (238, 130, 150),
}


def _oval(x: float, y: float, width: float, height: float | None = None, corners: int = 40) -> Points:
    """An ellipse about (x, y) with half-axes `width` and `height` (a circle when `height` is absent)."""
    turn = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)
    tall = width if height is None else height
    return np.stack([x + width * np.cos(turn), y + tall * np.sin(turn)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _outline(*corners: tuple[float, float]) -> Points:
    return np.array(corners, dtype=np.float64)


def _ball() -> list[Part]:
    return [(_oval(0, 0, 0.86), "main")]


def _star() -> list[Part]:
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.46)
    return [(np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=1), "main")]


def _heart() -> list[Part]:
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(turn) ** 3
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return [(np.stack([x / 16.5, -(y + 2) / 15.5], axis=1), "main")]


def _tree() -> list[Part]:
    return [
        (_box(-0.15, 0.25, 0.15, 1.0), "brown"),
        (_oval(-0.42, 0.02, 0.46), "main"),
        (_oval(0.42, 0.02, 0.46), "main"),
        (_oval(0.0, -0.48, 0.5), "main"),
    ]


def _house() -> list[Part]:
    return [
        (_box(-0.72, -0.1, 0.72, 0.92), "main"),
        (_outline((-1.0, -0.08), (0.0, -0.98), (1.0, -0.08)), "brown"),
        (_box(-0.17, 0.36, 0.17, 0.92), "white"),
        (_box(-0.58, 0.12, -0.27, 0.44), "glass"),
        (_box(0.27, 0.12, 0.58, 0.44), "glass"),
    ]


def _car() -> list[Part]:
    body = _outline(
        (-1.0, 0.35), (-0.98, -0.05), (-0.62, -0.12), (-0.42, -0.58), (0.38, -0.58), (0.62, -0.1), (0.97, 0.0), (1.0, 0.35)
    )
    return [
        (body, "main"),
        (_outline((-0.46, -0.1), (-0.33, -0.45), (-0.06, -0.45), (-0.06, -0.1)), "glass"),
        (_outline((0.06, -0.1), (0.06, -0.45), (0.32, -0.45), (0.46, -0.1)), "glass"),
        (_oval(-0.55, 0.36, 0.26), "dark"),
        (_oval(0.55, 0.36, 0.26), "dark"),
    ]


def _fish() -> list[Part]:
    return [
        (_outline((0.42, 0.0), (1.0, -0.46), (0.86, 0.0), (1.0, 0.46)), "main"),
        (_outline((-0.3, -0.36), (0.05, -0.78), (0.34, -0.3)), "main"),
        (_oval(-0.18, 0.0, 0.78, 0.5), "main"),
        (_oval(-0.54, -0.1, 0.16), "white"),
        (_oval(-0.56, -0.1, 0.085), "dark"),
    ]


def _dress() -> list[Part]:
    """A doll with a large head, so that face and dress both survive at 64 pixels."""
    gown = _outline((-0.2, -0.16), (0.2, -0.16), (0.27, 0.12), (0.66, 0.78), (-0.66, 0.78), (-0.27, 0.12))
    return [
        (_oval(0.0, -0.52, 0.47, 0.47), "hair"),
        (_box(-0.26, 0.7, -0.06, 1.0), "skin"),
        (_box(0.06, 0.7, 0.26, 1.0), "skin"),
        (_outline((-0.2, -0.12), (-0.1, 0.02), (-0.56, 0.38), (-0.68, 0.24)), "skin"),
        (_outline((0.2, -0.12), (0.1, 0.02), (0.56, 0.38), (0.68, 0.24)), "skin"),
        (gown, "main"),
        (_oval(0.0, -0.44, 0.335, 0.33), "skin"),
        (_oval(-0.14, -0.43, 0.062, 0.085), "dark"),
        (_oval(0.14, -0.43, 0.062, 0.085), "dark"),
    ]


def _flower() -> list[Part]:
    parts: list[Part] = [
        (_box(-0.07, 0.1, 0.07, 1.0), "stem"),
        (_outline((0.03, 0.75), (0.3, 0.48), (0.58, 0.5), (0.36, 0.74)), "stem"),
    ]
    for turn in np.arange(6) * np.pi / 3 + np.pi / 6:
        parts.append((_oval(0.4 * np.cos(turn), -0.34 + 0.4 * np.sin(turn), 0.27), "main"))
    parts.append((_oval(0.0, -0.34, 0.24), "gold"))
    return parts


def _cup() -> list[Part]:
    return [
        (_oval(0.6, 0.08, 0.4), "main"),
        (_oval(0.6, 0.08, 0.2), "back"),
        (_outline((-0.78, -0.58), (0.56, -0.58), (0.42, 0.8), (-0.64, 0.8)), "main"),
        (_oval(-0.11, -0.58, 0.67, 0.17), "white"),
    ]


def _boat() -> list[Part]:
    return [
        (_box(-0.06, -1.0, 0.04, 0.4), "brown"),
        (_outline((0.08, -0.92), (0.08, 0.22), (0.78, 0.22)), "white"),
        (_outline((-0.1, -0.76), (-0.1, 0.22), (-0.68, 0.22)), "white"),
        (_outline((-1.0, 0.34), (1.0, 0.34), (0.7, 0.88), (-0.66, 0.88)), "main"),
    ]


def _cat() -> list[Part]:
    return [
        (_outline((-0.8, -0.98), (-0.86, 0.0), (-0.08, -0.5)), "main"),
        (_outline((0.8, -0.98), (0.86, 0.0), (0.08, -0.5)), "main"),
        (_oval(0.0, 0.12, 0.88, 0.78), "main"),
        (_oval(-0.36, 0.0, 0.2, 0.23), "white"),
        (_oval(0.36, 0.0, 0.2, 0.23), "white"),
        (_oval(-0.34, 0.02, 0.1, 0.16), "dark"),
        (_oval(0.34, 0.02, 0.1, 0.16), "dark"),
        (_outline((-0.12, 0.32), (0.12, 0.32), (0.0, 0.47)), "nose"),
    ]


PARTS: dict[str, Callable[[], list[Part]]] = {
    "ball": _ball,
    "star": _star,
    "heart": _heart,
    "tree": _tree,
    "house": _house,
    "car": _car,
    "fish": _fish,
    "dress": _dress,
    "flower": _flower,
    "cup": _cup,
    "boat": _boat,
    "cat": _cat,
}
"""Every subject by its name in captions, back part first."""

MIRRORED = frozenset({"car", "fish", "cup", "boat"})
"""Subjects whose left and right differ, and which are therefore mirrored half of the time."""
