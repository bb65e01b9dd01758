"""Memory over time while a candidate was made resident and made one image, with the phases shaded."""

from __future__ import annotations

import re
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from harness.records import Timeline
from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation

MOST: Final = 12
SHADES: Final = {"switch": "rgba(224,164,88,0.22)", "text": "rgba(76,159,138,0.26)", "denoise": "rgba(91,124,250,0.14)",
                 "decode": "rgba(201,139,219,0.26)", "begin": "rgba(224,164,88,0.14)", "post": "rgba(139,147,167,0.26)"}
LINES: Final = {"device_used": {"color": style.ACCENT, "width": 2}, "process_used": {"color": "#4c9f8a", "width": 2},
                "process_rss": {"color": style.MARK, "width": 2}}
BEHIND: Final = {"color": style.QUIET, "width": 1, "dash": "dot"}
MEBI: Final = 2**20
_FIGURES: Final = re.compile(r"\d+(?:\.\d+)?")
"""Numbers, in which notes of several candidates may differ."""


def memory_samples(timeline: Timeline) -> pd.DataFrame:
    """One row per sample of a timeline: series, seconds (since its start), mebibytes."""
    rows = [(line.name, at, used / MEBI) for line in timeline.series
            for at, used in zip(line.at_seconds, line.used_bytes, strict=False)]
    return pd.DataFrame(rows, columns=["series", "seconds", "mebibytes"])


def memory_over_time(run: Run, rec: Recommendation) -> Any:
    """One candidate at a time, the pick first, then the baseline and at most MOST in all; None without a timeline."""
    order = dict.fromkeys([n for n in (rec.pick, run.suite.baseline) if n], None) | {c.name: None for c in run.suite.candidates}
    tables = {n: memory_samples(run.timeline[n]) for n in order if n in run.timeline}
    shown = [n for n, table in tables.items() if not table.empty][:MOST]
    if not shown:
        return None
    figure = go.Figure()
    choices: list[tuple[str, list[int]]] = []
    for name in shown:
        first = len(figure.data)
        _shade(figure, run.timeline[name], tables[name])
        _lines(figure, tables[name])
        for trace in figure.data[first:]:
            trace.visible = not choices
        choices.append((style.named(run, rec, name), list(range(first, len(figure.data)))))
    figure.update_xaxes(title="seconds since the start of the switch", nticks=8)
    figure.update_yaxes(title="MiB", nticks=6)
    style.switch(figure, "Candidate", choices)
    style.says(figure, _sentences(run, rec, shown, len(tables)))
    style.finish(figure, 360)
    style.legend_on_top(figure)
    return figure


def _lines(figure: Any, table: pd.DataFrame) -> None:
    """The driver's figures are drawn strong; main memory steps back where there are any."""
    driver = table["series"].isin(["device_used", "process_used"]).any()
    for name, rows in table.groupby("series", sort=False):
        quiet = driver and name == "process_rss"
        series_name = style.text(words.series(str(name)))
        figure.add_trace(go.Scatter(
            x=rows["seconds"].tolist(), y=rows["mebibytes"].round(2).tolist(), mode="lines", name=series_name,
            line=BEHIND if quiet else LINES.get(str(name), BEHIND),
            hovertemplate=f"%{{x:.3f}} s: %{{y:.1f}} MiB, {series_name}<extra></extra>"))


def _shade(figure: Any, timeline: Timeline, table: pd.DataFrame) -> None:
    """Each phase as shaded stretches over the whole height; they are traces, so that the select shows and hides them."""
    low, high = float(table["mebibytes"].min()), float(table["mebibytes"].max())
    margin = max(0.08 * (high - low), 0.002 * high, 0.5)
    bottom, top = max(0.0, low - margin), high + margin
    for phase in dict.fromkeys(span.phase for span in timeline.spans):
        colour = SHADES.get(words.stage_and_phase(phase)[1])
        if colour is None:
            continue
        spans = [s for s in timeline.spans if s.phase == phase]
        x = [at for s in spans for at in (s.start_seconds, s.start_seconds, s.end_seconds, s.end_seconds, None)]
        figure.add_trace(go.Scatter(
            x=x, y=[bottom, top, top, bottom, None] * len(spans), mode="lines", fill="toself", fillcolor=colour,
            line={"width": 0}, name=style.text(words.phase(phase)), hoveron="fills", hoverinfo="name"))


def _sentences(run: Run, rec: Recommendation, shown: list[str], of: int) -> list[str]:
    """The sampling rate, which memory it is, and whatever a timeline notes of itself."""
    rates = [r for n in shown if (r := run.timeline[n].samples_per_second) is not None]
    gap = max(run.timeline[n].longest_gap_seconds for n in shown)
    sentences = []
    if rates:
        rate = f"{min(rates):.0f}" if round(min(rates)) == round(max(rates)) else f"{min(rates):.0f} to {max(rates):.0f}"
        sentences.append(f"Sampled {rate} times a second; the longest gap was {words.duration(gap)}: a shorter peak can be "
                         "missed.")
    names = {line.name for n in shown for line in run.timeline[n].series if line.at_seconds}
    if not names & {"device_used", "process_used"}:
        sentences.append("This is main memory (RSS): no VRAM was read on this machine.")
    alike: dict[str, list[str]] = {}
    for n in shown:
        ended = [f"{words.series(line.name)}: {line.why_ended}" for line in run.timeline[n].series if line.why_ended]
        for note in (*run.timeline[n].notes, *ended):
            alike.setdefault(_FIGURES.sub("#", note), []).append(
                f"{style.named(run, rec, n)}: {words.visible(note).rstrip('.')}")
    sentences += [f"{first}{f'; about the same for {len(more)} more' if more else ''}." for first, *more in alike.values()]
    if of > len(shown):
        sentences.append(f"{of - len(shown)} more candidates are not drawn.")
    return sentences
