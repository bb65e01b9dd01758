"""Control maps that look wrong: blurred, without a line, or black on white, and Canny's thresholds in the units of OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.control.edge_map import lines_of
from harness.control.maps import control_map, source_of
from harness.declare import Canny, Prompt, Suite
from harness.declare.stage_candidates import as_candidates

GRAY_SHARE: Final = 0.02
"""The share of values between black and white from which a map is not one of clean lines."""
BRIGHT_SHARE: Final = 0.5
"""The share of bright pixels from which a map of lines is taken for an inverted one."""
OPENCV: Final = 8.0
"""OpenCV's gradients are this many times as large."""
_STRONG: Final = 50.0
"""A threshold from here on is hardly ever meant in levels per pixel: a smoothed edge from black to white has about 100."""
_MOST_READ: Final = 200
"""Control maps that a check looks at."""
_MOST_DRAWN: Final = 8
"""Pictures whose edges a check draws."""


def map_remarks(suite: Suite, path_of: Callable[[str], Path]) -> Iterator[str]:
    """One sentence for each fault of the control maps of one name, or of the edges that Canny draws. `path_of` resolves a file as
    declared."""
    pictures = [control.picture for candidate in suite.candidates for stage in as_candidates(candidate)
                for control in stage.controls]
    for canny in dict.fromkeys(picture for picture in pictures if isinstance(picture, Canny)):
        if canny.high >= _STRONG:
            yield (f"Canny(of={canny.of!r}, low={canny.low:g}, high={canny.high:g}): the thresholds are in levels per pixel, and "
                   f"few edges reach {canny.high:g}; if these are OpenCV's, give low={canny.low / OPENCV:g}, "
                   f"high={canny.high / OPENCV:g}")
        yield from _drawn_remarks(suite, canny, path_of)
    for name in sorted({picture for picture in pictures if isinstance(picture, str)}):
        yield from _given_remarks(suite, name, path_of)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """Of a map: the shares of its values between black and white and of its bright pixels, and whether it has one value alone."""

    gray: float
    bright: float
    flat: bool


def _drawn_remarks(suite: Suite, canny: Canny, path_of: Callable[[str], Path]) -> Iterator[str]:
    looks = _looks(suite.grid.prompts[:_MOST_DRAWN], canny, path_of)
    if empty := [reference for reference, look in looks.items() if not look.bright]:
        yield (f"Canny(of={canny.of!r}, low={canny.low:g}, high={canny.high:g}) finds no edge in {len(empty)} of {len(looks)} "
               f"pictures ({empty[0]!r}), so there is nothing to follow; lower the thresholds, or give other pictures")


def _given_remarks(suite: Suite, name: str, path_of: Callable[[str], Path]) -> Iterator[str]:
    looks = _looks(suite.grid.prompts[:_MOST_READ], name, path_of)
    if blurred := [reference for reference, look in looks.items() if look.gray > GRAY_SHARE]:
        yield (f"{len(blurred)} of the control maps {name!r} have values between black and white ({blurred[0]!r}: "
               f"{looks[blurred[0]].gray:.0%}): a map of lines was resized or blurred then; maps of depth or poses may be as "
               "they are")
    # Of a map of depth or of a photo, brightness says nothing.
    lines = {reference: look for reference, look in looks.items() if look.gray <= GRAY_SHARE or look.flat}
    if empty := [reference for reference, look in lines.items() if not look.bright or look.flat]:
        yield (f"{len(empty)} of the control maps {name!r} have no line ({empty[0]!r}), so there is nothing to follow; maps of "
               "lines are white on black")
    if inverted := [reference for reference, look in lines.items() if look.bright > BRIGHT_SHARE]:
        yield (f"{len(inverted)} of the control maps {name!r} are mostly white ({inverted[0]!r}: "
               f"{looks[inverted[0]].bright:.0%}): if they are black lines on white, invert them; the network expects white "
               "lines on black")


def _looks(prompts: tuple[Prompt, ...], picture: str | Canny, path_of: Callable[[str], Path]) -> dict[str, _Look]:
    """What the maps of prompts look like, by their files as declared. Files that cannot be read are left out: the check names
    them."""
    looks: dict[str, _Look] = {}
    for reference in dict.fromkeys(file for prompt in prompts if (file := prompt.pictures.get(source_of(picture)))):
        try:
            drawn = control_map(picture, path_of(reference))
        except (OSError, ValueError):
            continue
        looks[reference] = _Look(gray=float(((drawn > 0) & (drawn < 255)).mean()), bright=float(lines_of(drawn).mean()),
                                 flat=bool(drawn.min() == drawn.max()))
    return looks
