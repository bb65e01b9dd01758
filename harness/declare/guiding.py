"""Declarations of the pictures that guide a candidate: control networks, reference pictures, and pictures to change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from harness.declare.hub_names import of_clip
from harness.declare.models import Alphas
from harness.declare.normalise import settle

STAGE_BEFORE: Final = "stage before"
"""As the picture of a control or of Canny in a later stage: the picture that this stage begins from."""


@dataclass(frozen=True, kw_only=True)
class Canny:
    """A map of edges, made of one of the prompt's pictures."""

    of: str
    """The name of the picture in `Prompt.pictures`."""
    low: float = 10.0
    """The gradient of a pixel, in levels per pixel, from which it can be on an edge. OpenCV's 100 is 12.5 here."""
    high: float = 25.0
    """The gradient that some pixel of an edge must have."""
    sigma: float = 1.0
    """The width of the Gaussian that smooths the picture first, in pixels; 0 for none."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Control:
    """A control network (ControlNet, Control-LoRA, T2I-Adapter), and the picture of each prompt that it follows. Several add
    up."""

    path: str
    """A file, a folder of diffusers, or a `zoo:` name."""
    picture: str | Canny
    """The name of one of `Prompt.pictures`, or a `Canny` of one."""
    weight: float = 1.0
    """Multiplies what it adds to the denoiser. At 0 it is not run."""
    start: float = 0.0
    """It acts at step i of n if start <= i / n < end."""
    end: float = 1.0
    """The share of the steps at which it stops acting."""
    guess: bool = False
    """Whether only the half that reads the prompt is controlled, and less from the middle outwards."""
    kind: str = ""
    """The kind of picture, for union networks (ControlNet Union, ProMax) only: "openpose", "depth", "hed",
    "pidi", "scribble", "ted", "canny", "lineart", "anime_lineart", "mlsd", "normal", "segment", and of ProMax "tile" and
    "repaint"."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An IP-Adapter (plain or plus), and the reference picture of each prompt that it is given. Several add up."""

    path: str
    """A .safetensors or .bin file, or a `zoo:` name."""
    picture: str
    """The name of one of `Prompt.pictures`. The encoder sees its middle square."""
    weight: float = 1.0
    """Multiplies the attention to the picture. At 0 it is not run."""
    blocks: Alphas | None = None
    """Multiplies the weight by key pattern, as Alphas(default=0, keys={"*up_blocks.0.attentions.1*": 1})."""
    encoder: str = ""
    """The image encoder: "ARCHITECTURE:file" as in Suite.clip, a transformers folder, or empty for the suite's CLIP."""
    start: float = 0.0
    """It acts at step i of n if start <= i / n < end."""
    end: float = 1.0
    """The share of the steps at which it stops acting."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """The picture that a candidate changes, and the mask of where, both by their names in `Prompt.pictures`. White is changed,
    black is kept."""

    picture: str
    """The name of the picture, of the size of the images."""
    mask: str
    """The name of the mask, of the same size. Levels from 128 on count as white."""
    strength: float = 1.0
    """The share of the steps that are run, on the noised picture. At 1 they begin from noise alone."""

    def __post_init__(self) -> None:
        settle(self)


def encoded_by(references: tuple[Reference, ...], clip: str) -> tuple[Reference, ...]:
    """The references, with this CLIP model as the encoder of those that name none."""
    # Alone, the address of a repository means a folder of transformers to an encoder, and open_clip's file to a suite.
    clip = of_clip(clip) if isinstance(clip, str) else clip
    return tuple(replace(one, encoder=clip) if isinstance(one, Reference) and one.encoder == "" else one for one in references)
