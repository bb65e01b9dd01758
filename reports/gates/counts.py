"""Gates on what is counted: keys that were lost, identities that do not hold, failures, and the share of images that failed."""

from __future__ import annotations

from typing import Final

import pandas as pd

from harness.declare import Adapter, Fused, Gate, Merge, Model
from reports import formatting as words
from reports.gates.verdict import NOT_MEASURED, Verdict, counted, decide, not_measured, verdict
from reports.read.interim_looks import asked
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean
from reports.verdict.elimination import gate_level
from reports.verdict.recommendation import Recommendation

UNACCOUNTED: Final = ("missing_in_a", "missing_in_b", "shape_mismatched", "non_finite", "unmatched", "refused")
IDENTITIES: Final = "identities"
"""Stage of the coverage rows that say which identities of the merge method were held and which broken."""
NAMED_KEYS: Final = 4


def coverage(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Tensors that are not accounted for in any stage."""
    records = [c for c in run.coverage if c.candidate == name and c.stage != IDENTITIES]
    candidate = run.candidate(name)
    if not records:
        plain = not _merged(candidate.model) and not _adapters(candidate.model, candidate.adapters)
        if plain and candidate.quantization == "fp32" and name in run.weights and not run.failure_of(name):
            return counted(run, gate, name, 0, "nothing is merged, adapted or quantized")
        return not_measured(run, gate, name, _why(run, name, "coverage") or "no coverage on record")
    keys = {s: [k for c in records for k in c.keys.get(s, ())] for s in UNACCOUNTED}
    listed = ", ".join(f"{len(lost)} {status.replace('_', ' ')}: {words.listed(lost, NAMED_KEYS)}"
                       for status, lost in keys.items() if lost)
    count = sum(map(len, keys.values()))
    # A lost key stays lost whatever the missing rows hold; only "none lost" needs them all.
    if not count and {c.of for c in records} not in ({0}, {len(records)}):
        return not_measured(run, gate, name, "coverage rows are missing")
    return counted(run, gate, name, count, listed or "every key is accounted for")


def identities(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Identities of the merge method (such as: alpha 0 is A) that do not hold on the candidate's own tensors."""
    records = [c for c in run.coverage if c.candidate == name and c.stage == IDENTITIES]
    broken = [identity for c in records for identity in c.keys.get("broken", ())]
    held = [identity for c in records for identity in c.keys.get("held", ())]
    if broken:
        return counted(run, gate, name, len(broken), f"{len(broken)} of {len(broken) + len(held)} do not hold: "
                                                f"{words.listed(broken, NAMED_KEYS)}")
    if held:
        return counted(run, gate, name, 0, f"{words.listed(held, NAMED_KEYS)} {'holds' if len(held) == 1 else 'hold'}")
    if not _merged(run.candidate(name).model) and name in run.weights and not run.failure_of(name):
        return counted(run, gate, name, 0, "nothing is merged")
    notes = words.listed(list(dict.fromkeys(note for c in records for note in c.notes))) if records else ""
    return not_measured(run, gate, name, _why(run, name, "identities") or f"no identity was tested{': ' * bool(notes)}{notes}")


def failures(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Stages that failed."""
    if gate.at_least is not None or gate.not_worse_than is not None:
        return not_measured(run, gate, name, "failures takes at_most and no other limit")
    count = sum(f.candidate == name for f in run.failures)
    return counted(run, gate, name, count, run.failure_of(name) or "no failure on record")


def failure_rate(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """The share of the images asked for that are none, or were not made because the candidate failed; all guidance scales
    count. The interval is Wilson's with prompts as clusters (statistics.within_bounds)."""
    if gate.at_most is None or gate.not_worse_than is not None:
        return not_measured(run, gate, name, "failure_rate takes at_most and no other limit")
    rows = run.images[run.images["candidate"] == name][["prompt", "sample"]]
    flagged = rows.assign(failure_rate=rows["sample"].isin(set(run.defects)).astype(float))
    lost = _lost(run, name)
    table = pd.concat([part for part in (flagged[["prompt", gate.value]], lost) if not part.empty] or [lost])
    if table.empty:
        return not_measured(run, gate, name, run.why_missing(name, "image") or "no image was asked for")
    share = cluster_mean(table, run.row(gate.value), gate_level(run.suite))
    parts = [f"{flagged[gate.value].sum():.0f} with NaN or infinite values"] if flagged[gate.value].any() else []
    parts += [f"{len(lost)} not made ({run.failure_of(name)})"] if len(lost) else []
    note = f"{table[gate.value].sum():.0f} of {words.plural(len(table), 'image')} failed{': ' if parts else ''}{'; '.join(parts)}"
    status = decide(share.low, share.high, at_most=gate.at_most)
    return verdict(run, gate, name, status, share, f"{note} ({share.why})" if status == NOT_MEASURED else note)


def _lost(run: Run, name: str) -> pd.DataFrame:
    """The cells that were asked of a failed candidate and have no image: prompt, and `failure_rate` = 1. A race asks for those of
    its looks, other runs for the whole grid."""
    grid, rows = run.suite.grid, run.images[run.images["candidate"] == name]
    sampled = set(zip(rows["prompt"], rows["seed"], rows["guidance"].astype(float), strict=True))
    asked_for = [(c.prompt, c.seed, float(c.guidance)) for c in asked(run.looks).get(name, ())] or [
        (p.id, seed, float(g)) for p in grid.prompts for seed in grid.seeds for g in grid.guidance_scales]
    absent = [place[0] for place in asked_for if place not in sampled] if run.failure_of(name) else []
    return pd.DataFrame({"prompt": pd.Series(absent, dtype=object), "failure_rate": 1.0})


def _why(run: Run, name: str, value: str) -> str:
    return run.failure_of(name) or run.why_missing(name, value)


def _merged(model: Model) -> bool:
    """Whether a model is a merge, or has one inside."""
    return isinstance(model, Merge) or (isinstance(model, Fused) and _merged(model.model))


def _adapters(model: Model, beside: tuple[Adapter, ...]) -> bool:
    return bool(beside) or isinstance(model, Fused)
