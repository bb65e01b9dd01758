"""What a prompt says, read by the rules of its syntax: stretches of text with weights, by step, and the adapters it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.declare.listing import brief

PLAIN: Final = "plain"
LARGEST_WEIGHT: Final = 1000.0
"""Beyond it the numbers of half precision overflow, and the image is noise."""


class MarkupError(ValueError):
    """Markup that cannot be followed; the message is a phrase that says what to write instead."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stretch of text whose words have one weight. With `breaks` it begins a new chunk."""

    text: str
    weight: float = 1.0
    breaks: bool = False


def refuse_huge_weights(parts: tuple[Part, ...]) -> None:
    """Raises MarkupError for words whose weight no model can follow."""
    for part in parts:
        if not abs(part.weight) <= LARGEST_WEIGHT:
            raise MarkupError(f"{brief(part.text.strip(), 80)!r} has the weight {part.weight:.3g}, multiplied over all brackets "
                              f"around it; expected at most {LARGEST_WEIGHT:g}, and usually 0.5 to 1.5")


@dataclass(frozen=True, kw_only=True)
class Text:
    """What a text encoder is given at a step. `syntax` says how weights are applied and how a long text is divided."""

    parts: tuple[Part, ...]
    syntax: str = PLAIN

    @property
    def words(self) -> str:
        """The text without weights and breaks."""
        return "".join(f" {part.text}" if part.breaks else part.text for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Tag:
    """An adapter that a prompt names: the name of its file, and the weights of the denoiser and of the text encoders."""

    name: str
    weight: float = 1.0
    text_weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class Span:
    """A text up to and with step `until`, counted from 1."""

    until: int
    text: Text


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A parsed prompt. `changes` says whether its text changes from step to step; `spans` gives the texts of so many steps, and
    `never_drawn` what of the prompt none of them has. `plain` is the text without markup; of one that changes, the last.
    `embeddings` are the files of textual inversions that the text names with a prefix."""

    plain: str
    changes: bool
    spans: Callable[[int], tuple[Span, ...]]
    never_drawn: Callable[[int], tuple[str, ...]]
    tags: tuple[Tag, ...] = ()
    embeddings: tuple[str, ...] = ()


def unchanging(text: Text, *, tags: tuple[Tag, ...] = (), embeddings: tuple[str, ...] = ()) -> Parsed:
    """A prompt with one text for all steps."""
    return Parsed(plain=tidy(text.words), changes=False, spans=lambda steps: (Span(until=steps, text=text),),
                  never_drawn=lambda _: (), tags=tags, embeddings=embeddings)


def tidy(text: str) -> str:
    """A text with one space for any run of white space, and none at its ends."""
    return " ".join(text.split())
