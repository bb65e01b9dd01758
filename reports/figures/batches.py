"""What larger batches give and take: images per second and peak memory by batch size, and where memory ran out."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from harness.records import Fit
from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.verdict.costs import batch_throughput, peak_of
from reports.verdict.recommendation import Recommendation

LEGEND: Final = 6
"""With more candidates the legend names the pick and the baseline alone; the others are named where the pointer is."""


def batch_points(run: Run) -> pd.DataFrame:
    """One row per candidate and batch size: candidate, batch_size, images_per_second, batches (timed), peak_bytes and the
    reading it is of (NaN and "" where no probe gave one)."""
    rows = []
    for candidate in run.suite.candidates:
        curve = run.curves.get(candidate.name)
        for point in curve.points if curve else ():
            speed, peak = batch_throughput([point]).get(point.batch_size), peak_of(point.readings)
            rows.append((candidate.name, point.batch_size, speed, len(point.seconds),
                         peak.value if peak else None, words.reading(peak.name) if peak else ""))
    table = pd.DataFrame(rows, columns=["candidate", "batch_size", "images_per_second", "batches", "peak_bytes", "reading"])
    return table.astype({"images_per_second": float, "peak_bytes": float})


def refusals(run: Run) -> list[Fit]:
    """The batches that did not fit into the device itself, unless the curve got by later; a cap that was set to try a smaller
    card is another question."""
    timed = {(name, point.batch_size) for name, curve in run.curves.items() for point in curve.points}
    return [fit for fit in run.fits if not fit.fits and fit.cap_bytes is None and (fit.candidate, fit.batch_size) not in timed]


def refused(fit: Fit) -> str:
    """ "refused 3.10 GiB", or "refused" where the allocator did not say how much was asked for. """
    return "refused" if fit.asked_bytes is None else f"refused {words.size(fit.asked_bytes)}"


def batch_curve(run: Run, rec: Recommendation) -> Any:
    """Two panels over the batch size, a line per candidate; a refused batch is a cross on the upper edge of the memory panel
    that says how much was asked for. None without a curve."""
    table, lost = batch_points(run), refusals(run)
    if table.empty:
        return None
    probes = sorted({r for r in table["reading"] if r})
    panels = [("images_per_second", "Images per second")]
    if probes:
        panels.append(("peak_bytes", f"Peak memory, GiB: {words.listed(probes)}"))
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.16,
                           subplot_titles=[title for _, title in panels])
    for place, (value, _) in enumerate(panels, start=1):
        for _, rows in table.dropna(subset=[value]).groupby("candidate", sort=False):
            _line(figure, (run, rec), rows, value, place)
    top = table["peak_bytes"].max() / 2**30 if probes else table["images_per_second"].max()
    _crosses(figure, (run, rec), lost, (len(panels), float(top)))
    for note in figure.layout.annotations[:len(panels)]:
        note.update(x=0, xanchor="left", font={"size": 13})
    sizes = sorted({*table["batch_size"], *(fit.batch_size for fit in lost)})
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=[str(s) for s in sizes])
    figure.update_xaxes(title_text="images in a batch", row=len(panels), col=1)
    figure.update_yaxes(rangemode="tozero", nticks=5)
    style.says(figure, [f"{style.named(run, rec, name)}: {words.visible(curve.stopped).rstrip('.')}."
                        for name, curve in run.curves.items() if curve.stopped])
    style.finish(figure, 150 + 150 * len(panels))
    style.legend_on_top(figure)
    figure.update_layout(legend_y=1.1)
    return figure


def _line(figure: Any, of: tuple[Run, Recommendation], rows: pd.DataFrame, value: str, place: int) -> None:
    name = str(rows["candidate"].iloc[0])
    memory, strong = value == "peak_bytes", name in (of[1].pick, of[0].suite.baseline)
    texts = [words.size(v) if memory else f"{v:.2f} images/s, median of {n}"
            for v, n in zip(rows[value], rows["batches"], strict=True)]
    figure.add_trace(go.Scatter(
        x=rows["batch_size"].tolist(), y=(rows[value] / 2**30 if memory else rows[value]).tolist(), mode="lines+markers",
        name=style.legend_name(*of, name), legendgroup=name, line=style.line(*of, name),
        showlegend=place == 1 and (strong or len(of[0].curves) <= LEGEND),
        customdata=texts, hovertemplate=f"{style.text(style.named(*of, name))}, batch %{{x}}: %{{customdata}}<extra></extra>"),
        row=place, col=1)


def _crosses(figure: Any, of: tuple[Run, Recommendation], lost: list[Fit], at: tuple[int, float]) -> None:
    if not lost:
        return
    place, top = at
    at_place: dict[tuple[int, str], list[str]] = {}
    for fit in lost:
        at_place.setdefault((fit.batch_size, refused(fit)), []).append(f"{style.named(*of, fit.candidate)}: {fit.why}")
    figure.add_trace(go.Scatter(
        x=[size for size, _ in at_place], y=[1.25 * top] * len(at_place), mode="markers+text", name="does not fit",
        text=[text for _, text in at_place], textposition="middle left", cliponaxis=False,
        marker={"symbol": "x", "size": 11, "color": style.MARK},
        customdata=["<br>".join(map(style.text, text)) for text in at_place.values()],
        hovertemplate="batch %{x}, %{text}<br>%{customdata}<extra></extra>"), row=place, col=1)
