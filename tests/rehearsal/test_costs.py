"""What a candidate costs on a device: its own memory, whatever ran before it, and every reading a number or a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from harness import Candidate, Suite
from harness.probes import idle_before_use
from harness.probes.device import device_problem
from harness.records import BatchCurve, Durations, Finished, Journal, Latency, Memory, Power, Reading, Record, Timeline
from harness.records.costs import MAKING, WRITTEN_DENOISER
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from reports.verdict.costs import PEAK_READINGS, peak_of
from tests.fakes import tiny_grid, tiny_suite
from tests.rehearsal.driver import CONTEXT_BYTES, DESKTOP_BYTES, with_driver
from tests.rehearsal.making import MIDDLE, candidate, sketch

MODES = ("fp32", "bf16", "fp16", "int8_weight_only", "int4_weight_only")
CANDIDATES = (*(candidate(name=mode, model=MIDDLE, quantization=mode) for mode in MODES),
              candidate(name="LoRA", adapters=sketch()),
              candidate(name="DoRA, half of the steps", adapters=sketch("-dora", end=0.5)))


def suite_of(*candidates: Candidate, largest_batch: int = 0) -> Suite:
    grid = tiny_grid(steps=2)
    grid = tiny_grid(steps=2, prompts=grid.prompts[:1], seeds=(1,), guidance_scales=grid.guidance_scales[-1:])
    return tiny_suite(grid=grid, candidates=candidates, baseline=candidates[0].name, latency_rounds=1,
                      metrics=("clip_score",), largest_batch=largest_batch)


def records_of(folder: Path, *candidates: Candidate, largest_batch: int = 0) -> Sequence[Record]:
    """The journal of a run in which the candidates were sampled and timed, whose models are released at its end."""
    options = Options(root=folder, runs=folder, device="cuda")
    run = SuiteRun(suite_of(*candidates, largest_batch=largest_batch), "", options, Silent())
    assert all(isinstance(run.candidate(c), Finished) for c in run.suite.candidates)
    assert run.costs([c.name for c in candidates]) == []
    run.release()
    run.close()
    return Journal(run.folder / "journal.jsonl").read()[0]


def readings(records: Sequence[Record]) -> dict[str, Mapping[str, Reading]]:
    """The readings of each candidate by their names."""
    return {r.candidate: {reading.name: reading for reading in r.readings} for r in records if isinstance(r, Memory)}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Record]:
    with with_driver():
        return records_of(tmp_path_factory.mktemp("together"), *CANDIDATES)


def test_every_record_exists_and_every_reading_is_a_number_or_has_a_reason(together: Sequence[Record]) -> None:
    for kind in (Latency, Memory, Power, Timeline, Durations):
        assert {r.candidate for r in together if isinstance(r, kind)} == {c.name for c in CANDIDATES}
    every = [r for record in together if isinstance(record, Memory | Power) for r in record.readings]
    assert all((r.value is None) == bool(r.why_missing) for r in every)
    # Not every mode has a file format, and adapters lie beside the denoiser.
    assert not {r.name for r in every if r.why_missing} - {"energy_joules", "joules_per_image", "mean_watts", WRITTEN_DENOISER}


def test_the_smaller_number_format_takes_less_to_run(together: Sequence[Record]) -> None:
    for name in PEAK_READINGS[:3]:
        fp32, fp16, int8 = (readings(together)[mode][name].value for mode in ("fp32", "fp16", "int8_weight_only"))
        assert fp32 and fp16 and int8
        assert int8 < fp16 < fp32, name


def test_the_reading_that_counts_is_that_of_this_process(together: Sequence[Record]) -> None:
    for of in readings(together).values():
        peak = peak_of(tuple(of.values()))
        assert peak is not None
        assert peak.name == "nvml_process_peak_bytes"
        assert peak.value == CONTEXT_BYTES + (of["torch_reserved_peak_bytes"].value or 0)
        assert of["over_idle_peak_bytes"].value == peak.value
        assert of["nvml_device_peak_bytes"].value == DESKTOP_BYTES + peak.value
        assert (of[MAKING + "torch_reserved_peak_bytes"].value or 0) > 0


def test_the_timeline_marks_making_and_running(together: Sequence[Record]) -> None:
    for timeline in (r for r in together if isinstance(r, Timeline)):
        assert {"switch", "text", "denoise", "decode"} <= {span.phase for span in timeline.spans}
        assert {s.name for s in timeline.series} == {"device_used", "process_used", "process_rss"}


@pytest.mark.parametrize("of", [c for c in CANDIDATES if c.name in ("fp16", "int4_weight_only", "DoRA, half of the steps")],
                         ids=lambda c: c.name)
def test_a_candidate_takes_alone_what_it_takes_after_others(of: Candidate, together: Sequence[Record], tmp_path: Path) -> None:
    with with_driver() as gpu:
        alone = readings(records_of(tmp_path, of))[of.name]
        assert gpu.live == 0
    after = readings(together)[of.name]
    names = [name for name in alone if name.startswith(("nvml", "over_idle", "torch"))]
    assert {name: alone[name].value for name in names} == {name: after[name].value for name in names}


def test_in_the_second_suite_of_a_session_a_candidate_takes_what_it_takes_in_the_first(tmp_path: Path) -> None:
    with with_driver():
        first, second = (readings(records_of(tmp_path / place, CANDIDATES[1]))["bf16"] for place in ("first", "second"))
    names = [name for name in first if name.startswith(("nvml", "over_idle", "torch"))]
    assert {name: first[name].value for name in names} == {name: second[name].value for name in names}


def test_where_the_driver_lists_no_processes_the_whole_gpus_use_counts_less_that_of_others_in_every_suite(tmp_path: Path) -> None:
    with with_driver(lists_processes=False):
        for place in ("first", "second"):
            of = readings(records_of(tmp_path / place, CANDIDATES[0]))["fp32"]
            peak = peak_of(tuple(of.values()))
            assert peak is not None
            assert "--pid=host" in of["nvml_process_peak_bytes"].why_missing
            assert (peak.name, peak.value) == ("over_idle_peak_bytes",
                                               CONTEXT_BYTES + (of["torch_reserved_peak_bytes"].value or 0))


def test_where_this_process_used_the_gpu_before_its_allocator_counts(tmp_path: Path) -> None:
    with with_driver(lists_processes=False):
        torch.ones(2, device="cuda")
        of = readings(records_of(tmp_path, CANDIDATES[0]))["fp32"]
    peak = peak_of(tuple(of.values()))
    assert peak is not None
    assert peak.name == "torch_reserved_peak_bytes"
    assert "had used the GPU before" in of["over_idle_peak_bytes"].why_missing


def test_trying_the_device_does_not_make_its_context_a_part_of_others_use() -> None:
    with with_driver(lists_processes=False) as gpu, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.version, "cuda", "13.0")
        assert device_problem("cuda") == ""
        assert gpu.operations
        idle = idle_before_use("cuda")
    assert idle is not None
    assert idle.value == DESKTOP_BYTES


def test_the_memory_of_a_batch_is_that_of_this_process_without_what_was_cached_before(tmp_path: Path) -> None:
    with with_driver():
        (curve,) = (r for r in records_of(tmp_path, CANDIDATES[0], largest_batch=2) if isinstance(r, BatchCurve))
    one, two = (peak_of(point.readings) for point in curve.points)
    assert one and two and one.value and two.value
    assert one.name == two.name == "nvml_process_peak_bytes"
    assert one.value < two.value
