"""A comparison of two runs as readers see it: a table for the terminal, a Markdown text and an offline page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import plotly.graph_objects as go

from harness.records.harmless_text import in_markdown
from reports import formatting as words
from reports.compare.costs import ABSENT, BETTER, CHANGED, SAME, TIED, WORSE, Cost
from reports.compare.picks import PickMoved, picks_in_words
from reports.compare.runs import Changed, Compared, GateChange, Moved
from reports.figures import theme as style
from reports.gates.decision import BEST_GUESS, KEEP, SHIP
from reports.page import tables
from reports.page.offline import offline_page
from reports.page.summary import within_limit

if TYPE_CHECKING:
    from rich.console import RenderableType

SAID: Final = {"added": "only in B", "removed": "only in A", "same": "same weights", "weights": "other weights",
               "declared": "same weights, declared otherwise", "unknown": "weights not on record"}
ORDER: Final = (WORSE, BETTER, CHANGED, TIED, SAME, ABSENT)
STYLES: Final = {WORSE: "bold red", BETTER: "green", CHANGED: "cyan", TIED: "dim", SAME: "dim", ABSENT: "yellow"}
COLOURS: Final = {WORSE: "#d64545", BETTER: "#2e9e5b", CHANGED: style.BASE, TIED: style.QUIET, SAME: style.QUIET}
PACE: Final = {BETTER: "faster in every round", WORSE: "slower in every round", TIED: "no clear difference"}
MOST_ROWS: Final = 12


def headline(of: Compared) -> str:
    """What the comparison came to, in one sentence: the new pick against the old one, below what stands against shipping it."""
    if not of.comparable:
        return f"Nothing could be compared: {of.refused.get('', '') or 'no value was measured in both runs'}."
    said = of.headlines[1]
    against = [f"B: {said.text}"] if said.decision not in (SHIP, KEEP, BEST_GUESS) else []
    picks = picks_in_words(of.picks)
    clauses = [*against, picks if against else picks[:1].upper() + picks[1:]]
    measured = dict.fromkeys(r.value for r in of.moved if r.word != ABSENT)
    if measured:
        value = "objective" if "objective" in measured else next(iter(measured))
        counted = of.counted(value)
        listed = ", ".join(f"{counted[word]} {word}" for word in ORDER if counted.get(word))
        clauses.append(f"{words.title(of.row(value))} of all common cells, B against A: {listed}")
    same = sum(c.identical for c in of.candidates)
    pairs = sum(c.common for c in of.candidates)
    changed = sum(g.changed for g in of.gates)
    clauses += [f"{same} of {pairs} common images are identical"] if pairs else []
    clauses.append(f"{words.plural(changed, 'gate')} changed" if changed else "no gate changed")
    return f"{'; '.join(clauses)}."


def verdict_lines(of: Compared) -> list[str]:
    """What each run would ship."""
    return [f"{side}: {words.visible(said.sentence)}" for side, said in zip("AB", of.headlines, strict=True)]


def terminal(of: Compared) -> RenderableType:
    """One rich renderable: headline, verdicts, the counts by value, the rows that moved most, and what was not compared."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(headline(of), style="bold"), *map(Text, verdict_lines(of))]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(("value", *ORDER)):
        table.add_column(head, justify="right" if number else "left")
    for value in dict.fromkeys(row.value for row in of.moved):
        counted = of.counted(value)
        cells = [Text(str(counted.get(word, 0)), style=STYLES[word] if counted.get(word) else "dim") for word in ORDER]
        table.add_row(Text(words.title(of.row(value))), *cells)
    parts.extend(Text(line) for line in _pick_lines(of))
    if of.moved:
        parts.append(table)
    rows = _most(of)
    parts.extend(Text(f"{row.word}: {_place(row)}, {words.title(row.spec)} "
                      f"{words.estimate(row.difference, row.spec, difference=True)}", style=STYLES[row.word])
                 for row in rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        parts.append(Text(f"and {len(rows) - MOST_ROWS} more rows that differ; the page has them", style="dim"))
    parts.extend(Text(line) for line in (*_gate_lines(of), *_cost_lines(of)))
    parts.extend(Text(f"! {line}", style="yellow") for line in _not_compared(of))
    return Group(*parts)


def markdown(of: Compared) -> str:
    """The same as Markdown of at most 60 kB; names and errors cannot act in it."""
    lines = [f"## {in_markdown(_title(of))}", "", f"**{in_markdown(headline(of))}**", "",
             *(f"- {in_markdown(v)}" for v in (*verdict_lines(of), *_pick_lines(of))), ""]
    if of.moved:
        lines += [f"| value | {' | '.join(ORDER)} |", "|---" * (1 + len(ORDER)) + "|"]
        lines += [f"| {in_markdown(words.title(of.row(v)))} | {' | '.join(str(of.counted(v).get(w, 0)) for w in ORDER)} |"
                  for v in dict.fromkeys(row.value for row in of.moved)]
    if rows := _most(of):
        lines += ["", "| | candidate | value | B − A [95 %] |", "|---|---|---|---|"]
        lines += [f"| {r.word} | {in_markdown(_place(r))} | {in_markdown(words.title(r.spec))} | "
                  f"{in_markdown(words.estimate(r.difference, r.spec, difference=True))} |" for r in rows]
    for head, said in (("Gates", _gate_lines(of)), ("Cost", _cost_lines(of)), ("Not compared", _not_compared(of)),
                       ("Candidates", [f"{c.candidate}: {_candidate(c)}" for c in of.candidates])):
        if said:
            lines += ["", f"### {head}", *(f"- {in_markdown(s)}" for s in said)]
    return within_limit(lines)


def page(of: Compared) -> str:
    """The comparison as one offline page."""
    figure = interval_plot(of)
    runs = [{"side": side, "folder": run.folder.resolve().name, "started": words.visible(str(run.head.get("started", ""))),
             "commit": words.visible(str(run.environment.get("git_commit") or "no commit on record"))[:12],
             "dirty": bool(run.environment.get("git_dirty")), "sentence": words.visible(said.sentence)}
            for side, run, said in zip("AB", (of.a, of.b), of.headlines, strict=True)]
    values = [{"name": words.title(of.row(v)), **of.counted(v)} for v in dict.fromkeys(row.value for row in of.moved)]
    return offline_page(
        "compare.html.j2", {} if figure is None else {"moved": figure}, title=_title(of), lead=headline(of).split("; "),
        runs=runs, order=ORDER, values=values,
        picks=of.picks, picked=[_pick_row(row) for row in of.picks.rows], pick_costs=_pick_costs(of),
        moved=[_row(row) for row in _sorted(of.moved)], not_compared=_not_compared(of),
        candidates=[{"name": words.visible(c.candidate), "what": SAID[c.what], "count": _count(c)} for c in of.candidates],
        declared=of.declared, environment=of.environment, gates=[_gate(of, g) for g in of.gates],
        costs=_costs(of))


def _pick_lines(of: Compared) -> list[str]:
    """The new pick minus the old one, a line for each value in which they differ, and one for each cost of another candidate."""
    rows = [row for row in of.picks.rows if row.word in (WORSE, BETTER, CHANGED)]
    return [*(f"new pick against the old one, {words.title(row.spec)}: {row.word}, "
              f"{words.estimate(row.difference, row.spec, difference=True)}" for row in rows),
            *(f"new pick over the old one, {cost['value']}: {cost['said']}" for cost in _pick_costs(of))]


def _pick_costs(of: Compared) -> list[dict[str, str]]:
    """What the new pick costs over the old one, in words."""
    taken = ", both taken in B" if of.picks.within else ""
    return [{"value": words.title(of.row(cost.cost)),
             "said": words.visible(cost.why) if cost.ratio is None else
             ", ".join(filter(None, (f"{cost.ratio:.2f}×", PACE.get(cost.word, "")))) + taken} for cost in of.picks.costs]


def _pick_row(row: PickMoved) -> dict[str, str]:
    return {"value": words.title(row.spec), "word": row.word,
            "difference": words.estimate(row.difference, row.spec, difference=True)}


def interval_plot(of: Compared) -> Any:
    """The difference of every row with its interval, one value at a time; None where there is nothing to draw."""
    rows = [row for row in of.moved if row.word != ABSENT]
    if not rows:
        return None
    values = sorted(dict.fromkeys(row.value for row in rows), key=lambda v: v != "objective")
    figure, choices = go.Figure(), []
    for value in values:
        mine = [row for row in rows if row.value == value]
        begin = len(figure.data)
        for word in ORDER[:-1]:
            if told := [row for row in mine if row.word == word]:
                figure.add_trace(_points(told, word, visible=value == values[0]))
        choices.append((words.title(of.row(value)), list(range(begin, len(figure.data)))))
    places = list(dict.fromkeys(style.text(_place(row)) for row in rows))
    figure.add_vline(x=0, line={"color": style.QUIET, "width": 1})
    style.finish(figure, 110 + 22 * len(places))
    figure.update_yaxes(categoryorder="array", categoryarray=places[::-1], showgrid=False)
    figure.update_xaxes(title_text="B minus A, 95 % interval")
    style.legend_on_top(figure)
    style.switch(figure, "Value", choices)
    return figure


def _points(rows: list[Moved], word: str, *, visible: bool) -> Any:
    means = [row.difference.mean or 0.0 for row in rows]
    high = [(row.difference.high or 0.0) - mean for row, mean in zip(rows, means, strict=True)]
    return go.Scatter(
        x=means, y=[style.text(_place(row)) for row in rows], mode="markers", name=word, visible=visible, showlegend=True,
        marker={"size": 8, "color": COLOURS[word]}, error_x={"type": "data", "array": high, "color": COLOURS[word],
                                                            "thickness": 1.5, "width": 3},
        customdata=[style.text(words.estimate(row.difference, row.spec, difference=True)) for row in rows],
        hovertemplate="%{y}: %{customdata}<extra></extra>")


def _title(of: Compared) -> str:
    names = [words.visible(run.suite.name) for run in (of.a, of.b)]
    return f"{names[0]}: B against A" if names[0] == names[1] else f"{names[1]} against {names[0]}"


def _place(row: Moved) -> str:
    return f"{words.visible(row.candidate)} at CFG {row.guidance:g}"


def _sorted(rows: tuple[Moved, ...]) -> list[Moved]:
    """What differs first, and of each value together."""
    return sorted(rows, key=lambda r: (r.value != "objective", ORDER.index(r.word)))


def _most(of: Compared) -> list[Moved]:
    return [row for row in _sorted(of.moved) if row.word in (WORSE, BETTER, CHANGED)]


def _row(row: Moved) -> dict[str, str]:
    return {"place": _place(row), "value": words.title(row.spec), "word": row.word,
            "difference": words.estimate(row.difference, row.spec, difference=True)}


def _candidate(c: Changed) -> str:
    return f"{SAID[c.what]}{f'; {_count(c)}' if c.what not in ('added', 'removed') else ''}"


def _count(c: Changed) -> str:
    return f"{c.identical} of {c.common} common images identical" if c.common else (
        "" if c.what in ("added", "removed") else "no common image")


def _gate(of: Compared, g: GateChange) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for side, run, v in (("before", of.a, g.before), ("after", of.b, g.after)):
        row = tables.gate_rows(run, [v])[0] if v else {"status": "", "said": "no such gate", "observed": "", "candidate": ""}
        shown[side] = {**row, "observed": "" if row["status"] == "not_measured" else row["observed"]}
    named = shown["after"] if g.after else shown["before"]
    return {"name": named["value"], "limit": named["limit"], "of": words.visible(g.candidate) or "the pick",
            "changed": g.changed, **shown}


def _gate_lines(of: Compared) -> list[str]:
    lines = []
    for g in (_gate(of, one) for one in of.gates if one.changed):
        asked = f"gate {g['name']} {g['limit']}".rstrip()
        before, after = (f"{g[side]['said']} {g[side]['observed']}".rstrip() for side in ("before", "after"))
        lines.append(f"{asked} ({g['of']}): {before} → {after}")
    return lines


def _costs(of: Compared) -> tuple[list[str], list[dict[str, Any]]]:
    """The kinds of cost, and a row for each candidate."""
    kinds = list(dict.fromkeys(c.cost for c in of.costs))
    return [words.title(of.row(kind)) for kind in kinds], [
        {"name": words.visible(name), "cells": [
            {"ratio": f"{c.ratio:.2f}×" if c.ratio is not None else "", "why": words.visible(c.why), "word": PACE.get(c.word, "")}
            for kind in kinds for c in of.costs if c.candidate == name and c.cost == kind]}
        for name in dict.fromkeys(c.candidate for c in of.costs)]


def _cost_lines(of: Compared) -> list[str]:
    """Each kind of cost in a line: how many candidates have which word, from which ratio to which, and why others have none."""
    lines = []
    for kind in dict.fromkeys(c.cost for c in of.costs):
        told = []
        grouped: dict[str, list[Cost]] = {}
        for c in of.costs:
            if c.cost == kind:
                grouped.setdefault(c.why or PACE.get(c.word, ""), []).append(c)
        for word, costs in grouped.items():
            ratios = sorted({f"{c.ratio:.2f}×" for c in costs if c.ratio is not None})
            span = f"{ratios[0]} to {ratios[-1]}" if len(ratios) > 1 else "".join(ratios)
            everybody = len(costs) == len({c.candidate for c in of.costs})
            names = "all" if everybody else words.listed([words.visible(c.candidate) for c in costs])
            told.append(f"{names} {', '.join(x for x in (span, words.visible(word)) if x)}")
        lines.append(f"{words.title(of.row(kind))}, B over A: {'; '.join(told)}")
    return lines


def _not_compared(of: Compared) -> list[str]:
    """Values that were refused, the cells that lack one, and notes, each with its reason; equal reasons once."""
    grouped: dict[str, list[str]] = {}
    for value, why in of.refused.items():
        grouped.setdefault(why, []).append(words.title(of.row(value)) if value else "Everything")
    gone: dict[str, list[str]] = {}
    for row in of.moved:
        if row.word == ABSENT:
            gone.setdefault(f"{words.title(row.spec)}: {row.difference.why}", []).append(_place(row))
    everywhere = len({_place(row) for row in of.moved})
    return [*(f"{words.listed(names, 99)}: {words.visible(why)}" for why, names in grouped.items()),
            *(f"{words.visible(why)} ({f'all {everywhere} cells' if len(places) == everywhere else words.listed(places)})"
              for why, places in gone.items()), *of.notes]
