"""Adapters named within a prompt in AUTOMATIC1111's syntax: <lora:name:0.8>, with a second weight for the denoiser alone.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#extra-networks
"""

from __future__ import annotations

import math
import re
from typing import Final

from harness.declare.listing import brief
from harness.declare.syntax.parsed import LARGEST_WEIGHT, MarkupError, Tag

_TAG: Final = re.compile(r"<(?P<kind>\w+):(?P<rest>[^>]+)>")
KINDS: Final = ("lora", "lyco", "hypernet")
_NAMED: Final = {"te": "text encoder", "unet": "denoiser"}


def without_tags(text: str) -> tuple[str, tuple[Tag, ...]]:
    """The text without the tags in it, and the tags. Raises MarkupError for one that cannot be followed."""
    tags = []
    for match in _TAG.finditer(text):
        if match["kind"].lower() not in KINDS:
            raise MarkupError(f"{match[0]!r} names something that is not loaded here; expected <lora:name:weight>")
        if _within_square_brackets(text[:match.start()]):
            raise MarkupError(f"{match[0]!r} stands within square brackets, but A1111 applies it at all steps; put it outside of "
                              "them, or give the candidate an Adapter with start and end")
        tags.append(_tag(match[0], match["kind"].lower(), match["rest"]))
    names = [tag.name for tag in tags]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise MarkupError(f"{twice!r} is named by two tags; keep one of them")
    rest = _TAG.sub("", text)
    if left := _TAG.search(rest):
        raise MarkupError(f"{brief(left[0], 80)!r} is a tag around another one; write one after the other")
    return rest, tuple(tags)


def _tag(written: str, kind: str, rest: str) -> Tag:
    name, *fields = (field.strip() for field in rest.split(":"))
    weights: dict[str, float] = {}
    for place, field in enumerate(fields):
        key, equals, value = field.rpartition("=")
        if not equals:
            key = tuple(_NAMED)[place] if place < len(_NAMED) else ""
        if key not in _NAMED or key in weights or (kind == "hypernet" and place):
            raise MarkupError(f"{written!r}: {field!r} is not known here; expected <lora:name:weight>, or a second weight for "
                              "the denoiser")
        weights[key] = _weight(written, value)
    if not name:
        raise MarkupError(f"{written!r} has no name; expected <lora:name:weight>")
    text_weight = weights.get("te", 1.0)
    weight = weights.get("unet", text_weight)
    return Tag(name=name, weight=weight, text_weight=None if text_weight == weight else text_weight)


def _weight(written: str, value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not abs(weight) <= LARGEST_WEIGHT:
        raise MarkupError(f"{brief(written, 200)!r}: the weight {brief(value, 80)!r} is not a number up to {LARGEST_WEIGHT:g}; "
                          "write one such as 0.8")
    return weight


def _within_square_brackets(before: str) -> bool:
    plain = re.sub(r"\\.", "", before)
    return plain.count("[") > plain.count("]")
