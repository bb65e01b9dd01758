"""What is wrong with post-steps before any image: their values, and the files that they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from harness.check.phrases import number, unknown
from harness.declare import Candidate, ColourTransfer, Lut, PostStep, Suite, Temperature, Upscale
from harness.declare.effective_grid import picture_size
from harness.declare.picture_file import PictureError, size_of_picture
from harness.declare.post_steps import FIRST_STAGE
from harness.post.colour_transfer import METHODS as COLOUR_METHODS
from harness.post.cube import CubeError, read_cube
from harness.post.temperature import LOCUS
from harness.post.upscaling import METHODS as UPSCALE_METHODS

LARGEST_FACTOR: Final = 8.0
LARGEST_SIDE: Final = 16_384
"""Of a finished picture, in pixels."""


def post_problems(steps: Sequence[PostStep], root: Path, stages: int) -> Iterator[str]:
    """One phrase per problem of the post-steps of a candidate with so many stages."""
    for place, step in enumerate(steps, 1):
        where = f"post-step {place}, {type(step).__name__}"
        yield from (f"{where}: {phrase}" for phrase in _problems(step, root, stages))


def enlarged_too_far(suite: Suite, candidate: Candidate) -> str:
    """Why the finished pictures of a candidate would be too large; empty if they are not."""
    if not all(number(step.factor) and 0 < step.factor <= LARGEST_FACTOR for step in candidate.post if isinstance(step, Upscale)):
        return ""  # which is said of the step
    width, height = picture_size(suite, candidate)
    if not candidate.post or max(width, height) <= LARGEST_SIDE:
        return ""
    return (f"post: the finished pictures have {width} x {height} pixels; expected at most {LARGEST_SIDE} a side. Give Upscale a "
            "smaller factor")


def _problems(step: PostStep, root: Path, stages: int) -> Iterator[str]:
    match step:
        case ColourTransfer():
            yield from unknown("method", [step.method], COLOUR_METHODS)
            yield from _strength(step.strength)
            if step.to == FIRST_STAGE:
                if stages < 2:
                    yield f"to is {FIRST_STAGE!r}, and no stage comes before its own picture; give a picture file"
            else:
                yield from _picture(root, step.to)
        case Lut():
            yield from _strength(step.strength)
            try:
                read_cube(root / step.path)
            except CubeError as error:
                yield f"{step.path!r} is a picture; expected a .cube file" if _is_picture(root / step.path) else str(error)
            except OSError as error:
                yield f"file {step.path!r} below {root} cannot be read ({error.strerror or error}); give a .cube file"
        case Temperature():
            if not number(step.max_kelvin) or not LOCUS[0] <= step.max_kelvin <= LOCUS[1]:
                yield f"max_kelvin is {step.max_kelvin!r}; expected a number from {LOCUS[0]:g} to {LOCUS[1]:g}"
        case Upscale():
            yield from unknown("method", [step.method], UPSCALE_METHODS)
            if not number(step.factor) or not 0 < step.factor <= LARGEST_FACTOR:
                yield f"factor is {step.factor!r}; expected a number above 0, up to {LARGEST_FACTOR:g}"
            elif step.factor == 1:
                yield "factor is 1, which changes nothing; remove the step"


def _is_picture(path: Path) -> bool:
    try:
        size_of_picture(path)
    except PictureError:
        return False
    return True


def _strength(strength: float) -> Iterator[str]:
    if not number(strength) or not 0 < strength <= 1:
        yield f"strength is {strength!r}; expected a number above 0, up to 1"


def _picture(root: Path, path: str) -> Iterator[str]:
    try:
        size_of_picture(root / path)
    except PictureError as error:
        yield f"{error}. It is looked for below {root}"
