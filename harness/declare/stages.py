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


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a candidate. The first makes a picture of noise. A later one begins from the picture of the stage before it,
    noised: of its n steps the last floor(strength * n) are run, as diffusers counts them.

    An empty `model` is that of the stage before. `prompt` may rewrite the prompt, as "{prompt}, cyberpunk night"; `negative`
    replaces the negative prompt, where it is not None. `adapters`, `controls` and `references` act in this stage alone. In
    `sampling` a later stage says what differs from the stage before: steps, sampler, guidance (one scale), width and height.

    `through` says what is handed over: "latents" (the default where both VAEs are equal and nothing happens to the picture), or
    "pixels": decoded, rounded to 8 bits as if it were saved, changed by the post-steps in `before`, and encoded again. A size
    that differs is reached by `resize`: "lanczos", "bicubic" or "nearest" on pixels, or "latent" (bilinear with antialias).
    colour="transfer" gives the stage's picture the colours of the picture that it began from (Reinhard in CIE Lab).
    """

    model: Model = ""
    strength: float | None = None
    prompt: str = PROMPT
    negative: str | None = None
    adapters: tuple[Adapter, ...] = ()
    controls: tuple[Control, ...] = ()
    references: tuple[Reference, ...] = ()
    sampling: Sampling | None = None
    through: str = ""
    resize: str = "lanczos"
    before: tuple[PostStep, ...] = ()
    colour: str = ""

    def __post_init__(self) -> None:
        settle(self)
