"""Where the time goes: seconds per image by phase, with every timed round shown. Drawn by page.py."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from reports import words
from reports.costs import phases, seconds_per_image
from reports.decision import Recommendation
from reports.figures import style
from reports.load import Run


def seconds_by_phase(run: Run, rec: Recommendation) -> Any:
    """Stacked bars of median seconds per phase and candidate, the single rounds' totals as dots; None if nothing was timed."""
    del rec
    names = [c.name for c in run.suite.candidates if c.name in run.latency]
    if not names:
        return None
    figure = go.Figure()
    ticks = {n: style.tick(run, n) for n in names}
    parts = phases(run)
    for number, phase in enumerate(parts or ("total",)):
        timed = {n: seconds_per_image(run, n, phase) for n in names}
        timed = {n: s for n, s in timed.items() if s.median is not None}
        figure.add_trace(go.Bar(
            y=[ticks[n] for n in timed], x=[s.median for s in timed.values()], orientation="h", name=phase,
            marker={"color": style.PHASE_COLOURS[number % len(style.PHASE_COLOURS)]},
            customdata=[f"{words.number(s.median, 'seconds_per_image')}, {words.plural(s.rounds, 'round')}"
                        for s in timed.values()],
            hovertemplate="%{y}, " + phase + ": %{customdata}<extra></extra>"))
    points = [(ticks[n], t) for n in names for t in run.latency[n].seconds.get("total", ())]
    figure.add_trace(go.Scatter(y=[p[0] for p in points], x=[p[1] for p in points], mode="markers", name="total, each round",
                                marker={"size": 6, "color": style.MARK, "line": {"width": 1, "color": "#ffffff"}},
                                hovertemplate="%{y}: %{x:.3f} s<extra></extra>"))
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(title="seconds per image", rangemode="tozero", nticks=6)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    style.finish(figure, 100 + 40 * len(names))
    style.legend_on_top(figure)
    return figure
