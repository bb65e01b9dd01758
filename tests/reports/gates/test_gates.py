"""Gates: the table of statuses, and the kinds of gates on real records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.declare import Gate
from harness.records import Coverage, Failure, Memory, Reading
from reports.gates import Verdict, decide, judge
from reports.page.tables import gate_rows
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend


def judged(run: Run, rec: Recommendation, gate: Gate) -> Verdict:
    return judge(replace(run, suite=replace(run.suite, gates=(gate,))), rec)[0]


@pytest.mark.parametrize(("low", "high", "at_least", "at_most", "status"), [
    (2.0, 3.0, 1.0, None, "passed"),
    (1.0, 3.0, 1.0, None, "passed"),
    (0.5, 3.0, 1.0, None, "inconclusive"),
    (0.5, 1.0, 1.0, None, "inconclusive"),
    (0.1, 0.9, 1.0, None, "failed"),
    (0.1, 0.9, None, 1.0, "passed"),
    (0.1, 1.0, None, 1.0, "passed"),
    (0.9, 1.1, None, 1.0, "inconclusive"),
    (1.0, 1.1, None, 1.0, "inconclusive"),
    (1.1, 1.2, None, 1.0, "failed"),
    (None, None, 1.0, None, "not_measured"),
    (0.0, 0.0, None, None, "not_measured"),
])
def test_the_whole_interval_decides(low: float | None, high: float | None, at_least: float | None, at_most: float | None,
                                    status: str) -> None:
    assert decide(low, high, at_least=at_least, at_most=at_most) == status


@pytest.mark.parametrize(("gate", "status"), [
    (Gate(value="clip_score", at_least=20), "passed"),
    (Gate(value="clip_score", at_least=40), "failed"),
    (Gate(value="clip_score", not_worse_than="baseline", margin=0.5), "passed"),
    (Gate(value="clip_score", not_worse_than="alpha=0.45", margin=0.5, candidates=("alpha=0",)), "failed"),
    (Gate(value="clipped_share", not_worse_than="baseline", margin=0.01), "passed"),
    (Gate(value="saturation", not_worse_than="baseline"), "not_measured"),
    (Gate(value="novelty", at_least=1), "not_measured"),
    (Gate(value="coverage"), "passed"),
    (Gate(value="failures", at_most=0), "passed"),
    (Gate(value="seconds_per_image", at_most=1.0), "passed"),
    (Gate(value="seconds_per_image", at_most=0.1), "failed"),
    (Gate(value="seconds_per_image", at_most=0.187), "inconclusive"),
    (Gate(value="peak_bytes", at_most=1e9), "passed"),
    (Gate(value="peak_bytes", not_worse_than="baseline", margin=1e6), "failed"),
    (Gate(value="weights_bytes", at_most=4e8), "passed"),
    (Gate(value="weights_bytes", not_worse_than="baseline", ratio=0.5), "failed"),
    (Gate(value="clip_score", at_least=20, candidates=("nobody",)), "not_measured"),
])
def test_each_kind_of_gate(merge_run: Run, merge_verdict: Recommendation, gate: Gate, status: str) -> None:
    rec = replace(merge_verdict, guidance=8.0)
    assert judged(merge_run, rec, gate).status == status


@pytest.mark.parametrize("status", ["missing_in_a", "missing_in_b", "shape_mismatched", "non_finite", "unmatched", "refused"])
def test_coverage_fails_on_any_key_that_is_not_accounted_for(merge_run: Run, merge_verdict: Recommendation, status: str) -> None:
    lost = Coverage(candidate="alpha=0.45", stage="merge", component="unet", keys={"merged": ("a",), status: ("b",)})
    verdict = judged(replace(merge_run, coverage=(lost,)), merge_verdict, Gate(value="coverage"))
    assert verdict.status == "failed"
    assert verdict.reason == f"1 {status.replace('_', ' ')}: b"


@pytest.mark.parametrize(("of", "status"), [(0, "passed"), (1, "passed"), (2, "not_measured")])
def test_coverage_is_known_only_when_all_its_rows_are_there(merge_run: Run, merge_verdict: Recommendation, of: int,
                                                            status: str) -> None:
    row = Coverage(candidate="alpha=0.45", stage="merge", component="unet", keys={"merged": ("a",)}, of=of)
    verdict = judged(replace(merge_run, coverage=(row,)), merge_verdict, Gate(value="coverage"))
    assert verdict.status == status
    assert status == "passed" or verdict.reason == "coverage rows are missing"


@pytest.mark.parametrize(("found", "status"), [("known_extra", "passed"), ("unmatched", "failed")])
def test_a_file_may_hold_known_extras_but_no_key_that_nothing_takes(merge_run: Run, merge_verdict: Recommendation, found: str,
                                                                    status: str) -> None:
    row = Coverage(candidate="alpha=0.45", stage="file", component="photo.safetensors", keys={found: ("model_ema.decay",)})
    verdict = judged(replace(merge_run, coverage=(row,)), merge_verdict, Gate(value="coverage"))
    assert verdict.status == status
    assert ("model_ema.decay" in verdict.reason) == (status == "failed")


@pytest.mark.parametrize("gate", [
    Gate(value="clip_score", at_least=float("nan")), Gate(value="clipped_share", at_most=float("nan")),
    Gate(value="failures", at_most=float("nan")), Gate(value="clip_score", not_worse_than="baseline", margin=float("nan")),
    Gate(value="failures", at_least=0), Gate(value="failures", not_worse_than="baseline")])
def test_a_limit_that_means_nothing_never_passes(merge_run: Run, merge_verdict: Recommendation, gate: Gate) -> None:
    assert judged(merge_run, merge_verdict, gate).status == "not_measured"


def test_latencies_taken_at_different_speeds_of_the_machine_are_not_held_against_each_other(
        merge_run: Run, merge_verdict: Recommendation) -> None:
    slow = replace(merge_run.latency["alpha=0.45"], yardstick=(0.02,) * 5)
    run = replace(merge_run, latency={**merge_run.latency, "alpha=0.45": slow})
    verdict = judged(run, merge_verdict, Gate(value="seconds_per_image", not_worse_than="baseline", margin=1.0))
    assert verdict.status == "not_measured"
    assert verdict.reason.startswith("not comparable: the machine was 2.0 times slower while alpha 0.45 was timed; run again "
                                     "with --retime")


@pytest.mark.parametrize("limit", [{"margin": 1.0}, {"ratio": 2.0}])
def test_latencies_that_were_not_timed_together_are_not_held_against_each_other(
        merge_run: Run, merge_verdict: Recommendation, limit: dict[str, float]) -> None:
    latency = {name: replace(record, timed_at="2026-01-01T00:00:00") for name, record in merge_run.latency.items()}
    gate = Gate(value="seconds_per_image", not_worse_than="baseline", **limit)
    assert judged(replace(merge_run, latency=latency), merge_verdict, gate).status != "not_measured"
    latency["alpha=0.45"] = replace(latency["alpha=0.45"], timed_at="2026-01-02T00:00:00")
    verdict = judged(replace(merge_run, latency=latency), merge_verdict, gate)
    assert verdict.status == "not_measured"
    assert "were not timed together; run again with --retime" in verdict.reason


@pytest.mark.parametrize(("gate", "said"), [
    (Gate(value="coverage"), ("All tensors accounted for", "")), (Gate(value="failures", at_most=0), ("No candidate failed", "")),
    (Gate(value="failures", at_most=2), ("Failures", "at most 2"))])
def test_gates_are_named_for_a_newcomer(merge_run: Run, merge_verdict: Recommendation, gate: Gate, said: tuple[str, str]) -> None:
    row = gate_rows(merge_run, [judged(merge_run, merge_verdict, gate)])[0]
    assert (row["value"], row["limit"]) == said


def test_the_prompts_that_chose_a_pick_never_judge_it(merge_run: Run, merge_verdict: Recommendation) -> None:
    """Where a sweep was stopped before the confirm prompts, a gate on the pick has nothing to go by."""
    chosen_on = replace(merge_run, images=merge_run.images[merge_run.images["split"] == "select"])
    found = [v for v in judge(chosen_on, merge_verdict) if v.gate.startswith("cli")]
    assert {v.status for v in found} == {"not_measured"}
    assert all("the confirm prompts were not sampled" in v.reason for v in found)


def test_the_pick_is_judged_on_prompts_that_did_not_choose_it(merge_run: Run, merge_verdict: Recommendation) -> None:
    chosen = judged(merge_run, merge_verdict, Gate(value="clip_score", at_least=20))
    named = judged(merge_run, merge_verdict, Gate(value="clip_score", at_least=20, candidates=("alpha=0.45",)))
    assert chosen.reason.startswith("confirm prompts")
    assert named.reason.startswith("all prompts")


def test_a_failed_candidate_fails_the_failures_gate_with_its_words(merge_run: Run, merge_verdict: Recommendation) -> None:
    failure = Failure(candidate="alpha=0.45", stage="sample", error="OutOfMemoryError", message="no memory")
    verdict = judged(replace(merge_run, failures=(failure,)), merge_verdict, Gate(value="failures", at_most=0))
    assert verdict.status == "failed"
    assert "OutOfMemoryError" in verdict.reason


def test_peak_memory_says_which_reading_it_is(merge_run: Run, merge_verdict: Recommendation) -> None:
    assert judged(merge_run, merge_verdict, Gate(value="peak_bytes", at_most=1e9)).reason == "reading: process RSS"


@pytest.mark.parametrize(("missing", "reading", "difference"), [
    ((), "NVML, this process", 0.5), (("nvml_process_peak_bytes",), "NVML, beyond what was in use before loading", 0.25),
    (("nvml_process_peak_bytes", "over_idle_peak_bytes"), "torch, reserved", 0.125)])
def test_memory_is_compared_by_the_best_reading_that_both_have(merge_run: Run, merge_verdict: Recommendation,
                                                               missing: tuple[str, ...], reading: str, difference: float) -> None:
    """`missing` are those that the baseline lacks; the candidate takes more by another number of each kind."""
    sizes = {"nvml_process_peak_bytes": (5.0, 5.5), "over_idle_peak_bytes": (6.0, 6.25),
             "torch_reserved_peak_bytes": (4.0, 4.125)}
    memory = {name: Memory(candidate=name, readings=tuple(
        Reading(name=kind, unit="bytes", value=None, why_missing="not listed") if place == 0 and kind in missing else
        Reading(name=kind, unit="bytes", value=pair[place] * 2 ** 30) for kind, pair in sizes.items()))
        for place, name in enumerate((merge_run.suite.baseline, "alpha=0.45"))}
    gate = Gate(value="peak_bytes", not_worse_than="baseline", margin=2 ** 40, candidates=("alpha=0.45",))
    verdict = judged(replace(merge_run, memory=memory), merge_verdict, gate)
    assert verdict.observed == difference * 2 ** 30
    assert reading in verdict.reason


def test_a_cost_nobody_measured_is_not_measured_and_says_why(merge_run: Run, merge_verdict: Recommendation) -> None:
    bare = replace(merge_run, memory={}, latency={})
    assert judged(bare, merge_verdict, Gate(value="peak_bytes", at_most=1e9)).reason == "no memory readings in this run"
    assert judged(bare, merge_verdict, Gate(value="weights_bytes", at_most=1e9)).reason == "no memory readings in this run"
    assert judged(bare, merge_verdict, Gate(value="seconds_per_image", at_most=1)).status == "not_measured"


def test_without_a_pick_a_gate_for_the_pick_is_not_measured(merge_run: Run, merge_verdict: Recommendation) -> None:
    assert judged(merge_run, replace(merge_verdict, pick=None), Gate(value="failures", at_most=0)).status == "not_measured"


@pytest.mark.parametrize(("gate", "other", "ratio", "limits"), [
    (Gate(value="clip_score", at_least=20.0), None, False, (20.0, None)),
    (Gate(value="clipped_share", at_most=0.1), None, False, (None, 0.1)),
    (Gate(value="clip_score", not_worse_than="baseline", margin=0.5), "baseline", False, (-0.5, None)),
    (Gate(value="clip_score", not_worse_than="baseline", ratio=0.9), "baseline", True, (0.9, None)),
    (Gate(value="seconds_per_image", not_worse_than="baseline", ratio=1.2), "baseline", True, (None, 1.2)),
    (Gate(value="coverage"), None, False, (None, 0.0)), (Gate(value="failures", at_most=3), None, False, (None, 3)),
    (Gate(value="failure_rate", at_most=0.1), None, False, (None, 0.1))])
def test_a_verdict_says_what_it_judges_as_fields(merge_run: Run, merge_verdict: Recommendation, gate: Gate, other: str | None,
                                                 ratio: bool, limits: tuple[float | None, float | None]) -> None:
    found = judged(merge_run, merge_verdict, gate)
    assert (found.gate, found.value, found.other, found.ratio) == (gate.name, gate.value, other, ratio)
    assert (found.at_least, found.at_most) == limits


@pytest.mark.parametrize("value", ["clip_score", "clipped_share", "seconds_per_image", "peak_bytes"])
@pytest.mark.parametrize("limit", [{"at_least": 0.5}, {"at_most": 0.5}, {"not_worse_than": "baseline", "margin": 0.1},
                                   {"not_worse_than": "baseline", "ratio": 1.05}])
def test_the_status_follows_from_the_interval_and_the_limits_alone(merge_run: Run, merge_verdict: Recommendation, value: str,
                                                                   limit: dict[str, Any]) -> None:
    found = judged(merge_run, merge_verdict, Gate(value=value, **limit))
    assert found.status == decide(found.low, found.high, at_least=found.at_least, at_most=found.at_most)


@pytest.mark.parametrize("ratio", [None, 0.9])
def test_an_objective_that_is_one_value_for_images_that_differ_decides_nothing(merge_run: Run, merge_verdict: Recommendation,
                                                                               ratio: float | None) -> None:
    run = replace(merge_run, images=merge_run.images.assign(objective=100.0))
    gate = Gate(value="objective", not_worse_than="baseline", ratio=ratio)
    verdict = judged(run, merge_verdict, gate)
    assert (verdict.status, verdict.low) == ("not_measured", None)
    assert "cannot tell them apart" in verdict.reason
    assert any("cannot tell them apart" in caveat for caveat in recommend(run).caveats)


def test_equal_images_have_equal_objectives_and_pass(merge_run: Run, merge_verdict: Recommendation) -> None:
    parts = {"objective": 100.0, "clip_score": 30.0, "clipped_share": 0.1, "palette_left": 0.0}
    run = replace(merge_run, images=merge_run.images.assign(**parts))
    verdict = judged(run, merge_verdict, Gate(value="objective", not_worse_than="baseline"))
    assert (verdict.status, verdict.observed) == ("passed", 0.0)
    assert not any("cannot tell them apart" in caveat for caveat in recommend(run).caveats)


@pytest.mark.parametrize("gate", [
    Gate(value="clip_score", not_worse_than="baseline", margin=0.5),
    Gate(value="clip_score", not_worse_than="baseline", ratio=0.9),
    Gate(value="clip_score", not_worse_than="alpha=0", margin=0.5), Gate(value="objective", not_worse_than="baseline"),
    Gate(value="seconds_per_image", not_worse_than="baseline", ratio=1.1),
    Gate(value="peak_bytes", not_worse_than="baseline", margin=1e6), Gate(value="psnr_db", at_least=20.0)])
def test_a_candidate_that_is_compared_with_itself_passes_no_gate(merge_run: Run, merge_verdict: Recommendation,
                                                                 gate: Gate) -> None:
    psnr = replace(merge_run.row("clip_score"), name="psnr_db", paired=True)
    run = replace(merge_run, values={**merge_run.values, "psnr_db": psnr})
    verdict = judged(run, replace(merge_verdict, pick="alpha=0"), gate)
    assert (verdict.status, verdict.observed) == ("not_measured", None)
    assert "the baseline itself, so nothing was compared" in verdict.reason


@pytest.mark.parametrize(("rated", "words"), [
    ({"p08", "p09"}, "2 of 4 confirm prompts"), ({"p08", "p09", "p10", "p11"}, "confirm prompts"), ({"p00", "p08"}, "")])
def test_a_gate_on_ratings_says_of_how_many_prompts_they_are(merge_run: Run, merge_verdict: Recommendation, rated: set[str],
                                                             words: str) -> None:
    images = merge_run.images.assign(rating=[7.0 + int(seed) * 0.1 if prompt in rated else None for prompt, seed in zip(
        merge_run.images["prompt"], merge_run.images["seed"], strict=True)])
    verdict = judged(replace(merge_run, images=images), merge_verdict, Gate(value="rating", at_least=5))
    assert verdict.reason.startswith(words)
    assert (verdict.status == "passed") == bool(words)


def constant(run: Run, value: str, at: float, digests: bool = True, **row: Any) -> Run:
    """The run in which a value of a user's metric is the same for all images."""
    spec = replace(run.row("clip_score"), name=value, metric="mine:METRIC", **row)
    shas = {path: str(n) if digests else "one" for n, path in enumerate(run.images["path"])}
    return replace(run, images=run.images.assign(**{value: at}), values={**run.values, value: spec}, digests=shas)


@pytest.mark.parametrize(("row", "at", "digests", "status"), [
    (("higher", None, None), 0.5, True, "not_measured"), (("lower", None, None), 0.5, True, "not_measured"),
    (("higher", 0.0, 1.0), 0.0, True, "not_measured"), (("lower", 0.0, 1.0), 1.0, True, "not_measured"),
    (("higher", 0.0, 1.0), 1.0, True, "passed"), (("lower", 0.0, 1.0), 0.0, True, "passed"),
    (("higher", 0.0, 1.0), 0.5, False, "passed")])
def test_a_value_that_is_one_number_for_images_that_differ_passes_no_comparison(
        merge_run: Run, merge_verdict: Recommendation, row: tuple[str, float, float], at: float, digests: bool,
        status: str) -> None:
    run = constant(merge_run, "mine", at, digests, better=row[0], low=row[1], high=row[2])
    verdict = judged(run, merge_verdict, Gate(value="mine", not_worse_than="baseline", margin=0.1))
    assert verdict.status == status
    assert ("cannot tell them apart" in verdict.reason) == (status == "not_measured")
