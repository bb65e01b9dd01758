"""Images that are no use whatever they were meant to show: never made, of one colour, burnt or below what a gate asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from harness.records.values import FAILURE_RATE
from reports import formatting as words
from reports.read.run import Run
from reports.statistics.intervals import Estimate, cluster_mean

CLIPPED_ABOVE: Final = 0.5
FLAT_WITHIN: Final = 1.0
RULE: Final = (
    "Failed images are those that were not made because the candidate failed, those that came out as NaN or infinite numbers, "
    "those of one colour (the palette's centres lie within 1 CIE Lab unit of their mean), those with more "
    "than half of their pixels clipped, and, where a gate asks for at least so much of a value, those below it. All guidance "
    "scales count. The interval is Wilson's (95 %), with prompts as clusters.")


@dataclass(frozen=True, kw_only=True)
class Broken:
    """How many of `of` images of a candidate failed, by kind; `share` has the interval, where every planned image is there.
    `of` is 0, and `why` says so, where nothing tells a failed image from a sound one."""

    count: int
    of: int
    kinds: dict[str, int]
    share: Estimate | None = None
    why: str = ""


def broken(run: Run, candidate: str) -> Broken:
    """The failed images of one candidate, by RULE; images that were not made for another reason than a failure do not count,
    nor do those of which nothing was measured."""
    rows = run.images[run.images["candidate"] == candidate]
    tests = _tests(run, rows)
    judged = np.zeros(len(rows), dtype=bool)
    bad = np.zeros(len(rows), dtype=bool)
    kinds: dict[str, int] = {}
    for kind, known, found in tests:
        judged |= known
        bad |= found
        if found.any():
            kinds[kind] = int(found.sum())
    absent = sum(g.count for g in run.missing if g.candidate == candidate and g.value == "image")
    lost = absent if run.failure_of(candidate) else 0
    if lost:
        kinds["not made"] = lost
    total = int(judged.sum()) + lost
    if not total:
        why = run.why_missing(candidate, "image") if rows.empty else "no metric of this run can tell failed images"
        return Broken(count=0, of=0, kinds={}, why=why or "no images")
    share = cluster_mean(rows[judged].assign(failure_rate=bad[judged].astype(float)), FAILURE_RATE) if not lost else None
    return Broken(count=int(bad.sum()) + lost, of=total, kinds=kinds, share=share)


def _tests(run: Run, rows: pd.DataFrame) -> list[tuple[str, Any, Any]]:
    """Per kind of failure: its name, which images can be told, and which of them failed."""
    tests: list[tuple[str, Any, Any]] = []
    none = rows["sample"].isin(set(run.defects)).to_numpy(dtype=bool)
    if none.any():
        tests.append(("no finite numbers", none, none))
    if "clusters" in rows.columns:
        spread = np.array([_spread(c) for c in rows["clusters"]], dtype=float)
        tests.append(("of one colour", ~np.isnan(spread), spread < FLAT_WITHIN))
    if "clipped_share" in rows.columns:
        clipped = rows["clipped_share"].to_numpy(dtype=float)
        tests.append(("clipped", ~np.isnan(clipped), clipped > CLIPPED_ABOVE))
    for gate in run.suite.gates:
        if gate.at_least is not None and gate.value in rows.columns and pd.api.types.is_numeric_dtype(rows[gate.value]):
            values = rows[gate.value].to_numpy(dtype=float)
            description = f"{words.title(run.row(gate.value))} below {words.number(gate.at_least, run.row(gate.value))}"
            tests.append((description, ~np.isnan(values), values < gate.at_least))
    return tests


def _spread(clusters: object) -> float:
    """Root mean square distance of the clusters' centres from their mean in CIE Lab, by share; NaN where there are none."""
    try:
        table = np.asarray(clusters, dtype=float).reshape(-1, 4)
    except (TypeError, ValueError):
        return float("nan")
    if not len(table) or not table[:, 3].sum() > 0:
        return float("nan")
    share = table[:, 3] / table[:, 3].sum()
    offsets = table[:, :3] - share @ table[:, :3]
    return float(np.sqrt(share @ (offsets**2).sum(axis=1)))
