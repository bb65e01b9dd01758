"""Problems and remarks of inpaintings: their numbers, the steps that are run, and what their masks hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.check.guiding import path_of_picture
from harness.check.phrases import number
from harness.check.stages import run_problems
from harness.declare import Candidate, Inpaint, Suite, grid_of
from harness.declare.mask_file import WHITE_FROM, mask_levels


def inpaint_problems(inpaint: Inpaint) -> Iterator[str]:
    """One phrase per problem of an inpainting, apart from its pictures."""
    for name in ("picture", "mask"):
        if not getattr(inpaint, name).strip():
            yield f"inpaint: {name} is empty; name one of Prompt.pictures"
    if inpaint.picture.strip() and inpaint.picture == inpaint.mask:
        yield f"inpaint: picture and mask are both {inpaint.mask!r}; give the mask under a name of its own"
    if not number(inpaint.strength) or not 0 < inpaint.strength <= 1:
        yield f"inpaint: strength is {inpaint.strength!r}; expected a number above 0 and at most 1"


def inpainted_problems(suite: Suite, root: Path) -> Iterator[tuple[str, str]]:
    """(candidate, phrase) for every inpainting that runs no step or changes nothing, in a suite whose fields have the right
    types."""
    for candidate in suite.candidates:
        if candidate.inpaint is not None:
            yield from ((repr(candidate.name), f"inpaint: {phrase}") for phrase in dict.fromkeys(
                (*_steps(suite, candidate, candidate.inpaint), *_black(suite, candidate.inpaint, root))))


def _steps(suite: Suite, candidate: Candidate, inpaint: Inpaint) -> Iterator[str]:
    if number(inpaint.strength) and 0 < inpaint.strength <= 1:
        yield from run_problems(inpaint.strength, grid_of(suite, candidate))


def _black(suite: Suite, inpaint: Inpaint, root: Path) -> Iterator[str]:
    for prompt, file, share, _ in _masks(suite, inpaint, root):
        if share == 0:
            yield (f"the mask {inpaint.mask!r} of prompt {prompt!r}, {file!r}, is all black, so nothing would be changed; paint "
                   "white what is to be changed")


def inpaint_remarks(suite: Suite, root: Path) -> Iterator[str]:
    """Masks with levels between black and white, and masks that keep nothing."""
    for inpaint in {repr(one): one for c in suite.candidates if (one := c.inpaint) is not None}.values():
        for prompt, file, share, gray in _masks(suite, inpaint, root):
            mask = f"the mask {inpaint.mask!r} of prompt {prompt!r}, {file!r},"
            if gray:
                yield (f"{mask} has levels between black and white ({gray:.1%} of it); those from {WHITE_FROM} on count as "
                       "white, the others as black")
            if share == 1:
                yield f"{mask} is all white, so nothing of the picture is kept"


def _masks(suite: Suite, inpaint: Inpaint, root: Path) -> Iterator[tuple[str, str, float, float]]:
    """Of every prompt with a readable mask: its id, the file, the share that is white, and the share between black and white."""
    for prompt in suite.grid.prompts:
        if (file := prompt.pictures.get(inpaint.mask)) is not None:
            with suppress(OSError, ValueError):  # which the check of the pictures names
                levels = mask_levels(path_of_picture(root, file))
                yield prompt.id, file, float((levels >= WHITE_FROM).mean()), float(((levels > 0) & (levels < 255)).mean())
