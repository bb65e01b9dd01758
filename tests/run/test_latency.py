"""What candidates cost, on the tiny model: which records come, what they hold, and what a refusal of memory becomes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from harness.declare import Adapter, Suite
from harness.materialise import Workbench
from harness.probes import CLOCK_LIMITS, CurveLimits, Rounds
from harness.records import (
    PHASES,
    BatchCurve,
    Durations,
    Failure,
    Fit,
    Latency,
    Memory,
    Power,
    Record,
    Timeline,
    from_line,
    to_line,
)
from harness.records.costs import DENOISER_WEIGHTS, MAKING, STORED, STORED_DENOISER, WRITTEN_DENOISER
from harness.run.latency import Together, time_batches, time_candidate, time_together
from harness.sampling import threads_for
from tests.fakes import tiny_grid, tiny_suite
from tests.probes.fakes import FakeGpu

if TYPE_CHECKING:
    from harness.materialise import Prepared

Kind = TypeVar("Kind")
NAMES = ("alpha=0", "alpha=0.5")


@pytest.fixture(scope="module")
def suite() -> Suite:
    return tiny_suite(grid=tiny_grid(steps=1))


@pytest.fixture(scope="module")
def bench(suite: Suite) -> Iterator[Workbench]:
    with threads_for(suite.grid, "cpu"):
        yield Workbench(device="cpu", root=Path(), steps=suite.grid.steps)


def live(bench: Workbench, suite: Suite, name: str) -> Prepared:
    return bench.prepare(next(c for c in suite.candidates if c.name == name))


@pytest.fixture(scope="module")
def records(bench: Workbench, suite: Suite) -> tuple[Record, ...]:
    together = Together(device="cpu", rounds=Rounds(declared=3), settings=dict.fromkeys(NAMES, "s"))
    made = time_together(suite, lambda name: live(bench, suite, name), together)
    assert of(Failure, made) == []
    return made


def of(kind: type[Kind], records: Sequence[Record]) -> list[Kind]:
    return [r for r in records if isinstance(r, kind)]


def test_every_candidate_gets_every_record_and_each_survives_its_line(records: tuple[Record, ...]) -> None:
    for kind in (Latency, Memory, Timeline, Power, Durations):
        assert [r.candidate for r in of(kind, records)] == list(NAMES)
    assert all(from_line(to_line(record)) == record and record.setting == "s" for record in records)  # type: ignore[union-attr]


def test_a_latency_of_an_older_run_still_loads() -> None:
    line = '{"kind":"latency","candidate":"a","batch_size":1,"warmup_rounds":1,"seconds":{"total":[0.5]},"guidance":5}'
    assert from_line(line) == Latency(candidate="a", batch_size=1, warmup_rounds=1, seconds={"total": (0.5,)}, guidance=5)


def test_every_round_is_timed_in_every_phase_and_the_total_covers_them(records: tuple[Record, ...]) -> None:
    for latency in of(Latency, records):
        assert {len(latency.seconds[phase]) for phase in PHASES} == {3} == {len(latency.yardstick)}
        parts = zip(*(latency.seconds[phase] for phase in PHASES if phase != "total"), strict=True)
        assert all(sum(part) <= total for part, total in zip(parts, latency.seconds["total"], strict=True))
        assert latency.stopped == "3 rounds, as many as requested"


def test_the_timeline_marks_the_switch_and_the_phases_of_one_image(records: tuple[Record, ...]) -> None:
    for timeline in of(Timeline, records):
        first, *rest = timeline.spans
        assert first.phase == "switch"
        assert {s.phase for s in rest} >= {"text", "denoise", "decode"}
        assert all(a.end_seconds <= b.start_seconds + 1e-6 for a, b in zip([first], rest[:1], strict=True))
        assert [s.name for s in timeline.series] == ["process_rss"]
        assert timeline.series[0].at_seconds[-1] >= max(s.end_seconds for s in rest)


def test_what_making_takes_stands_beside_what_running_takes(records: tuple[Record, ...]) -> None:
    for memory in of(Memory, records):
        readings = {r.name: r for r in memory.readings}
        assert {name.removeprefix(MAKING) for name in readings if name.startswith(MAKING)} == {
            name for name in readings if name.endswith("_peak_bytes") and not name.startswith(MAKING)}
        assert readings[MAKING + "process_rss_peak_bytes"].value
        assert readings[MAKING + "torch_reserved_peak_bytes"].why_missing == "device cpu has no CUDA allocator"


def test_switches_are_counted_apart_from_images(records: tuple[Record, ...]) -> None:
    for apart in of(Durations, records):
        assert len(apart.seconds["first_switch"]) == 1
        assert 1 <= len(apart.seconds["switch"]) <= 2  # one may come first in the round after it came last
    assert "switch" not in of(Latency, records)[0].seconds


def test_on_a_cpu_energy_has_a_reason_and_the_resident_set_a_number(records: tuple[Record, ...]) -> None:
    assert {r.why_missing for p in of(Power, records) for r in p.readings} == {"device cpu is not an NVIDIA GPU"}
    rss = [r for m in of(Memory, records) for r in m.readings if r.name == "process_rss_peak_bytes"]
    assert all(r.value and r.value > 1e7 for r in rss)


def test_nothing_is_polled_beside_a_timed_image(bench: Workbench, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    polled: list[bool] = []
    monkeypatch.setattr("harness.run.latency.find_gpu", lambda _: FakeGpu(limits=0x4))
    monkeypatch.setattr("harness.run.latency.time_one",
                        lambda *_: polled.append("poller" in {thread.name for thread in threading.enumerate()}))
    together = Together(device="cpu", rounds=Rounds(declared=2), settings=dict.fromkeys(NAMES, "s"))
    made = time_together(suite, lambda name: live(bench, suite, name), together)
    # Each round has both candidates; one that is still resident has no untimed image.
    assert polled in ([True, False] * 4, [True, False, True, False, False, True, False])
    assert [power.limits for power in of(Power, made)] == [(CLOCK_LIMITS[0x4],)] * 2


def test_memory_refused_is_a_failure_and_a_fit_and_the_others_are_timed(bench: Workbench, suite: Suite) -> None:
    def enter(name: str) -> Prepared:
        if name == "huge":
            raise MemoryError("Unable to allocate 3.00 GiB for an array")
        return live(bench, suite, name)

    together = Together(device="cpu", rounds=Rounds(declared=1), settings={"huge": "s", NAMES[0]: "s"})
    made = time_together(suite, enter, together)
    fit, failure = of(Fit, made)[0], of(Failure, made)[0]
    assert (fit.candidate, fit.fits, fit.asked_bytes, fit.setting) == ("huge", False, 3 * 2**30, "s")
    assert (failure.stage, failure.message) == ("time", "Unable to allocate 3.00 GiB for an array (in round 1)")
    assert [r.candidate for r in of(Latency, made)] == [NAMES[0]]


def test_one_candidate_by_itself_has_its_declared_rounds(bench: Workbench, suite: Suite) -> None:
    latency, memory = time_candidate(NAMES[0], live(bench, suite, NAMES[0]), suite, "s")
    assert (len(latency.seconds["total"]), latency.warmup_rounds, latency.setting) == (suite.latency_rounds, 1, "s")
    assert memory.setting == "s"


def test_the_batch_curve_is_made_by_the_sampler_itself(bench: Workbench, suite: Suite) -> None:
    curve, *fit = time_batches(NAMES[0], live(bench, suite, NAMES[0]), suite, "s", CurveLimits(batch_size=2, rounds=1))
    assert isinstance(curve, BatchCurve)
    assert fit == []
    assert [p.batch_size for p in curve.points] == [1, 2]
    assert curve.stopped == "the limit of 2 images per batch was reached"


COUNTED = (STORED, STORED_DENOISER, DENOISER_WEIGHTS, WRITTEN_DENOISER)


def sizes(bench: Workbench, suite: Suite, **how: Any) -> dict[str, float]:
    """The readings of the weights of the first candidate's model, in another precision or with adapters."""
    made = replace(suite.candidates[0], **how)
    _, memory = time_candidate(made.name, bench.prepare(made), replace(suite, latency_rounds=1), "s")
    return {r.name: r.value or 0.0 for r in memory.readings if r.name in COUNTED}


def test_the_size_of_the_weights_is_that_of_the_tensors_in_every_precision(bench: Workbench, suite: Suite) -> None:
    pipeline = live(bench, suite, NAMES[0]).pipeline
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in pipeline.parts.items()}
    full, half, four, blocks = (sizes(bench, suite, quantization=mode) for mode in (
        "fp32", "bf16", "int4_weight_only", "gguf_q4_0"))
    assert {size[DENOISER_WEIGHTS] for size in (full, half, four, blocks)} == {count["unet"]}
    assert (full[WRITTEN_DENOISER], half[WRITTEN_DENOISER]) == (4 * count["unet"], 2 * count["unet"])
    assert four[WRITTEN_DENOISER] == 0.0  # which means that it is missing
    assert 0.6 * blocks[STORED_DENOISER] < blocks[WRITTEN_DENOISER] <= blocks[STORED_DENOISER]
    assert full[STORED_DENOISER] == 4 * count["unet"]
    assert half[STORED_DENOISER] == 2 * count["unet"]
    assert four[STORED_DENOISER] < 0.3 * full[STORED_DENOISER]
    rest = 4 * sum(n for name, n in count.items() if name != "unet")
    for size in (full, half, four):
        # Buffers such as position ids are counted too.
        assert 0 <= size[STORED] - size[STORED_DENOISER] - rest < 0.01 * rest


def test_adapters_count_with_the_weights_and_what_two_phases_share_counts_once(suite: Suite) -> None:
    suite, bench = replace(suite, grid=replace(suite.grid, steps=2)), Workbench(device="cpu", root=Path(), steps=2)
    plain, one, two = (sizes(bench, suite, model="zoo:base", adapters=adapters) for adapters in (
        (), (Adapter(path="zoo:sketch"),), (Adapter(path="zoo:sketch", end=0.5), Adapter(path="zoo:sketch-peft", start=0.5))))
    assert plain[STORED_DENOISER] < one[STORED_DENOISER] <= two[STORED_DENOISER] < 1.5 * plain[STORED_DENOISER]
