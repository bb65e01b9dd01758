"""The texts of a prompt as the keys of its images have them: with how they are read, where that is not plainly."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from harness.declare.suite import Prompt

CHUNKING: Final = 1
"""Raise it when long texts are divided into other chunks."""


def place(prompt: Prompt, role: str) -> str:
    """The name of a prompt's text ("prompt") or negative text ("negative") in the coverage of the prompts."""
    return f"{prompt.id} ({role})"


def texts_in_key(prompt: Prompt, chunked: Collection[str] = ()) -> tuple[str, str]:
    """The text and the negative text of a prompt, which determine its images. `chunked` are the places of texts that are longer
    than the text encoder: earlier versions cut them off, so they are marked."""
    texts = (("prompt", prompt.text), ("negative", prompt.negative))
    text, negative = (_marked(text, place(prompt, role) in chunked) for role, text in texts)
    return text, negative


def _marked(text: str, is_chunked: bool) -> str:
    return f"{text}\n[in chunks, {CHUNKING}]" if is_chunked else text
