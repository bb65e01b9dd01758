"""A run as a notebook shows it: the verdict, the gates, and the pick's strip of pictures. Every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from reports import formatting as words
from reports.gates import Verdict
from reports.gates.decision import headline
from reports.page import tables
from reports.page.shell import environment
from reports.page.thumbnails import strip
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation


def notebook_view(run: Run, recommendation: Recommendation, verdicts: Sequence[Verdict], unfinished: Sequence[str],
                  page: str) -> str:
    """A piece of HTML without scripts and without anything to load: pictures are inline."""
    return environment().get_template("notebook.html.j2").render({
        "name": words.visible(run.suite.name), "sentence": words.visible(headline(run, recommendation, verdicts).sentence),
        "gates": tables.gate_rows(run, list(verdicts), recommendation.pick), "strip": strip(run, recommendation),
        "unfinished": [words.visible(text) for text in unfinished], "page": words.visible(page)})
