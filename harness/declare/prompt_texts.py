"""The texts of prompts: as a text encoder is given them at each step, as images are scored by them, and as they stand in keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from harness.declare.grid import Prompt
from harness.declare.prompt_groups import spelled
from harness.declare.syntax import PLAIN, SYNTAXES, Parsed, Text, parse

CHUNKING: Final = 1
"""Raise it when long texts are divided into other chunks."""
POSITIVE: Final = "prompt"
NEGATIVE: Final = "negative"
ROLES: Final = (POSITIVE, NEGATIVE)
"""The two texts of a prompt, as messages and records name them."""


def place(prompt: Prompt, role: str) -> str:
    """The name of a prompt's text ("prompt") or negative text ("negative") in the coverage of the prompts."""
    return f"{prompt.id} ({role})"


def parsed(prompt: Prompt, role: str = POSITIVE) -> Parsed:
    """A prompt's text or negative text, read by the rules of its syntax. Raises MarkupError for markup that cannot be
    followed."""
    return parse(prompt.text if role == POSITIVE else prompt.negative, prompt.syntax)


def text_at(prompt: Prompt, role: str, step: int, steps: int) -> Text:
    """What a text encoder is given of a prompt for a step, counted from 0."""
    return next(span.text for span in parsed(prompt, role).spans(steps) if step < span.until)


def texts_of(prompt: Prompt, role: str, steps: int) -> tuple[Text, ...]:
    """The different texts of a prompt along the steps."""
    return tuple(dict.fromkeys(span.text for span in parsed(prompt, role).spans(steps)))


def change_along_steps(prompts: Iterable[Prompt]) -> bool:
    """Whether a text or a negative text changes along the steps, so that what is read depends on their number."""
    return any(parsed(prompt, role).changes for prompt in prompts for role in ROLES)


def all_texts(prompts: Iterable[Prompt], steps: int, roles: Collection[str] = ROLES) -> tuple[Text, ...]:
    """The different texts of all prompts along the steps."""
    return tuple(dict.fromkeys(text for prompt in prompts for role in roles for text in texts_of(prompt, role, steps)))


def scored_text(prompt: Prompt) -> str:
    """The text by which images are scored and named: without markup; of a text that changes along the steps, the last."""
    return parsed(prompt).plain


def shown_text(prompt: Prompt) -> str:
    """The text by which a prompt is shown: `scored_text`, or as it is written where nobody can read its markup; behind it the
    adapters that it brings."""
    try:
        text = scored_text(prompt)
    except ValueError:  # of a later version, or of somebody else's making
        text = prompt.text
    return f"{text} (with {spelled(prompt.adapters)})" if prompt.adapters else text


def texts_in_key(prompt: Prompt, chunked: Collection[str] = ()) -> tuple[str, str]:
    """The text and the negative text of a prompt, which determine its images, with their syntax. `chunked` are the places of
    texts that are longer than the text encoder: earlier versions cut them off, so they are marked."""
    texts = ((POSITIVE, prompt.text), (NEGATIVE, prompt.negative))
    text, negative = (_marked(text, prompt.syntax, place(prompt, role) in chunked) for role, text in texts)
    return text, negative


def _marked(text: str, syntax: str, is_chunked: bool) -> str:
    if syntax not in ("", PLAIN):
        version = SYNTAXES[syntax].version if syntax in SYNTAXES else 0
        text = f"{text}\n[{syntax}, {version}]"
    return f"{text}\n[in chunks, {CHUNKING}]" if is_chunked else text
