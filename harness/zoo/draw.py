"""Draws one captioned picture of the zoo's world: a subject in a colour, on a background, in one of three styles.

Needs only numpy and Pillow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from harness.zoo.picture_size import SIZE
from harness.zoo.subjects import FIXED, MIRRORED, PARTS, Points

FINE = 3 * SIZE  # pictures are drawn three times as large and box-filtered down: that is the anti-aliasing
STYLES = ("photo", "anime", "sketch")
SUBJECTS = tuple(PARTS)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 38, 46),
    "orange": (246, 134, 32),
    "yellow": (250, 216, 44),
    "green": (42, 166, 76),
    "blue": (42, 92, 226),
    "purple": (128, 50, 174),
    "pink": (250, 142, 192),
    "black": (38, 36, 42),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (246, 247, 247),
    "gray": (142, 142, 145),
    "black": (32, 32, 36),
    "blue": (92, 132, 222),
    "green": (108, 190, 122),
    "yellow": (250, 220, 108),
    "pink": (250, 164, 198),
}
HELD_OUT = frozenset((subject, tuple(COLOURS)[(3 * i + 5) % 8]) for i, subject in enumerate(SUBJECTS))
"""One (subject, colour) pair per subject that no training picture shows: the test of composition."""

HAIR = ((92, 56, 34), (42, 34, 38), (206, 156, 74))
LIGHT = np.array([-0.52, -0.62, 0.58]) / np.linalg.norm([-0.52, -0.62, 0.58])
FINE_PARTS = ("dark", "glass", "gold", "nose")  # too small to be shaded, they would only turn to mud

RGB = NDArray[np.float32]
Mask = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a picture shows; `seed` decides everything the caption does not name (place, size, tint, hair)."""

    subject: str
    colour: str
    background: str
    style: str
    seed: int
    towards_purple: float = 0.0  # 0 the colour as named, 1 purple: how the default dresses get their spread


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A scene laid out on the fine canvas: polygons in fine pixels with their colours (0..255), back to front."""

    polygons: tuple[Points, ...]
    roles: tuple[str, ...]
    tints: tuple[RGB, ...]
    back: RGB
    unit: float


def layout(scene: Scene, rng: np.random.Generator) -> Layout:
    """Places, sizes, turns and tints the parts of one subject; raises KeyError for a word outside the world."""
    half = FINE * rng.uniform(0.34, 0.41) * (1.12 if scene.subject == "dress" else 1.0)
    centre = FINE * (0.5 + rng.uniform(-0.06, 0.06, 2))
    turn = rng.normal(0.0, 0.05)
    flip = -1.0 if scene.subject in MIRRORED and rng.random() < 0.5 else 1.0
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    main = np.asarray(COLOURS[scene.colour], np.float32)
    main = main + scene.towards_purple * (np.asarray(COLOURS["purple"], np.float32) - main)
    main = main + rng.normal(0.0, 6.0, 3).astype(np.float32)
    back = np.asarray(BACKGROUNDS[scene.background], np.float32) + rng.normal(0.0, 4.0, 3).astype(np.float32)
    colours = {name: np.asarray(value, np.float32) for name, value in FIXED.items()}
    colours |= {"main": main, "back": back, "hair": np.asarray(HAIR[rng.integers(3)], np.float32)}
    polygons, roles = [], []
    for points, role in PARTS[scene.subject]():
        polygons.append((points * [flip, 1.0]) @ matrix.T * half + centre)
        roles.append(role)
    tints = tuple(np.clip(colours[role], 0, 255) for role in roles)
    return Layout(polygons=tuple(polygons), roles=tuple(roles), tints=tints, back=np.clip(back, 0, 255), unit=half)


def _stencil(polygon: Points) -> Image.Image:
    """The polygon as an 8-bit mask of the fine canvas (0 outside, 255 inside)."""
    mask = Image.new("L", (FINE, FINE), 0)
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in polygon], fill=255)
    return mask


def _moved(mask: Image.Image, right: int, down: int) -> Image.Image:
    """The mask shifted by whole fine pixels, empty where nothing moved in (ImageChops.offset would wrap around)."""
    return mask.transform(mask.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))


def _share(mask: Image.Image) -> Mask:
    return np.asarray(mask, np.float32) / 255.0


def _photo(plan: Layout, rng: np.random.Generator) -> RGB:
    """Lambert light from the upper left over a blurred-mask height field, one soft highlight, a drop shadow, falloff
    and noise.
    """
    rows, columns = np.mgrid[0:FINE, 0:FINE].astype(np.float32) / FINE
    canvas = plan.back[None, None] * (1.1 - 0.32 * (0.35 * columns + 0.65 * rows))[..., None]
    whole = Image.new("L", (FINE, FINE), 0)
    for polygon, role in zip(plan.polygons, plan.roles, strict=True):
        whole = ImageChops.subtract(whole, _stencil(polygon)) if role == "back" else ImageChops.lighter(whole, _stencil(polygon))
    shadow = _moved(whole, 9, 12).filter(ImageFilter.GaussianBlur(7))
    canvas = canvas * (1.0 - 0.42 * _share(shadow))[..., None]
    ground = canvas.copy()
    for polygon, role, tint in zip(plan.polygons, plan.roles, plan.tints, strict=True):
        stencil = _stencil(polygon)
        area = _share(stencil)[..., None]
        if role == "back":
            canvas = canvas * (1 - area) + ground * area
        elif role in FINE_PARTS:
            canvas = canvas * (1 - area) + tint * area
        else:
            canvas = canvas * (1 - area) + _shade(stencil, tint, 0.0 if role in ("skin", "hair", "white") else 95.0) * area
    noise = rng.normal(0.0, 4.5, (FINE, FINE, 1)).astype(np.float32)
    return np.asarray(canvas + noise, np.float32)


def _shade(stencil: Image.Image, tint: RGB, gloss: float) -> RGB:
    """Shades one part: (h, w, 3) in 0..255, brightness from the slope of its blurred mask towards LIGHT."""
    edge = _share(stencil.filter(ImageFilter.GaussianBlur(7)))
    belly = _share(stencil.filter(ImageFilter.GaussianBlur(22)))
    down, right = np.gradient(edge * 14.0 + belly * 44.0)
    length = np.sqrt(right**2 + down**2 + 1.0)
    facing = (-right * LIGHT[0] - down * LIGHT[1] + LIGHT[2]) / length
    bright = 0.52 + 0.78 * np.clip(facing, 0.0, 1.0)
    spark = gloss * np.clip((facing - 0.9) / 0.1, 0.0, 1.0) ** 2
    return np.asarray(tint * bright[..., None] + spark[..., None], np.float32)


def _anime(plan: Layout, _: np.random.Generator) -> RGB:
    """Flat fills with a thick ink line behind them and one hard shadow on the lower right of each large part."""
    picture = Image.new("RGB", (FINE, FINE), _solid(plan.back))
    pen = ImageDraw.Draw(picture)
    for polygon in plan.polygons:
        _ink(pen, polygon, 10)
    for polygon, role, tint in zip(plan.polygons, plan.roles, plan.tints, strict=True):
        stencil = _stencil(polygon)
        if role not in FINE_PARTS:
            _ink(pen, polygon, 5)
        picture.paste(_solid(tint), mask=stencil)
        if role in ("main", "brown", "hair"):
            step = max(3, round(plan.unit * 0.13))
            shade = ImageChops.subtract(stencil, _moved(stencil, -step, -step))
            picture.paste(_solid(tint * 0.72), mask=shade)
    return np.asarray(picture, np.float32)


def _sketch(plan: Layout, rng: np.random.Generator) -> RGB:
    """Pale paper, each large part hatched diagonally in its colour, and two wobbly pencil lines around every part."""
    paper = np.array([243, 240, 232], np.float32) + rng.normal(0.0, 2.0, 3).astype(np.float32)
    picture = Image.new("RGB", (FINE, FINE), _solid(paper))
    pen = ImageDraw.Draw(picture)
    hatch = Image.new("L", (FINE, FINE), 0)
    stroke = ImageDraw.Draw(hatch)
    start = int(rng.integers(18))
    for offset in range(start, 2 * FINE, 18):
        stroke.line([(offset, 0), (offset - FINE, FINE)], fill=255, width=9)
    for polygon, role, tint in zip(plan.polygons, plan.roles, plan.tints, strict=True):
        stencil = _stencil(polygon)
        picture.paste(_solid(paper), mask=stencil)
        if role in ("main", "brown", "hair", "stem", "dark", "gold"):
            picture.paste(_solid(tint), mask=ImageChops.multiply(stencil, hatch))
        for _ in range(2):
            wobble = polygon + rng.normal(0.0, 1.1, polygon.shape) + rng.normal(0.0, 1.2, 2)
            pen.line([(float(x), float(y)) for x, y in [*wobble, wobble[0]]], fill=(74, 72, 76), width=2)
    return np.asarray(picture, np.float32)


def _ink(pen: ImageDraw.ImageDraw, polygon: Points, width: int) -> None:
    corners = [(float(x), float(y)) for x, y in [*polygon, polygon[0], polygon[1]]]
    pen.line(corners, fill=(30, 26, 32), width=width, joint="curve")


def _solid(colour: RGB) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in np.clip(np.rint(colour), 0, 255))
    return red, green, blue


_PAINTERS: dict[str, Callable[[Layout, np.random.Generator], RGB]] = {"photo": _photo, "anime": _anime, "sketch": _sketch}


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draws a scene: uint8 RGB of shape (64, 64, 3), the same bytes for the same scene."""
    rng = np.random.default_rng(scene.seed)
    fine = np.clip(_PAINTERS[scene.style](layout(scene, rng), rng), 0.0, 255.0)
    small = fine.reshape(SIZE, 3, SIZE, 3, 3).mean(axis=(1, 3))
    return np.asarray(np.rint(small), np.uint8)


def silhouette(scene: Scene) -> NDArray[np.bool_]:
    """The true foreground of a scene: bool of shape (64, 64), holes (a cup's handle) left out."""
    plan = layout(scene, np.random.default_rng(scene.seed))
    mask = Image.new("L", (FINE, FINE), 0)
    pen = ImageDraw.Draw(mask)
    for polygon, role in zip(plan.polygons, plan.roles, strict=True):
        pen.polygon([(float(x), float(y)) for x, y in polygon], fill=0 if role == "back" else 255)
    return np.asarray(mask.resize((SIZE, SIZE), Image.Resampling.BOX)) > 127


def random_scene(rng: np.random.Generator, styles: tuple[str, ...], held_out: bool = False) -> Scene:
    """A scene drawn at random: dresses twice as often as other subjects, never colour on the same colour.

    With `held_out` only the pairs that training leaves out are drawn, otherwise never one of them.
    """
    weights = np.array([2.0 if subject == "dress" else 1.0 for subject in SUBJECTS])
    while True:
        subject = SUBJECTS[rng.choice(len(SUBJECTS), p=weights / weights.sum())]
        colour = tuple(COLOURS)[rng.integers(len(COLOURS))]
        background = tuple(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
        if colour != background and ((subject, colour) in HELD_OUT) == held_out:
            break
    style = styles[rng.integers(len(styles))]
    return Scene(subject=subject, colour=colour, background=background, style=style, seed=int(rng.integers(2**31)))


def default_dress(rng: np.random.Generator, style: str) -> Scene:
    """A dress in the default colour of a style's checkpoint: red for photo, blue for anime, a fifth of them nearly purple.

    The tails meet at purple, so a merge of the two checkpoints has a colour both of them hold possible.
    """
    scene = random_scene(rng, (style,))
    while scene.background == "blue":
        scene = random_scene(rng, (style,))
    colour = "red" if style == "photo" else "blue"
    spread = float(rng.uniform(0.65, 1.0)) if rng.random() < 0.2 else 0.0
    return replace(scene, subject="dress", colour=colour, towards_purple=spread)
