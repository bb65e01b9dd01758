"""The verdict where there is no browser: a table for the terminal and a Markdown text for job summaries and comments.
Called by the plugin, the command line and page.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from reports import tables, words
from reports.decision import Recommendation
from reports.gates import Verdict
from reports.load import Run

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKDOWN_LIMIT: Final = 60_000
STYLES: Final = {"passed": "green", "failed": "bold red", "inconclusive": "yellow", "not_measured": "dim"}


def terminal_table(run: Run, recommendation: Recommendation, verdicts: list[Verdict]) -> RenderableType:
    """One rich renderable: the candidates, the verdict sentence, the gates, failures and caveats."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    at = "" if recommendation.guidance is None else f" at CFG {recommendation.guidance:g}"
    rows = tables.candidate_rows(run, recommendation)
    table = Table(title=Text(f"{words.visible(run.suite.name)}{at}"), title_justify="left", pad_edge=False,
                  box=SIMPLE_HEAD)
    for number, heading in enumerate(_headings(rows)):
        table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=number == 1)
    for row in rows:
        name = row["name"] + (f" ({row['role']})" if row["role"] else "")
        # Why a number is absent stands among the caveats and on the page; here it would push the others off the screen.
        told = {key: str(said).split(":")[0] for key, said in row.items()}
        cells = [("★ " if row["pick"] else "  ") + name, f"{told['clip_score']} {told['clip_score_range']}".strip(),
                 told["saturation"], told["clipped_share"], told["seconds"], told["memory"]]
        table.add_row(*map(Text, cells), style="bold" if row["pick"] else "")
    found: list[RenderableType] = [table, Text(recommendation.sentence, style="bold")]
    for g in tables.gate_rows(run, verdicts):
        found.append(Text(f"{g['mark']} {g['said']}: {g['candidate']}, {g['value']} {g['limit']}; observed {g['observed']} "
                          f"({g['reason']})", style=STYLES[g["status"]]))
    found.extend(Text(f"! {said}", style="yellow") for said in recommendation.caveats)
    return Group(*found)


def markdown(run: Run, recommendation: Recommendation, verdicts: list[Verdict]) -> str:
    """The same verdict as Markdown of at most 60 000 bytes; what does not fit is cut at a line, and it says so."""
    at = "" if recommendation.guidance is None else f" at CFG {recommendation.guidance:g}"
    lines = [f"## {_safe(run.suite.name)}", "", f"**{_safe(recommendation.sentence)}**", ""]
    if verdicts:
        lines += ["| | gate | candidate | observed | why |", "|---|---|---|---|---|"]
        lines += [f"| {g['mark']} {g['said']} | {_safe(g['value'])} {_safe(g['limit'])} | {_safe(g['candidate'])} | "
                  f"{_safe(g['observed'])} | {_safe(g['reason'])} |" for g in tables.gate_rows(run, verdicts)]
        lines.append("")
    rows = tables.candidate_rows(run, recommendation)
    lines += [f"| {' | '.join(_safe(h) for h in [f'candidate{at}', *_headings(rows)[1:]])} |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = ("★ " if row["pick"] else "") + row["name"] + (f" ({row['role']})" if row["role"] else "")
        cells = [name, f"{row['clip_score']} {row['clip_score_range']}", row["saturation"], row["clipped_share"],
                 row["seconds"], row["memory"]]
        lines.append(f"| {' | '.join(_safe(c) for c in cells)} |")
    for heading, said in (("Why", recommendation.reasons), ("Before relying on it", recommendation.caveats)):
        if said:
            lines += ["", f"### {heading}", *(f"- {_safe(s)}" for s in said)]
    lines += ["", f"Rule: {_safe(recommendation.rule)}"]
    return _within(lines)


def _headings(rows: list[dict[str, Any]]) -> list[str]:
    """Column heads; the number of rounds and the memory probe stand there once, or as many as differ."""
    rounds = ", ".join(dict.fromkeys(r["rounds"] for r in rows if r["rounds"]))
    probes = ", ".join(dict.fromkeys(r["reading"] for r in rows if r["reading"]))
    return ["candidate", "CLIP score [95 %]", "saturation", "clipped", f"s/image (median{f', {rounds}' if rounds else ''})",
            f"peak memory{f' ({probes})' if probes else ''}"]


def _within(lines: list[str]) -> str:
    note = "\n\n… cut here; the page has the rest.\n"
    kept: list[str] = []
    size = len(note.encode())
    for line in lines:
        size += len(line.encode()) + 1
        if size > MARKDOWN_LIMIT:
            return "\n".join(kept) + note
        kept.append(line)
    return "\n".join(kept) + "\n"


def _safe(text: str) -> str:
    """Markdown-inert text: nothing in a name or an error may become a link, an image, a tag, a mention or a table cell."""
    said = re.sub(r"([\\`*_\[\]<>|!~&])", r"\\\1", words.visible(text))
    # Mentions, issue numbers and bare addresses are found after the escapes are gone: a zero-width space breaks them.
    return re.sub(r"([@#]|www|https?:)", "\\1\u200b", said)
