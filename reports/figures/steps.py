"""Quality against seconds with the steps along a line for every sampler."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.statistics.intervals import Estimate, cluster_mean
from reports.verdict.cells import select_rows
from reports.verdict.costs import Seconds, seconds_per_image
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_rows
from reports.verdict.steps import Line, lines_of

_LOOKS: Final = ((style.ACCENT, "solid"), (style.MARK, "dash"), (style.PHASE_COLOURS[0], "dot"), (style.BASE, "dashdot"),
                 (style.QUIET, "longdash"))


def quality_along_steps(run: Run, rec: Recommendation) -> Any:
    """A line per sampler through its numbers of steps, with intervals both ways. None where no line has two timed places."""
    rows = shown_rows(run, rec, select_rows(run))
    if "objective" not in rows.columns:
        return None
    spec = run.row("objective")
    figure = go.Figure()
    for line in lines_of(run):
        places = [(steps, name, cluster_mean(rows[rows["candidate"] == name], spec), seconds_per_image(run, name))
                  for steps, name in line.places]
        timed = [place for place in places if place[2].mean is not None and place[3].median is not None]
        if len(timed) > 1:
            _draw(figure, run, rec, (line, timed))
    if not figure.data:
        return None
    figure.update_xaxes(title="seconds per image; left is faster", rangemode="tozero")
    figure.update_yaxes(title=style.text(words.title(spec)))
    style.finish(figure, 420)
    style.legend_on_top(figure)
    return figure


def _draw(figure: Any, run: Run, rec: Recommendation, of: tuple[Line, list[tuple[int, str, Estimate, Seconds]]]) -> None:
    line, places = of
    colour, dash = _LOOKS[len(figure.data) % len(_LOOKS)]
    spec, row = run.row("objective"), run.row("seconds_per_image")
    texts = [style.text(f"{line.name}, {words.plural(steps, 'step')}: {words.title(spec)} {words.estimate(estimate, spec)}, "
                        f"{words.number(seconds.median, row)} ({words.number(seconds.fastest, row)} to "
                        f"{words.number(seconds.slowest, row)} in {words.plural(seconds.rounds, 'round')})"
                        + ("; the pick" if name == rec.pick else "")) for steps, name, estimate, seconds in places]
    means = [estimate.mean or 0.0 for _, _, estimate, _ in places]
    medians = [seconds.median or 0.0 for *_, seconds in places]
    bar = {"type": "data", "symmetric": False, "thickness": 1, "color": colour, "width": 3}
    figure.add_trace(go.Scatter(
        x=medians, y=means, mode="lines+markers+text", cliponaxis=False, name=style.text(line.name), customdata=texts,
        text=[f"{steps}{' ★' if name == rec.pick else ''}" for steps, name, *_ in places], textposition="top center",
        hovertemplate="%{customdata}<extra></extra>", line={"color": colour, "dash": dash, "width": 2},
        marker={"color": colour, "size": [13 if name == rec.pick else 8 for _, name, *_ in places]},
        error_y={**bar, "array": [(m if e.high is None else e.high) - m for (_, _, e, _), m in zip(places, means, strict=True)],
                 "arrayminus": [m - (m if e.low is None else e.low) for (_, _, e, _), m in zip(places, means, strict=True)]},
        error_x={**bar, "array": [(s.slowest or m) - m for (*_, s), m in zip(places, medians, strict=True)],
                 "arrayminus": [m - (s.fastest or m) for (*_, s), m in zip(places, medians, strict=True)]}))
