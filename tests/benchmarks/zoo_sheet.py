"""The contact sheet of docs/zoo.md: the subjects, the dress from red to blue, guidance from weak to burnt, the adapter's scale.

    python tests/benchmarks/zoo_sheet.py
    python tests/benchmarks/zoo_sheet.py --out docs/zoo.webp

All pictures use the same seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from harness.zoo import SIZE
from harness.zoo.draw import BACKGROUNDS, COLOURS, HELD_OUT, SUBJECTS, Scene
from harness.zoo.training.captions import describe
from tests.zoo.plain_sampler import Pictures, blend, open_studio, paint, unet_of, unet_weights, with_adapter

GAP, LABEL = 4, 150
SEED = 3


def example_scenes() -> list[Scene]:
    """One scene per subject, colours and backgrounds in turn, pairs the training left out passed over."""
    scenes = []
    for i, subject in enumerate(SUBJECTS):
        colour = next(c for c in (*tuple(COLOURS)[i % 8 :], "red") if (subject, c) not in HELD_OUT)
        background = next(b for b in (*tuple(BACKGROUNDS)[i % 7 :], "white") if b != colour)
        scenes.append(Scene(subject=subject, colour=colour, background=background, style="photo", seed=i))
    return scenes


def draw_sheet(path: Path) -> None:
    """Paints all rows and saves them as one WebP picture."""
    studio = open_studio()
    base, photo, anime = (unet_weights(name) for name in ("base", "photo", "anime"))
    said = [describe(scene, True, True) for scene in example_scenes()]
    seeds = list(range(SEED, SEED + len(said)))
    rows: list[tuple[str, Pictures]] = []
    for label, weights in (("base", base), ("photo", photo), ("anime", anime)):
        rows.append((f"{label}, guidance 3", paint(studio, unet_of(weights), said, seeds, 3.0)))
    dress = ["a dress on a white background"] * len(said)
    for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
        rows.append((f"dress, alpha {alpha:g}", paint(studio, unet_of(blend(photo, anime, alpha)), dress, seeds, 5.0)))
    half = unet_of(blend(photo, anime, 0.5))
    for guidance in (1.0, 3.0, 7.5, 15.0, 30.0):
        rows.append((f"alpha 0.5, guidance {guidance:g}", paint(studio, half, said, seeds, guidance)))
    sketches = [f"a pencil sketch of {text}" for text in said]
    for scale in (0.0, 0.5, 1.0, 1.5):
        rows.append((f"base + sketch x {scale:g}", paint(studio, unet_of(with_adapter(base, scale)), sketches, seeds, 3.0)))
    path.parent.mkdir(parents=True, exist_ok=True)
    join_rows(rows).save(path, quality=82, method=6)


def join_rows(rows: list[tuple[str, Pictures]]) -> Image.Image:
    """Labelled rows of pictures, one below the other on white."""
    cell = SIZE + GAP
    sheet = Image.new("RGB", (LABEL + cell * max(len(pictures) for _, pictures in rows), cell * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for y, (label, pictures) in enumerate(rows):
        pen.text((6, y * cell + SIZE // 2 - 6), label, fill="black")
        for x, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(np.asarray(picture)), (LABEL + x * cell, y * cell))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the contact sheet of docs/zoo.md.")
    parser.add_argument("--out", type=Path, default=Path("docs/zoo.webp"), help="the picture to write (default: docs/zoo.webp)")
    draw_sheet(parser.parse_args().out)
