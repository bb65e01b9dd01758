"""The `parameters` text of A1111 and Forge, read and written: prompt, negative prompt, and a last line of "name: value" pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from harness.declare.picture_text import PictureText, number, whole_number

NEGATIVE: Final = "Negative prompt:"
_PAIR: Final = re.compile(r'(\w[\w \-/]{0,80}):[ \t]{0,9}("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
"""As A1111 reads them, with bounds that keep the time of hostile lines linear."""
_SIZE: Final = re.compile(r"(\d{1,6})x(\d{1,6})")
_FEWEST_PAIRS: Final = 3
"""A last line with fewer pairs belongs to the prompt, for A1111 as well."""
_USED: Final = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Clip skip", "Model", "Model hash")
_TOOLS: Final = (("Sweetspot", re.compile("sweetspot ", re.I)), ("ComfyUI", re.compile("comfyui", re.I)),
                 ("Forge", re.compile(r"f\d|neo|.*forge", re.I)))
"""By the text of "Version": Forge's begins with f and a number."""


def from_parameters(text: str) -> PictureText:
    """What a `parameters` text says. Raises ValueError for a text without a last line of settings and without a prompt."""
    *lines, last = text.replace("\r\n", "\n").strip().split("\n")
    pairs = {name.strip(): _unquoted(value.strip()) for name, value in _PAIR.findall(last)}
    if len(_PAIR.findall(last)) < _FEWEST_PAIRS:
        lines, pairs = [*lines, last], {}
    prompt, negative = _prompts(lines)
    if not pairs and not negative:
        raise ValueError("its text has no line of settings such as 'Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1'")
    tool = next((name for name, start in _TOOLS if start.match(pairs.get("Version", ""))), "A1111")
    size = _SIZE.fullmatch(pairs.get("Size", ""))
    return PictureText(
        tool=tool, syntax="comfyui" if tool == "ComfyUI" else "a1111", prompt=prompt, negative=negative,
        seed=whole_number(pairs.get("Seed")), steps=whole_number(pairs.get("Steps"), 1), sampler=pairs.get("Sampler", ""),
        schedule=pairs.get("Schedule type", ""), guidance=number(pairs.get("CFG scale")),
        width=int(size[1]) if size else None, height=int(size[2]) if size else None,
        clip_skip=whole_number(pairs.get("Clip skip"), 1), model=pairs.get("Model", ""), model_hash=pairs.get("Model hash", ""),
        others={name: value for name, value in pairs.items() if name not in _USED})


def to_parameters(picture: PictureText) -> str:
    """The text that `from_parameters` reads back, for prompts without blanks at the ends of their lines and without lines that
    look like settings or begin with "Negative prompt:"."""
    size = f"{picture.width}x{picture.height}" if picture.width and picture.height else None
    values: Mapping[str, object] = {
        "Steps": picture.steps, "Sampler": picture.sampler, "Schedule type": picture.schedule, "CFG scale": picture.guidance,
        "Seed": picture.seed, "Size": size, "Model hash": picture.model_hash, "Model": picture.model,
        "Clip skip": picture.clip_skip, **picture.others}
    words = {name: f"{value:.17g}" if isinstance(value, float) else str(value) for name, value in values.items()
             if value not in (None, "")}
    negative = [f"{NEGATIVE} {picture.negative}"] if picture.negative else []
    return "\n".join([picture.prompt, *negative, ", ".join(f"{name}: {_quoted(value)}" for name, value in words.items())])


def _prompts(lines: list[str]) -> tuple[str, str]:
    prompt, negative = list[str](), list[str]()
    into = prompt
    for line in lines:
        text = line.strip()
        if text.startswith(NEGATIVE):
            into, text = negative, text.removeprefix(NEGATIVE).strip()
        into.append(text)
    return "\n".join(prompt).strip(), "\n".join(negative).strip()


def _quoted(text: str) -> str:
    """A value with a comma, a colon or an end of line as a JSON string, which is how A1111 quotes it."""
    plain = not re.search(r'[,:\n\r"\\]', text) and text == text.strip()
    return text if plain else json.dumps(text, ensure_ascii=False)


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else text
