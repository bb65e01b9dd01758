"""The figures of cost: the tidy tables behind them by hand, their traces where they belong, and what is said beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.records import BatchCurve, Fit
from harness.records.costs import STORED
from reports.figures import FIGURES
from reports.figures.batches import batch_points, refused
from reports.figures.cost import timed_rounds
from reports.figures.latency_rounds import rounds_in_order
from reports.figures.memory import memory_samples
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend
from tests.reports.synthetic_costs import GIB, SWITCHES, on_gpu

NAME = "alpha=0.45"


@pytest.fixture(scope="module")
def gpu_run(merge_run: Run) -> Run:
    return on_gpu(merge_run)


def drawn(name: str, run: Run, rec: Recommendation) -> Any:
    return FIGURES[name].build(run, rec)


def choice(figure: Any, label: str) -> list[Any]:
    """The traces that a select's choice shows."""
    return [figure.data[i] for c in figure.layout.meta["switch"]["choices"] if c["label"] == label for i in c["traces"]]


def test_psnr_stands_against_bytes_with_the_front_marked_where_candidates_differ_in_bits_alone(
        quantization_run: Run, merge_run: Run, merge_verdict: Recommendation) -> None:
    """int4 has the lowest PSNR and here not the fewest bytes."""
    sizes = {"fp32": 4e9, "bf16": 2e9, "int8": 1e9, "int4": 1.2e9}
    memory = {name: replace(row, readings=tuple(replace(reading, value=sizes[name]) if reading.name == STORED else reading
                                                for reading in row.readings)) for name, row in quantization_run.memory.items()}
    run = replace(quantization_run, memory=memory)
    figure = drawn("psnr_bytes", run, recommend(run))
    marks = {text: (trace.name, x) for trace in figure.data for text, x in zip(trace.text, trace.x, strict=True)}
    assert {text.removesuffix(" ★"): mark for text, mark in marks.items() if not text.startswith("fp32")} == {
        "bf16": ("on the front", 2.0), "int8": ("on the front", 1.0), "int4": ("beaten", 1.2)}
    assert drawn("psnr_bytes", merge_run, merge_verdict) is None


def test_every_timed_round_is_a_row_of_its_phase(merge_run: Run) -> None:
    mine = timed_rounds(merge_run).query("candidate == @NAME")
    assert mine.groupby("phase").size().to_dict() == {"total": 6, "text": 6, "denoise": 6, "decode": 6, "step": 3, "switch": 4,
                                                      "first_switch": 1}
    assert tuple(mine[mine["phase"] == "switch"]["seconds"]) == SWITCHES


def test_the_bars_show_one_image_first_and_then_every_phase_and_the_switch_with_their_rounds(
        merge_run: Run, merge_verdict: Recommendation) -> None:
    figure = drawn("cost", merge_run, merge_verdict)
    labels = [c["label"] for c in figure.layout.meta["switch"]["choices"]]
    assert labels == ["one image, by phase", "text", "denoise", "decode", "one denoising step", "style switch", "first switch"]
    assert [t.visible for t in figure.data] == [None] * 4 + [False] * 12
    bar, dots = choice(figure, "style switch")
    assert (bar.x[3], len(dots.x)) == (0.0125, 7 * 4)


def test_a_candidate_without_a_later_switch_has_no_bar_there(merge_run: Run, merge_verdict: Recommendation) -> None:
    record = merge_run.durations[NAME]
    never = replace(record, seconds={k: v for k, v in record.seconds.items() if k != "switch"})
    run = replace(merge_run, durations={**merge_run.durations, NAME: never})
    bar, _ = choice(drawn("cost", run, merge_verdict), "style switch")
    assert len(bar.x) == 6
    assert not any("0.45" in tick for tick in bar.y)


def test_many_steps_are_thinned_by_rank_and_it_is_said(merge_run: Run, merge_verdict: Recommendation) -> None:
    record = merge_run.durations[NAME]
    many = replace(record, seconds={**record.seconds, "step": tuple(0.001 * i for i in range(1, 1001))})
    _, dots = choice(drawn("cost", replace(merge_run, durations={NAME: many}), merge_verdict), "one denoising step")
    assert (len(dots.x), min(dots.x), max(dots.x)) == (60, 0.001, 1.0)
    assert "60 of each" in dots.name


def test_the_memory_table_holds_every_sample_in_mebibytes(gpu_run: Run) -> None:
    table = memory_samples(gpu_run.timeline[NAME])
    assert list(table[table["series"] == "process_rss"]["mebibytes"])[:2] == [2048, 2048]
    assert list(table["seconds"]) == [0.0, 0.025, 0.06, 0.08, 0.12] * 3


def test_memory_shows_the_pick_first_and_shades_its_phases_where_they_were(gpu_run: Run, merge_verdict: Recommendation) -> None:
    figure = drawn("memory", gpu_run, merge_verdict)
    choices = figure.layout.meta["switch"]["choices"]
    assert [c["label"] for c in choices[:2]] == ["alpha 0.45 ★", "alpha 0 (parent A)"]
    shown = [t.name for t in figure.data if t.visible]
    assert shown == ["switch", "text", "denoise", "decode", "VRAM, whole device", "VRAM, this process", "process RSS"]
    denoise = figure.data[2]
    assert (min(x for x in denoise.x if x is not None), max(x for x in denoise.x if x is not None)) == (0.03, 0.09)


def test_memory_says_its_rate_and_whether_it_is_vram(gpu_run: Run, merge_run: Run, merge_verdict: Recommendation) -> None:
    with_gpu, without = (drawn("memory", run, merge_verdict).layout.meta["says"] for run in (gpu_run, merge_run))
    assert with_gpu == ["Sampled 250 times a second; the longest gap was 7.10 ms: a shorter peak can be missed."]
    assert without[1] == "This is main memory (RSS): no VRAM was read on this machine."


def test_what_a_timeline_notes_of_itself_and_why_a_line_ended_is_said(gpu_run: Run, merge_verdict: Recommendation) -> None:
    mine = gpu_run.timeline[NAME]
    broken = replace(mine, notes=("sampled 60 times a second, fewer than 100",),
                     series=(replace(mine.series[0], why_ended="the driver was unloaded"), *mine.series[1:]))
    said = drawn("memory", replace(gpu_run, timeline={NAME: broken}), merge_verdict).layout.meta["says"]
    assert said[1:] == ["alpha 0.45 ★: sampled 60 times a second, fewer than 100.",
                        "alpha 0.45 ★: VRAM, whole device: the driver was unloaded."]


def test_batch_points_are_images_per_second_by_the_median_and_the_peak_of_the_gates_reading(gpu_run: Run) -> None:
    four = batch_points(gpu_run).query("candidate == 'alpha=0' and batch_size == 4").iloc[0]
    assert four["images_per_second"] == pytest.approx(4 / (0.18 * 1.6**2 * 1.01))
    assert (four["peak_bytes"], four["reading"], four["batches"]) == (3 * GIB, "NVML, this process", 3)


def test_a_refused_batch_is_one_cross_with_what_was_asked_for(gpu_run: Run, merge_verdict: Recommendation) -> None:
    figure = drawn("batches", gpu_run, merge_verdict)
    cross = figure.data[-1]
    assert (list(cross.x), list(cross.text)) == ([8], ["refused 3.10 GiB"])
    assert "alpha 0 (parent A): CUDA out of memory." in cross.customdata[0]
    assert 8 in figure.layout.xaxis.tickvals
    assert figure.layout.meta["says"][0] == "alpha 0 (parent A): a batch of 8 does not fit: CUDA out of memory."


def test_a_refusal_that_names_no_size_and_one_under_a_cap(gpu_run: Run, merge_verdict: Recommendation) -> None:
    assert refused(Fit(candidate=NAME, batch_size=8, fits=False)) == "refused"
    capped = tuple(replace(fit, cap_bytes=GIB) for fit in gpu_run.fits)
    assert "does not fit" not in [t.name for t in drawn("batches", replace(gpu_run, fits=capped), merge_verdict).data]


def test_a_curve_that_ended_before_its_first_point_draws_nothing(gpu_run: Run, merge_verdict: Recommendation) -> None:
    empty = BatchCurve(candidate=NAME, points=(), stopped="a batch of 1 does not fit")
    assert drawn("batches", replace(gpu_run, curves={NAME: empty}), merge_verdict) is None


def test_rounds_stand_in_their_order_with_the_yardstick_of_each(merge_run: Run, merge_verdict: Recommendation) -> None:
    mine = rounds_in_order(merge_run).query("candidate == @NAME")
    assert list(mine["round"]) == [1, 2, 3, 4, 5, 6]
    assert list(mine["seconds"]) == list(merge_run.latency[NAME].seconds["total"])
    assert set(mine["yardstick"]) == {0.010}
    figure = drawn("rounds", merge_run, merge_verdict)
    assert len(figure.data) == 14
    assert [t.name for t in figure.data if t.showlegend] == ["alpha 0 (parent A)", "alpha 0.45 ★"]


def test_jitter_of_a_percent_does_not_fill_the_axis_of_the_rounds(merge_run: Run, merge_verdict: Recommendation) -> None:
    low, high = drawn("rounds", merge_run, merge_verdict).layout.yaxis.range
    values = rounds_in_order(merge_run)["seconds"]
    assert high - low >= 0.299 * values.median()
    assert low < values.min() < values.max() < high


@pytest.mark.parametrize("name", ["memory", "batches", "rounds"])
def test_a_figure_without_records_stays_away(merge_run: Run, merge_verdict: Recommendation, name: str) -> None:
    bare = replace(merge_run, latency={}, timeline={}, curves={}, durations={})
    assert drawn(name, bare, merge_verdict) is None
