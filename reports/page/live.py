"""The page of a run that goes on: pictures as they come in, a verdict so far once there can be one, and a mark that nobody can
mistake for the verdict. The finished page takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from harness.declare import Candidate, grid_of
from harness.declare.effective_grid import cells_of, picture_size, whole_grid
from harness.records import Look, write_atomically
from reports import formatting as words
from reports.gates import judge
from reports.page.build import render
from reports.page.explorer import explorer
from reports.page.layout import PAGE_NAME, Live, lay_out
from reports.page.shell import source
from reports.read.run import Run, load_run
from reports.statistics.intervals import CLUSTER, clustered
from reports.verdict.candidates import label, role_label
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend

ENOUGH_PROMPTS: Final = 2
"""Of every candidate, before a verdict so far is shown: fewer have no interval."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What the page says of the moment: what is `doing` now, after how many seconds it is written again at the earliest, and the
    `looks` of a race so far, which are None for a suite that has no budget. Candidates that are to be sampled `anew` have images
    that will not count."""

    doing: str
    every: float
    looks: Sequence[Look] | None = None
    anew: frozenset[str] = frozenset()


def write_live(folder: Path, moment: Moment, budget: float) -> Path:
    """Writes report.html, whole or not at all, from what the run folder holds now; the run may write to it meanwhile.

    `budget` is in megabytes. Raises what reading or writing raises: the caller must not let that stop the run.
    """
    run = _without(load_run(folder, moment.looks), moment.anew)
    mark = _live(run, moment)
    if mark.verdict:
        rec = recommend(run)
        text = render(run, rec, judge(run, rec), budget, mark)
    else:
        text = _waiting(run, mark, budget)
    page = folder / PAGE_NAME
    write_atomically(page, text.encode("utf-8", errors="replace"))
    return page


def _without(run: Run, names: frozenset[str]) -> Run:
    """The run without what it has of some candidates, and without damaged records: the last line of a journal that is being
    written to can be half a line, and the finished page tells of any others."""
    return replace(run, images=run.images[~run.images["candidate"].isin(names)].reset_index(drop=True), damaged=(),
                   failures=tuple(f for f in run.failures if f.candidate not in names))


def ready(run: Run) -> bool:
    """Whether a verdict so far can be shown: every candidate that is still to come or was sampled, failed ones aside, has an
    objective on images of at least two prompts."""
    rows = run.images[run.images["objective"].notna()]
    prompts = clustered(rows).groupby("candidate")[CLUSTER].nunique().to_dict()
    failed = {f.candidate for f in run.failures}
    present = set(run.images["candidate"])
    awaited = [c.name for c in run.suite.candidates if c.name not in failed and (c.name in present or not _left_out(run, c.name))]
    return bool(awaited) and all(prompts.get(name, 0) >= ENOUGH_PROMPTS for name in awaited)


def counted(run: Run) -> str:
    """How many images there are of how many: "312 of 1,400 images", with "at most" where a budget decides how many."""
    done, counts = len(run.images), run.images["candidate"].value_counts().to_dict()
    planned = sum(int(counts.get(c.name, 0)) if _left_out(run, c.name) else cells_of(grid_of(run.suite, c))
                  for c in run.suite.candidates)
    if run.suite.budget is None:
        return f"{done:,} of {planned:,} images"
    planned = min(planned, run.suite.budget.images or planned)
    return f"{done:,} images, of at most {planned:,}"


def _left_out(run: Run, name: str) -> bool:
    return name in run.head.get("not_selected", ()) or name in run.head.get("not_offered", {})


def _live(run: Run, moment: Moment) -> Live:
    verdict = ready(run)
    progress = "nothing sampled yet" if run.images.empty else counted(run)
    return Live(progress=f"{progress}; {'the verdict below is so far only, and may change' if verdict else 'no verdict yet'}",
                doing=words.visible(moment.doing), started=words.visible(str(run.head.get("started", ""))),
                written=datetime.now(UTC).isoformat(timespec="seconds"), every=max(1, round(moment.every)), verdict=verdict,
                script=Markup(source("live.js")))


def _waiting(run: Run, mark: Live, budget: float) -> str:
    """The page without a verdict: what there is, what is to come, and the pictures."""
    draft = Recommendation(kind="sweep", axis=run.axis, pick=None, guidance=None, sentence="", rule="")
    lead = "Running: nothing sampled yet" if run.images.empty else f"Running: {counted(run)}, no verdict yet"
    grid, grids = whole_grid(run.suite), [grid_of(run.suite, c) for c in run.suite.candidates]
    pictures = [picture_size(run.suite, candidate) for candidate in run.suite.candidates]
    sizes = " and ".join(dict.fromkeys(f"{width} x {height}" for width, height in pictures))
    steps = sorted({one.steps for one in grids})
    plan = [words.plural(len(run.suite.candidates), "candidate"), words.plural(len(grid.prompts), "prompt"),
            words.plural(len(grid.seeds), "seed"), f"CFG {', '.join(f'{g:g}' for g in grid.guidance_scales)}",
            f"{sizes} pixels, " + (f"{steps[0]} to {steps[-1]} steps" if len(steps) > 1 else words.plural(steps[0], "step"))]
    measured = [words.title(value) for value in run.values.values() if value.origin == "metric"]
    values: dict[str, Any] = {"lead": lead, "plan": " · ".join(plan), "rows": [_row(run, c) for c in run.suite.candidates],
                              "measured": words.listed(measured, 99), "figures": {},
                              "gates": words.listed([words.visible(run.suite.gate_name(g)) for g in run.suite.gates], 99),
                              "figure_json": "{}"}
    return lay_out("waiting.html.j2", run, explorer(run, draft), values, budget, mark)


def _row(run: Run, candidate: Candidate) -> dict[str, str]:
    """One candidate: how many images it has of how many, and how it stands."""
    name, cells = candidate.name, cells_of(grid_of(run.suite, candidate))
    done = int((run.images["candidate"] == name).sum())
    asked = "" if run.suite.budget is not None else f" of {cells:,}"
    state = ("done" if done == cells else "under way" if done else "to come")
    if name in run.head.get("not_selected", ()):
        state = "not selected for this run"
    state = str(run.head.get("not_offered", {}).get(name, state))
    return {"name": label(run, name), "role": role_label(run, name), "count": f"{done:,}{asked}",
            "state": words.visible(run.failure_of(name) or state), "bad": "bad" if run.failure_of(name) else ""}
