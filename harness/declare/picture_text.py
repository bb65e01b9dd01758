"""What a picture's text says of how it was made, whichever tool wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class PictureText:
    """How a picture was made, as far as its file says; None, 0 or empty text where it does not."""

    tool: str
    """Who wrote the text: "A1111", "Forge", "ComfyUI", "InvokeAI" or "Sweetspot"."""
    syntax: str
    """The markup of its prompts: "a1111", "comfyui" or "plain"."""
    prompt: str
    """The prompt."""
    negative: str = ""
    """The negative prompt."""
    second_prompt: str = ""
    """The prompt of the second text encoder, where it is another one."""
    second_negative: str = ""
    """The negative prompt of the second text encoder, where it is another one."""
    seed: int | None = None
    """The tool's seed, which gives other noise here."""
    steps: int | None = None
    """Denoising steps."""
    sampler: str = ""
    """The sampler, as the tool spells it."""
    schedule: str = ""
    """The schedule, as the tool spells it."""
    guidance: float | None = None
    """The guidance scale (CFG)."""
    width: int | None = None
    """In pixels, as the tool writes the size: of most tools that of the first pass."""
    height: int | None = None
    """In pixels, as the tool writes the size: of most tools that of the first pass."""
    clip_skip: int | None = None
    """As A1111 counts: 1 is the last layer of the text encoder."""
    model: str = ""
    """The model's name or file."""
    model_hash: str = ""
    """The model's hash, as the tool writes it."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Everything else that was found, by the tool's names."""

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
