"""Slices through the pick: objective, CLIP score and the values that guard against it, with 95 % bands, and the parents' level
as lines."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records import ValueSpec
from reports import formatting as words
from reports.figures import theme as style
from reports.figures.two_axes import through
from reports.read.roles import numeric_axes
from reports.read.run import Run, by_cell
from reports.statistics.intervals import Estimate, cluster_mean
from reports.verdict.candidates import label, label_with_role, parents, present
from reports.verdict.cells import select_rows
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_rows, shown_scale_words


def along_candidates(run: Run, rec: Recommendation) -> Any:
    """The values along every numeric axis of the candidates, at the pick's guidance and at what else the pick has; over the
    candidates side by side where there is no such axis. None without a pick or with one candidate only."""
    names = present(run)
    if rec.guidance is None or rec.pick is None or len(names) < 2:
        return None
    cuts = [(axis, kept) for axis in numeric_axes(run.suite) if len(kept := through(run, rec.pick, (axis,))) > 1]
    drawn = {axis or "candidate": made for axis, kept in cuts or [("", names)]
             if (made := _cut(run, rec, axis, kept)) is not None}
    if not drawn:
        return None
    figure, *others = drawn.values()
    if not others:
        return figure
    choices = [(next(iter(drawn)), list(range(len(figure.data))))]
    layouts = [_changes(made) for made in drawn.values()]
    for axis, made in zip(list(drawn)[1:], others, strict=True):
        first = len(figure.data)
        for trace in made.data:
            trace.visible = False
            figure.add_trace(trace)
        choices.append((axis, list(range(first, len(figure.data)))))
    style.switch(figure, "Along", choices, layouts)
    return figure


def _cut(run: Run, rec: Recommendation, axis: str, names: list[str]) -> Any:
    place = {n: float(run.candidate(n).axes[axis]) if axis else float(i) for i, n in enumerate(names)}
    level = shown_rows(run, rec)
    rows = level[level["candidate"].isin(names)]
    ends = {n: [(at, level[level["candidate"] == n]) for at in (min(place.values()), max(place.values()))] if axis else []
            for n in _references(run, rec)}
    figure = _panels(run, rows.assign(at=rows["candidate"].map(place)), ends, line=bool(axis))
    if figure is None:
        return None
    _mark(figure, place.get(rec.pick or ""), [place[n] for n in rec.tied_candidates if n in place] if axis else [])
    if not axis:
        figure.update_xaxes(tickvals=list(place.values()), ticktext=[style.tick(run, n) for n in names])
    fixed = [f"{other} {run.candidate(str(rec.pick)).axes[other]:g}" for other in numeric_axes(run.suite)
            if axis and other != axis]
    where = words.listed([*fixed, shown_scale_words(run, rec)])
    figure.update_xaxes(title_text=style.text(f"{axis or 'candidate'}, at {where}"),
                        row=len(figure.layout.annotations), col=1)
    return figure


def _changes(figure: Any) -> dict[str, Any]:
    """What a slice along another axis changes of the layout: marks, titles, and the ranges that were set."""
    changes: dict[str, Any] = {"shapes": [shape.to_plotly_json() for shape in figure.layout.shapes]}
    for number in range(1, len(figure.layout.annotations) + 1):
        which = "" if number == 1 else str(number)
        changes[f"xaxis{which}.title.text"] = figure.layout[f"xaxis{which}"].title.text or ""
        if (span := figure.layout[f"yaxis{which}"].range) is not None:
            changes[f"yaxis{which}.range"] = list(span)
    return changes


def along_guidance(run: Run, rec: Recommendation) -> Any:
    """The values over the guidance scales for the picked candidate; None without a pick or with one scale only."""
    rows = run.images[run.images["candidate"] == rec.pick]
    if rec.pick is None or rows["guidance"].nunique() < 2:
        return None
    groups = by_cell(run.images)
    ends = {n: [(g, groups[n, g]) for g in sorted(run.images["guidance"].unique().tolist()) if (n, g) in groups]
            for n in _references(run, rec)}
    figure = _panels(run, rows.assign(at=rows["guidance"]), ends, line=True)
    if figure is None:
        return None
    _mark(figure, rec.guidance, list(rec.tied_guidances))
    at = style.text(label(run, rec.pick))
    figure.update_xaxes(title_text=f"CFG (guidance scale), {at}", row=len(figure.layout.annotations), col=1)
    return figure


def _references(run: Run, rec: Recommendation) -> list[str]:
    """Whose level is drawn as a line: the parents, or the baseline where nothing is a parent; never the pick itself."""
    names = [n for n in parents(run.suite) if n != rec.pick] or [n for n in (run.suite.baseline,) if n != rec.pick]
    pictured = frozenset(run.images["candidate"])
    return [n for n in names if n in pictured]


def _panels(run: Run, rows: pd.DataFrame, ends: dict[str, list[tuple[float, pd.DataFrame]]], *, line: bool) -> Any:
    """One panel for every measured value over the column `at`; `ends` are the rows of the candidates that are lines, by place."""
    values = [v for v in run.values_for("figure") if v.name in rows.columns and rows[v.name].notna().any()]
    if not values:
        return None
    titles = [style.text(f"{words.title(v)}{_arrow(v.better)}") for v in values]
    figure = make_subplots(rows=len(values), cols=1, shared_xaxes=True, vertical_spacing=0.3 / len(values) ** 1.1,
                           subplot_titles=titles)
    picked = set(select_rows(run).index)
    select = rows[rows.index.isin(picked)]
    confirm = rows[~rows.index.isin(picked)]
    ends = {n: [(at, part[part.index.isin(picked)]) for at, part in points] for n, points in ends.items()}
    for number, value in enumerate(values, start=1):
        _levels(figure, run, (number, value), ends)
        _line(figure, number, value, _means(select, value), line=line)
        if value.better == "higher" and "headline" in value.shown and len(confirm):
            means = _means(confirm, value)
            figure.add_trace(go.Scatter(
                x=list(means), y=[e.mean for e in means.values()], mode="markers", showlegend=False, name="confirm prompts",
                marker={"symbol": "diamond-open", "size": 8, "color": style.QUIET, "line": {"width": 1.5}},
                customdata=[style.text(words.estimate(e, value)) for e in means.values()],
                hovertemplate="confirm: %{customdata}<extra></extra>"), row=number, col=1)
        if value.bounded_share:
            top = max((e.high or e.mean or 0.0 for e in _means(select, value).values()), default=0.0)
            figure.update_yaxes(tickformat=".0%" if value.display == "percent" else ".1f",
                                range=[0, min(max(1.15 * top, 0.1), 1.05)], row=number, col=1)
    for note in figure.layout.annotations:
        note.update(x=0, xanchor="left", font={"size": 13})
    figure.update_yaxes(nticks=4)
    style.finish(figure, 70 + 140 * len(values))
    if ends:  # above the first panel's title
        style.legend_on_top(figure)
        figure.update_layout(legend_y=1 + 24 / (140 * len(values)), margin_t=70)
    return figure


def _levels(figure: Any, run: Run, of: tuple[int, ValueSpec], ends: dict[str, list[tuple[float, pd.DataFrame]]]) -> None:
    """A thin line for each of the candidates that others are held against."""
    number, value = of
    for name, dash, colour in zip(ends, ("dash", "dashdot", "dot"), (style.BASE, style.QUIET, style.QUIET), strict=False):
        means = {at: e for at, rows in ends[name] if (e := cluster_mean(rows, value)).mean is not None}
        texts = [style.text(f"{label_with_role(run, name)}: {words.estimate(e, value)}") for e in means.values()]
        figure.add_trace(go.Scatter(
            x=list(means), y=[e.mean for e in means.values()], mode="lines", name=style.text(label_with_role(run, name)),
            line={"color": colour, "width": 1.5, "dash": dash}, customdata=texts, hovertemplate="%{customdata}<extra></extra>",
            showlegend=number == 1), row=number, col=1)


def _means(rows: pd.DataFrame, value: ValueSpec) -> dict[float, Estimate]:
    groups: Any = rows.groupby("at")
    means = {float(at): cluster_mean(group, value) for at, group in groups}
    return {at: e for at, e in means.items() if e.mean is not None}


def _line(figure: Any, row: int, value: ValueSpec, means: dict[float, Estimate], *, line: bool) -> None:
    x, estimates = list(means), list(means.values())
    texts = [style.text(words.estimate(e, value)) for e in estimates]
    banded = [(at, e.low, e.high) for at, e in means.items() if e.low is not None and e.high is not None]
    if line and banded:
        at, low, high = (list(part) for part in zip(*banded, strict=True))
        figure.add_trace(go.Scatter(x=at + at[::-1], y=high + low[::-1], fill="toself", fillcolor=style.BAND, mode="lines",
                                    line={"width": 0}, hoverinfo="skip", showlegend=False), row=row, col=1)
    bars = {} if line else {"error_y": {"type": "data", "symmetric": True, "color": style.ACCENT, "thickness": 1.5,
                                        "array": [(e.high - e.mean) if e.high is not None and e.mean is not None else None
                                                  for e in estimates]}}
    figure.add_trace(go.Scatter(x=x, y=[e.mean for e in estimates], mode="lines+markers" if line else "markers",
                                line={"color": style.ACCENT, "width": 2}, marker={"size": 8, "color": style.ACCENT},
                                customdata=texts, hovertemplate="%{x:g}: %{customdata}<extra></extra>", showlegend=False,
                                name=style.text(words.title(value)), **bars), row=row, col=1)


def _mark(figure: Any, pick: float | None, tied: list[float]) -> None:
    if len(set(tied)) > 1:
        figure.add_vrect(x0=min(tied), x1=max(tied), fillcolor=style.TIED_FILL, line_width=0, layer="below")
    if pick is not None:
        figure.add_vline(x=pick, line={"color": style.MARK, "width": 2, "dash": "dot"})


def _arrow(better: str) -> str:
    return {"higher": " · higher is better", "lower": " · lower is better"}.get(better, "")
