"""The branches of a phase while it is live: the pipelines that predict together, each with its texts and its weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.declare import Prompt
from harness.sampling.text import TextState, encode
from harness.weights.denoiser_streams import may_overlap

if TYPE_CHECKING:
    from harness.materialise import Branch, LiveStage, Phase
    from harness.weights import Pipeline
    from harness.weights.denoiser_streams import DenoiserStreams


@dataclass(frozen=True, kw_only=True)
class LiveBranch:
    """A pipeline that predicts with these texts; `weight` is its share of the prediction."""

    pipeline: Pipeline
    text: TextState
    weight: float = 1.0
    streams: DenoiserStreams | None = None
    """How the branches of its phase predict on a GPU, where they could do it at once."""


def alone(pipeline: Pipeline, text: TextState) -> tuple[LiveBranch, ...]:
    """The branches of a single model."""
    return (LiveBranch(pipeline=pipeline, text=text),)


def entered(phase: Phase, texts: Mapping[str, TextState]) -> tuple[LiveBranch, ...]:
    """Makes every branch of a phase live. `texts` are by the branches' `text_identity`."""
    live = [LiveBranch(pipeline=branch.enter(), text=texts[branch.text_identity], weight=branch.weight)
            for branch in phase.branches]
    streams = phase.streams if may_overlap([branch.pipeline for branch in live]) else None
    return tuple(replace(branch, streams=streams) for branch in live)


def embedded(phases: Sequence[Phase], prompts: Iterable[Prompt], *, steps: int = 1,
             stages: Sequence[LiveStage] = ()) -> dict[str, TextState]:
    """The texts of every branch of the phases by its `text_identity`, each embedded once, and those of the later `stages`, which
    read prompts and count steps of their own."""
    texts = dict[str, TextState]()
    for branch, listed, count in read_by(phases, tuple(prompts), steps, stages):
        if branch.text_identity not in texts:
            texts[branch.text_identity] = encode(branch.enter(), listed, branch.treatment, steps=count)
    return texts


def read_by(phases: Sequence[Phase], prompts: tuple[Prompt, ...], steps: int,
            stages: Sequence[LiveStage] = ()) -> Iterator[tuple[Branch, tuple[Prompt, ...], int]]:
    """Every branch of all stages with the prompts that it reads and the steps along which these may change."""
    for of, listed, count in ((phases, prompts, steps), *((s.phases, s.grid.prompts, s.grid.steps) for s in stages)):
        yield from ((branch, listed, count) for phase in of for branch in phase.branches)
