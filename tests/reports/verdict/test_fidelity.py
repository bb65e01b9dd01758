"""Quantization suites: losses against the baseline, and the cheapest candidate that loses nothing seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.declare import Constraint, Objective
from harness.records import Latency, Memory, Reading
from harness.records.costs import STORED
from reports.page.tables import candidate_rows, loss_rows, memory_columns
from reports.read.run import Run
from reports.verdict.fidelity import losses
from reports.verdict.recommending import recommend


def timed(run: Run, name: str, seconds: float) -> Run:
    latency = Latency(candidate=name, batch_size=1, warmup_rounds=1, guidance=3.0,
                      seconds={"total": tuple(seconds + 0.001 * i for i in range(5))})
    return replace(run, latency={**run.latency, name: latency})


def stored(run: Run, sizes: dict[str, float]) -> Run:
    made = {n: Memory(candidate=n, readings=(Reading(name=STORED, unit="bytes", value=v),)) for n, v in sizes.items()}
    return replace(run, memory={**run.memory, **made})


def test_losses_give_psnr_exact_matches_and_paired_differences(quantization_run: Run) -> None:
    found = {loss.candidate: loss for loss in losses(quantization_run)}
    assert found["int8"].psnr_median == 48.0
    assert (found["int8"].exact, found["int8"].compared) == (0, 24)
    assert found["int4"].scores[0].mean is not None
    assert round(found["int4"].scores[0].mean, 6) == -3.0


def test_the_baseline_stays_when_nothing_level_with_it_is_faster_or_smaller(quantization_run: Run) -> None:
    rec = recommend(quantization_run)
    assert rec.pick == "fp32"
    assert "nothing of equal quality" in rec.sentence


def test_the_fastest_candidate_that_loses_nothing_is_picked(quantization_run: Run) -> None:
    rec = recommend(timed(timed(quantization_run, "bf16", 0.12), "int8", 0.09))
    assert rec.pick == "int8"
    assert "times the baseline's seconds per image" in rec.sentence


def test_a_candidate_that_clearly_loses_is_out_however_fast_it_is(quantization_run: Run) -> None:
    rec = recommend(timed(quantization_run, "int4", 0.01))
    assert rec.pick == "fp32"
    assert any(reason.startswith("int4: out") for reason in rec.reasons)


def test_a_smaller_one_that_is_not_faster_is_picked_for_its_size_and_says_so(quantization_run: Run) -> None:
    run = stored(quantization_run, {"fp32": 100e6, "bf16": 50e6, "int8": 25e6, "int4": 12e6})
    rec = recommend(run)
    assert rec.pick == "int8"
    assert "not measurably faster" in rec.sentence
    assert "needs less memory" in rec.sentence
    assert rec.sentence.count("(") == rec.sentence.count(")")


def test_tables_have_the_sizes_that_tell_candidates_apart(quantization_run: Run) -> None:
    assert memory_columns(quantization_run) == {}
    run = stored(quantization_run, {"fp32": 100e6, "bf16": 50e6, "int8": 25e6, "int4": 12e6})
    assert memory_columns(run) == {"weights": "Weights in memory", "memory": "Peak memory"}
    assert {row["candidate"]: row["weights"] for row in loss_rows(run)}["int8"] == "24 MiB"


def test_the_resident_set_of_the_process_decides_nothing(quantization_run: Run) -> None:
    small = Memory(candidate="int8", readings=(Reading(name="process_rss_peak_bytes", unit="bytes", value=1e6),))
    assert recommend(replace(quantization_run, memory={**quantization_run.memory, "int8": small})).pick == "fp32"


def test_what_could_not_have_been_seen_is_said(quantization_run: Run) -> None:
    assert any("would have gone unnoticed" in c for c in recommend(quantization_run).caveats)


def test_a_latency_that_was_not_taken_with_the_baselines_decides_nothing(quantization_run: Run) -> None:
    run = timed(quantization_run, "int8", 0.01)
    assert recommend(run).pick == "int8"
    run = replace(run, latency={**run.latency, "int8": replace(run.latency["int8"], timed_at="2026-01-01T00:00:00")})
    rec = recommend(run)
    assert rec.pick == "fp32"
    assert any("of int8 is not comparable with that of" in c and "--retime" in c for c in rec.caveats)


def test_a_latency_taken_on_a_slower_machine_is_shown_but_decides_nothing(quantization_run: Run) -> None:
    run = timed(quantization_run, "int8", 0.09)
    run = replace(run, latency={**run.latency, "int8": replace(run.latency["int8"], yardstick=(0.018,) * 5)})
    rec = recommend(run)
    assert rec.pick == "fp32"
    assert any("1.8 times slower while int8 was timed" in c and "--retime" in c for c in rec.caveats)
    row = next(r for r in loss_rows(run) if r["candidate"] == "int8")
    assert row["ratio"].startswith("not comparable: the machine was 1.8 times slower")
    assert [r["seconds"] for r in candidate_rows(run, rec) if r["candidate"] == "int8"] == ["92.0 ms"]


def test_a_baseline_timed_on_a_slower_machine_is_named_once(quantization_run: Run) -> None:
    slow = replace(quantization_run.latency["fp32"], yardstick=(0.03,) * 5)
    rec = recommend(replace(quantization_run, latency={**quantization_run.latency, "fp32": slow}))
    said = [c for c in rec.caveats if "not comparable" in c]
    assert [caveat.partition(". To compare")[0] for caveat in said] == [
        "The latency of bf16, int8 and int4 is not comparable with that of fp32: the machine was up to 3.0 times slower "
        "while fp32 was timed"]


def test_candidates_timed_on_a_slower_machine_share_one_caveat(quantization_run: Run) -> None:
    slow = {name: replace(quantization_run.latency[name], yardstick=(seconds,))
            for name, seconds in (("bf16", 0.02), ("int8", 0.03))}
    rec = recommend(replace(quantization_run, latency={**quantization_run.latency, **slow}))
    said = [c for c in rec.caveats if "not comparable" in c]
    assert len(said) == 1
    assert all(fact in said[0] for fact in ("bf16 and int8", "fp32", "up to 3.0 times"))


@pytest.mark.parametrize("yardstick", [(), (0.0118,), (0.0085,)])
def test_yardsticks_that_are_unknown_or_nearly_alike_let_latencies_be_compared(quantization_run: Run,
                                                                               yardstick: tuple[float, ...]) -> None:
    run = timed(quantization_run, "int8", 0.09)
    run = replace(run, latency={**run.latency, "int8": replace(run.latency["int8"], yardstick=yardstick)})
    assert recommend(run).pick == "int8"


def clipping(run: Run, **share: float) -> Run:
    """The run under a constraint on clipped pixels, which all images of the named modes have as given."""
    images = run.images.assign(clipped_share=[share.get(name, 0.02) for name in run.images["candidate"]])
    constraint = Constraint(metric="clipped_share", at_most=0.1)
    return replace(run, images=images, suite=replace(run.suite, objective=Objective(penalties=(), constraints=(constraint,))))


@pytest.mark.parametrize(("share", "pick"), [
    ({}, "int8"), ({"int8": 0.3}, "bf16"), ({"int8": 0.3, "bf16": 0.3}, "fp32"), ({"fp32": 0.3}, "int8"),
    ({"fp32": 0.3, "int8": 0.3, "bf16": 0.3}, None)])
def test_a_mode_that_a_constraint_rules_out_is_not_picked(quantization_run: Run, share: dict[str, float],
                                                          pick: str | None) -> None:
    rec = recommend(clipping(timed(timed(quantization_run, "bf16", 0.12), "int8", 0.09), **share))
    assert rec.pick == pick
    assert all(any(name in caveat and "rules them out" in caveat for caveat in rec.caveats) for name in share)
