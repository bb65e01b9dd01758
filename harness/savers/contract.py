"""What a saver is, what it is asked to act on, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from harness.declare import Candidate
from harness.weights import Pipeline

if TYPE_CHECKING:
    import torch

DENOISER: Final = "denoiser"
VAE: Final = "vae"
Changes = Literal["no", "within rounding", "yes"]


class SaverError(ValueError):
    """A saver that would change nothing of a module; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The pictures that one stage decodes, as far as its grid says."""

    device: str
    width: int
    height: int
    together: int
    """The most pictures that are decoded at once; 0 where that is not known yet."""
    low_memory: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a saver would act on: a candidate of one stage and one model in its number format, with the pipeline of its model,
    which may have no values. `decoding` is None where no grid is known."""

    device: str
    candidate: Candidate
    pipeline: Pipeline
    decoding: Decoding | None = None
    steps: int = 0
    """How often the denoiser is run for a picture; 0 where that is not known."""
    low_memory: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SaverReport:
    """What a saver changed of a module, by the names of layers or parameters."""

    changed: tuple[str, ...]
    """What now runs or is stored in another way; never empty."""
    kept: tuple[str, ...] = ()
    """What it left as it was, where that needs saying."""
    notes: tuple[str, ...] = ()
    """Sentences for the page."""


@dataclass(frozen=True, kw_only=True)
class Saver:
    """A row of SAVERS. It is given a copy of a module that shares the memory of the weights, so that nothing has to be undone:
    it replaces what it changes, and never writes into a weight."""

    description: str
    """What it does, in one sentence."""
    changes_pictures: Changes
    """Whether pictures change: "no" is to the last bit, "within rounding" in the last places of the arithmetic."""
    apply: Callable[[torch.nn.Module], SaverReport] | None = None
    """Changes a module in place. Raises SaverError where there is nothing that it would change. None for a row that is always
    refused."""
    part: str = DENOISER
    """The part of the pipeline that it changes."""
    refused: str = ""
    """Why it is never offered, and what to use instead."""
    lacks: Callable[[str], str] = lambda _: ""
    """What a device ("cpu", "cuda:0") lacks; empty if nothing."""
    why_not: Callable[[Use], str] = lambda _: ""
    """Why it cannot act on this; empty if it can."""
    idle: Callable[[Use], str] = lambda _: ""
    """Why it would change nothing of this; empty if it acts."""
    idle_decoding: Callable[[Decoding], str] = lambda _: ""
    """Why it would change nothing of how these pictures are decoded, for which no file needs to be opened; empty if it acts."""
    excludes: tuple[str, ...] = ()
    """The savers that cannot act beside it."""
    changes_weights: bool = False
    """Whether the values of the weights change, so that a file of the candidate's weights would not be what was measured."""
    whole_process: bool = False
    """Whether it changes settings of the whole process while the denoiser runs, so that nothing may be computed beside it in
    another thread."""
    version: int = 1
    """Increases when the same weights give other images."""
