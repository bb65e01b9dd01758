"""Colours: which one dominates, per candidate and prompt, and how far the palette moves from the baseline's."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean
from reports.verdict.candidates import present
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_rows, shown_scale_words


def dominant_colours(run: Run, rec: Recommendation) -> Any:
    """Stacked bars of image counts by dominant colour, one prompt at a time, each colour drawn as itself; at the pick's
    guidance, for colours of several guidance scales in one bar would show neither."""
    if "dominant" not in run.images.columns:
        return None
    rows = shown_rows(run, rec)
    rows = rows.dropna(subset=["dominant"])
    if rows.empty:
        return None
    names = [n for n in present(run) if (rows["candidate"] == n).any()]
    ticks = [style.tick(run, n) for n in names]
    varied = rows.groupby("prompt")["dominant"].nunique().sort_values(ascending=False, kind="stable")
    figure = go.Figure()
    choices: list[tuple[str, list[int]]] = []
    for prompt in varied.index:
        mine = rows[rows["prompt"] == prompt]
        first = len(figure.data)
        for colour in mine["dominant"].value_counts().index:
            figure.add_trace(_bars(mine, names, str(colour), ticks))
            figure.data[-1].visible = not choices
        prompt_text = words.visible(str(mine["text"].iloc[0]))
        choices.append((prompt_text if len(prompt_text) < 70 else f"{prompt_text[:67]}…", list(range(first, len(figure.data)))))
    figure.update_layout(barmode="stack", bargap=0.25)
    most = int(rows.groupby(["candidate", "prompt"]).size().max())
    at = shown_scale_words(run, rec)
    figure.update_xaxes(title=f"images at {at}", rangemode="tozero", dtick=max(1, -(-most // 6)))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    style.switch(figure, "Prompt", choices)
    style.finish(figure, 100 + style.rows_height(ticks, 42))
    style.legend_on_top(figure)
    return figure


def _bars(rows: pd.DataFrame, names: list[str], colour: str, ticks: list[str]) -> Any:
    counts = [int(((rows["candidate"] == n) & (rows["dominant"] == colour)).sum()) for n in names]
    totals = [int((rows["candidate"] == n).sum()) for n in names]
    return go.Bar(y=ticks, x=counts, orientation="h", name=style.text(colour),
                  text=[str(c) if c else "" for c in counts], textposition="inside", insidetextanchor="middle", textangle=0,
                  marker={"color": words.COLOURS.get(colour, words.UNKNOWN_COLOUR), "line": {"color": style.QUIET, "width": 1}},
                  customdata=totals, hovertemplate="%{y}: %{x} of %{customdata} images " + style.text(colour) + "<extra></extra>")


def palette_drift(run: Run, rec: Recommendation) -> Any:
    """Mean palette drift over the candidates, one line per guidance scale; the pick's is drawn strong with its band."""
    if "palette_drift" not in run.images.columns or not run.images["palette_drift"].notna().any():
        return None
    names = present(run)
    axis = run.axis
    place = {n: float(run.candidate(n).axes[axis]) if axis else float(i) for i, n in enumerate(names)}
    figure = go.Figure()
    for guidance, rows in run.images.groupby("guidance"):
        means = {n: cluster_mean(rows[rows["candidate"] == n], run.row("palette_drift")) for n in names}
        means = {n: e for n, e in means.items() if e.mean is not None}
        picked = guidance == rec.guidance
        figure.add_trace(go.Scatter(
            x=[place[n] for n in means], y=[e.mean for e in means.values()], mode="lines+markers" if axis else "markers",
            name=f"CFG {guidance:g}", line={"color": style.ACCENT if picked else style.QUIET, "width": 3 if picked else 1},
            opacity=1 if picked else 0.6, marker={"size": 7 if picked else 4},
            customdata=[style.text(words.estimate(e, run.row("palette_drift"))) for e in means.values()],
            error_y={"type": "data", "visible": picked, "thickness": 1.2,
                     "array": [(e.high or 0) - (e.mean or 0) if e.high is not None else None for e in means.values()]},
            hovertemplate=f"CFG {guidance:g}: %{{customdata}}<extra></extra>"))
    figure.update_xaxes(title=axis or "", **({} if axis else {"tickvals": list(place.values()),
                                                              "ticktext": [style.tick(run, n) for n in names]}))
    figure.update_yaxes(title="dE00 from baseline", rangemode="tozero", nticks=6)
    style.finish(figure, 340)
    style.legend_on_top(figure)
    return figure
