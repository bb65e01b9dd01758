"""Prompts that read the same: one text and negative, with the same pictures if any, under several identifiers, which is one
question asked more than once."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from harness.declare.grid import LEAST_GUIDANCE, Grid, Prompt
from harness.declare.prompt_texts import texts_in_key
from harness.declare.syntax import PLAIN
from harness.declare.syntax.parsed import tidy
from harness.declare.to_plain import short_hash

SAME_TEXT: Final = "same_text"
"""The column of a table of images that holds the first prompt of the same text."""


def as_read(text: str) -> str:
    """A text without what CLIP's tokenizer takes out: in Unicode's NFC, in lower case, with one space for any run of white space,
    and none at the ends. T5 tells upper from lower case, but a second spelling of a text is not a second question."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def is_unguided(scales: Iterable[float]) -> bool:
    """Whether every guidance scale is 1, where a negative text has no effect on an image."""
    return set(scales) == {LEAST_GUIDANCE}


def effective_prompts(grid: Grid, scale: float | None = None) -> tuple[Prompt, ...]:
    """The prompts of a grid as the images at a guidance scale depend on them: at 1 without negatives. Without a scale it is all
    images together: prompts that are one question at any scale are one, as images at this scale are compared with the others."""
    if LEAST_GUIDANCE not in (grid.guidance_scales if scale is None else (scale,)):
        return grid.prompts
    return tuple(replace(prompt, negative="") for prompt in grid.prompts)


def first_of_text(prompts: Iterable[Prompt]) -> dict[str, str]:
    """{identifier: the identifier of the first prompt whose text and negative read the same, and whose pictures are the same
    files}. In a tool's syntax upper and lower case are two, as BREAK is not break."""
    firsts: dict[tuple[Any, ...], str] = {}
    return {p.id: firsts.setdefault(_question(p), p.id) for p in prompts}


def _question(prompt: Prompt) -> tuple[Any, ...]:
    pictures = tuple(sorted(prompt.pictures.items()))
    if prompt.syntax in ("", PLAIN):
        return as_read(prompt.text), as_read(prompt.negative), "", pictures
    return tidy(prompt.text), tidy(prompt.negative), prompt.syntax, pictures


def same_texts(prompts: Iterable[Prompt]) -> list[tuple[str, ...]]:
    """The identifiers of prompts that read the same, each group in declared order; prompts alone in theirs are left out."""
    groups: dict[str, list[str]] = {}
    for name, first in first_of_text(prompts).items():
        groups.setdefault(first, []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def distinct(prompts: Iterable[Prompt]) -> int:
    """How many different texts the prompts have."""
    return len(set(first_of_text(prompts).values()))


def prompts_hash(prompts: Iterable[Prompt]) -> str:
    """The `short_hash` of all that a text encoder is given: identifiers, texts and negative texts, in order."""
    return short_hash([[prompt.id, *texts_in_key(prompt)] for prompt in prompts])
