"""How many positions the denoiser is given of a cell's texts. The shape of its batch decides an image's last bits, so it follows
from the cell's own texts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING, TypeAlias

from harness.declare import Grid, Prompt
from harness.declare.prompt_texts import NEGATIVE, POSITIVE, text_at
from harness.declare.syntax import Text
from harness.records import Cell
from harness.sampling.text import Conditions, TextState

if TYPE_CHECKING:
    import torch

    from harness.materialise import LiveStage, Phase

Lengths: TypeAlias = "tuple[int, ...]"


def common_length(conditions: Sequence[Conditions]) -> int:
    """The positions that conditions of different numbers of chunks get side by side: their least common multiple, to which each
    is repeated. Attention to a text that is repeated whole is attention to the text, so this is as if each were alone."""
    return lcm(*(len(condition.states) for condition in conditions))


def repeated(states: torch.Tensor, length: int) -> torch.Tensor:
    """States (tokens, width), repeated to `length` positions."""
    return states if len(states) == length else states.repeat(length // len(states), 1)


def lengths_of(phases: Sequence[Phase], texts: Mapping[str, TextState], grid: Grid,
               stages: Sequence[LiveStage] = ()) -> Callable[[Cell], Lengths]:
    """For each cell the positions of its texts along the steps of each branch of each phase, also of the later `stages`. Cells of
    equal ones can share a batch. `texts` are by the branches' `text_identity`."""
    first, later = _of_one(phases, texts, grid), [(stage, _of_one(stage.phases, texts, stage.grid)) for stage in stages]
    if not later:
        return first
    return lambda cell: (*first(cell), *(length for stage, of in later for length in of(stage.cells([cell])[0])))


def _of_one(phases: Sequence[Phase], texts: Mapping[str, TextState], grid: Grid) -> Callable[[Cell], Lengths]:
    prompts, edges = {prompt.id: prompt for prompt in grid.prompts}, [*(phase.first for phase in phases), grid.steps]
    read = [(texts[branch.text_identity], range(first, end)) for phase, (first, end) in zip(phases, pairwise(edges), strict=True)
            for branch in phase.branches]

    def of(prompt: Prompt, role: str, step: int) -> Text:
        return text_at(prompt, role, step, grid.steps)

    @cache
    def of_prompt(name: str, guided: bool) -> Lengths:
        prompt = prompts[name]
        lengths: list[int] = []
        for text, steps in read:
            if not text.positive:  # the texts are read by the folder's own pipeline
                continue
            for words, negative in dict.fromkeys((of(prompt, POSITIVE, step), of(prompt, NEGATIVE, step)) for step in steps):
                positive = text.positive[words]
                lengths.append(len(positive.states))  # also of a cell with guidance, which may act at some of the steps alone
                lengths += [common_length([positive, text.negative[negative]])] if guided else []
        return tuple(lengths)

    return lambda cell: of_prompt(cell.prompt, cell.guidance != 1)
