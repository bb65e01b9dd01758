"""Gates on identities: rules of the merge method (such as: alpha 0 is A) that do not hold on the candidate's own tensors."""

from __future__ import annotations

from harness.declare import Gate
from harness.records.images import IDENTITIES
from reports import formatting as words
from reports.gates.outcome import NAMED_KEYS, Verdict, counted, is_merged, not_measured, why_missing
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Identities of the merge method (such as: alpha 0 is A) that do not hold on the candidate's own tensors."""
    records = [c for c in run.coverage if c.candidate == name and c.stage == IDENTITIES]
    broken = [identity for c in records for identity in c.keys.get("broken", ())]
    held = [identity for c in records for identity in c.keys.get("held", ())]
    if broken:
        return counted(run, gate, name, len(broken), f"{len(broken)} of {len(broken) + len(held)} do not hold: "
                                                f"{words.listed(broken, NAMED_KEYS)}")
    if held:
        return counted(run, gate, name, 0, f"{words.listed(held, NAMED_KEYS)} {'holds' if len(held) == 1 else 'hold'}")
    if not is_merged(run.candidate(name).model) and name in run.weights and not run.failure_of(name):
        return counted(run, gate, name, 0, "nothing is merged")
    notes = words.listed(list(dict.fromkeys(note for c in records for note in c.notes))) if records else ""
    why = why_missing(run, name, "identities") or f"no identity was tested{': ' * bool(notes)}{notes}"
    return not_measured(run, gate, name, why)
