"""The page's table by scheme: what it costs to combine models, in memory, seconds, switches and failed images, beside one model
alone; and in words how every candidate is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from harness.declare.candidate_words import described, networks_of, scheme_of
from harness.records import Reading
from harness.records.values import BYTES, WEIGHTS
from reports import formatting as words
from reports.page.cost_table import ABSENT, CostText, numbered
from reports.read.run import Run
from reports.verdict.candidates import label, label_with_role
from reports.verdict.costs import Seconds, comparable_bytes, of_process, seconds_apart, seconds_per_image, speed
from reports.verdict.unusable_images import broken

COLUMNS: Final = ("Networks", "Weights, all parts", "Peak memory", "Seconds per image", "Style switch, first",
                  "Style switch, later", "Failed images")
ONLY_PROCESS: Final = f"{ABSENT}only the whole process was read, which holds what was loaded before"
NOTE: Final = (
    "A scheme follows from the declaration. Candidates of one scheme share a row, and their figures go from the lowest to the "
    "highest. Networks are denoisers, controls and references, each counted once. Percentages are the change from one model "
    "alone, in all and for each network more.")


def scheme_section(run: Run) -> dict[str, Any] | None:
    """`rows` has one row of cells per scheme, in the order of declaration, `absent` a sentence for each column that nobody has,
    and `made` says how every candidate is made. None where all candidates are single models or merges."""
    candidates = run.suite.candidates
    if not any(described(c) for c in candidates):
        return None
    by_scheme: dict[str, list[str]] = {}
    for c in candidates:
        by_scheme.setdefault(scheme_of(c), []).append(c.name)
    alone = _alone(run)
    rows: list[dict[str, Any]] = [
        {"name": scheme, "candidates": words.listed([label(run, name) for name in names]), "cells": _cells(run, names, alone)}
        for scheme, names in by_scheme.items()]
    shown = [at for at in range(len(COLUMNS)) if not _absent([row["cells"][at] for row in rows])]
    absent = [f"{COLUMNS[at]}: {rows[0]['cells'][at].text}." for at in range(len(COLUMNS)) if at not in shown]
    rows = [{**row, "cells": [row["cells"][at] for at in shown]} for row in rows]
    return {"columns": [COLUMNS[at] for at in shown], **numbered(rows), "absent": absent, "note": NOTE + (
                f" One model alone is {label_with_role(run, alone)}." if alone else " No candidate is one model alone."),
            "made": made_of_words(run)}


def _absent(cells: Sequence[CostText]) -> bool:
    """Whether nobody has a figure of a column, for one reason, which then is said once."""
    return cells[0].text.startswith(ABSENT) and len({cell.text for cell in cells}) == 1


def made_of_words(run: Run) -> list[dict[str, Any]]:
    """How every candidate is made: its scheme, and a phrase for each further model, picture and post-step. Empty where all are
    single models or merges."""
    all_phrases = [(c, described(c)) for c in run.suite.candidates]
    return [{"name": label_with_role(run, c.name), "scheme": scheme_of(c), "phrases": [words.visible(p) for p in phrases]}
            for c, phrases in all_phrases] if any(phrases for _, phrases in all_phrases) else []


def _alone(run: Run) -> str:
    """The candidate that others are measured against: the baseline if it is one model, else the first that is; "" without one."""
    names = [c.name for c in run.suite.candidates if networks_of(c).further == 0 and not c.stages]
    return run.suite.baseline if run.suite.baseline in names else names[0] if names else ""


def _cells(run: Run, names: Sequence[str], alone: str) -> list[CostText]:
    counted = list(dict.fromkeys(networks_of(run.candidate(name)).text for name in names))
    return [CostText(text=" or ".join(counted)),
            _bytes(run, names, alone, WEIGHTS.name), _bytes(run, names, alone, BYTES.name), _seconds(run, names, alone),
            *(_apart([seconds_apart(run, name, what) for name in names]) for what in ("first_switch", "switch")),
            _failed(run, names)]


def _bytes(run: Run, names: Sequence[str], alone: str, value: str) -> CostText:
    pairs = [comparable_bytes((run, name), (run, alone or name), value) for name in names]
    mine = [one for one, _ in pairs]
    if any(one.value is not None and of_process(one) for one in mine):
        return CostText(text=ONLY_PROCESS)
    further = [networks_of(run.candidate(name)).further for name in names]
    changes = [(one.value / other.value - 1, more) for (one, other), more in zip(pairs, further, strict=True)
               if more and alone and one.value is not None and other.value and one.name == other.name]
    below = [_range([change for change, _ in changes], _percent),
             f"{_range([change / more for change, more in changes], _percent)} for each more"] if changes else []
    if all(more == 1 for _, more in changes):
        below = below[:1]
    return CostText(text=_measured(mine), below=tuple(below))


def _measured(readings: Sequence[Reading]) -> str:
    values = [one.value for one in readings if one.value is not None]
    return _range(values, words.size) if values else f"{ABSENT}{words.visible(readings[0].why_missing)}"


def _seconds(run: Run, names: Sequence[str], alone: str) -> CostText:
    cell = _apart([seconds_per_image(run, name) for name in names])
    ratios = [ratio for name in names if alone and name != alone and (ratio := speed(run, name, alone)[0]) is not None]
    return CostText(text=cell.text, below=(f"{_range(ratios, lambda ratio: f'{ratio:.2f}')} times",) if ratios else ())


def _apart(timed: Sequence[Seconds]) -> CostText:
    medians = [one.median for one in timed if one.median is not None]
    return CostText(text=_range(medians, words.duration) if medians else f"{ABSENT}{words.visible(timed[0].why)}")


def _failed(run: Run, names: Sequence[str]) -> CostText:
    counts = [broken(run, name) for name in names]
    of, stages = sum(one.of for one in counts), sum(f.candidate in names for f in run.failures)
    below = (words.plural(stages, "failed stage"),) if stages else ()
    if not of:
        return CostText(text=f"{ABSENT}{words.visible(counts[0].why) or 'no images'}", below=below)
    count = sum(one.count for one in counts)
    return CostText(text=f"{count} of {of}", below=(words.percent(count / of), *below))


def _percent(change: float) -> str:
    return f"{'+' if change > 0 else ''}{words.percent(change)}"


def _range(values: Sequence[float], said: Callable[[float], str]) -> str:
    """The lowest and the highest in words, once where they read alike."""
    low, high = said(min(values)), said(max(values))
    return low if low == high else f"{low} to {high}"
