"""The timed rounds in their order, with a fixed computation beside them, so that a machine that drifts is seen."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation


def rounds_in_order(run: Run) -> pd.DataFrame:
    """One row per candidate and round: candidate, round (from 1), seconds (per image), yardstick (seconds, NaN without)."""
    rows = []
    for candidate in run.suite.candidates:
        record = run.latency.get(candidate.name)
        for number, seconds in enumerate(record.seconds.get("total", ()) if record else (), start=1):
            lengths = record.yardstick if record else ()
            rows.append((candidate.name, number, seconds, lengths[number - 1] if number <= len(lengths) else float("nan")))
    return pd.DataFrame(rows, columns=["candidate", "round", "seconds", "yardstick"])


def rounds_over_time(run: Run, rec: Recommendation) -> Any:
    """A line per candidate over the rounds: seconds per image, and below it the yardstick; None with fewer than two rounds."""
    table = rounds_in_order(run)
    if table.empty or table["round"].max() < 2:
        return None
    panels = [("seconds", "Seconds per image")]
    if table["yardstick"].notna().any():
        panels.append(("yardstick", "Fixed computation, seconds"))
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.16,
                           subplot_titles=[title for _, title in panels])
    for place, (value, _) in enumerate(panels, start=1):
        for name, rows in table.groupby("candidate", sort=False):
            known = rows.dropna(subset=[value])
            name_shown = style.text(style.named(run, rec, str(name)))
            strong = name in (rec.pick, run.suite.baseline)
            figure.add_trace(go.Scatter(
                x=known["round"].tolist(), y=known[value].tolist(), mode="lines+markers",
                name=style.legend_name(run, rec, str(name)), legendgroup=str(name), line=style.line(run, rec, str(name)),
                marker={"size": 6 if strong else 4}, opacity=1 if strong else 0.65,
                showlegend=place == 1 and strong, customdata=[words.duration(s) for s in known[value]],
                hovertemplate=f"{name_shown}, round %{{x}}: %{{customdata}}<extra></extra>"), row=place, col=1)
    for note in figure.layout.annotations:
        note.update(x=0, xanchor="left", font={"size": 13})
    last = int(table["round"].max())
    figure.update_xaxes(title_text="round", dtick=1 if last <= 8 else 5 * -(-last // 30), tickangle=0, row=len(panels), col=1)
    for place, (value, _) in enumerate(panels, start=1):
        figure.update_yaxes(range=_range(table[value]), nticks=5, row=place, col=1)
    style.finish(figure, 150 + 150 * len(panels))
    style.legend_on_top(figure)
    figure.update_layout(legend_y=1.1)
    _say(run, figure)
    return figure


def _range(values: pd.Series[float]) -> list[float]:
    """From the lowest to the highest with a margin, but never less than 15 % either side of the median: on a narrower axis the
    usual jitter would look like drift."""
    middle = float(values.median())
    return [min(0.98 * float(values.min()), 0.85 * middle), max(1.02 * float(values.max()), 1.15 * middle)]


def _say(run: Run, figure: Any) -> None:
    """Why there were so many rounds and no more, in the words of the run."""
    stopped = list(dict.fromkeys(words.visible(r.stopped) for r in run.latency.values() if r.stopped))
    style.says(figure, [f"Rounds ended at {words.listed(stopped)}."] if stopped else [])
