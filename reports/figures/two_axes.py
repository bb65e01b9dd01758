"""Heatmaps over any two numeric axes of the candidates, and over one of them and guidance, cut through the pick."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import plotly.graph_objects as go

from harness.declare import Candidate
from harness.declare.swept_axis import mode_of
from harness.records import ValueSpec
from reports import formatting as words
from reports.figures import theme as style
from reports.figures.heatmap import layer, outline, star
from reports.read.roles import numeric_axes
from reports.read.run import Run, by_cell
from reports.statistics.intervals import Estimate, cluster_mean
from reports.verdict.candidates import present
from reports.verdict.cells import select_rows
from reports.verdict.recommendation import Recommendation

CFG: Final = "CFG"


def through(run: Run, pick: str, free: tuple[str, ...]) -> list[str]:
    """The candidates that have images and are like the pick in all axes but the `free` ones, and in how their weights are run."""
    chosen = run.candidate(pick)
    return [name for name in present(run) if _fixed(run.candidate(name), free) == _fixed(chosen, free)]


def two_axes(run: Run, rec: Recommendation) -> Any:
    """One heatmap for every two axes and value, in what else the pick has; None unless candidates have two numeric axes."""
    axes = numeric_axes(run.suite)
    if len(axes) < 2 or rec.pick is None or rec.guidance is None:
        return None
    groups = by_cell(select_rows(run))
    figure = go.Figure()
    choices: list[tuple[str, list[int]]] = []
    layouts: list[dict[str, Any]] = []
    for pair in combinations((*axes, CFG), 2):
        places = _places(run, rec, pair)
        sides = [sorted({at[i] for at in places.values()}) for i in (0, 1)]
        if min(map(len, sides)) < 2:
            continue
        for value in run.values_for("headline"):
            cells = {key: cluster_mean(groups[key], value) for key in places if key in groups}
            if any(e.mean is not None for e in cells.values()):
                first = len(figure.data)
                _draw(figure, rec, (pair, value), ({places[key]: e for key, e in cells.items()}, places, sides))
                choices.append((f"{words.visible(pair[0])} × {words.visible(pair[1])}: {words.title(value)}",
                                list(range(first, len(figure.data)))))
                layouts.append(_axes(run, rec, pair, sides))
    if not choices:
        return None
    for trace in figure.data[len(choices[0][1]):]:
        trace.visible = False
    figure.update_layout(**{path.replace(".", "_"): value for path, value in layouts[0].items()})
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    style.switch(figure, "Axes and value", choices, layouts)
    return style.finish(figure, 420)


def _places(run: Run, rec: Recommendation, pair: tuple[str, str]) -> dict[tuple[str, float], tuple[float, float]]:
    """{(candidate, guidance): its values on the two axes} of all cells that are like the pick in everything else."""
    names = through(run, str(rec.pick), pair)
    scales = sorted(float(g) for g in run.images["guidance"].unique()) if CFG in pair else [float(rec.guidance or 0.0)]
    return {(n, g): (_at(run.candidate(n), g, pair[0]), _at(run.candidate(n), g, pair[1])) for n in names for g in scales}


def _draw(figure: Any, rec: Recommendation, of: tuple[tuple[str, str], ValueSpec], what: Any) -> None:
    (pair, value), (means, places, sides) = of, what
    grid: list[list[Estimate | None]] = [[means.get((x, y)) for x in sides[0]] for y in sides[1]]
    where = [[style.text(f"{pair[0]} {x:g}, {pair[1]} {y:g}") for x in sides[0]] for y in sides[1]]
    tied = {(c.candidate, c.guidance) for c in rec.cells if c.tied} & set(places)
    at = {key: (sides[0].index(x), sides[1].index(y)) for key, (x, y) in places.items()}
    figure.add_trace(layer(value, grid, where))
    figure.add_trace(outline({at[key] for key in tied}))
    column, row = at[str(rec.pick), float(rec.guidance or 0.0)]
    figure.add_trace(star(rec, row + 0.3, column))


def _axes(run: Run, rec: Recommendation, pair: tuple[str, str], sides: list[list[float]]) -> dict[str, Any]:
    """Titles and ticks of both axes; what is fixed stands in the title below."""
    chosen = run.candidate(str(rec.pick))
    fixed = [f"{axis} {chosen.axes[axis]:g}" for axis in numeric_axes(run.suite) if axis not in pair]
    fixed += [] if CFG in pair else [f"CFG {rec.guidance:g}"]
    titles = (f"{pair[0]}{f', at {words.listed(fixed)}' if fixed else ''}", pair[1])
    axes: dict[str, Any] = {}
    for letter, title, values in zip("xy", titles, sides, strict=True):
        axes |= {f"{letter}axis.title.text": style.text(title), f"{letter}axis.tickvals": list(range(len(values))),
                  f"{letter}axis.ticktext": [f"{v:g}" for v in values],
                  f"{letter}axis.range": [-0.5, len(values) - 0.5]}
    return axes


def _at(candidate: Candidate, guidance: float, axis: str) -> float:
    return guidance if axis == CFG else float(candidate.axes[axis])


def _fixed(candidate: Candidate, free: tuple[str, ...]) -> Any:
    return mode_of(candidate), {a: v for a, v in candidate.axes.items() if a not in free}
