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
    """How images are sampled, where that differs; None leaves what the grid says.

    Samplers and schedules may be named as A1111, ComfyUI and InvokeAI do: "DPM++ 2M Karras" is "dpmpp_2m" with the schedule
    "karras". The schedule "" is the sampler's own timesteps, as diffusers has them for the checkpoint.
    `guidance` is a guidance scale, or several, in place of the grid's. `guidance_rescale` is phi of arXiv 2305.08891.
    `guidance_start` and `guidance_end` are shares of the steps between which guidance acts; outside them only the prompt is
    followed. `clip_skip` counts as A1111 does: 1 is the last layer of the text encoder, 2 the one before.
    """

    sampler: str | None = None
    schedule: str | None = None
    steps: int | None = None
    guidance: float | tuple[float, ...] | None = None
    guidance_rescale: float | None = None
    guidance_start: float | None = None
    guidance_end: float | None = None
    clip_skip: int | None = None
    eta: float | None = None
    shift: float | None = None
    width: int | None = None
    height: int | None = None

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
