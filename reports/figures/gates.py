"""Gates against their limits: where each observed interval lies, and on which side it may."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records.gate_kinds import gate_kind
from reports import formatting as words
from reports.figures import theme as style
from reports.gates import FAILED, INCONCLUSIVE, PASSED, Verdict, judge
from reports.read.run import Run
from reports.verdict.candidates import label
from reports.verdict.recommendation import Recommendation

COLOURS: Final = {PASSED: "#2f9e6e", FAILED: "#d7263d", INCONCLUSIVE: "#c98a12"}
SYMBOLS: Final = {PASSED: "circle", FAILED: "x", INCONCLUSIVE: "diamond-open"}
ROW: Final = 96
LINE: Final = 18
WRONG_SIDE: Final = "rgba(215,38,61,0.10)"


def against_limits(run: Run, rec: Recommendation) -> Any:
    """One row per judged gate with an interval, on an axis of its own: the interval, the limit, the wrong side shaded. Counts
    (coverage, failures) have no interval and are in the table alone. None where nothing was judged."""
    drawn = [v for v in judge(run, rec) if v.low is not None and v.status in COLOURS and not gate_kind(v.value).exact]
    if not drawn:
        return None
    titles = [_title(run, v) for v in drawn]
    more = LINE * max(title.count("<br>") for title in titles)
    figure = make_subplots(rows=len(drawn), cols=1, subplot_titles=titles,
                           vertical_spacing=min(0.6, (0.55 * ROW + more) / (ROW + more) / len(drawn)))
    for row, v in enumerate(drawn, start=1):
        _row(figure, row, v)
        figure.update_xaxes(**({} if v.ratio else _units(run, v)), row=row, col=1)
    style.finish(figure, 40 + (ROW + more) * len(drawn))
    figure.update_yaxes(visible=False, range=[-1, 1])
    for note in figure.layout.annotations:
        note.update(x=0, xanchor="left", align="left", font={"size": 13})
    figure.update_layout(showlegend=False, margin_t=28 + more)
    return figure


def _row(figure: Any, row: int, v: Verdict) -> None:
    fewer = v.at_most is not None
    at = next(limit for limit in (v.at_most, v.at_least, 0.0) if limit is not None)
    low, high, mean = (float(x if x is not None else at) for x in (v.low, v.high, v.observed))
    room = 0.25 * max(max(high, at) - min(low, at), 1e-9)
    ends = (min(low, at) - room, max(high, at) + room)
    colour = COLOURS[v.status]
    figure.add_trace(go.Scatter(
        x=[mean], y=[0], mode="markers", marker={"color": colour, "size": 12, "symbol": SYMBOLS[v.status]},
        error_x={"type": "data", "symmetric": False, "array": [high - mean], "arrayminus": [mean - low], "color": colour,
                 "thickness": 3, "width": 8},
        hovertemplate=style.text(f"{v.status}: {words.number(mean)} [{words.number(low)}, {words.number(high)}]; {v.reason}")
        + "<extra></extra>"), row=row, col=1)
    # After the trace: plotly leaves empty subplots without lines.
    figure.add_vrect(x0=at if fewer else ends[0], x1=ends[1] if fewer else at, fillcolor=WRONG_SIDE, line_width=0, row=row, col=1)
    figure.add_vline(x=at, line={"color": style.QUIET, "width": 2, "dash": "dot"}, row=row, col=1)
    figure.update_xaxes(range=list(ends), row=row, col=1, nticks=7)


def _units(run: Run, v: Verdict) -> dict[str, str]:
    """How the numbers of an axis are written."""
    spec = run.row(v.value)
    if spec.display == "percent":
        return {"tickformat": ".3~%"}
    return {"exponentformat": "SI", "ticksuffix": "B"} if spec.unit == "bytes" else {}


def _title(run: Run, v: Verdict) -> str:
    known = v.candidate in {c.name for c in run.suite.candidates}
    who = label(run, v.candidate) if known else words.visible(v.candidate)
    observed = f"{words.number(v.observed)} ×" if v.ratio else words.number(v.observed, run.row(v.value))
    return style.folded_title(f"{v.status.replace('_', ' ')}: {words.title(run.row(v.value))} {v.limit} · {who}, {observed}")
