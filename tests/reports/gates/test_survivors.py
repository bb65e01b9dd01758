"""A gate is judged on all that was asked for, or not at all: never on the images that happen to have a value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.declare import Gate, Suite
from harness.declare.suite import ROUNDS_FOR_MEDIAN
from harness.records import Latency
from reports.gates import judge
from reports.read.run import Run
from reports.statistics.order_statistics import rounds_for_median
from reports.verdict.fidelity import losses, recommend_cheapest
from reports.verdict.recommendation import Recommendation
from tests.reports.gates.test_gates import judged

PICK, BASE = "alpha=0.45", "alpha=0"
GATES = {
    "limit": Gate(value="clip_score", at_least=20),
    "difference": Gate(value="clip_score", not_worse_than="baseline", margin=5),
    "ratio": Gate(value="clip_score", not_worse_than="baseline", ratio=0.5),
    "share": Gate(value="clipped_share", at_most=0.5),
    "objective": Gate(value="objective", at_least=1),
    "named": Gate(value="clip_score", at_least=20, candidates=(PICK,)),
    "named difference": Gate(value="clip_score", not_worse_than=BASE, margin=5, candidates=(PICK,)),
}


def without(run: Run, name: str, prompts: set[str], how: str) -> Run:
    """The run where a candidate's images of some prompts have no value, or were never sampled."""
    images = run.images.copy()
    hit = (images["candidate"] == name) & images["prompt"].isin(prompts)
    if how == "never sampled":
        return replace(run, images=images[~hit].reset_index(drop=True))
    images.loc[hit, ["clip_score", "clipped_share", "objective"]] = float("nan")
    return replace(run, images=images, defects=dict.fromkeys(images.loc[hit, "sample"], "NaN in the latents"))


@pytest.mark.parametrize("how", ["NaN", "never sampled"])
@pytest.mark.parametrize("gone", [{"p09"}, {"p09", "p10"}])
@pytest.mark.parametrize("kind", GATES)
def test_a_value_that_some_images_lack_is_not_measured(merge_run: Run, merge_verdict: Recommendation, kind: str, gone: set[str],
                                                       how: str) -> None:
    rec = replace(merge_verdict, guidance=8.0)
    assert judged(merge_run, rec, GATES[kind]).status == "passed"
    verdict = judged(without(merge_run, PICK, gone, how), rec, GATES[kind])
    of = 8 if not GATES[kind].candidates else 24
    assert verdict.status == "not_measured"
    assert f"{2 * len(gone)} of {of} images that were asked for have no {GATES[kind].value}" in verdict.reason


@pytest.mark.parametrize("kind", ["difference", "ratio", "named difference"])
def test_what_a_candidate_is_compared_with_must_be_whole_too(merge_run: Run, merge_verdict: Recommendation, kind: str) -> None:
    verdict = judged(without(merge_run, BASE, {"p09"}, "NaN"), replace(merge_verdict, guidance=8.0), GATES[kind])
    assert verdict.status == "not_measured"
    assert "NaN in the latents" in verdict.reason
    assert "alpha 0: " in verdict.reason


def test_images_of_another_guidance_or_split_do_not_matter(merge_run: Run, merge_verdict: Recommendation) -> None:
    select_only = without(merge_run, PICK, {"p00"}, "NaN")
    assert judged(select_only, merge_verdict, GATES["limit"]).status == "passed"
    assert judged(select_only, merge_verdict, GATES["named"]).status == "not_measured"


def test_a_gate_on_the_failure_rate_decides_about_unusable_images(merge_run: Run, merge_verdict: Recommendation) -> None:
    gates = (GATES["limit"], Gate(value="failure_rate", at_most=0.5))
    run = without(merge_run, PICK, {"p09"}, "NaN")
    first = judge(replace(run, suite=replace(run.suite, gates=gates)), replace(merge_verdict, guidance=8.0))[0]
    assert first.status == "passed"
    assert "2 unusable images" in first.reason


def test_a_value_that_does_not_exist_by_definition_is_not_lacking(merge_run: Run, merge_verdict: Recommendation) -> None:
    run = without(merge_run, PICK, {"p09"}, "missing")
    hit = run.images[(run.images["candidate"] == PICK) & (run.images["prompt"] == "p09")]["sample"]
    run = replace(run, defects={}, undefined=frozenset((sample, "clip_score") for sample in hit))
    assert judged(run, merge_verdict, GATES["limit"]).status == "passed"


def test_a_quantized_candidate_with_missing_images_is_out(quantization_run: Run) -> None:
    assert "bf16" in recommend_cheapest(quantization_run).tied_candidates
    for how in ("NaN", "never sampled"):
        rec = recommend_cheapest(without(quantization_run, "bf16", {"p01"}, how))
        assert "bf16" not in rec.tied_candidates
        assert any("bf16: out" in reason and "2 of 16 images" in reason for reason in rec.reasons)


@pytest.mark.parametrize("gate", [Gate(value="seconds_per_image", at_most=60),
                                  Gate(value="seconds_per_image", not_worse_than=BASE, margin=60),
                                  Gate(value="seconds_per_image", not_worse_than=BASE, ratio=9)])
@pytest.mark.parametrize(("rounds", "status"), [
    (1, "not_measured"), (2, "inconclusive"), (5, "inconclusive"), (6, "passed")])
def test_latency_is_decided_from_six_rounds_on(merge_run: Run, merge_verdict: Recommendation, gate: Gate, rounds: int,
                                               status: str) -> None:
    latency = {name: Latency(candidate=name, batch_size=1, warmup_rounds=1, guidance=1.0, yardstick=(0.01,) * rounds,
                             seconds={"total": tuple(0.4 + 0.01 * i for i in range(rounds))}) for name in merge_run.latency}
    verdict = judged(replace(merge_run, latency=latency), merge_verdict, gate)
    assert verdict.status == status
    assert ("set latency_rounds of the suite to at least 6" in verdict.reason) == (rounds < 6)


@pytest.mark.parametrize(("rounds", "share"), [(2, "50 %"), (5, "93.75 %")])
def test_too_few_rounds_fail_no_gate_and_say_what_their_range_covers(
        merge_run: Run, merge_verdict: Recommendation, rounds: int, share: str) -> None:
    latency = {name: replace(record, seconds={"total": record.seconds["total"][:rounds]})
               for name, record in merge_run.latency.items()}
    verdict = judged(replace(merge_run, latency=latency), merge_verdict, Gate(value="seconds_per_image", at_most=0.001))
    assert (verdict.status, verdict.observed is None) == ("inconclusive", False)
    assert f"covers the true median in {share} of cases" in verdict.reason


def test_the_declared_default_is_enough_for_a_gate_on_latency() -> None:
    assert Suite.__dataclass_fields__["latency_rounds"].default == ROUNDS_FOR_MEDIAN == rounds_for_median() == 6
    assert (rounds_for_median(0.9375), rounds_for_median(0.975)) == (5, 7)


def test_the_table_of_losses_does_not_average_over_survivors(quantization_run: Run) -> None:
    found = {loss.candidate: loss for loss in losses(without(quantization_run, "bf16", {"p01"}, "NaN"))}
    assert found["bf16"].objective.mean is None
    assert "2 of 24 images" in found["bf16"].objective.why
    assert found["int8"].objective.mean is not None
