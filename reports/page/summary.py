"""The verdict where there is no browser: a table for the terminal and a Markdown text for job summaries and comments."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from harness.records.events import METRIC_STAGE
from harness.records.harmless_text import in_markdown
from reports import formatting as words
from reports.gates import Verdict
from reports.gates.decision import SHIP, headline
from reports.page import tables
from reports.page.scheme_table import made_of_words
from reports.page.worker_table import workers_of_session
from reports.read.run import Run
from reports.verdict.race_summary import spent
from reports.verdict.recommendation import Recommendation
from reports.verdict.settling import ABOUT, settling_sentences

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

MARKDOWN_LIMIT: Final = 60_000
STAR: Final = "★ "
SWITCH: Final = "switch"
SECONDS_HEAD: Final = "s/image"
SCALE_HEAD: Final = "CFG"
PROMPTS_HEAD: Final = "images (prompts)"
NAME_WIDTH: Final = 24
"""Longer names are folded."""
WORST_FIRST: Final = ("failed", "not_measured", "inconclusive", "passed")
STYLES: Final = {"passed": "green", "failed": "bold red", "inconclusive": "yellow", "not_measured": "dim"}


def terminal_table(run: Run, recommendation: Recommendation, verdicts: list[Verdict]) -> RenderableType:
    """One rich renderable: the candidates, the verdict in full, the gates, what more prompts would
    settle, what was spent, and the caveats."""
    from rich.console import Group
    from rich.text import Text

    candidates = tables.candidate_rows(run, recommendation)
    headings, rows = _columns(run, candidates)
    table = _Fitting(tables.caption(recommendation, candidates, words.visible(run.suite.name)), headings, rows)
    parts: list[RenderableType] = [table, *(Text(note, style="dim") for note in tables.unlike_means(candidates)),
                                   Text(words.visible(headline(run, recommendation, verdicts).sentence), style="bold")]
    for g in tables.gate_rows(run, verdicts):
        asked = f"{g['value']} {g['limit']}".strip()
        parts.append(Text(f"{g['mark']} {g['said']}: {g['candidate']}, {asked}; observed {g['observed']} ({g['reason']})",
                          style=STYLES[g["status"]]))
    parts.extend(Text(f"more prompts: {words.visible(sentence)}", style="cyan")
                 for sentence in settling_sentences(run, recommendation.settling))
    if total := spent(run):
        parts.append(Text(f"spent: {total.summary}"))
    if together := workers_of_session(run):
        parts.append(Text(f"workers: {together}"))
    parts.extend(Text(f"! {caveat}", style="yellow") for caveat in recommendation.caveats)
    return Group(*parts)


def closing_lines(run: Run, recommendation: Recommendation, verdicts: Sequence[Verdict], page: Path) -> list[str]:
    """The headline in a line, with the pick's name in the suite, the gates and the failures; the command that promotes it, where
    it is to be shipped and one file can hold it; and the page's path: the last lines of a terminal."""
    said = headline(run, recommendation, verdicts)
    named = recommendation.pick if recommendation.pick and recommendation.pick not in said.text else ""
    facts = [said.text, said.unseen, f"candidate {named!r}" if named else "",
             f"gates: {by_status(v.status for v in verdicts)}" if verdicts else "", *failed(run)]
    lines = [f"{run.suite.name}: {'; '.join(filter(None, facts))}"]
    pick = run.declared(str(recommendation.pick))
    by_prompt = any(prompt.adapters for prompt in run.suite.grid.prompts)
    if said.decision == SHIP and not by_prompt and (pick is None or pick.in_one_file):
        words_of = ["sweetspot", "promote", str(recommendation.pick), "--run", str(page.parent), "--as", "NAME"]
        lines.append(f"promote: {shlex.join(words_of)}")
    return [words.visible(line) for line in (*lines, f"page: {page}")]


def failed(run: Run) -> list[str]:
    """How many candidates failed, and which metrics failed on how many: a metric that fails leaves the candidate as it was."""
    candidates: set[str] = set()
    metrics: dict[str, set[str]] = {}
    for failure in run.failures:
        if failure.stage.startswith(METRIC_STAGE):
            metrics.setdefault(failure.stage, set()).add(failure.candidate)
        else:
            candidates.add(failure.candidate)
    return [*([f"{words.plural(len(candidates), 'candidate')} failed"] if candidates else []),
            *(f"{stage} failed on {words.plural(len(names), 'candidate')}" for stage, names in metrics.items())]


def by_status(statuses: Iterable[str]) -> str:
    """How many verdicts have each status, the worst first: "1 failed, 3 passed"."""
    counts = Counter(statuses)
    return ", ".join(f"{counts[status]} {status.replace('_', ' ')}" for status in WORST_FIRST if counts[status])


class _Fitting:
    """The candidates' table in the width there is. Where not all columns fit, whole ones are left out, and it says which:
    rich would cut the last ones off in the middle of a number."""

    def __init__(self, title: str, headings: list[str], rows: list[list[str]]) -> None:
        self._title, self._headings, self._rows = title, headings, rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement
        from rich.text import Text

        columns, dropped = list(range(len(self._headings))), []
        costs = next(at for at, heading in enumerate(self._headings) if heading.startswith(SECONDS_HEAD))
        first = 2 + sum(heading in (SCALE_HEAD, PROMPTS_HEAD) for heading in self._headings[:3])
        in_turn = [*(at for at, heading in enumerate(self._headings) if heading == SWITCH), *range(first, costs)]
        names = max((len(row[0]) for row in self._rows), default=0)
        while Measurement.get(console, options.update_width(10_000), self._table(columns)).maximum - max(
                0, names - NAME_WIDTH) > options.max_width and in_turn:
            at = in_turn.pop(0)
            if at in columns:
                columns.remove(at)
                dropped.append(self._headings[at])
        yield self._table(columns)
        if dropped:
            yield Text(f"Too narrow here for {words.listed(dropped)}; the page has them.", style="dim")

    def _table(self, kept: list[int]) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self._title), title_justify="left", pad_edge=False, box=SIMPLE_HEAD, collapse_padding=True)
        for number, at in enumerate(kept):
            head = "\n".join(wrap(self._headings[at], 12, break_long_words=False))
            table.add_column(Text(head), justify="right" if number else "left", overflow="fold", no_wrap=bool(number))
        for cells in self._rows:
            # Why a number is absent stands among the caveats and on the page; here it would push the others off the screen.
            shown = [cells[0], *(said.split(":")[0] for said in cells[1:])]
            table.add_row(*(Text(shown[at]) for at in kept), style="bold" if shown[0].startswith(STAR) else "")
        return table


def markdown(run: Run, recommendation: Recommendation, verdicts: list[Verdict], rows: list[dict[str, Any]] | None = None) -> str:
    """The same verdict as Markdown of at most 60 000 bytes; what does not fit is cut at a line, and it says so. `rows` are those
    of tables.candidate_rows, where they are known."""
    lines = [f"## {in_markdown(run.suite.name)}", "", f"**{in_markdown(headline(run, recommendation, verdicts).sentence)}**", ""]
    if verdicts:
        lines += ["| | gate | candidate | observed | why |", "|---|---|---|---|---|"]
        lines += [f"| {g['mark']} {g['said']} | {in_markdown(g['value'])} {in_markdown(g['limit'])} | "
                  f"{in_markdown(g['candidate'])} | {in_markdown(g['observed'])} | {in_markdown(g['reason'])} |"
                  for g in tables.gate_rows(run, verdicts)]
        lines.append("")
    rows = tables.candidate_rows(run, recommendation) if rows is None else rows
    headings, cells_by_row = _columns(run, rows)
    named = [tables.caption(recommendation, rows, headings[0]), *headings[1:]]
    lines += [f"| {' | '.join(map(in_markdown, named))} |", "|---" * len(headings) + "|"]
    lines += [f"| {' | '.join(in_markdown(c.strip()) for c in cells)} |" for cells in cells_by_row]
    lines += [line for note in tables.unlike_means(rows) for line in ("", note)]
    if made := made_of_words(run):
        lines += ["", *(f"- {in_markdown('; '.join([of['name'] + ': ' + of['scheme'], *of['phrases']]))}" for of in made)]
    if total := spent(run):
        lines += ["", f"Spent: {in_markdown(total.summary)}"]
    if together := workers_of_session(run):
        lines += ["", f"Workers: {in_markdown(together)}"]
    settling = settling_sentences(run, recommendation.settling)
    for heading, said in (("Why", recommendation.reasons),
                          ("How many prompts would settle it", (*settling, ABOUT) if settling else ()),
                          ("Before relying on it", recommendation.caveats)):
        if said:
            lines += ["", f"### {heading}", *(f"- {in_markdown(s)}" for s in said)]
    lines += ["", f"Rule: {in_markdown(recommendation.rule)}"]
    return within_limit(lines)


def _columns(run: Run, rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column heads and one row of cells for each of tables.candidate_rows; the number of rounds and the memory probe stand in
    the head once, or as many as differ. Where precision varies, what is lost against the baseline takes the place of the
    colours. The style switch has a column where anybody's was timed."""
    lost = {loss["candidate"]: loss for loss in tables.loss_rows(run)}
    rounds = ", ".join(dict.fromkeys(r["rounds"] for r in rows if r["rounds"]))
    probes = ", ".join(dict.fromkeys(r["reading"] for r in rows if r["reading"]))
    values = [value for value in run.values_for("column") if value.name != "objective"]
    middle = ["PSNR median", "exact", "time ratio"] if lost else [words.title(value).lower() for value in values[1:]]
    sizes = tables.memory_columns(run)
    switched = any(not row["switch"].startswith("not measured") for row in rows)
    scales = tables.apart(rows)
    uneven = bool(tables.unlike_means(rows))
    headings = ["candidate", *([SCALE_HEAD] if scales else []), *([PROMPTS_HEAD] if uneven else []),
                *(f"{words.title(value)} [95 %]" for value in values[:1]), *middle,
                f"{SECONDS_HEAD} (median{f', {rounds}' if rounds else ''})", *([SWITCH] if switched else []),
                *(f"{head.lower()}{f' ({probes})' if cell == 'memory' and probes else ''}" for cell, head in sizes.items())]
    cells_by_row = []
    for row in rows:
        name = (STAR if row["pick"] else "  ") + row["name"] + (f" ({row['role']})" if row["role"] else "")
        loss = lost.get(row["candidate"])
        first, *others = [cell for cell in row["values"] if cell["name"] != "objective"] or [None]
        between = [cell["mean"] for cell in others] if not lost else ["–"] * 3
        if loss is not None:
            between = [loss["psnr"], loss["exact"].replace(" of ", "/"), loss["ratio"].split(" (")[0]]
        cells_by_row.append([name, *([row["at"]] if scales else []), *([row["n"]] if uneven else []),
                      *([f"{first['mean']} {first['range']}".strip()] if first else []), *between, row["seconds"],
                      *([row["switch"]] if switched else []), *(row[cell] for cell in sizes)])
    return headings, cells_by_row


def within_limit(lines: list[str]) -> str:
    """The lines as one text of at most MARKDOWN_LIMIT bytes; what does not fit is cut at a line, and it says so."""
    note = "\n\n… cut here; the page has the rest.\n"
    lines_kept: list[str] = []
    size = len(note.encode())
    for line in lines:
        size += len(line.encode()) + 1
        if size > MARKDOWN_LIMIT:
            return "\n".join(lines_kept) + note
        lines_kept.append(line)
    return "\n".join(lines_kept) + "\n"
