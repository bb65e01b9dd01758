"""The picture of docs/statistics.md: simulated differences, their real intervals and words, against 0 and against a gate's limit.

    python tests/benchmarks/intervals.py docs/statistics.svg
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reports import formatting as words
from reports.gates import decide
from reports.statistics.intervals import Estimate, cluster_interval

WIDTH: Final = 860
ROW: Final = 34
LEFT, RIGHT = 290, 640
"""Pixels between which the axis lies; words stand left of it, numbers right."""
SPAN: Final = 5.0
"""Points from the middle of the axis to its ends."""
LIMIT: Final = -0.5
SPREAD: Final = 2.0
"""SD between prompts of a paired difference, in points."""
SEED: Final = 6
"""Of which each kind of verdict comes out once: with another, one of twenty intervals lies beside the truth."""
STYLE: Final = """
  text { font: 14px system-ui, sans-serif; fill: #1c1c1f } .small { font-size: 12px; fill: #5d6068 } .head { font-weight: 600 }
  .axis { stroke: #8b8f96; stroke-width: 1 } .limit { stroke: #b45309; stroke-width: 2; stroke-dasharray: 5 4 }
  .yes { stroke: #1d7a43; fill: #1d7a43 } .no { stroke: #c2273d; fill: #c2273d } .open { stroke: #5b6b8c; fill: #5b6b8c }
  .prompt { stroke: none; fill-opacity: 0.3 } .bar { stroke-width: 5; stroke-linecap: round }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8e8ea } .small { fill: #a3a7b0 } .limit { stroke: #f0a24a }
    .yes { stroke: #55c583; fill: #55c583 } .no { stroke: #ff7083; fill: #ff7083 } .open { stroke: #9db0da; fill: #9db0da } }
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One simulated difference: so many prompts around the true one."""

    prompts: int
    truth: float
    says: str

    def draw(self) -> NDArray[np.float64]:
        """The mean difference of every prompt, in points."""
        return np.random.default_rng([SEED, self.prompts, round(10 * abs(self.truth))]).normal(self.truth, SPREAD, self.prompts)


AGAINST_ZERO: Final = (
    Row(prompts=20, truth=2.0, says="in truth +2, 20 prompts"), Row(prompts=20, truth=-2.0, says="in truth −2, 20 prompts"),
    Row(prompts=4, truth=2.0, says="in truth +2, 4 prompts"), Row(prompts=100, truth=0.0, says="in truth 0, 100 prompts"))
AGAINST_LIMIT: Final = (
    Row(prompts=100, truth=0.3, says="in truth +0.3, 100 prompts"), Row(prompts=100, truth=-2.0, says="in truth −2, 100 prompts"),
    Row(prompts=12, truth=-0.2, says="in truth −0.2, 12 prompts"), Row(prompts=1, truth=1.0, says="in truth +1, 1 prompt"))
GOOD: Final = ("better", "passed")
BAD: Final = ("worse", "failed")


def picture() -> str:
    """The SVG: one panel of verdicts against 0, one of a gate against its limit."""
    body, y = [], 34
    panels = (("The pick minus its parent: is it better?", AGAINST_ZERO, None),
              (f"A gate: not worse than the baseline by more than {-LIMIT:g}", AGAINST_LIMIT, LIMIT))
    for title, rows, limit in panels:
        body.append(f'<text class="head" x="16" y="{y}">{title}</text>')
        top, y = y + 10, y + 36
        bottom = y + ROW * (len(rows) - 1) + 14
        body.append(_line(0.0, top, bottom, "axis"))
        body.append(f'<text class="small" x="{_x(0.0) - 4:.1f}" y="{bottom + 15}">0</text>')
        if limit is not None:
            body.append(_line(limit, top, bottom, "limit"))
            body.append(f'<text class="small" x="{_x(limit) - 64:.1f}" y="{bottom + 15}">limit {words.number(limit)}</text>')
        for row in rows:
            body.extend(_row(row, y, limit))
            y += ROW
        y += 40
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 26}" role="img" aria-label="Intervals and their '
            f'words">\n<style>{STYLE}</style>\n' + "\n".join(body) + "\n</svg>\n")


def verdict(of: Estimate, limit: float | None) -> str:
    """The word of a difference, or of a gate with that limit."""
    return of.word if limit is None else decide(of.low, of.high, at_least=limit).replace("_", " ")


def _row(row: Row, y: int, limit: float | None) -> list[str]:
    values = row.draw()
    found = cluster_interval(values, list(range(len(values))))
    said = verdict(found, limit)
    colour = "yes" if said in GOOD else "no" if said in BAD else "open"
    parts = [f'<text x="16" y="{y + 5}"><tspan class="head">{said}</tspan><tspan class="small"> {row.says}</tspan></text>']
    parts += [f'<circle class="prompt {colour}" cx="{_x(v):.1f}" cy="{y}" r="3"/>' for v in values if abs(v) <= SPAN]
    if found.low is not None and found.high is not None:
        parts.append(f'<line class="bar {colour}" x1="{_x(found.low):.1f}" x2="{_x(found.high):.1f}" y1="{y}" y2="{y}"/>')
    number = f"{words.signed(found.mean)} {words.interval(found.low, found.high)}"
    return [*parts, f'<circle class="{colour}" cx="{_x(found.mean or 0.0):.1f}" cy="{y}" r="5"/>',
            f'<text class="small" x="{RIGHT + 24}" y="{y + 5}">{number}</text>']


def _line(value: float, top: int, bottom: int, kind: str) -> str:
    return f'<line class="{kind}" x1="{_x(value):.1f}" x2="{_x(value):.1f}" y1="{top}" y2="{bottom}"/>'


def _x(value: float) -> float:
    return (LEFT + RIGHT) / 2 + (RIGHT - LEFT) / 2 * max(-1.0, min(1.0, value / SPAN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.parse_args().out.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
