"""The syntaxes of prompts: plain text, AUTOMATIC1111's and ComfyUI's markup. Texts are parsed once, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from harness.declare.nearest import did_you_mean
from harness.declare.syntax import a1111, comfyui
from harness.declare.syntax.parsed import PLAIN, MarkupError, Parsed, Part, Span, Tag, Text

__all__ = ["PLAIN", "SYNTAXES", "MarkupError", "Parsed", "Part", "Span", "Syntax", "Tag", "Text", "parse", "plain_text",
           "syntax_named"]


@dataclass(frozen=True, kw_only=True)
class Syntax:
    """A row of SYNTAXES: how a text is parsed, the tool, and the row of `WEIGHTINGS` by which its weights are applied. `version`
    rises when the same text gives other images."""

    parse: Callable[[str], Parsed]
    tool: str
    weighting: str
    version: int = 1


def plain_text(text: str) -> Text:
    """A text that is read as it is written."""
    return Text(parts=(Part(text=text),))


def _plain(text: str) -> Parsed:
    return Parsed(plain=text, changes=False, spans=lambda steps: (Span(until=steps, text=plain_text(text)),),
                  never_drawn=lambda _: ())


SYNTAXES: Final[Mapping[str, Syntax]] = {
    PLAIN: Syntax(parse=_plain, tool="", weighting="a1111"),
    "a1111": Syntax(parse=a1111.parse, tool="A1111", weighting="a1111"),
    "comfyui": Syntax(parse=comfyui.parse, tool="ComfyUI", weighting="comfyui"),
}


def syntax_named(name: str) -> str:
    """The name of a syntax in our spelling: tools write theirs in capitals. Other names are returned as they are."""
    return name.lower() if name.lower() in SYNTAXES else name


LONGEST: Final = 5000
"""Characters of a text with markup: a run folder of somebody else's must not keep a parser busy."""


@lru_cache(maxsize=4096)
def parse(text: str, syntax: str = "") -> Parsed:
    """A prompt read by the rules of a syntax; empty is plain text. Raises MarkupError for markup that cannot be followed, and
    ValueError for an unknown syntax."""
    if (syntax or PLAIN) not in SYNTAXES:
        raise ValueError(f"unknown syntax {syntax!r}; {did_you_mean(syntax, SYNTAXES)}")
    if len(text) > LONGEST and (syntax or PLAIN) != PLAIN:
        raise MarkupError(f"the text has {len(text)} characters; expected at most {LONGEST}")
    return SYNTAXES[syntax or PLAIN].parse(text)
