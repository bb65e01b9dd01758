"""The texts of InvokeAI: `invokeai_metadata` (from version 3 on), `sd-metadata` (2) and `Dream` (1 and 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from harness.declare.listing import brief
from harness.declare.picture_text import PictureText, number, whole_number

METADATA, OLD_METADATA, DREAM = "invokeai_metadata", "sd-metadata", "Dream"
_USED: Final = ("positive_prompt", "negative_prompt", "positive_style_prompt", "negative_style_prompt", "seed", "steps",
                "scheduler", "cfg_scale", "width", "height", "clip_skip", "model")
_OLD_USED: Final = ("prompt", "seed", "steps", "sampler", "cfg_scale", "width", "height")
_NEGATIVE: Final = re.compile(r"\[([^\[\]]*)\]")
_OPTION: Final = re.compile(r"-(s|S|W|H|C|A|-steps|-seed|-width|-height|-cfg_scale|-sampler)[ =]?([\w.+-]+)")
_OPTIONS: Final = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler"}


def from_metadata(data: Mapping[str, Any]) -> PictureText:
    """What an `invokeai_metadata` text says, parsed as JSON. Raises ValueError where it has no prompt."""
    prompt, negative = _word(data, "positive_prompt"), _word(data, "negative_prompt")
    if "positive_prompt" not in data:
        raise ValueError("its InvokeAI metadata has no positive_prompt")
    model = data.get("model")
    names: Mapping[str, Any] = model if isinstance(model, Mapping) else {}
    skipped = whole_number(data.get("clip_skip"))
    return PictureText(
        tool="InvokeAI", syntax="plain", prompt=prompt, negative=negative,
        second_prompt=_other(_word(data, "positive_style_prompt"), prompt),
        second_negative=_other(_word(data, "negative_style_prompt"), negative),
        seed=whole_number(data.get("seed")), steps=whole_number(data.get("steps"), 1), sampler=_word(data, "scheduler"),
        guidance=number(data.get("cfg_scale")), width=whole_number(data.get("width"), 1),
        height=whole_number(data.get("height"), 1),
        # InvokeAI counts the layers that are skipped: 0 is the last layer.
        clip_skip=None if skipped is None else skipped + 1,
        model=_word(names, "name") or _word(names, "model_name"), model_hash=_word(names, "hash"),
        others=_others(data, _USED))


def from_old_metadata(data: Mapping[str, Any]) -> PictureText:
    """What an `sd-metadata` text says, parsed as JSON. Raises ValueError where it has no prompt."""
    image = data.get("image")
    if not isinstance(image, Mapping) or "prompt" not in image:
        raise ValueError("its InvokeAI metadata has no prompt")
    parts = image["prompt"]
    if isinstance(parts, list):
        texts = [str(part.get("prompt", "")) for part in parts if isinstance(part, Mapping)]
        if len(texts) != 1:
            raise ValueError(f"its InvokeAI metadata has {len(texts)} weighted prompts; one can be read")
        parts = texts[0]
    prompt, negative = _split(str(parts))
    return PictureText(
        tool="InvokeAI", syntax="plain", prompt=prompt, negative=negative, seed=whole_number(image.get("seed")),
        steps=whole_number(image.get("steps"), 1), sampler=_word(image, "sampler"), guidance=number(image.get("cfg_scale")),
        width=whole_number(image.get("width"), 1), height=whole_number(image.get("height"), 1),
        model=_word(data, "model_weights"), model_hash=_word(data, "model_hash"), others=_others(image, _OLD_USED))


def from_dream(text: str) -> PictureText:
    """What a `Dream` text says: a prompt in quotation marks, and options such as `-s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms`."""
    quoted = re.match(r'\s*"((?:[^"\\]|\\.)*)"', text)
    if quoted is None:
        raise ValueError("its InvokeAI text does not begin with a prompt in quotation marks")
    prompt, negative = _split(quoted[1].replace('\\"', '"'))
    given = {_OPTIONS.get(name, name.lstrip("-")): value for name, value in _OPTION.findall(text[quoted.end():])}
    return PictureText(
        tool="InvokeAI", syntax="plain", prompt=prompt, negative=negative, seed=whole_number(given.get("seed")),
        steps=whole_number(given.get("steps"), 1), sampler=given.get("sampler", ""), guidance=number(given.get("cfg_scale")),
        width=whole_number(given.get("width"), 1), height=whole_number(given.get("height"), 1))


def _split(text: str) -> tuple[str, str]:
    """Prompt and negative prompt, which was written in square brackets."""
    negative = " ".join(part.strip() for part in _NEGATIVE.findall(text))
    return " ".join(_NEGATIVE.sub(" ", text).split()), negative


def _word(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _other(text: str, than: str) -> str:
    return "" if text.strip() in ("", than.strip()) else text


def _others(data: Mapping[str, Any], used: tuple[str, ...]) -> dict[str, str]:
    return {str(name): brief(str(value), 500) for name, value in data.items()
            if name not in used and value not in (None, "", [], {})}
