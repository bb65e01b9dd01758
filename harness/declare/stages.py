"""Declaration of one stage of a candidate that makes a picture in several: image to image with another model, prompt or size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.declare.guiding import Control, Reference
from harness.declare.models import Adapter, Model
from harness.declare.normalise import settle
from harness.declare.post_steps import PostStep
from harness.declare.sampling import Sampling

PROMPT: Final = "{prompt}"
"""In a stage's prompt: the prompt's own text."""
THROUGH: Final = ("latents", "pixels")
RESIZE: Final = ("lanczos", "bicubic", "nearest", "latent")
COLOUR: Final = ("", "transfer")


def stage_name(number: int) -> str:
    """What a stage is called whose number counts from 0 for the first."""
    return f"stage {number + 1}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a candidate. The first makes a picture of noise. A later one begins from the picture of the stage before it,
    noised: of its n steps the last floor(strength * n) are run, as diffusers counts them."""

    model: Model = ""
    """What is sampled; empty for the model of the stage before."""
    strength: float | None = None
    """Of a later stage: the share of its steps that are run, above 0 and at most 1."""
    prompt: str = PROMPT
    """What a later stage reads, as "{prompt}, cyberpunk night"; "{prompt}" is the prompt's own text."""
    negative: str | None = None
    """The negative text of a later stage, in place of the prompt's."""
    adapters: tuple[Adapter, ...] = ()
    """They act in this stage alone; their start and end are shares of the steps that it runs."""
    controls: tuple[Control, ...] = ()
    """They act in this stage alone."""
    references: tuple[Reference, ...] = ()
    """They act in this stage alone."""
    sampling: Sampling | None = None
    """What differs from the stage before: steps, sampler, guidance (one scale), width and height."""
    through: str = ""
    """What is handed over: "latents" (the default where both VAEs are equal and nothing happens to the picture), or "pixels":
    decoded, rounded to 8 bits as if it were saved, changed by the post-steps in `before`, resized, and encoded again."""
    resize: str = "lanczos"
    """How another size is reached: "lanczos", "bicubic" or "nearest" on pixels, or "latent" (bilinear with antialias)."""
    before: tuple[PostStep, ...] = ()
    """Post-steps of the picture that this stage begins from."""
    colour: str = ""
    """With "transfer" the stage's picture gets the colours of the picture that it began from (Reinhard in CIE Lab)."""

    def __post_init__(self) -> None:
        settle(self)
