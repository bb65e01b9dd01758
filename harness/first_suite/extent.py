"""How much a first suite asks for: as much as its time allows at the pace that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.check.expected_time import duration
from harness.first_suite.given_files import UnfitFileError
from harness.first_suite.prompts import Prompts
from harness.first_suite.questions import Question, Values

SCALES: Final = {"flux": ((2, 3.5, 5), (2, 4), (3.5,)), "sd3": ((3, 4.5, 7), (4, 7), (5,))}
_SCALES_ELSEWHERE: Final = ((3, 5, 7.5), (4, 7), (5,))
FIRST_SHARE: Final = 0.5
"""The largest share of the time that the first look, which is taken in any case, may take."""
MARGIN: Final = 1.3
"""Seconds that go by per second of sampling: measuring, writing, judging."""
ROUNDS: Final = 3
FEW: Final = 5
"""Values of an axis that show its shape to somebody who looks for the first time."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How many values, guidance scales, seeds and prompts; `first` are the prompts of the first look, 0 without looks."""

    values: Values
    scales: Values
    seeds: int
    first: int
    count: int | None = None

    def images(self, question: Question, prompts: Prompts) -> int:
        """Images that are made in any case: those of the first look, or of the whole grid."""
        each = self.first or prompts.select + prompts.confirm
        return question.count(self.values) * len(self.scales) * self.seeds * each


def extents(question: Question, prompts: Prompts, family: str, built_in_set: bool, tiny: bool = False) -> list[Extent]:
    """The extents that a suite may have, from the largest to the smallest; two for models so tiny that a few
    minutes are enough for the larger."""
    scales = SCALES.get(family, _SCALES_ELSEWHERE)
    most = prompts.select // 2
    if not question.raced or most < 2 or not prompts.confirm:
        counts = (48, 24, 16, 8, 4) if built_in_set else (None,)
        return [Extent(values=question.values[0], scales=scales[2 if question.one_scale else 0], seeds=1, first=0, count=count)
                for count in counts]
    if tiny:
        few = next((values for values in question.values if len(values) <= FEW), question.values[-1])
        return [Extent(values=few, scales=scales[0][:2], seeds=1, first=max(2, min(6, most))),
                Extent(values=question.values[-1], scales=scales[2], seeds=1, first=2)]
    plan = ((0, 0, 2, 8), (0, 0, 1, 8), (0, 0, 1, 4), (1, 1, 1, 4), (1, 2, 1, 3), (2, 2, 1, 2))
    return [Extent(values=question.values[min(values, len(question.values) - 1)], scales=scales[scale], seeds=seeds,
                   first=max(2, min(first, most))) for values, scale, seeds, first in plan]


def fitting(listed: list[Extent], question: Question, prompts_of: Mapping[int | None, Prompts], pace: float,
            seconds: float) -> Extent:
    """The largest extent whose first images take no more than their share of the seconds, at `pace` seconds an image. Raises
    UnfitFileError if even the smallest takes longer than there is."""
    takes = {id(one): MARGIN * pace * one.images(question, prompts_of[one.count]) for one in listed}
    share = FIRST_SHARE if listed[0].first else 1.0
    for one in listed:
        if takes[id(one)] <= share * seconds:
            return one
    least = listed[-1]
    if takes[id(least)] <= seconds:
        return least
    raise UnfitFileError(f"at {pace:.3g} s an image the smallest suite takes about {duration(takes[id(least)])}, and "
                         f"{duration(max(seconds, 0))} are left; give --minutes {int(takes[id(least)] / 60 * 2) + 1}, a smaller "
                         "--size, fewer --steps, or a faster --device. sweetspot init writes the suite without running it")
