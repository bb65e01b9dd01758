"""The table of costs: what was measured with its unit and its n, and what was not with its reason, never a number made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.records import Cell, Failure, NoiseFloor
from reports.page.cost_table import WIDEST, CostText, cost_section, noise_floor
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from tests.reports.synthetic_costs import on_gpu

NAME = "alpha=0.45"


@pytest.fixture(scope="module")
def gpu_run(merge_run: Run) -> Run:
    return on_gpu(merge_run)


def row(run: Run, rec: Recommendation, name: str = NAME) -> dict[str, CostText]:
    """The cells of a candidate by "group, head"."""
    made = cost_section(run, rec)
    groups = [group for group, width in made["groups"] for _ in range(width)]
    at = [c.name for c in run.suite.candidates].index(name)
    return dict(zip([f"{g}, {h}" for g, h in zip(groups, made["columns"], strict=True)], made["rows"][at]["cells"], strict=True))


@pytest.mark.parametrize(("column", "said", "below"), [
    ("Peak VRAM, to run (NVML, this process)", "5.50 GiB", ()), ("Peak VRAM, to make", "5.75 GiB", ()),
    ("Seconds per image, batch 1, p50, n=29", "2.14 s", ("≤ 2.19 s",)),
    ("Seconds per image, batch 1, p90", "2.26 s", ("≤ 2.28 s",)), ("Seconds per image, batch 1, text", "214 ms", ()),
    ("Seconds per image, batch 1, one step", "10.0 ms", ()), ("Seconds per image, batch 1, decode", "428 ms", ()),
    ("Style switch, first", "250 ms", ()), ("Style switch, later, n=4", "12.5 ms", ()), ("Load, ", "500 ms", ()),
    ("Energy, per image", "200 J", ()), ("Energy, mean power", "89.6 W", ()),
    ("Failed images, ", "0 of 120", ("[0.0 %, 3.1 %]",))])
def test_a_candidate_on_a_gpu_has_every_figure(gpu_run: Run, merge_verdict: Recommendation, column: str, said: str,
                                               below: tuple[str, ...]) -> None:
    assert row(gpu_run, merge_verdict)[column] == CostText(text=said, below=below)


def test_five_rounds_have_no_p90_and_say_how_many_it_needs(merge_run: Run, merge_verdict: Recommendation) -> None:
    absent = cost_section(merge_run, merge_verdict)["absent"]
    assert "Seconds per image, batch 1 (p90): too few rounds, needs 29." in absent


def test_what_nobody_has_for_one_reason_is_said_once_below_the_table(merge_run: Run, merge_verdict: Recommendation) -> None:
    made = cost_section(merge_run, merge_verdict)
    assert made["absent"][1:] == ["Energy (per image and mean power): not measured: device cpu is not an NVIDIA GPU."]
    assert "Energy" not in dict(made["groups"])


def test_what_an_earlier_version_did_not_count_is_said_once_with_the_way_to_it(gpu_run: Run,
                                                                               merge_verdict: Recommendation) -> None:
    absent = cost_section(gpu_run, merge_verdict)["absent"]
    assert any("(all parts and denoiser)" in said and "--retime" in said for said in absent)


def test_the_weights_stand_beside_the_memory(merge_run: Run, merge_verdict: Recommendation) -> None:
    cells = row(merge_run, merge_verdict)
    assert (cells["Weights in memory, all parts"].text, cells["Weights in memory, denoiser"].text) == ("381 MiB", "286 MiB")


def without_reading(run: Run, name: str, *missing: str) -> Run:
    """The run where these readings of one candidate are missing."""
    kept = tuple(replace(r, value=None, why_missing="not listed") if r.name in missing else r for r in run.memory[name].readings)
    return replace(run, memory={**run.memory, name: replace(run.memory[name], readings=kept)})


READINGS = ("nvml_process_peak_bytes", "over_idle_peak_bytes", "torch_reserved_peak_bytes", "process_rss_peak_bytes")


@pytest.mark.parametrize(("missing", "named"), [((), False), (READINGS[:1], True), (READINGS, False)])
def test_readings_of_several_kinds_are_said_below_the_table(gpu_run: Run, merge_verdict: Recommendation, missing: tuple[str, ...],
                                                            named: bool) -> None:
    lines = cost_section(without_reading(gpu_run, NAME, *missing), merge_verdict)["absent"]
    mixed = [line for line in lines if "NVML, this process, of" in line and "NVML, beyond" in line and "alpha 0.45" in line]
    assert (len(mixed) == 1) is named
    assert not any("none in common" in line for line in mixed)


def test_candidates_without_a_reading_in_common_are_named(gpu_run: Run, merge_verdict: Recommendation) -> None:
    run = without_reading(without_reading(gpu_run, NAME, READINGS[0]), gpu_run.suite.baseline, *READINGS[1:])
    (line,) = (line for line in cost_section(run, merge_verdict)["absent"] if "read in several ways" in line)
    assert "none in common" in line


def test_main_memory_is_not_called_vram(merge_run: Run, merge_verdict: Recommendation) -> None:
    assert "Peak memory, to run (process RSS)" in row(merge_run, merge_verdict)


def test_a_candidate_that_could_not_be_timed_says_so_in_its_cells(gpu_run: Run, merge_verdict: Recommendation) -> None:
    failure = Failure(candidate=NAME, stage="time", error="OutOfMemoryError", message="no memory")
    run = replace(gpu_run, failures=(failure,), latency={k: v for k, v in gpu_run.latency.items() if k != NAME},
                  power={k: v for k, v in gpu_run.power.items() if k != NAME})
    cells = row(run, merge_verdict)
    assert {cells[c].text for c in ("Seconds per image, batch 1, p50, n=29", "Seconds per image, batch 1, p90",
                                    "Energy, per image")} == {"not measured: it failed"}
    assert cells["Failed images, "].below[-1] == "failed at time"


def test_a_phase_that_only_opened_and_closed_is_no_time_of_zero(gpu_run: Run, merge_verdict: Recommendation) -> None:
    record = gpu_run.latency[NAME]
    within = replace(record, seconds={**record.seconds, "text": (1e-6,) * 29})
    run = replace(gpu_run, latency={**gpu_run.latency, NAME: within})
    assert row(run, merge_verdict)["Seconds per image, batch 1, text"].text == "not measured (1)"
    assert "(1) Text runs within another phase here." in cost_section(run, merge_verdict)["footnotes"]


def test_batch_sizes_and_rounds_that_differ_stand_in_the_cells(gpu_run: Run, merge_verdict: Recommendation) -> None:
    short = replace(gpu_run.latency[NAME], batch_size=2, seconds={"total": (2.0, 2.1)})
    cells = row(replace(gpu_run, latency={**gpu_run.latency, NAME: short}), merge_verdict)
    assert cells["Seconds per image, p50"] == CostText(text="2.05 s", below=("n=2", "batch 2"))


def test_a_latency_that_cannot_be_compared_with_the_baselines_says_so(gpu_run: Run, merge_verdict: Recommendation) -> None:
    slow = replace(gpu_run.latency[NAME], yardstick=(0.02,) * 29)
    run = replace(gpu_run, latency={**gpu_run.latency, NAME: slow})
    assert row(run, merge_verdict)["Seconds per image, batch 1, p50, n=29"].below[-1] == "not comparable (1)"
    (note,) = cost_section(run, merge_verdict)["footnotes"]
    assert "(1) The latency of alpha 0.45" in note
    assert "2.0 times slower" in note
    assert "--retime" in note


def test_a_reason_of_many_candidates_is_said_once_and_no_cell_is_long(gpu_run: Run, merge_verdict: Recommendation) -> None:
    slow = {name: replace(record, yardstick=(0.02,) * 29) for name, record in gpu_run.latency.items()
            if name != gpu_run.suite.baseline}
    made = cost_section(replace(gpu_run, latency={**gpu_run.latency, **slow}), merge_verdict)
    assert len(made["footnotes"]) == 1
    assert all(len(text) <= WIDEST for row in made["rows"] for cell in row["cells"] for text in (cell.text, *cell.below))


def test_a_lone_candidate_was_never_switched_back_to(gpu_run: Run, merge_verdict: Recommendation) -> None:
    record = gpu_run.durations[NAME]
    once = replace(record, seconds={k: v for k, v in record.seconds.items() if k not in ("switch", "load")})
    run = replace(gpu_run, durations={**gpu_run.durations, NAME: once})
    cells, notes = row(run, merge_verdict), cost_section(run, merge_verdict)["footnotes"]
    assert (cells["Style switch, later, n=4"].text, cells["Load, "].text) == ("not measured (1)", "not measured (2)")
    assert notes[0].startswith("(1) It stayed resident")
    assert notes[1] == "(2) Not loaded in the session that timed it."


def cells_of(table: dict[str, Any], name: str) -> dict[str, str]:
    found = next(r for r in table["rows"] if r["name"].startswith(name))
    return dict(zip(table["columns"], [c.text for c in found["cells"]], strict=True))


def test_every_memory_reading_stands_behind_the_fold_with_its_reason(gpu_run: Run, merge_run: Run,
                                                                    merge_verdict: Recommendation) -> None:
    full = cells_of(cost_section(gpu_run, merge_verdict)["readings"], "alpha 0.45")
    assert (len(full), full["NVML, this process, to make"]) == (8, "5.75 GiB")
    assert (full["NVML, beyond what was in use before loading"], full["kept by the driver for itself"]) == ("6.00 GiB", "512 MiB")
    bare = cost_section(merge_run, merge_verdict)["readings"]
    assert (bare["columns"], bare["absent"]) == (["process RSS", "process RSS, to make"], [
        "NVML, whole device: not measured: no NVIDIA device."])


def test_a_reading_that_some_candidates_have_keeps_its_column_with_the_reasons_of_the_others(
        gpu_run: Run, merge_run: Run, merge_verdict: Recommendation) -> None:
    mixed = replace(gpu_run, memory={**gpu_run.memory, NAME: merge_run.memory[NAME]})
    cells = cells_of(cost_section(mixed, merge_verdict)["readings"], "alpha 0.45")
    assert cells["NVML, whole device"] == "not measured: no NVIDIA device"
    assert cells["torch, allocated"] == "not measured: no reading"


def test_energy_clocks_and_what_held_them_back_stand_behind_the_fold(gpu_run: Run, merge_run: Run,
                                                                    merge_verdict: Recommendation) -> None:
    found = cells_of(cost_section(gpu_run, merge_verdict)["power"], "alpha 0.45")
    assert found["images"] == "29"
    assert found["clocks were held back by"].startswith("power cap")
    assert found["energy, all timed images"] == "5800 J"
    assert cost_section(merge_run, merge_verdict)["power"]["rows"] == []


@pytest.mark.parametrize(("levels", "said"), [
    ((0, 0), "gave the same image, bit for bit (2 images of alpha 0 (parent A), each made in a batch of 16 and alone)"),
    ((1, 3), "differ by at most 3 of 255 levels, in at most 0.4 % of the values (2 images of alpha 0 (parent A)")])
def test_the_noise_floor_is_one_sentence_on_the_largest_difference(merge_run: Run, levels: tuple[int, int], said: str) -> None:
    floors = tuple(NoiseFloor(candidate="alpha=0", cell=Cell(prompt="p00", seed=seed, guidance=3.0), batch_size=16,
                              largest_levels=level, changed_share=0.002 * seed) for seed, level in enumerate(levels, start=1))
    assert said in noise_floor(replace(merge_run, floors=floors))


def test_without_an_image_made_twice_nothing_is_said_of_noise(merge_run: Run) -> None:
    assert noise_floor(merge_run) == ""
