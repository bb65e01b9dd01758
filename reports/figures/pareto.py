"""Quality against cost: every candidate at the pick's guidance, and who is beaten in both at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go

from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean
from reports.verdict.candidates import label, varies_fidelity
from reports.verdict.costs import seconds_per_image
from reports.verdict.pareto import BEATEN, BYTES, FRONT, MAYBE, SECONDS, Place, front_of
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_rows, shown_scales

LOOKS: Final = {FRONT: (style.ACCENT, "circle"), MAYBE: (style.BASE, "diamond-open"), BEATEN: (style.QUIET, "x")}
PSNR: Final = "psnr_db"
KINDS: Final = {SECONDS: ("seconds per image", "seconds per image; left is cheaper"),
                BYTES: ("memory", "memory in GB; left is cheaper")}
"""What a choice and the axis are called."""


def quality_against_cost(run: Run, rec: Recommendation) -> Any:
    """One mark per candidate with intervals both ways, its shape saying whether it is beaten; cost by seconds or by memory.
    None where nothing has both, or for one candidate."""
    fidelity = run.axis is None and varies_fidelity(run.suite)
    return _against_cost(run, rec, run.scores[0] if fidelity and run.scores else "objective", (SECONDS, BYTES))


def psnr_against_bytes(run: Run, rec: Recommendation) -> Any:
    """As `quality_against_cost`, of candidates that run the same weights in other ways: PSNR to the baseline against memory. None
    where PSNR or memory was not measured, or candidates differ in more."""
    return _against_cost(run, rec, PSNR, (BYTES,)) if varies_fidelity(run.suite) and PSNR in run.values else None


def _against_cost(run: Run, rec: Recommendation, value: str, kinds: Sequence[str]) -> Any:
    figure = go.Figure()
    choices: list[tuple[str, list[int]]] = []
    titles = []
    for kind in kinds:
        choice, title = KINDS[kind]
        places = front_of(run, value, shown_scales(run, rec), kind)
        if len(places) < 2 or (kind == BYTES and len({place.cost for place in places}) < 2):
            continue
        first = len(figure.data)
        for status in LOOKS:
            if mine := [p for p in places if p.status == status]:
                _marks(figure, run, rec, (mine, value, kind))
        for trace in figure.data[first:]:
            trace.visible = not choices
        choices.append((choice, list(range(first, len(figure.data)))))
        titles.append(title)
    if not choices:
        return None
    figure.update_xaxes(title=titles[0])
    figure.update_yaxes(title=style.text(words.title(run.row(value))))
    if len(kinds) > 1:
        style.switch(figure, "Cost", choices, [{"xaxis.title.text": title} for title in titles])
    style.finish(figure, 400)
    style.legend_on_top(figure)
    return figure


def _marks(figure: Any, run: Run, rec: Recommendation, of: tuple[list[Place], str, str]) -> None:
    places, value, kind = of
    rows = shown_rows(run, rec)
    means = [cluster_mean(rows[rows["candidate"] == p.candidate], run.row(value)) for p in places]
    scale = 1.0 if kind == SECONDS else 1e9
    seconds = [seconds_per_image(run, p.candidate) for p in places]
    colour, symbol = LOOKS[places[0].status]
    spec = run.row(value)
    texts = [style.text(f"{style.named(run, rec, p.candidate)}: {words.title(spec)} {words.estimate(e, spec)}, "
                       f"{words.number(p.cost, run.row(kind))}; {p.status}" + (f" by {label(run, p.by)}" if p.by else ""))
            for p, e in zip(places, means, strict=True)]
    figure.add_trace(go.Scatter(
        x=[p.cost / scale for p in places], y=[p.quality for p in places], mode="markers+text", name=places[0].status,
        text=[style.text(label(run, p.candidate)) + (" ★" if p.candidate == rec.pick else "") for p in places],
        textposition="top center", cliponaxis=False, customdata=texts, hovertemplate="%{customdata}<extra></extra>",
        marker={"color": colour, "symbol": symbol, "size": 11},
        error_y={"type": "data", "symmetric": False, "thickness": 1, "color": colour,
                 "array": [(e.high or p.quality) - p.quality for p, e in zip(places, means, strict=True)],
                 "arrayminus": [p.quality - (e.low or p.quality) for p, e in zip(places, means, strict=True)]},
        error_x={"type": "data", "symmetric": False, "thickness": 1, "color": colour, "visible": kind == SECONDS,
                 "array": [(s.slowest or p.cost) - p.cost for p, s in zip(places, seconds, strict=True)],
                 "arrayminus": [p.cost - (s.fastest or p.cost) for p, s in zip(places, seconds, strict=True)]}))
