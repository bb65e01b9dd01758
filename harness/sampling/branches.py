"""The branches of a phase while it is live: the pipelines that predict together, each with its texts and its weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.declare import Prompt
from harness.sampling.text import TextState, encode

if TYPE_CHECKING:
    from harness.materialise import Phase
    from harness.weights import Pipeline


@dataclass(frozen=True, kw_only=True)
class LiveBranch:
    """A pipeline that predicts with these texts; `weight` is its share of the prediction."""

    pipeline: Pipeline
    text: TextState
    weight: float = 1.0


def alone(pipeline: Pipeline, text: TextState) -> tuple[LiveBranch, ...]:
    """The branches of a single model."""
    return (LiveBranch(pipeline=pipeline, text=text),)


def entered(phase: Phase, texts: Mapping[str, TextState]) -> tuple[LiveBranch, ...]:
    """Makes every branch of a phase live. `texts` are by the branches' `text_identity`."""
    return tuple(LiveBranch(pipeline=branch.enter(), text=texts[branch.text_identity], weight=branch.weight)
                 for branch in phase.branches)


def embedded(phases: Sequence[Phase], prompts: Iterable[Prompt], *, steps: int = 1) -> dict[str, TextState]:
    """The texts of every branch of the phases by its `text_identity`, each embedded once."""
    listed, texts = tuple(prompts), dict[str, TextState]()
    for branch in (branch for phase in phases for branch in phase.branches):
        if branch.text_identity not in texts:
            texts[branch.text_identity] = encode(branch.enter(), listed, branch.treatment, steps=steps)
    return texts
