"""A suite over time as readers see it: an offline page, a CSV table beside it, and a table for the terminal."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records import ValueSpec
from harness.records.values import OBJECTIVE
from reports import formatting as words
from reports.figures import theme as style
from reports.page.offline import csv_text, offline_page
from reports.statistics.intervals import Estimate
from reports.trend.series import COSTS, PICK, PROMOTED, Point, Trend

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMNS: Final = ("date", "commit", "dirty", "kind", "source", "device", "series", "candidate", "guidance", "value", "mean",
                  "low", "high", "prompts", "images", "why_missing", "changed_since_before")
UNITS: Final = {"bytes": (2**30, ", GiB"), "seconds": (1, ", s")}
"""By how a value is written: what it is divided by in the figure, and its unit in the panel's title."""
MOST_TICKS: Final = 7
NO_COMMIT: Final = "no commit"
NOT_MEASURED: Final = "not measured"


def terminal(of: Trend) -> RenderableType:
    """One rich table: a line for each point, oldest first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{words.visible(of.suite)}: {words.plural(len(of.points), 'point')}"), title_justify="left",
                  box=SIMPLE_HEAD, pad_edge=False)
    for head in ("date", "commit", "pick", "objective [95 %]", "changed since before"):
        table.add_column(head, overflow="fold")
    for row in rows(of):
        table.add_row(*map(Text, (row["date"], row["commit"], row["pick"], row["figures"].get(OBJECTIVE.name, NOT_MEASURED),
                                  row["changed"])))
    return table


def rows(of: Trend) -> list[dict[str, Any]]:
    """A line of ready-made text for each point, oldest first; under "figures" the headline values by name."""
    table = []
    for at, p in enumerate(of.points):
        series = PICK if p.kind == "run" else PROMOTED
        scale = p.at.get(series)
        figures = {spec.name: _said(p, series, spec) for spec in of.headlines}
        table.append({"date": _day(p), "commit": _commit(p), "source": words.visible(p.source), "kind": p.kind,
                      "device": words.visible(p.device), "sentence": words.visible(p.sentence),
                      "pick": f"{words.visible(p.who.get(series, 'none'))}{'' if scale is None else f' at CFG {scale:g}'}",
                      "changed": "; ".join(_changes(of, at)) or "–", "figures": figures})
    return table


def csv(of: Trend) -> str:
    """Every estimate in a line of its own."""
    lines = []
    for at, p in enumerate(of.points):
        for (series, value), e in p.estimates.items():
            before = [i for i in range(at) if (series, value) in of.points[i].estimates]
            changed = "; ".join(of.changed_in(series, at, value, before[-1])) if before else ""
            lines.append((p.date.isoformat(), p.commit, p.dirty, p.kind, p.source, p.device, series, p.who[series], p.at[series],
                          value, e.mean, e.low, e.high, e.prompts, e.pairs, e.why if e.mean is None else "", changed))
    return csv_text(COLUMNS, lines)


def page(of: Trend) -> str:
    """The trend as one offline page."""
    figure = lines_plot(of)
    first, last = of.points[0], of.points[-1]
    span = _day(first) if len(of.points) == 1 else f"{_day(first)} to {_day(last)}"
    return offline_page(
        "trend.html.j2", {} if figure is None else {"trend": figure}, suite=words.visible(of.suite), span=span,
        rows=rows(of)[::-1], headlines=[words.visible(spec.title) for spec in of.headlines],
        count=words.plural(len(of.points), "point"),
        guidance="" if of.guidance is None else f"CFG {of.guidance:g}",
        latest=next((words.visible(p.sentence) for p in reversed(of.points) if p.kind == "run"), words.visible(last.sentence)))


def lines_plot(of: Trend) -> Any:
    """A panel for each value, one series at a time: mean and interval at each point, joined where they were measured alike."""
    if not of.values:
        return None
    figure = make_subplots(rows=len(of.values), cols=1, shared_xaxes=True, vertical_spacing=0.25 / len(of.values) ** 1.1,
                           subplot_titles=[style.text(words.title(row)) + UNITS.get(row.display, (1, ""))[1]
                                           for row in map(of.row, of.values)])
    choices = []
    for series in of.series:
        begin = len(figure.data)
        for row, value in enumerate(of.values, start=1):
            for segment in of.segments(series, value):
                figure.add_trace(_segment(of, series, value, segment), row=row, col=1)
        for trace in figure.data[begin:]:
            trace.visible = series == of.series[0]
        choices.append((words.visible(series), list(range(begin, len(figure.data)))))
    _marks(figure, of)
    for note in figure.layout.annotations[:len(of.values)]:
        note.update(x=0, xanchor="left", font={"size": 13})
    style.finish(figure, 90 + 150 * len(of.values))
    figure.update_yaxes(nticks=4)
    for row, value in enumerate(of.values, start=1):
        if of.row(value).display == "percent":
            figure.update_yaxes(tickformat=".1%", row=row, col=1)
    shown = range(0, len(of.points), -(-len(of.points) // MOST_TICKS))
    ticks = [style.text(_commit(of.points[i])) + f"<br>{of.points[i].date:%Y}<br>{of.points[i].date:%m-%d}" for i in shown]
    figure.update_xaxes(range=[-0.5, len(of.points) - 0.5], tickvals=list(shown), ticktext=ticks, tickangle=0)
    style.switch(figure, "Series", choices)
    return figure


def _segment(of: Trend, series: str, value: str, segment: list[int]) -> Any:
    points = [of.points[i] for i in segment]
    estimates = [p.estimates[series, value] for p in points]
    scale = UNITS.get(of.row(value).display, (1, ""))[0]
    bars = [(0.0, 0.0) if e.mean is None or e.low is None or e.high is None else
            ((e.high - e.mean) / scale, (e.mean - e.low) / scale) for e in estimates]
    return go.Scatter(
        x=segment, y=[None if e.mean is None else e.mean / scale for e in estimates], mode="lines+markers", showlegend=False,
        name=style.text(words.title(of.row(value))),
        line={"color": style.ACCENT, "width": 2}, marker={"size": 8, "color": style.ACCENT},
        error_y={"type": "data", "symmetric": False, "array": [up for up, _ in bars], "arrayminus": [down for _, down in bars],
                 "color": style.ACCENT, "thickness": 1.5, "width": 4},
        customdata=[[style.text(_commit(p)), _hover(p, series, e, of.row(value))]
                    for p, e in zip(points, estimates, strict=True)],
        hovertemplate="%{customdata[0]}: %{customdata[1]}<extra></extra>")


def _hover(p: Point, series: str, e: Estimate, value: ValueSpec) -> str:
    scale = p.at[series]
    at = "" if scale is None or value.kind == "cost" else f" at CFG {scale:g}"
    return style.text(f"{p.who[series]}{at}: {_estimate(e, value)}")


def _estimate(e: Estimate, value: ValueSpec) -> str:
    if value.kind == "cost" and e.mean is not None:
        between = f" {words.interval(e.low, e.high, value)}, {words.plural(e.pairs, 'round')}" if e.low is not None else ""
        return words.number(e.mean, value) + between
    return words.estimate(e, value)


def _marks(figure: Any, of: Trend) -> None:
    """Dotted lines where something changed from a run to the next: in all panels, or in that of the value whose metric did."""
    look = {"color": style.MARK, "width": 1.5, "dash": "dot"}
    runs = [i for i, p in enumerate(of.points) if p.kind == "run"] or list(range(len(of.points)))
    for before, at in pairwise(runs):
        for row, value in enumerate(of.values, start=1):
            if changes := of.changed(at, value, before):
                figure.add_vline(x=(before + at) / 2, line=look, row=row, col=1)
                # Upright and inside: beside the panel's title it would run into it on a narrow screen.
                figure.add_annotation(x=(before + at) / 2, y=0.04, yref="y domain" if row == 1 else f"y{row} domain",
                                      xref="x" if row == 1 else f"x{row}", text=style.text(words.listed(changes)),
                                      showarrow=False, textangle=-90, xanchor="left", yanchor="bottom",
                                      font={"size": 11, "color": style.MARK})


def _changes(of: Trend, at: int) -> list[str]:
    """What changed since the point before of the same kind, values' metrics named."""
    before = next((i for i in range(at - 1, -1, -1) if of.points[i].kind == of.points[at].kind), None)
    if before is None:
        return ["the first of its kind"]
    metrics = [v for v in of.values if of.points[at].kind == "run" and v in of.points[before].metric
               and v in of.points[at].metric and "metric" in of.changed(at, v, before)]
    costs = list(dict.fromkeys(why for v in of.values if v in COSTS for why in of.changed(at, v, before)))
    scales = [v for v in of.values if "guidance scales" in of.changed(at, v, before)]
    named = [f"{what} of {words.listed([words.title(of.row(v)) for v in values])}"
             for what, values in (("metric", metrics), ("guidance scales", scales)) if values]
    series = PICK if of.points[at].kind == "run" else PROMOTED
    return [*of.changed_in(series, at, "", before), *of.noted(at, before), *named,
            *(words.visible(f"costs: {why}") for why in costs)]


def _said(p: Point, series: str, value: ValueSpec) -> str:
    e = p.estimates.get((series, value.name))
    if e is None or e.mean is None:
        return NOT_MEASURED
    return f"{words.number(e.mean, value)}{f' {words.interval(e.low, e.high, value)}' if e.low is not None else ''}"


def _commit(p: Point) -> str:
    return words.visible(p.commit[:8] + ("*" if p.dirty else "")) if p.commit else NO_COMMIT


def _day(p: Point) -> str:
    return p.date.strftime("%Y-%m-%d %H:%M")
