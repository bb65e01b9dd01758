"""How all figures look: colours that hold on light and dark ground, axes of candidates, labels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import plotly.graph_objects as go

from harness.records.harmless_text import in_plotly
from reports.read.run import Run
from reports.verdict.candidates import label, label_with_role
from reports.verdict.recommendation import Recommendation

ACCENT: Final = "#5b7cfa"
BAND: Final = "rgba(91,124,250,0.18)"
MARK: Final = "#ff7a1a"
TIED_FILL: Final = "rgba(255,122,26,0.12)"
QUIET: Final = "#8b93a7"
BASE: Final = "#c98bdb"
PHASE_COLOURS: Final = ("#4c9f8a", "#5b7cfa", "#c98bdb", "#e0a458", "#8b93a7")

_WIDTH: Final = 22
_LINE: Final = re.compile(rf".{{1,{_WIDTH}}}(?:(?<=[\s_./,=-])|$)|.{{1,{_WIDTH}}}")
_TITLE_LINE: Final = re.compile(r".{1,46}(?:(?<=\s)|$)|.{1,46}")

text: Final = in_plotly
"""Every text of a label goes through it."""


def finish(figure: Any, height: int) -> Any:
    """The common layout; the page's script sets text and grid colours to suit the reader's light or dark theme."""
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 28, "b": 8}, paper_bgcolor="rgba(0,0,0,0)",
                         plot_bgcolor="rgba(0,0,0,0)", font={"family": "system-ui, sans-serif", "size": 13},
                         hoverlabel={"font": {"size": 13}}, template=go.layout.Template())
    look = {"automargin": True, "zeroline": False, "fixedrange": True, "ticks": "", "title_font_size": 13}
    figure.update_xaxes(**look, title_standoff=8)
    figure.update_yaxes(**look, ticksuffix=" ")
    return figure


def tick(run: Run, name: str) -> str:
    """A candidate's tick label, its role on a second line when it is a control."""
    role = label_with_role(run, name).removeprefix(label(run, name)).strip(" ()")
    return folded(label(run, name)) + (f"<br><i>{text(role)}</i>" if role else "")


def folded(words: str) -> str:
    """Words for plotly's text, folded into lines that leave room for the plot on a narrow screen: after a separator where there
    is one."""
    return "<br>".join(text(line.strip()) for line in _LINE.findall(words))


def folded_title(words: str) -> str:
    """As `folded`, for a title over the whole width of a figure: between words alone."""
    return "<br>".join(text(line.strip()) for line in _TITLE_LINE.findall(words))


def rows_height(ticks: Iterable[str], least: int) -> int:
    """The height of the rows that these tick labels stand beside: all are as high as the one with the most lines needs."""
    labels = list(ticks)
    return len(labels) * max(least, *(18 * (label.count("<br>") + 1) + 6 for label in labels))


def legend_name(run: Run, rec: Recommendation, name: str) -> str:
    """As `named`, for plotly's legend."""
    return folded(named(run, rec, name))


def legend_on_top(figure: Any) -> None:
    """A legend in one line above the plot, where neither ticks nor titles can run into it."""
    figure.update_layout(legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom",
                                 "traceorder": "normal"}, margin_t=48)


def line(run: Run, rec: Recommendation, name: str) -> dict[str, Any]:
    """How a candidate's line is drawn where each has one: the pick strong, the baseline plain, the others thin."""
    if name == rec.pick:
        return {"color": ACCENT, "width": 3}
    return {"color": BASE, "width": 2} if name == run.suite.baseline else {"color": QUIET, "width": 1}


def named(run: Run, rec: Recommendation, name: str) -> str:
    """A candidate's name in a legend or a select, with its role and whether it is the pick; not for plotly's own text."""
    return label_with_role(run, name) + (" ★" if name == rec.pick else "")


def says(figure: Any, sentences: list[str]) -> None:
    """Asks the page for a line of small print below the figure for every sentence."""
    figure.update_layout(meta={**(figure.layout.meta or {}), "says": sentences})


def switch(figure: Any, name: str, choices: list[tuple[str, list[int]]], layouts: list[dict[str, Any]] | None = None) -> None:
    """Asks the page for a labelled select above the figure; a choice shows its own traces and hides the others', and changes
    what its entry of `layouts` says (paths of plotly's layout, with their values)."""
    switch_data = {"name": name, "choices": [{"label": said, "traces": traces, "layout": layouts[at] if layouts else {}}
                                        for at, (said, traces) in enumerate(choices)]}
    figure.update_layout(meta={**(figure.layout.meta or {}), "switch": switch_data})
