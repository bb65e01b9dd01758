"""The headline of a run: what to ship, or why nothing is to be shipped yet. It claims no more than the interval behind it, the
gates, and the images that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from harness.declare import PROMOTED
from harness.records.gate_kinds import gate_kind
from reports import formatting as words
from reports.gates.outcome import FAILED, INCONCLUSIVE, NOT_MEASURED, PASSED, Verdict, with_itself
from reports.read.run import Run
from reports.verdict.candidates import label_with_role, not_run, parents
from reports.verdict.fidelity import losses, speed_not_compared
from reports.verdict.recommendation import Comparison, Recommendation
from reports.verdict.sentences import at_counterpart

SHIP: Final = "ship"
KEEP: Final = "keep"
BEST_GUESS: Final = "best guess"
WORSE: Final = "worse"
GATES_FAILED: Final = "gates failed"
GATES_OPEN: Final = "gates not decided"
INCOMPLETE: Final = "images missing"
NOT_COMPARED: Final = "not compared"
NOTHING: Final = "nothing to recommend"


@dataclass(frozen=True, kw_only=True)
class Headline:
    """`decision` is one of the constants above; `text` is the clause in the largest type, and `rest` what it goes by. `unseen`
    is what the claim does not cover, such as a candidate that was not run; `rest` holds it too."""

    decision: str
    text: str
    rest: str = ""
    unseen: str = ""

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        return f"{self.text}; {self.rest}." if self.rest else f"{self.text}."


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a decision goes by. `words` are those of the comparisons that the claim rests on; `statuses` those of the gates;
    `baseline`: the pick is what is in use already; `held_out`: it was compared on prompts that had no part in the choice;
    `others`: another candidate was compared with it; `no_loss`: the question is what the pick loses, and a gate shows that it
    loses no more than is allowed."""

    pick: bool
    statuses: tuple[str, ...] = ()
    missing: bool = False
    words: tuple[str, ...] = ()
    baseline: bool = False
    others: bool = True
    held_out: bool = True
    no_loss: bool = False


def decide(of: Facts) -> str:
    """The decision, by the first rule that holds. A pick is shipped only where every gate passed, nothing that was asked for is
    missing, and it is better than what it would replace on prompts that did not choose it; where it is to be cheaper, a gate may
    show instead that it loses no more than is allowed."""
    rules = (
        (not of.pick, NOTHING),
        (FAILED in of.statuses, GATES_FAILED),
        (any(status != PASSED for status in of.statuses), GATES_OPEN),
        (of.missing, INCOMPLETE),
        ("worse" in of.words, WORSE),
        (of.baseline and of.others, KEEP),
        (not of.words or "not measured" in of.words, NOT_COMPARED),
        (not of.held_out, BEST_GUESS),
        (of.no_loss or set(of.words) == {"better"}, SHIP))
    return next((decision for holds, decision in rules if holds), BEST_GUESS)


def headline(run: Run, rec: Recommendation, verdicts: Sequence[Verdict]) -> Headline:
    """The headline of a run with its recommendation and the verdicts of its gates."""
    counting = [v for v in verdicts if not waived(run, v)]
    against, missing = decisive(run, rec), missing_words(run)
    decision = decide(Facts(
        pick=rec.pick is not None, statuses=tuple(v.status for v in counting), missing=bool(missing),
        words=tuple(c.word for c in against), baseline=rec.pick == run.suite.baseline,
        others=_others_compared(run, rec), held_out=all(c.split == "confirm" for c in against),
        no_loss=rec.kind == "fidelity" and any(_shows_no_loss(run, rec, v) for v in counting)))
    if decision == NOTHING or rec.pick is None:
        return Headline(decision=decision, text=rec.sentence.rstrip("."), rest=not_run(run), unseen=not_run(run))
    # Modes are compared over all guidance scales.
    what = label_with_role(run, rec.pick) + ("" if rec.kind == "fidelity" else f" at CFG {rec.guidance:g}")
    notes = [missing] if missing and decision != INCOMPLETE else []
    spared = [v for v in verdicts if v not in counting]
    notes += ["nothing was promoted yet that it could be compared with"] if any(_nothing_promoted(run, v) for v in spared) else []
    notes += [f"{words.plural(alone, 'gate')} compared nothing, because {what} is what they compare with"] if (
        alone := sum(not _nothing_promoted(run, v) for v in spared)) else []
    unseen = [note for note in _unseen(run, rec) if note]
    return Headline(decision=decision, text=_text(run, rec, what, (decision, counting, against, missing)),
                    rest="; ".join([*notes, *(note for note in unseen if note not in rec.evidence), rec.evidence]),
                    unseen="; ".join(unseen))


def _unseen(run: Run, rec: Recommendation) -> tuple[str, ...]:
    """What the headline does not cover: candidates that were not run, a lack of anything to compare with, speeds that were not
    compared."""
    if rec.kind != "fidelity":
        return (not_run(run),)
    others = [name for name in rec.tied_candidates if name != run.suite.baseline]
    alone = {c.candidate for c in rec.cells if c.objective.mean is not None} <= {run.suite.baseline}
    return (not_run(run), "nothing to compare" if alone else "", speed_not_compared(run, others))


def _others_compared(run: Run, rec: Recommendation) -> bool:
    """Whether the pick was compared with any other candidate: by the cells, or of modes by images that both have."""
    if rec.kind == "fidelity":
        return any(loss.objective.mean is not None for loss in losses(run))
    return any(c.candidate != rec.pick and c.behind.mean is not None for c in rec.cells)


def decisive(run: Run, rec: Recommendation) -> list[Comparison]:
    """The comparisons that a claim rests on: in objective with the baseline and the parents (with the baseline alone where the
    pick is a parent, or where the question is what it loses), also at their own best guidance; and those that the pick lost."""
    of_objective = [c for c in rec.comparisons if c.value == "objective"]
    others = {run.suite.baseline}
    if rec.kind != "fidelity" and rec.pick not in parents(run.suite):
        others |= set(parents(run.suite))
    lost = [c for c in of_objective if c.word == "worse" and at_counterpart(run, c)]
    return list(dict.fromkeys([*(c for c in of_objective if c.other in others), *lost]))


def waived(run: Run, verdict: Verdict) -> bool:
    """Whether a gate has nothing to compare, by no fault of the run: it asks for what was promoted last while nothing was yet, or
    the pick is what it compares with. The first must not block the first promotion, nor the second that the baseline stays."""
    return verdict.status == NOT_MEASURED and (_nothing_promoted(run, verdict) or of_itself(run, verdict))


def _nothing_promoted(run: Run, verdict: Verdict) -> bool:
    return verdict.other == PROMOTED and run.promoted is None


def of_itself(run: Run, verdict: Verdict) -> bool:
    """Whether a gate that names no candidate came upon the one that it compares with, and so compared nothing."""
    gate = next((g for g in run.suite.gates if run.suite.gate_name(g) == verdict.gate), None)
    return gate is not None and not gate.candidates and bool(with_itself(run, gate, verdict.candidate))


def missing_words(run: Run) -> str:
    """What the run lacks of what was asked for, in words: images and objectives, apart from candidates that the device does not
    offer. An empty string where nothing is missing."""
    counts: Counter[str] = Counter()
    for gap in run.missing:
        if gap.value in ("image", "objective") and not gap.expected and gap.candidate not in run.head.get("not_offered", {}):
            counts[gap.value] += gap.count
    parts = [f"{words.plural(counts['image'], 'image')} missing"] if counts["image"] else []
    parts += [f"{words.plural(counts['objective'], 'image')} without an objective"] if counts["objective"] else []
    return " and ".join(parts)


def gates_in_words(statuses: Iterable[str]) -> str:
    """How many gates did not pass: "1 gate failed", "2 gates not measured and 1 inconclusive"."""
    counts = Counter(statuses)
    parts: list[str] = []
    for status in (FAILED, NOT_MEASURED, INCONCLUSIVE):
        if count := counts[status]:
            parts.append(f"{count if parts else words.plural(count, 'gate')} {status.replace('_', ' ')}")
    return " and ".join(parts)


def _shows_no_loss(run: Run, rec: Recommendation, verdict: Verdict) -> bool:
    """Whether a gate shows that the pick's images are no worse than the baseline's by more than it allows."""
    gate = next((g for g in run.suite.gates if run.suite.gate_name(g) == verdict.gate), None)
    compared = verdict.other in ("baseline", run.suite.baseline) or run.row(verdict.value).paired
    return (gate is not None and verdict.status == PASSED and verdict.candidate == rec.pick and compared
            and gate_kind(verdict.value).of_images)


def _names(run: Run, comparisons: Sequence[Comparison]) -> list[str]:
    """The controls of comparisons, each once; one that was only compared at its own best guidance says so."""
    beside = {c.other for c in comparisons if at_counterpart(run, c)}
    return list(dict.fromkeys(
        label_with_role(run, c.other) + ("" if c.other in beside else f" at its own best CFG {c.other_guidance:g}")
        for c in comparisons))


def _text(run: Run, rec: Recommendation, what: str, of: tuple[str, Sequence[Verdict], Sequence[Comparison], str]) -> str:
    decision, verdicts, against, missing = of
    statuses = [v.status for v in verdicts]
    named = {word: words.listed(_names(run, [c for c in against if c.word == word]))
             for word in ("worse", "tied", "not measured")}
    no_gain = (f"no loss shown against {label_with_role(run, run.suite.baseline)}" if rec.kind == "fidelity" else
               f"no gain shown over {named['tied']}" if named["tied"] != "none" else "not confirmed on other prompts")
    return {
        SHIP: f"Ship {what}", KEEP: f"Keep {what}", BEST_GUESS: f"Best guess: {what}, {no_gain}",
        GATES_FAILED: f"Do not ship: {gates_in_words(s for s in statuses if s == FAILED)} (best candidate: {what})",
        GATES_OPEN: f"Not decided: {gates_in_words(statuses)} (best candidate: {what})",
        INCOMPLETE: f"Not decided: {missing} (best so far: {what})",
        WORSE: f"Do not ship {what}: it is worse than {named['worse']}",
        NOT_COMPARED: f"Nothing to decide: {what} is the only candidate" if len(run.suite.candidates) == 1 else (
            f"Not decided: {what} could not be compared with {named['not measured'] if against else 'anything'}"),
    }[decision]
