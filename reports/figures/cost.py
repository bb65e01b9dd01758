"""Where the time goes: seconds by phase, and of a style switch, with every timed round shown."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from harness.records.values import SECONDS
from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.verdict.costs import phases, seconds_apart, seconds_per_image
from reports.verdict.recommendation import Recommendation

APART: Final = {"step": "one denoising step", "switch": "style switch", "first_switch": "first switch"}
COLOURS: Final = {"text": 0, "denoise": 1, "step": 1, "decode": 2, "switch": 3, "first_switch": 3, "begin": 3}
"""By phase, its place among the colours of phases."""
HATCHES: Final = ("x", "-", "/", ".")
USUAL_PHASES: Final = 3
LEGEND_LINE: Final = 19
"""Pixels of a line of the legend, where it has more than the usual phases on a narrow screen."""
MOST_POINTS: Final = 60
"""Of one bar; of more rounds or steps the extremes and evenly spaced ones are shown, and it is said."""


def timed_rounds(run: Run) -> pd.DataFrame:
    """One row per candidate, phase and timed round: candidate, phase, round (from 1), seconds, apart. The phases of an image
    first, "total" among them, then what is timed apart, of which one may have the name of a phase."""
    rows = [(name, phase, number, seconds, False) for name, record in run.latency.items()
            for phase in ("total", *phases(run)) if seconds_per_image(run, name, phase).median is not None
            for number, seconds in enumerate(record.seconds.get(phase, ()), start=1)]
    rows += [(name, what, number, seconds, True) for name, record in run.durations.items() for what in APART
             for number, seconds in enumerate(record.seconds.get(what, ()), start=1)]
    return pd.DataFrame(rows, columns=["candidate", "phase", "round", "seconds", "apart"])


def seconds_by_phase(run: Run, rec: Recommendation) -> Any:
    """Bars of median seconds by candidate with the single rounds as dots: the phases of an image stacked, or one phase, one
    step or the style switch alone; None if nothing was timed."""
    del rec
    names = [c.name for c in run.suite.candidates if c.name in run.latency]
    table = timed_rounds(run)
    if not names or table.empty:
        return None
    ticks = {n: style.tick(run, n) for n in names}
    parts = [p for p in phases(run) if (table["phase"] == p).any()]
    figure = go.Figure()
    for phase in parts or ["total"]:
        _bar(figure, run, ticks, phase, apart=False)
    _dots(figure, table[table["phase"] == "total"], ticks, "total")
    choices = [("one image, by phase", list(range(len(figure.data))))]
    for phase, apart in [*((part, False) for part in (parts if len(parts) > 1 else ())), *((what, True) for what in APART)]:
        rows = table[(table["phase"] == phase) & (table["apart"] == apart) & table["candidate"].isin(names)]
        if rows.empty:
            continue
        first = len(figure.data)
        _bar(figure, run, ticks, phase, apart=apart)
        _dots(figure, rows, ticks, _named(phase, apart))
        choices.append((_named(phase, apart), list(range(first, len(figure.data)))))
    for trace in figure.data[len(choices[0][1]):]:
        trace.visible = False
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(title="seconds", rangemode="tozero", nticks=6, tickangle=0)
    # Not every candidate has the first phase, so the order of the bars says nothing.
    figure.update_yaxes(autorange="reversed", showgrid=False, categoryorder="array", categoryarray=list(ticks.values()))
    style.switch(figure, "Show", choices)
    style.finish(figure, 100 + style.rows_height(ticks.values(), 40) + LEGEND_LINE * max(0, len(parts) - USUAL_PHASES))
    style.legend_on_top(figure)
    return figure


def _named(phase: str, apart: bool) -> str:
    """A phase, or what is timed apart, for readers."""
    return APART[phase] if apart else words.phase(phase)


def _look(phase: str) -> dict[str, Any]:
    """The same phase has one colour in all stages, and those of later stages are hatched."""
    stage, what = words.stage_and_phase(phase)
    look: dict[str, Any] = {"color": style.PHASE_COLOURS[COLOURS.get(what, len(style.PHASE_COLOURS) - 1)]}
    return look if stage == 1 else look | {"pattern": {"shape": HATCHES[stage % len(HATCHES)], "size": 6, "solidity": 0.25}}


def _bar(figure: Any, run: Run, ticks: dict[str, str], phase: str, *, apart: bool) -> None:
    timed = {n: seconds_apart(run, n, phase) if apart else seconds_per_image(run, n, phase) for n in ticks}
    timed = {n: s for n, s in timed.items() if s.median is not None}
    phase_words = style.text(_named(phase, apart))
    figure.add_trace(go.Bar(
        y=[ticks[n] for n in timed], x=[s.median for s in timed.values()], orientation="h", name=phase_words,
        marker=_look(phase),
        customdata=[f"{words.number(s.median, SECONDS)}, median of {s.rounds}" for s in timed.values()],
        hovertemplate="%{y}, " + phase_words + ": %{customdata}<extra></extra>"))


def _dots(figure: Any, rows: pd.DataFrame, ticks: dict[str, str], what: str) -> None:
    """Every value as a dot; of very many (steps of many rounds) the fastest, the slowest and MOST_POINTS in between."""
    thinned = []
    for _, part in rows.groupby("candidate", sort=False):
        ranks = sorted({round(i * (len(part) - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})
        thinned.append(part if len(part) <= MOST_POINTS else part.sort_values("seconds").iloc[ranks])
    shown = pd.concat(thinned) if thinned else rows
    name = f"{style.text(what)}, {'each' if len(shown) == len(rows) else f'{MOST_POINTS} of each, by rank'}"
    figure.add_trace(go.Scatter(
        y=[ticks[n] for n in shown["candidate"]], x=shown["seconds"].tolist(), mode="markers", name=name,
        marker={"size": 6, "color": style.MARK, "line": {"width": 1, "color": "#ffffff"}},
        customdata=[words.duration(s) for s in shown["seconds"]], hovertemplate="%{y}: %{customdata}<extra></extra>"))

