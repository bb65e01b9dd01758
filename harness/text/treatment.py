"""The treatment of a text in a text encoder, and the resulting embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Word:
    """A textual inversion for one encoder: `token`, as written in prompts, is replaced by `vectors` (n, width), n consecutive
    input embeddings. Gal et al. 2022, https://arxiv.org/abs/2208.01618

    An encoder whose `component` it does not name reads the token as ordinary text. `file_word`, if any, means the same in texts
    without the token: see `as_written`.
    """

    component: str
    token: str
    vectors: Tensor
    file_word: str = ""


@dataclass(frozen=True, kw_only=True)
class Aesthetic:
    """An aesthetic gradient: its direction and strength. Gallego 2022, https://arxiv.org/abs/2209.12330

    `embedding` (dim,) is the mean CLIP embedding of the images, with any norm. `projection` (width, dim) maps the text
    encoder's pooled state into that space: pooled @ projection, the transpose of CLIP's `text_projection.weight`. `weight` is
    the share of the steered encoder's states, `steps` the number of Adam steps and `rate` their learning rate.
    """

    embedding: Tensor
    projection: Tensor
    weight: float
    steps: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """Everything that is done to a text. `weights` weigh words or phrases, by the row `method` of WEIGHTINGS. `clip_skip` is that
    of Sampling; None takes the layer that the encoder's family takes."""

    words: tuple[Word, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    method: str = "a1111"
    aesthetic: Aesthetic | None = None
    clip_skip: int | None = None


PLAIN: Final = Treatment()
"""No treatment: the states are those of the encoder alone, bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """One text's embedding, on the encoder's device and in its dtype.

    `states` (tokens, width) of the encoder's `layer`, of all chunks of the text one after another; `pooled` (width,) is the
    projected embedding of the first chunk, None for an encoder without one. `occurring` are the tokens of the treatment's words
    for this encoder, and the keys of its weights, that occur in the text.
    """

    states: Tensor
    pooled: Tensor | None
    occurring: frozenset[str]
