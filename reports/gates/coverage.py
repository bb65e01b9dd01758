"""Gates on coverage: tensors that no stage of making the candidate accounts for."""

from __future__ import annotations

from typing import Final

from harness.declare import Adapter, Fused, Gate, Model
from harness.records.images import APART
from reports import formatting as words
from reports.gates.outcome import NAMED_KEYS, Verdict, counted, is_merged, not_measured, why_missing
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation

UNACCOUNTED: Final = ("missing_in_a", "missing_in_b", "shape_mismatched", "non_finite", "unmatched", "refused")


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Tensors that are not accounted for in any stage."""
    records = [c for c in run.coverage if c.candidate == name and c.stage not in APART]
    candidate = run.candidate(name)
    if not records:
        beside = (*candidate.adapters, *(adapter for prompt in run.suite.grid.prompts for adapter in prompt.adapters))
        plain = not is_merged(candidate.model) and not _adapters(candidate.model, beside)
        if plain and candidate.quantization == "fp32" and name in run.weights and not run.failure_of(name):
            return counted(run, gate, name, 0, "nothing is merged, adapted or quantized")
        return not_measured(run, gate, name, why_missing(run, name, "coverage") or "no coverage on record")
    keys = {s: [k for c in records for k in c.keys.get(s, ())] for s in UNACCOUNTED}
    listed = ", ".join(f"{len(lost)} {status.replace('_', ' ')}: {words.listed(lost, NAMED_KEYS)}"
                       for status, lost in keys.items() if lost)
    count = sum(map(len, keys.values()))
    # A lost key stays lost whatever the missing rows hold; only "none lost" needs them all.
    if not count and {c.of for c in records} not in ({0}, {len(records)}):
        return not_measured(run, gate, name, "coverage rows are missing")
    return counted(run, gate, name, count, listed or "every key is accounted for")


def _adapters(model: Model, beside: tuple[Adapter, ...]) -> bool:
    return bool(beside) or isinstance(model, Fused)
