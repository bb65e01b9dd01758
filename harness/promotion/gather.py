"""The evidence for one promotion: the run, its recommendation, the verdicts on the candidate, and what the run still lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.declare import Grid, Suite, grid_of
from harness.declare.candidate_names import hint
from harness.declare.effective_grid import sampling_block
from harness.promotion.errors import PromotionError

if TYPE_CHECKING:
    from reports.gates import Verdict
    from reports.read.run import Run
    from reports.verdict.recommendation import Recommendation


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The evidence that decides whether one candidate may be promoted, and that goes into its record.

    `verdicts` are the verdicts of all gates of the suite; gates without candidates are judged on this candidate. `unfinished` are
    sentences on what the run lacks.
    """

    candidate: str
    run: Run
    recommendation: Recommendation
    verdicts: tuple[Verdict, ...]
    unfinished: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.folder

    @property
    def suite(self) -> Suite:
        """The suite as it ran."""
        return self.run.suite

    @property
    def grid(self) -> Grid:
        """The effective grid of the candidate."""
        return grid_of(self.suite, self.run.candidate(self.candidate))

    @property
    def sampled_as(self) -> Mapping[str, Any]:
        """The sampling block of the candidate's images."""
        return sampling_block(self.head["sampling"], self.suite, self.run.candidate(self.candidate))

    @property
    def head(self) -> Mapping[str, Any]:
        """The content of run.json."""
        return self.run.head

    @property
    def identity(self) -> str:
        """The identity of the candidate's weights; empty where the run has none on record."""
        weights = self.run.weights.get(self.candidate)
        return weights.identity if weights else ""

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        """{candidate: {reference: content hash}} of the input files of every candidate."""
        return {name: weights.inputs for name, weights in self.run.weights.items()}

    @property
    def floor_levels(self) -> int | None:
        """The largest difference that a batch alone made, in levels of 0 to 255; None where it was not measured."""
        return max((floor.largest_levels for floor in self.run.floors), default=None)


def gather(folder: Path, name: str) -> Evidence:
    """The evidence for the candidate `name` of the run in `folder`. Raises ValueError or OSError where the folder is not a run,
    PromotionError where the suite has no such candidate."""
    from reports.gates import judge
    from reports.read.run import load_run
    from reports.verdict.recommending import recommend

    run = load_run(folder)
    if name not in (names := [c.name for c in run.suite.candidates]):
        raise PromotionError(f"suite {run.suite.name!r} has no candidate {name!r}; {hint(name, names)}")
    recommendation = recommend(run)
    # Gates without candidates judge the recommended pick; here they judge the candidate to promote.
    verdicts = tuple(judge(run, replace(recommendation, pick=name)))
    return Evidence(candidate=name, run=run, recommendation=recommendation, verdicts=verdicts,
                    unfinished=tuple(_unfinished(run, name, recommendation)))


def _unfinished(run: Run, name: str, recommendation: Recommendation) -> list[str]:
    """Sentences on what the run lacks before this candidate may be promoted. What the device never offers is not lacking."""
    not_offered = run.head.get("not_offered", {})
    gaps = [f"candidate {gap.candidate!r} lacks {gap.value} in {gap.count} cells ({gap.why})" for gap in run.missing
            if gap.candidate not in not_offered
            and (gap.value == "image" or (gap.candidate == name and gap.value == "objective"))]
    if name in not_offered:
        gaps.append(f"candidate {name!r} was not run: {not_offered[name]}")
    if failure := run.failure_of(name):
        gaps.append(f"candidate {name!r} {failure}")
    finished, weights = run.finished.get(name), run.weights.get(name)
    if finished is None or weights is None or finished.identity != weights.identity:
        gaps.append(f"candidate {name!r} did not go through all stages as it is declared now")
    return [*gaps, *_unconfirmed(run, name), *([] if recommendation.pick else [recommendation.sentence.rstrip(".")])]


def _unconfirmed(run: Run, name: str) -> list[str]:
    """Why the adaptive sweep gives no basis for promoting this candidate: it was stopped before the confirm prompts, dropped the
    candidate, or it did not sample the candidate on them. Empty if there is a basis."""
    from reports.read.interim_looks import exits

    if not run.looks or all(p.split != "confirm" for p in run.suite.grid.prompts):
        return []
    late_looks = [look for look in run.looks if look.stage in ("confirm", "gate")]
    if not late_looks:
        return [f"the adaptive sweep did not reach the confirm prompts; its last interim look says: {run.looks[-1].why}"]
    if any(name in look.candidates for look in late_looks):
        return []
    out = exits(run.suite, run.looks).get(name)
    why = f"the adaptive sweep dropped it at interim look {out.look}" if out else "the adaptive sweep did not pick it"
    return [f"candidate {name!r} was not sampled on the confirm prompts: {why} (without a budget all are sampled there)"]
