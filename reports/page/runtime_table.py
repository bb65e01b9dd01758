"""The page's table by runtime: what executes the same weights in which time and memory, whether it makes the images of eager, and
what export, opening and new weights cost; and in a sentence each, which runtimes the machine does not offer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from reports import formatting as words
from reports.page.cost_table import ABSENT, CostText, numbered
from reports.page.picture_decibels import decibels
from reports.read.run import Run
from reports.verdict.candidates import label_with_role
from reports.verdict.costs import (
    FAILED,
    of_process,
    peak_memory,
    seconds_apart,
    seconds_per_image,
    speed,
    weights_size,
)
from reports.verdict.runtimes import Pair, pairs_by_runtime

_OF_GRAPHS: Final = ("export", "open", "refresh")
"""What is timed of runtimes that execute an exported graph."""
TOLD: Final = "runtime "
"""Begins the stage of the coverage of an exported runtime."""
NOTE: Final = (
    "Seconds per image are medians at the batch size of the timing, with all rounds from the fastest to the slowest in brackets: "
    "with 6 rounds they hold the true median with 97 %, whatever the distribution. The rounds of all candidates alternate, so a "
    "ratio is that of the medians, with those of the single rounds in brackets. Candidates of one runtime share a row.")
NOT_ALONE: Final = (
    "The peak is that of the whole process, which also holds what other runtimes loaded before, so it compares nobody. The "
    "weights count the copies that a runtime makes.")


def runtime_section(run: Run) -> dict[str, Any] | None:
    """`rows` has one row of cells per runtime that ran, in the order of declaration, `absent` a sentence for each runtime that
    the machine does not offer and each column that nobody has, and `compared` what one forward of each candidate beside eager
    showed. None where all candidates have one runtime."""
    by_runtime = pairs_by_runtime(run)
    if len(by_runtime) < 2:
        return None
    refused = _refused(run)
    rows: list[dict[str, Any]] = []
    for runtime, of in by_runtime.items():
        if pairs := [pair for pair in of if pair.name not in refused]:
            rows.append({"name": words.visible(runtime), "candidates": words.plural(len(pairs), "candidate"),
                         "cells": [cell(run, pairs) for cell in _COLUMNS.values()]})
    heads = list(_COLUMNS)
    empty = [at for at in range(len(heads)) if rows and _lacking([row["cells"][at] for row in rows])]
    rows_shown = [{**row, "cells": [cell for at, cell in enumerate(row["cells"]) if at not in empty]} for row in rows]
    process = any(of_process(peak_memory(run, c.name)) for c in run.suite.candidates)
    return {"columns": [head for at, head in enumerate(heads) if at not in empty], **numbered(rows_shown),
            "absent": [*_not_offered(refused), *(f"{heads[at]}: {rows[0]['cells'][at].text}." for at in empty)],
            "notes": [NOTE, *([NOT_ALONE] if process else [])], "compared": _compared(run)}


def _refused(run: Run) -> Mapping[str, str]:
    """By name why the device does not offer a candidate that has no image of another session either."""
    reasons = run.head.get("not_offered", {})
    present = set(run.images["candidate"])
    return {name: str(why) for name, why in reasons.items() if name not in present} if isinstance(reasons, Mapping) else {}


def _not_offered(refused: Mapping[str, str]) -> list[str]:
    """A sentence for each reason why a runtime has no row, or lacks candidates in it."""
    return [f"{words.visible(why).rstrip('.')}." for why in dict.fromkeys(refused.values())]


def _lacking(cells: Sequence[CostText]) -> bool:
    """Whether nobody has a figure of a column, for one reason, which then is said once."""
    return cells[0].text.startswith(ABSENT) and len({cell.text for cell in cells}) == 1


def _timed(run: Run, pairs: Sequence[Pair]) -> CostText:
    timed = [seconds_per_image(run, pair.name) for pair in pairs]
    there = [one for one in timed if one.median is not None]
    if not there:
        return CostText(text=f"{ABSENT}{words.visible(timed[0].why)}")
    rounds = sorted({one.rounds for one in there})
    batches = sorted({run.latency[pair.name].batch_size for pair in pairs if pair.name in run.latency})
    low, high = min(one.fastest or 0.0 for one in there), max(one.slowest or 0.0 for one in there)
    return CostText(text=_spread([one.median or 0.0 for one in there], words.duration), below=(
        f"[{words.duration(low)}, {words.duration(high)}]", f"n={' or '.join(map(str, rounds))}, batch {batches[0]}"))


def _ratio(run: Run, pairs: Sequence[Pair]) -> CostText:
    """The seconds over those of the same candidate on eager."""
    if all(pair.name == pair.eager for pair in pairs):
        return CostText(text="1")
    if not (beside := [pair for pair in pairs if pair.eager]):
        return CostText(text=f"{ABSENT}no candidate is the same on eager")
    compared = [(pair, *speed(run, pair.name, pair.eager)) for pair in beside]
    ratios = [ratio for _, ratio, _ in compared if ratio is not None]
    if not ratios:
        word = compared[0][2]
        return CostText(text=word if word.startswith("not comparable") else f"{ABSENT}one of the two was not timed")
    single = [r for pair, ratio, _ in compared if ratio is not None for r in _of_rounds(run, pair)]
    paces = " or ".join(dict.fromkeys(pace for _, ratio, pace in compared if ratio is not None))
    below = (f"[{min(single):.2f}, {max(single):.2f}]",) if single else ()
    return CostText(text=_spread(ratios, lambda ratio: f"{ratio:.2f}"), below=(*below, paces))


def _of_rounds(run: Run, pair: Pair) -> list[float]:
    """The ratio of every round to that of eager which alternated with it; none where their numbers differ."""
    mine, theirs = (run.latency[name].seconds.get("total", ()) for name in (pair.name, pair.eager))
    return [a / b for a, b in zip(mine, theirs, strict=True) if b] if len(mine) == len(theirs) else []


def _peak(run: Run, pairs: Sequence[Pair]) -> CostText:
    peaks = [peak_memory(run, pair.name) for pair in pairs]
    there = [peak for peak in peaks if peak.value is not None]
    if not there:
        return CostText(text=f"{ABSENT}{words.visible(peaks[0].why_missing)}")
    kinds = words.listed(list(dict.fromkeys(words.reading(peak.name) for peak in there)))
    return CostText(text=_spread([peak.value or 0.0 for peak in there], words.size), below=(kinds,))


def _weights(run: Run, pairs: Sequence[Pair]) -> CostText:
    sizes = [weights_size(run, pair.name) for pair in pairs]
    there = [size.value for size in sizes if size.value is not None]
    return CostText(text=_spread(there, words.size) if there else f"{ABSENT}{words.visible(sizes[0].why_missing)}")


def _fidelity(run: Run, pairs: Sequence[Pair]) -> CostText:
    """The median PSNR to the images of the same candidate on eager: of the suite's metric where that is the baseline, else of the
    pictures themselves."""
    if all(pair.name == pair.eager for pair in pairs):
        return CostText(text="the reference")
    names = [pair.name for pair in pairs if pair.eager]
    if not names:
        return CostText(text=f"{ABSENT}no candidate is the same on eager")
    if "psnr_db" not in run.images.columns:
        return CostText(text=f"{ABSENT}the suite has no metric psnr, or no image was measured")
    rows = run.images[run.images["candidate"].isin([pair.name for pair in pairs if pair.eager == run.suite.baseline])]
    others = decibels(run, [(pair.name, pair.eager) for pair in pairs if pair.eager not in ("", run.suite.baseline)])
    known = pd.concat([rows["psnr_db"].dropna(), pd.Series([one for one in others if math.isfinite(one)], dtype=float)])
    exact = int((rows["exact_match"] == 1).sum()) + sum(map(math.isinf, others)) if "exact_match" in rows.columns else 0
    if not len(known) and not exact:
        failed = all(run.failure_of(name) for name in names)
        return CostText(text=f"{ABSENT}{FAILED if failed else 'the suite has no metric psnr, or no image was measured'}")
    equal = f"{exact} of {exact + len(known)} exact"
    if not len(known):
        return CostText(text="all exact", below=(equal,))
    spec = run.row("psnr_db")
    lowest = f"lowest {words.number(float(known.min()), spec)}"
    return CostText(text=words.number(float(known.median()), spec), below=(lowest, equal))


def _apart(what: str) -> Callable[[Run, Sequence[Pair]], CostText]:
    def cell(run: Run, pairs: Sequence[Pair]) -> CostText:
        taken = [record.seconds for pair in pairs if (record := run.durations.get(pair.name)) is not None]
        if taken and not any(one in seconds for seconds in taken for one in _OF_GRAPHS):
            return CostText(text="none")
        timed = [seconds_apart(run, pair.name, what) for pair in pairs]
        medians = [one.median for one in timed if one.median is not None]
        return CostText(text=_spread(medians, words.duration) if medians else f"{ABSENT}{words.visible(timed[0].why)}")
    return cell


def _compared(run: Run) -> list[dict[str, str]]:
    """What one forward beside eager showed, by candidate, as the coverage has it."""
    return [{"name": label_with_role(run, row.candidate), "said": words.visible(note)} for row in run.coverage
            if row.stage.startswith(TOLD) and row.candidate in {c.name for c in run.suite.candidates} for note in row.notes]


def _spread(values: Sequence[float], said: Callable[[float], str]) -> str:
    """The lowest and the highest in words, once where they read alike, and their unit once where it is the same."""
    low, high = said(min(values)), said(max(values))
    number, _, unit = low.partition(" ")
    return low if low == high else f"{number if high.endswith(f' {unit}') else low} to {high}"


_COLUMNS: Final[Mapping[str, Callable[[Run, Sequence[Pair]], CostText]]] = {
    "Seconds per image": _timed, "Times eager": _ratio, "Peak memory": _peak, "Weights, all parts": _weights,
    "PSNR to eager, median": _fidelity, "Export": _apart("export"), "Open": _apart("open"), "New weights": _apart("refresh")}
