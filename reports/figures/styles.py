"""Styles: which of the suite's looks the parents and the pick have, and how far two parents complement each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from harness.records.values import SHARE
from reports import formatting as words
from reports.figures import theme as style
from reports.read.beside import rows_at
from reports.read.run import Run
from reports.verdict.candidates import label_with_role
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_scales
from reports.verdict.style_consistency import DEFINITION, style_consistency

GRID: Final = "rgba(139,147,167,0.4)"
FEWEST_FOR_RADAR: Final = 3
"""With two looks a radar is a line; then bars tell the same."""


def leanings(run: Run, rec: Recommendation) -> Any:
    """One outline per control and the pick over the looks of the suite: the mean probability that an image has each look, at
    the pick's guidance, every prompt counting once. None where the suite has no looks."""
    if "leanings" not in run.images.columns:
        return None
    names = list(dict.fromkeys([*run.roles, *([rec.pick] if rec.pick else [])]))
    scales = shown_scales(run, rec)
    means = {name: mean for name in names if (mean := mean_leanings(run, name, scales[name]))}
    looks = list(run.suite.styles)
    if not means or not looks:
        return None
    figure = go.Figure()
    for name, mean in means.items():
        line = style.line(run, rec, name)
        shares = [mean.get(look) for look in looks]  # a look that was not measured is a gap, not a zero
        texts = [style.text(f"{look}: {words.number(mean.get(look), SHARE)}") for look in looks]
        if len(looks) >= FEWEST_FOR_RADAR:
            figure.add_trace(go.Scatterpolar(
                r=[*shares, shares[0]], theta=[style.text(look) for look in (*looks, looks[0])], mode="lines+markers",
                name=style.legend_name(run, rec, name), line=line, text=[*texts, texts[0]], hovertemplate="%{text}"))
        else:
            figure.add_trace(go.Bar(x=[style.text(look) for look in looks], y=shares,
                                    name=style.legend_name(run, rec, name), marker={"color": line["color"]},
                                    text=texts, hovertemplate="%{text}"))
    figure.update_polars(bgcolor="rgba(0,0,0,0)", radialaxis={"range": [0, 1], "tickformat": ".0%", "nticks": 5, "angle": 90,
                                                               "gridcolor": GRID, "tickangle": 90},
                         angularaxis={"rotation": 90, "direction": "clockwise", "gridcolor": GRID, "linecolor": GRID})
    style.finish(figure, 420)
    style.legend_on_top(figure)
    style.says(figure, [*_complement(run, means), *_consistent(run, rec, list(means))])
    return figure


def _consistent(run: Run, rec: Recommendation, names: list[str]) -> list[str]:
    """How consistent each of the outlined candidates is, in one sentence, and what that means in another."""
    scales = shown_scales(run, rec)
    consistencies = {name: consistency for name in names if (consistency := style_consistency(run, name, scales[name])).look}
    if not consistencies:
        return []
    listed = [f"{label_with_role(run, name)} {words.number(c.share.mean, SHARE)} "
            f"{words.interval(c.share.low, c.share.high, SHARE)} {c.look}" for name, c in consistencies.items()]
    return [f"{DEFINITION} Here: {words.listed(listed)}."]


def mean_leanings(run: Run, name: str, guidance: float | None) -> dict[str, float]:
    """Mean probability of each look over a candidate's images at a guidance: over the images of each prompt, then over prompts.
    Empty where none was measured."""
    rows = rows_at(run, guidance, run.images[run.images["candidate"] == name])
    rows = rows.dropna(subset=["leanings"])
    if rows.empty:
        return {}
    table = pd.DataFrame(rows["leanings"].tolist(), index=rows["prompt"]).reindex(columns=list(run.suite.styles))
    means = table.groupby(level=0).mean().mean().dropna()
    return {str(look): float(mean) for look, mean in means.items()}


def overlap(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The share of two distributions over the same looks that they have in common: the sum of the smaller of the two
    probabilities of each look, 0 (nothing in common) to 1 (the same)."""
    return sum(min(p, other.get(look, 0.0)) for look, p in one.items())


def _complement(run: Run, means: Mapping[str, Mapping[str, float]]) -> list[str]:
    ends = [name for name, role in run.roles.items() if role.startswith("parent") and name in means]
    if len(ends) != 2:
        return []
    shared = overlap(means[ends[0]], means[ends[1]])
    return [f"{label_with_role(run, ends[0])} and {label_with_role(run, ends[1])} share {100 * shared:.0f} % of their style "
            f"probabilities; {100 * (1 - shared):.0f} % differ."]
