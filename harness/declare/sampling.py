"""How a candidate is sampled, where that differs from its suite's grid."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from harness.declare.normalise import settle
from harness.declare.sampler_names import canonical

GRID_FIELDS: Final = {"sampler": "sampler", "steps": "steps", "guidance": "guidance_scales", "width": "width", "height": "height"}
"""The fields of Sampling that a Grid has itself, by what it calls them."""
NEUTRAL: Final = {"schedule": "", "guidance_rescale": 0.0, "guidance_start": 0.0, "guidance_end": 1.0, "clip_skip": 1}
"""Values that ask for nothing, so that they make the same images as no value."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are sampled, where that differs; None leaves what the grid says."""

    sampler: str | None = None
    """As A1111, ComfyUI and InvokeAI name it, or we, see docs/api.md#samplers: "DPM++ 2M Karras" is "dpmpp_2m" with the schedule
    "karras"."""
    schedule: str | None = None
    """How the noise falls along the steps, see docs/api.md#schedules. The schedule "" is the sampler's own timesteps, as
    diffusers has them for the checkpoint."""
    steps: int | None = None
    """Denoising steps."""
    guidance: float | tuple[float, ...] | None = None
    """A guidance scale, or several, in place of the grid's."""
    guidance_rescale: float | None = None
    """Phi of CFG rescale, from 0 to 1 (arXiv 2305.08891)."""
    guidance_start: float | None = None
    """The share of the steps at which guidance begins. Before it only the prompt is followed."""
    guidance_end: float | None = None
    """The share of the steps at which guidance ends. After it only the prompt is followed."""
    clip_skip: int | None = None
    """As A1111 counts: 1 is the last layer of the text encoder, 2 the one before."""
    eta: float | None = None
    """How much new noise a sampler draws at each step."""
    shift: float | None = None
    """Moves the steps of a flow model to more noise."""
    width: int | None = None
    """In pixels, a multiple of 8."""
    height: int | None = None
    """In pixels, a multiple of 8."""

    def __post_init__(self) -> None:
        settle(self)
        sampler, schedule = canonical(self.sampler, self.schedule)
        object.__setattr__(self, "sampler", sampler)
        object.__setattr__(self, "schedule", schedule)
        if isinstance(self.guidance, float):  # one scale and a tuple of it declare the same
            object.__setattr__(self, "guidance", (self.guidance,))

    @property
    def scales(self) -> tuple[float, ...] | None:
        """The guidance scales in place of the grid's."""
        return self.guidance if isinstance(self.guidance, tuple) else None

    @property
    def given(self) -> dict[str, Any]:
        """The values that are not None, by field."""
        return {spec.name: value for spec in fields(self) if (value := getattr(self, spec.name)) is not None}
