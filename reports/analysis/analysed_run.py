"""A run as read from its folder, together with its recommendation and its verdicts: what Python code works with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import pandas as pd

from reports import formatting as words
from reports.analysis import frames
from reports.gates import Verdict, judge
from reports.gates.decision import Headline, headline
from reports.page.layout import PAGE_NAME
from reports.read.run import Gap, Run
from reports.read.run import load_run as read_run
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend


@dataclass(frozen=True, kw_only=True)
class AnalysedRun(Run):
    """A Run that can be asked for its recommendation, its verdicts and its tables; each is computed when it is first asked for.

    `images` has one row per image, `cells` one per candidate, guidance and value, `costs` one per candidate and cost.
    """

    @cached_property
    def recommendation(self) -> Recommendation:
        """The best candidate, and why."""
        return recommend(self)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One verdict for each gate and candidate that it judges."""
        return judge(self, self.recommendation)

    @cached_property
    def headline(self) -> Headline:
        """What to ship, or why nothing is to be shipped yet: `decision`, `text` and `sentence`."""
        return headline(self, self.recommendation, self.verdicts)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Means with interval and n, by candidate, guidance and value: see `frames.cells`."""
        return frames.cells(self, self.recommendation)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Seconds, bytes and joules by candidate, with unit and n: see `frames.costs`."""
        return frames.costs(self, self.recommendation)

    @property
    def units(self) -> dict[str, str]:
        """The unit of each value that has a column in `images`."""
        return {value: self.row(value).unit for value in self.values if value in self.images.columns}

    @property
    def page(self) -> Path | None:
        """Where the page is; None while none was written."""
        file = self.folder / PAGE_NAME
        return file if file.is_file() else None

    @property
    def complete(self) -> bool:
        """Whether everything that the suite asks for is here."""
        return not self.unfinished

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What the suite asks for and is not here, in a sentence each: candidates that failed or were not run, images and values
        that are missing."""
        not_offered = self.head.get("not_offered", {})
        left_out = [f"candidate {name!r} was not run: {why}" for name, why in not_offered.items()]
        failed = [f"candidate {f.candidate!r} failed at {f.stage!r} ({f.error}: {f.message})" for f in self.failures]
        gaps = self._gaps_beside({*not_offered, *(f.candidate for f in self.failures)})
        return tuple(dict.fromkeys((*left_out, *failed, *gaps, *self.damaged)))

    @property
    def lacking(self) -> tuple[str, ...]:
        """What is missing of the candidates that ran and did not fail, in a sentence each: images and values."""
        head = self.head
        return tuple(self._gaps_beside({*head.get("not_offered", {}), *head.get("not_selected", ()),
                                        *(f.candidate for f in self.failures)}))

    def _gaps_beside(self, skipped: Collection[str]) -> list[str]:
        """What is missing and was asked for, but of the candidates in `skipped`."""
        return [f"candidate {gap.candidate!r} lacks {_lacked(gap)} ({gap.why})" for gap in self.missing
                if gap.candidate not in skipped and not gap.expected]

    def __repr__(self) -> str:
        """The verdict in a line, where a dataclass would print every table."""
        lacking = "" if self.complete else f" ({words.plural(len(self.unfinished), 'thing')} missing, see .unfinished)"
        return f"<Run {self.suite.name!r}, {words.plural(len(self.images), 'image')}{lacking}: {self.headline.sentence}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, the gates and the pick's pictures."""
        from reports.analysis.notebook_view import notebook_view

        return notebook_view(self, self.recommendation, self.verdicts, self.unfinished, str(self.page or ""))


def _lacked(gap: Gap) -> str:
    """What a gap is of, in words: "20 images", "clip_score in 20 images", or "seconds_per_image"."""
    if not gap.count:
        return gap.value
    return words.plural(gap.count, "image") if gap.value == "image" else f"{gap.value} in {words.plural(gap.count, 'image')}"


def load_run(folder: str | Path) -> AnalysedRun:
    """The run in a folder. Raises FileNotFoundError or ValueError when the folder is not a run."""
    run = read_run(Path(folder))
    return AnalysedRun(**{field.name: getattr(run, field.name) for field in fields(run)})
