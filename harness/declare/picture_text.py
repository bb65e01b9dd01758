"""What a picture's text says of how it was made, whichever tool wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PictureText:
    """How a picture was made, as far as its file says; None, 0 or empty text where it does not.

    `tool` wrote the text ("A1111", "Forge", "ComfyUI", "InvokeAI", "Sweetspot"), and `syntax` names the markup of its prompts
    ("a1111", "comfyui" or "plain"). `second_prompt` and `second_negative` are the texts of the second text encoder where they
    are others. `sampler` and `schedule` are as the tool spells them, `clip_skip` counts as A1111 does (1 is the last layer),
    `others` is everything else that was found, by the tool's names.
    """

    tool: str
    syntax: str
    prompt: str
    negative: str = ""
    second_prompt: str = ""
    second_negative: str = ""
    seed: int | None = None
    steps: int | None = None
    sampler: str = ""
    schedule: str = ""
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    clip_skip: int | None = None
    model: str = ""
    model_hash: str = ""
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """{name: value} of all that was found about the sampling and the model, in words of a suite."""
        size = f"{self.width}x{self.height}" if self.width and self.height else ""
        values = {"seed": self.seed, "steps": self.steps, "sampler": self.sampler, "schedule": self.schedule,
                  "guidance": self.guidance, "size": size, "clip_skip": self.clip_skip, "model": self.model,
                  "model_hash": self.model_hash}
        return {name: f"{value:g}" if isinstance(value, float) else str(value)
                for name, value in values.items() if value not in (None, "")}


def whole_number(value: object, least: int = 0) -> int | None:
    """The integer that a value of a text or of JSON is; None for anything else, and below `least`."""
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
    elif isinstance(value, float):
        value = int(value) if value.is_integer() and abs(value) < 2 ** 53 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value < 2 ** 64 else None


def number(value: object) -> float | None:
    """The finite number that a value of a text or of JSON is; None for anything else."""
    try:
        result = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else float("nan")
    except (ValueError, OverflowError):
        return None
    return result if abs(result) < float("inf") else None
