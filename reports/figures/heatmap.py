"""The heatmap over candidates and guidance: the tied set outlined, the pick starred, controls named. Drawn by page.py."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from reports import words
from reports.cells import select_rows
from reports.decision import Recommendation
from reports.figures import style
from reports.load import Run, by_cell
from reports.statistics import Estimate, cluster_mean

VALUES: Final = ("objective", "clip_score", "clipped_share", "saturation", "palette_left")


def objective_heatmap(run: Run, rec: Recommendation) -> Any:
    """One heatmap per value of VALUES that was measured, switched by a select; None without two cells to compare."""
    names = style.present(run)
    scales = sorted(run.images["guidance"].unique().tolist())
    if len(names) * len(scales) < 2:
        return None
    figure = go.Figure()
    choices: list[tuple[str, list[int]]] = []
    groups = by_cell(select_rows(run))
    for value in VALUES:
        cells = {key: cluster_mean(rows, value) for key, rows in groups.items()}
        if all(e.mean is None for e in cells.values()):
            continue
        figure.add_trace(_layer(run, value, (names, scales), cells))
        figure.data[-1].visible = not choices
        choices.append((words.title(value), [len(figure.data) - 1]))
    if not choices:
        return None
    _outline(figure, rec, names, scales)
    if rec.pick in names and rec.guidance in scales:
        figure.add_trace(_star(rec, names.index(str(rec.pick)), scales.index(rec.guidance)))
    figure.update_xaxes(title="CFG (guidance scale)", tickvals=list(range(len(scales))),
                        ticktext=[f"{g:g}" for g in scales], showgrid=False)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=[style.tick(run, n) for n in names], showgrid=False,
                        autorange="reversed")
    style.switch(figure, "Value", choices)
    return style.finish(figure, 90 + 52 * len(names))


def _layer(run: Run, value: str, axes: tuple[list[str], list[float]], cells: dict[tuple[str, float], Estimate]) -> Any:
    names, scales = axes
    grid = [[cells.get((n, g)) for g in scales] for n in names]
    hover = [[f"{style.tick(run, n).replace('<br>', ', ')}, CFG {g:g}<br>{words.title(value)}: "
              + (style.text(words.estimate(e, value)) if (e := cells.get((n, g))) else "not measured") for g in scales]
             for n in names]
    return go.Heatmap(
        z=[[e.mean if e else None for e in row] for row in grid], x=list(range(len(scales))), y=list(range(len(names))),
        text=[[words.number(e.mean, value).split(" dE")[0] if e and e.mean is not None else "–" for e in row] for row in grid],
        texttemplate="%{text}", textfont={"size": 13}, colorscale="Viridis", reversescale=run.better(value) == "lower",
        showscale=False, xgap=2, ygap=2, customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        name=words.title(value))


def _outline(figure: Any, rec: Recommendation, names: list[str], scales: list[float]) -> None:
    """Draws the outer edges of the tied set: an edge is drawn where the neighbour is not tied."""
    tied = {(scales.index(c.guidance), names.index(c.candidate)) for c in rec.cells if c.tied and c.candidate in names}
    for x, y in tied:
        edges = {(x - 1, y): (x - .5, y - .5, x - .5, y + .5), (x + 1, y): (x + .5, y - .5, x + .5, y + .5),
                 (x, y - 1): (x - .5, y - .5, x + .5, y - .5), (x, y + 1): (x - .5, y + .5, x + .5, y + .5)}
        for neighbour, (x0, y0, x1, y1) in edges.items():
            if neighbour not in tied:
                figure.add_shape(type="line", x0=x0, y0=y0, x1=x1, y1=y1, line={"color": style.MARK, "width": 4})


def _star(rec: Recommendation, row: int, column: int) -> Any:
    return go.Scatter(x=[column + 0.37], y=[row - 0.3], mode="markers", name="pick", showlegend=False, hoverinfo="skip",
                      marker={"symbol": "star", "size": 15, "color": "#ffffff",
                              "line": {"color": style.MARK, "width": 2}}, meta={"candidate": rec.pick, "guidance": rec.guidance})
