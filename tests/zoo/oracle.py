"""Judges a generated picture without any trained network: which colour its main part has, and which subject its shape is.

An independent check on the tiny CLIP, which shares its text tower with the models it scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness.zoo import SIZE
from harness.zoo.draw import BACKGROUNDS, COLOURS, STYLES, SUBJECTS, Scene, render

Picture = NDArray[np.uint8]
Values = NDArray[np.float64]

DISTRACTORS: dict[str, tuple[int, int, int]] = {
    "skin": (250, 208, 178),
    "brown": (112, 68, 42),
    "hair": (206, 156, 74),
    "glass": (196, 224, 240),
    "cream": (243, 240, 232),
    "white": (246, 246, 246),
    "gray": (142, 142, 145),
}
"""Colours of parts that a caption never names; a cluster nearest to one of them is not the subject's colour."""

LIGHTNESS = 0.45
"""Weight of L against a and b: shading must not decide what a colour is called."""

CLUSTERS = 6
BORDER = 5
GRID = 12


@dataclass(frozen=True, kw_only=True)
class Obedience:
    """What a prompt named, what the picture shows, and whether they agree (always, where nothing was named)."""

    colour_named: str | None
    colour_found: str | None
    colour_ok: bool
    subject_named: str | None
    subject_found: str
    subject_ok: bool


@dataclass(frozen=True, kw_only=True)
class MainColour:
    """The colour of a picture's main part: its name (None when nothing stands out), and the mean RGB of its pixels in 0..255."""

    name: str | None
    rgb: tuple[float, float, float] | None


def to_lab(rgb: NDArray[Any]) -> Values:
    """sRGB in 0..255, shape (..., 3), to CIE Lab under D65 with L weighted by LIGHTNESS."""
    linear = np.asarray(rgb, np.float64) / 255.0
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / [0.95047, 1.0, 1.08883]
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([LIGHTNESS * (116.0 * y - 16.0), 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def _clusters(points: Values) -> tuple[NDArray[np.int64], Values]:
    """k-means with a farthest-first start, so the same picture always gives the same labels (n,) and centres (k, 3)."""
    centres = [np.median(points, axis=0)]
    apart = ((points - centres[0]) ** 2).sum(axis=1)
    for _ in range(CLUSTERS - 1):
        centres.append(points[apart.argmax()])
        apart = np.minimum(apart, ((points - centres[-1]) ** 2).sum(axis=1))
    middle, labels = np.array(centres), np.zeros(len(points), np.int64)
    for _ in range(12):
        before, labels = labels, ((middle**2).sum(axis=1) - 2.0 * points @ middle.T).argmin(axis=1)
        if (labels == before).all():
            break
        middle = np.array([points[labels == k].mean(axis=0) if (labels == k).any() else middle[k] for k in range(CLUSTERS)])
    return labels, middle


def _border() -> NDArray[np.bool_]:
    ring = np.ones((SIZE, SIZE), dtype=bool)
    ring[BORDER:-BORDER, BORDER:-BORDER] = False
    return ring.ravel()


def main_colour(image: Picture) -> MainColour:
    """The colour of the main part of a uint8 (64, 64, 3) picture, by k-means in Lab.

    Clusters that own the border or resemble it are background; the others are named after the nearest known colour, weighed
    by their area around the centre; black (ink, wheels, pupils) wins only where no colour has a third of its weight.
    """
    lab = to_lab(image).reshape(-1, 3)
    labels, middle = _clusters(lab)
    ring = _border()
    back = np.median(lab[ring], axis=0)
    names = {**COLOURS, **DISTRACTORS}
    known = to_lab(np.array(list(names.values())))
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1) - 0.5
    weight = np.exp(-(rows**2 + columns**2) / (2 * 0.22**2)).ravel()
    found: dict[str, float] = {}
    members: dict[str, NDArray[np.bool_]] = {}
    for k in range(CLUSTERS):
        here = labels == k
        if not here.any() or (here & ring).sum() > 0.12 * ring.sum() or np.linalg.norm(middle[k] - back) < 12.0:
            continue
        name = list(names)[((known - middle[k]) ** 2).sum(axis=1).argmin()]
        if name in COLOURS:
            found[name] = found.get(name, 0.0) + float(weight[here].sum())
            members[name] = members.get(name, np.zeros_like(here)) | here
    others = {name: area for name, area in found.items() if name != "black"}
    if others and max(others.values()) > found.get("black", 0.0) / 3.0:
        found = others
    if not found:
        return MainColour(name=None, rgb=None)
    name = max(found, key=lambda key: found[key])
    red, green, blue = image.reshape(-1, 3)[members[name]].mean(axis=0)
    return MainColour(name=name, rgb=(float(red), float(green), float(blue)))


def dress_colour(image: Picture) -> MainColour:
    """The colour of a doll's dress: `main_colour` of the lower middle, where hair, face and feet are not."""
    framed = image.copy()
    framed[: SIZE // 2] = np.median(image.reshape(-1, 3)[_border()], axis=0).astype(np.uint8)
    return main_colour(framed)


def foreground(image: Picture) -> NDArray[np.bool_]:
    """What stands out from the border's colours: bool (64, 64), holes filled, specks dropped."""
    lab = to_lab(image)
    ring = lab.reshape(-1, 3)[_border()]
    back = np.median(ring, axis=0)
    spread = np.percentile(np.linalg.norm(ring - back, axis=1), 90)
    mask = np.linalg.norm(lab - back, axis=-1) > max(11.0, 1.6 * spread)
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(mask, 2)))[2:-2, 2:-2]
    pieces, count = ndimage.label(mask)
    if count > 1:
        sizes = ndimage.sum_labels(mask, pieces, np.arange(1, count + 1))
        mask = np.isin(pieces, 1 + np.flatnonzero(sizes > 0.08 * sizes.max()))
    return np.asarray(mask, dtype=bool)


def shape_features(image: Picture) -> Values:
    """The foreground's outline and its inner edges on a 12 x 12 grid over its bounding box, and the box's proportions."""
    mask = foreground(image)
    if mask.sum() < 12:
        return np.zeros(GRID * GRID * 2 + 16 * 8 + 3)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    light = np.asarray(image, np.float64).max(axis=-1) / 255.0 * 0.5 + np.asarray(image, np.float64).mean(axis=-1) / 510.0
    down, right = np.gradient(ndimage.gaussian_filter(light, 0.7))
    size = np.hypot(down, right)
    outline = _resized(mask[box].astype(np.float64), GRID)
    inner = _resized(np.minimum(size[box], 0.15) / 0.15, GRID)
    turn = np.arctan2(down, right)[box] % np.pi
    strength = np.minimum(size[box], 0.15)
    bins = [_resized(strength * (np.floor(turn / np.pi * 8).clip(0, 7) == b), 4).ravel() for b in range(8)]
    edges = np.concatenate(bins)
    edges = edges / (np.linalg.norm(edges) + 1e-6) * 3.0
    tall, wide = mask[box].shape
    return np.concatenate([outline.ravel(), inner.ravel(), edges, [tall / wide, mask[box].mean(), tall / SIZE]])


def _resized(values: Values, side: int) -> Values:
    """Area means of a 2-D array on a side x side grid (nearest samples where it is smaller than the grid)."""
    tall, wide = values.shape
    up, across = max(1, -(-2 * side // tall)), max(1, -(-2 * side // wide))
    large = values.repeat(up, axis=0).repeat(across, axis=1)
    steps = [np.linspace(0, n, side + 1).astype(int)[:-1] for n in large.shape]
    counts = [np.diff(np.append(step, n)) for step, n in zip(steps, large.shape, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(large, steps[0], axis=0), steps[1], axis=1)
    return np.asarray(sums / np.outer(*counts))


@cache
def _judge() -> Any:
    """Linear discriminants (scikit-learn, shrunk covariance) fitted to freshly drawn pictures; about two seconds,
    once per process.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rng = np.random.default_rng(77)
    features, names = [], []
    for subject in SUBJECTS:
        for i in range(16):
            style = STYLES[(0, 1, 1, 2)[i % 4]]
            colour, background = tuple(COLOURS)[i % 8], tuple(BACKGROUNDS)[(i + i // 7) % 7]
            if colour == background:
                background = "white"
            seed = int(rng.integers(2**31))
            picture = render(Scene(subject=subject, colour=colour, background=background, style=style, seed=seed))
            for variant in (picture, np.roll(picture[:, ::-1], rng.integers(-3, 4, 2), axis=(0, 1))):
                features.append(shape_features(variant))
                names.append(subject)
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(np.array(features), names)


def subject_of(images: list[Picture]) -> list[str]:
    """The most likely of the twelve subjects of each picture, by the shape of its foreground alone."""
    return [str(name) for name in _judge().predict(np.array([shape_features(image) for image in images]))]


def obeyed(image: Picture, colour: str | None, subject: str | None) -> Obedience:
    """Compares a picture with what its prompt named; None where the prompt left it open."""
    found, shape = main_colour(image).name, subject_of([image])[0]
    return Obedience(
        colour_named=colour,
        colour_found=found,
        colour_ok=colour in (None, found),
        subject_named=subject,
        subject_found=shape,
        subject_ok=subject in (None, shape),
    )
