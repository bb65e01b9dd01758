"""Merge block weighted: the alphas of candidates by block, as declared, and what one block alone does to the objective."""

from __future__ import annotations

import re
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from harness.declare import Alphas, Blocks, Gradient, Merge
from reports import formatting as words
from reports.figures import theme as style
from reports.read.run import Run
from reports.statistics.intervals import PAIRED_BY, paired_difference
from reports.verdict.candidates import label
from reports.verdict.cells import select_rows
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_rows, shown_scale_words

BLOCK: Final = re.compile(r"(IN|M|OUT|D|S|J)\d{1,3}|time_embed|label_emb|out")
"""The axes that block_sweep makes."""
FLUX: Final = 61
MOST: Final = 5
"""Candidates beside each other; with more, bars are too thin to be read."""


def block_weights(run: Run, rec: Recommendation) -> Any:
    """A bar per block of the alphas of the pick, beside those of the other candidates that have alphas by block. None where no
    candidate states them block by block; what presets and gradients are made of is not in a declaration, and it is said."""
    ordered = sorted(run.suite.candidates, key=lambda c: c.name != rec.pick)
    alphas = {c.name: alpha for c in ordered if (alpha := _by_block(c.model)) is not None}
    stated = {name: alpha for name, alpha in alphas.items() if isinstance(alpha, Blocks) and alpha.values}
    if not stated:
        return None
    figure = go.Figure()
    for name, alpha in list(stated.items())[:MOST]:
        blocks = named_blocks(alpha)
        colour = style.line(run, rec, name)["color"] if name in (rec.pick, run.suite.baseline) else None
        figure.add_trace(go.Bar(x=list(blocks), y=list(blocks.values()), name=style.legend_name(run, rec, name),
                                **({"marker": {"color": colour}} if colour else {}),
                                hovertemplate="%{x}: alpha %{y:g}<extra>" + style.text(label(run, name)) + "</extra>"))
    figure.update_layout(barmode="group", bargap=0.3, colorway=[style.QUIET, *style.PHASE_COLOURS[::2]])
    figure.update_xaxes(type="category", showgrid=False, tickangle=-90)
    figure.update_yaxes(title="alpha, the share of model b", rangemode="tozero", nticks=6)
    style.finish(figure, 360)
    style.legend_on_top(figure)
    style.says(figure, _untold(run, alphas, list(stated)))
    return figure


def _untold(run: Run, alphas: dict[str, Any], stated: list[str]) -> list[str]:
    """What the bars do not show: presets and gradients by name, and candidates that are too many."""
    notes = []
    for name, alpha in alphas.items():
        if isinstance(alpha, Blocks) and not alpha.values:
            notes.append(f"{label(run, name)} has the preset {words.visible(alpha.preset)}, whose values are not in its "
                        "declaration.")
        elif isinstance(alpha, Gradient):
            steps = ", ".join(f"{v:g}" for v in alpha.values)
            notes.append(f"{label(run, name)} has alphas that change with depth, through {steps}.")
    if len(stated) > MOST:
        notes.append(f"Not drawn, to keep the bars legible: {words.listed([label(run, n) for n in stated[MOST:]])}.")
    return notes


def _by_block(model: Any) -> Blocks | Gradient | None:
    """The alphas by block of a merge, the default ones where parts have their own; None for any other model."""
    alpha = model.alpha if isinstance(model, Merge) else None
    alpha = alpha.default if isinstance(alpha, Alphas) else alpha
    return alpha if isinstance(alpha, Blocks | Gradient) else None


def named_blocks(blocks: Blocks) -> dict[str, float]:
    """The values by the names of their blocks: BASE, IN00 ..., M00, OUT00 ... for U-Nets, those of Flux for 61 values; numbered
    where the tool that they are written for divides a model in another way."""
    count = len(blocks.values)
    if blocks.convention == "comfyui":
        names = [f"no. {i + 1}" for i in range(count)]
    elif count == FLUX:
        names = ["CLIP", "T5", "IN", *(f"D{i:02d}" for i in range(19)), *(f"S{i:02d}" for i in range(38)), "OUT"]
    else:
        side = (count - 1) // 2
        names = [*(["BASE"] if count % 2 == 0 else []), *(f"IN{i:02d}" for i in range(side)), "M00",
                 *(f"OUT{i:02d}" for i in range(side))]
    by_block = dict(zip(names, blocks.values, strict=False))
    return by_block if blocks.base is None or "BASE" in by_block else {"BASE": blocks.base, **by_block}


def block_effects(run: Run, rec: Recommendation) -> Any:
    """The objective of every candidate that changes one block alone minus the baseline's, at the pick's guidance, with its
    interval; None unless the suite sweeps two or more blocks."""
    swept = {c.name: next(iter(c.axes.items())) for c in run.suite.candidates
             if len(c.axes) == 1 and BLOCK.fullmatch(next(iter(c.axes)))}
    if len({axis for axis, _ in swept.values()}) < 2:
        return None
    rows = select_rows(run)
    rows = shown_rows(run, rec, rows)
    base = rows[rows["candidate"] == run.suite.baseline]
    objective = run.row("objective")
    by = PAIRED_BY if rec.guidance is None else ("prompt", "seed")
    effects = pd.DataFrame([{"block": axis, "value": value, "name": name,
                             "effect": paired_difference(mine, base, objective, by=by)}
                            for name, (axis, value) in swept.items() if name != run.suite.baseline
                            and not (mine := rows[rows["candidate"] == name]).empty])
    if effects.empty:
        return None
    figure = go.Figure()
    for number, (value, part) in enumerate(effects.groupby("value", sort=True)):
        known = part[[e.mean is not None for e in part["effect"]]]
        found = known["effect"].tolist()
        figure.add_trace(go.Bar(
            x=known["block"].tolist(), y=[e.mean for e in found], name=f"alpha {value:g} in the block",
            marker={"color": style.PHASE_COLOURS[(number + 1) % len(style.PHASE_COLOURS)]},
            error_y={"type": "data", "symmetric": False, "thickness": 1.2, "color": style.QUIET,
                     "array": [0.0 if e.high is None else e.high - e.mean for e in found],
                     "arrayminus": [0.0 if e.low is None else e.mean - e.low for e in found]},
            customdata=[style.text(words.estimate(e, difference=True)) for e in found],
            hovertemplate="%{x}: %{customdata}<extra>%{fullData.name}</extra>"))
    figure.update_layout(barmode="group", bargap=0.3)
    at = shown_scale_words(run, rec)
    figure.update_xaxes(type="category", showgrid=False, title=f"block, at {at}", categoryorder="array",
                        categoryarray=list(dict.fromkeys(axis for axis, _ in swept.values())))
    figure.update_yaxes(title=f"objective minus that of {style.text(label(run, run.suite.baseline))}", nticks=6)
    style.finish(figure, 380)
    figure.update_yaxes(zeroline=True, zerolinecolor=style.QUIET)
    style.legend_on_top(figure)
    return figure
