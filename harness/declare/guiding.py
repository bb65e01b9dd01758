"""Declarations of the pictures that guide a candidate: control networks, reference pictures, and pictures to change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from harness.declare.models import Alphas
from harness.declare.normalise import settle

STAGE_BEFORE: Final = "stage before"
"""As the picture of a control or of Canny in a later stage: the picture that this stage begins from."""


@dataclass(frozen=True, kw_only=True)
class Canny:
    """A map of edges, made of the prompt's picture named `of`, or of STAGE_BEFORE. `low` and `high` are the thresholds of the
    gradient in levels per pixel, and `sigma` is the Gaussian's, in pixels."""

    of: str
    low: float = 10.0
    high: float = 25.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Control:
    """A control network or T2I-Adapter (file, folder or `zoo:` name), and the picture that it follows: the name of one of
    `Prompt.pictures`, or a Canny of one. `weight` multiplies what it adds to the denoiser.

    It acts at step i of n if start <= i / n < end. With `guess` only the conditional half is controlled, with scales that fall
    towards the outer blocks. `kind` is what a union network is told that the picture is, such as "canny" or "openpose".
    """

    path: str
    picture: str | Canny
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    guess: bool = False
    kind: str = ""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An IP-Adapter (file or `zoo:` name), and the reference picture that it is given: the name of one of `Prompt.pictures`.
    `weight` multiplies its attention; `blocks` multiplies the weight by key pattern, as in Alphas(default=0,
    keys={"*up_blocks.0.attentions.1*": 1}).

    `encoder` is the image encoder: "ARCHITECTURE:file" as in Suite.clip, a transformers folder, or "" for the suite's CLIP. It
    acts at step i of n if start <= i / n < end.
    """

    path: str
    picture: str
    weight: float = 1.0
    blocks: Alphas | None = None
    encoder: str = ""
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Inpaint:
    """The picture that a candidate changes, and the mask of where, both by their names in `Prompt.pictures`. White is changed,
    black is kept. `strength` is the share of the steps that are run on the noised picture."""

    picture: str
    mask: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        settle(self)


def encoded_by(references: tuple[Reference, ...], clip: str) -> tuple[Reference, ...]:
    """The references, with this CLIP model as the encoder of those that name none."""
    return tuple(replace(one, encoder=clip) if isinstance(one, Reference) and one.encoder == "" else one for one in references)
