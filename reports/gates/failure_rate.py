"""Gates on the failure rate: the share of the images asked for that have NaN or infinite values, or were not made."""

from __future__ import annotations

import pandas as pd

from harness.declare import Gate
from harness.declare.effective_grid import whole_grid
from harness.declare.same_text import SAME_TEXT, effective_prompts, first_of_text
from reports import formatting as words
from reports.gates.outcome import INCONCLUSIVE, NOT_MEASURED, Verdict, decide, not_measured, settled_by, verdict
from reports.read.lacking import asked_places
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean
from reports.verdict.confirm_looks import gate_level
from reports.verdict.recommendation import Recommendation


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """The share of the images asked for that are none, or were not made because the candidate failed; all guidance scales
    count. The interval is Wilson's with prompts as clusters (statistics.within_bounds)."""
    if gate.at_most is None or gate.not_worse_than is not None:
        return not_measured(run, gate, name, "failure_rate takes at_most and no other limit")
    rows = run.images[run.images["candidate"] == name][["prompt", SAME_TEXT, "sample"]]
    flagged = rows.assign(failure_rate=rows["sample"].isin(set(run.defects)).astype(float))
    lost = _lost(run, name)
    table = pd.concat([part for part in (flagged[["prompt", SAME_TEXT, gate.value]], lost) if not part.empty] or [lost])
    if table.empty:
        return not_measured(run, gate, name, run.why_missing(name, "image") or "no image was asked for")
    if (gone := len(asked_places(run, name)) - len(table)) > 0:
        why = run.why_missing(name, "image") or "no image"
        return not_measured(run, gate, name, f"{words.plural(gone, 'requested image')} missing ({why})")
    share = cluster_mean(table, run.row(gate.value), gate_level(run.suite))
    parts = [f"{flagged[gate.value].sum():.0f} with NaN or infinite values"] if flagged[gate.value].any() else []
    parts += [f"{len(lost)} not made ({run.failure_of(name)})"] if len(lost) else []
    note = f"{table[gate.value].sum():.0f} of {words.plural(len(table), 'image')} failed{': ' if parts else ''}{'; '.join(parts)}"
    status = decide(share.low, share.high, at_most=gate.at_most)
    note += settled_by(gate, run.row(gate.value), share) if status == INCONCLUSIVE else ""
    return verdict(run, gate, name, status, share, f"{note} ({share.why})" if status == NOT_MEASURED else note)


def _lost(run: Run, name: str) -> pd.DataFrame:
    """The cells that were asked of a failed candidate and have no image: the first prompt of their text, and
    `failure_rate` = 1."""
    rows = run.images[run.images["candidate"] == name]
    sampled = set(zip(rows["prompt"], rows["seed"], rows["guidance"].astype(float), strict=True))
    absent = asked_places(run, name) - sampled if run.failure_of(name) else set()
    grid = whole_grid(run.suite)
    firsts = {float(scale): first_of_text(effective_prompts(grid, scale)) for scale in grid.guidance_scales}
    return pd.DataFrame({"prompt": pd.Series([prompt for prompt, _, _ in absent], dtype=object), "failure_rate": 1.0,
                         SAME_TEXT: pd.Series([firsts[scale][prompt] for prompt, _, scale in absent], dtype=object)})
