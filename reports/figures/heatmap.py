"""The heatmap over candidates and guidance: the tied set outlined, the pick starred, controls named."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from harness.records import ValueSpec
from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run, by_cell
from reports.statistics.intervals import Estimate, cluster_mean
from reports.verdict.candidates import label_with_role, present
from reports.verdict.cells import select_rows
from reports.verdict.recommendation import Recommendation


def objective_heatmap(run: Run, rec: Recommendation) -> Any:
    """One heatmap per value of the figures that was measured, switched by a select; None without two cells to compare."""
    names = present(run)
    scales = sorted(run.images["guidance"].unique().tolist())
    if len(names) * len(scales) < 2:
        return None
    figure = go.Figure()
    choices: list[tuple[str, list[int]]] = []
    groups = by_cell(select_rows(run))
    for value in run.values_for("figure"):
        cells = {key: cluster_mean(rows, value) for key, rows in groups.items()}
        if all(e.mean is None for e in cells.values()):
            continue
        figure.add_trace(_layer(run, value, (names, scales), cells))
        figure.data[-1].visible = not choices
        choices.append((words.title(value), [len(figure.data) - 1]))
    if not choices:
        return None
    tied = {(scales.index(c.guidance), names.index(c.candidate)) for c in rec.cells if c.tied and c.candidate in names}
    figure.add_trace(outline(tied))
    if rec.pick in names and rec.guidance in scales:
        figure.add_trace(star(rec, names.index(str(rec.pick)) - 0.3, scales.index(rec.guidance)))
    ticks = [style.tick(run, n) for n in names]
    figure.update_xaxes(title="CFG (guidance scale)", tickvals=list(range(len(scales))),
                        ticktext=[f"{g:g}" for g in scales], showgrid=False, range=[-0.5, len(scales) - 0.5])
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=ticks, showgrid=False,
                        range=[len(names) - 0.5, -0.5])
    style.switch(figure, "Value", choices)
    return style.finish(figure, 90 + style.rows_height(ticks, 52))


def _layer(run: Run, value: ValueSpec, axes: tuple[list[str], list[float]], cells: dict[tuple[str, float], Estimate]) -> Any:
    names, scales = axes
    where = [[f"{style.text(label_with_role(run, n))}, CFG {g:g}" for g in scales] for n in names]
    return layer(value, [[cells.get((n, g)) for g in scales] for n in names], where)


def layer(value: ValueSpec, grid: list[list[Estimate | None]], where: list[list[str]]) -> Any:
    """One value as a heatmap over the places of a grid (rows from the bottom up); `where` says of each place what it is."""
    title = words.title(value)
    hover = [[f"{text}<br>{style.text(title)}: " + (style.text(words.estimate(e, value)) if e else "not measured")
              for e, text in zip(row, names, strict=True)] for row, names in zip(grid, where, strict=True)]
    return go.Heatmap(
        z=[[e.mean if e else None for e in row] for row in grid], x=list(range(len(grid[0]))), y=list(range(len(grid))),
        text=[[style.text(words.bare(e.mean, value)) if e and e.mean is not None else "–" for e in row] for row in grid],
        texttemplate="%{text}", textfont={"size": 13}, colorscale="Viridis", reversescale=value.fewer,
        showscale=False, xgap=2, ygap=2, customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        name=style.text(title))


def outline(tied: set[tuple[int, int]]) -> Any:
    """The outer edges of a set of places (column, row): an edge is drawn where the neighbour is not of the set."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for x, y in sorted(tied):
        edges = {(x - 1, y): (x - .5, y - .5, x - .5, y + .5), (x + 1, y): (x + .5, y - .5, x + .5, y + .5),
                 (x, y - 1): (x - .5, y - .5, x + .5, y - .5), (x, y + 1): (x - .5, y + .5, x + .5, y + .5)}
        for neighbour, (x0, y0, x1, y1) in edges.items():
            if neighbour not in tied:
                xs += [x0, x1, None]
                ys += [y0, y1, None]
    return go.Scatter(x=xs, y=ys, mode="lines", line={"color": style.MARK, "width": 4}, name="tied", showlegend=False,
                      hoverinfo="skip", cliponaxis=False)


def star(rec: Recommendation, row: float, column: int) -> Any:
    """The mark of the pick, in the corner of its place."""
    return go.Scatter(x=[column + 0.37], y=[row], mode="markers", name="pick", showlegend=False, hoverinfo="skip",
                      marker={"symbol": "star", "size": 15, "color": "#ffffff",
                              "line": {"color": style.MARK, "width": 2}}, meta={"candidate": rec.pick, "guidance": rec.guidance})
