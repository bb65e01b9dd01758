"""Pictures of the zoo's world by name, `zoo:picture-fish-3`, and their maps of edges, `zoo:edges-fish-3`. They are drawn, not
stored.

Needs numpy and Pillow."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.control.edge_map import LUMA, drawn_edges
from harness.declare.nearest import closest, did_you_mean
from harness.records.atomic import write_atomically
from harness.zoo.draw import BACKGROUNDS, COLOURS, SUBJECTS, Scene, render

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS: Final = ("picture", "edges")
COUNT: Final = 100
"""Pictures of each subject: n is 0 to 99."""
PATTERN: Final = re.compile(r"(?:zoo:)?(picture|edges)-([a-z]+)-(\d{1,4})")
_FORM: Final = re.compile(r"zoo:([a-z]{3,12})-([a-z]{2,12})-(\d{1,4})")
CONTRAST: Final = 60.0
"""Levels of luma between a subject's colour and its background: edges are seen in luma alone."""
_SEED: Final = 21
"""No training set draws from it."""


def scene_of(subject: str, number: int) -> Scene:
    """What a picture shows. Colours go round, and so do the backgrounds that each of them stands out from; the first eight
    pictures are photos, the next eight anime, and so on. Place, size and tint follow from subject and number."""
    rng = np.random.default_rng([_SEED, SUBJECTS.index(subject), number])
    colour = tuple(COLOURS)[number % len(COLOURS)]
    grounds = [name for name, ground in BACKGROUNDS.items() if abs(luma(ground) - luma(COLOURS[colour])) >= CONTRAST]
    return Scene(subject=subject, colour=colour, background=grounds[(number + number // 8) % len(grounds)],
                 style=("photo", "anime")[number // 8 % 2], seed=int(rng.integers(2**31)))


def luma(colour: tuple[int, int, int]) -> float:
    """The luma of an RGB colour, 0 to 255."""
    return float(np.array(colour) @ np.array(LUMA))


def problem_of(reference: str) -> str:
    """What is wrong with the name of a drawn picture; empty if nothing is."""
    match = PATTERN.fullmatch(reference)
    if match is None:
        return (f"unknown picture {reference!r} of the zoo; expected zoo:picture-SUBJECT-N or zoo:edges-SUBJECT-N, such as "
                f"zoo:picture-fish-3, with N from 0 to {COUNT - 1}")
    if match[2] not in SUBJECTS:
        return f"unknown picture {reference!r} of the zoo: {did_you_mean(match[2], SUBJECTS)}"
    return "" if int(match[3]) < COUNT else f"picture {reference!r} of the zoo: N goes from 0 to {COUNT - 1}"


def is_picture(reference: str) -> bool:
    """Whether a reference is meant to name a drawn picture."""
    return reference.removeprefix("zoo:").startswith(tuple(f"{kind}-" for kind in KINDS))


def mistyped(reference: str) -> str:
    """The picture that a name like "zoo:edgs-fish-3" most probably means; empty if it is not of this form."""
    match = _FORM.fullmatch(reference)
    if match is None:
        return ""
    kind, subject = closest(match[1], KINDS, cutoff=0.6), closest(match[2], SUBJECTS, cutoff=0.6)
    return f"zoo:{kind[0]}-{subject[0]}-{min(int(match[3]), COUNT - 1)}" if kind and subject else ""


def drawn(reference: str) -> NDArray[np.uint8]:
    """The picture of a name, uint8 RGB of shape (64, 64, 3). Raises ValueError for a name outside the world."""
    if wrong := problem_of(reference):
        raise ValueError(wrong)
    match = PATTERN.fullmatch(reference)
    assert match is not None
    picture = render(scene_of(match[2], int(match[3])))
    return picture if match[1] == "picture" else drawn_edges(picture)


def write_picture(reference: str, path: Path) -> None:
    """Writes the picture as a PNG that is not compressed, so that its bytes depend on no library."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(drawn(reference)).save(buffer, "PNG", compress_level=0)
    write_atomically(path, buffer.getvalue())
