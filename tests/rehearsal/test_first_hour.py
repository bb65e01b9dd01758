"""The first hour on a GPU, at the zoo's size: on the simulated device as far as it can, and what its runner does with a stage
that fails or does not end."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.benchmarks import first_hour
from tests.benchmarks.gpu_stages import STAGES, Facts, Subject
from tests.benchmarks.gpu_stages.costs import caps
from tests.benchmarks.gpu_stages.pictures import units_apart
from tests.rehearsal.simulated_cuda import simulated

HERE = ("environment", "bits", "load-sd15", "driver")
"""Stages that end within seconds on the simulated device."""
SLOWER = ("images", "determinism", "modes")


def lines(name: str, device: str, folder: Path) -> list[Facts]:
    return [*first_hour.lines_of(name, replace(STAGES[name], size="zoo"), Subject(device=device, size="zoo", folder=folder))]


@pytest.mark.parametrize("name", [*HERE, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER)])
def test_a_stage_runs_to_its_end_on_a_device(name: str, tmp_path: Path) -> None:
    with simulated():
        given = lines(name, "cuda", tmp_path)
    assert given[-1]["result"] == "done"
    assert len(given) > 1
    assert not [line for line in given if "failed" in line]


@pytest.mark.slow
def test_the_command_promotes_what_a_device_with_other_last_bits_measured(tmp_path: Path) -> None:
    with simulated(other_rounding=True):
        (promoted, _) = lines("promotion", "cuda", tmp_path)
    words = "\n".join(promoted["lines"])
    assert "promoted candidate 'adapted' of suite promoted as adapted version 1" in words
    assert re.search(r"of the other \d+,", words)  # tensors with other last bits are counted


def test_what_needs_cuda_is_a_result_on_a_cpu(tmp_path: Path) -> None:
    for name in ("memory-sd15", "caps-sd15"):
        *given, end = lines(name, "cpu", tmp_path)
        assert end["result"] == "done"
        assert all("CUDA" in line["not_measured"] for line in given)


def test_what_a_smaller_card_refuses_is_a_result(tmp_path: Path) -> None:
    with simulated():
        subject = Subject(device="cuda", size="zoo", folder=tmp_path)
        refused = [*caps(subject, (0.001,))]
    assert [line["what"].split(",")[0] for line in refused] == ["0.001 GiB"] * 3
    assert all("out of memory" in line["result"] for line in refused)


def test_the_next_candidate_needs_no_more_memory_than_the_first(tmp_path: Path) -> None:
    with simulated():
        *given, end = lines("memory-sd15", "cuda", tmp_path)
    assert end["result"] == "done"
    figures = {line["what"]: line for line in given}
    before = 0.0  # what the candidate before holds until the next is loaded
    for mode in ("fp16", "fp32", "int8_weight_only"):
        alone, after = (figures[f"{mode} zoo 64², {when}"] for when in ("alone", "after others"))
        assert after["to_run_gib"] == pytest.approx(alone["to_run_gib"], rel=0.01)
        assert after["to_make_gib"] <= 1.01 * max(alone["to_make_gib"], before)
        before = alone["to_run_gib"]
        assert alone["of_plan"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("code", "limit", "expected"), [
    ("print('{\"what\": \"x\"}', flush=True); import time; time.sleep(60)", 1.0, "killed after its limit of 1 s"),
    ("print('no JSON'); print('{\"what\": \"x\"}'); raise SystemExit(3)", 30.0, "its process ended with code 3"),
    ("print('{\"what\": \"end\", \"result\": \"done\"}')", 30.0, "done")])
def test_a_stage_that_fails_or_hangs_leaves_what_it_answered(code: str, limit: float, expected: str) -> None:
    given = [*first_hour.in_its_own_process("s", [sys.executable, "-c", code], limit)]
    assert given[-1]["result"] == expected
    assert [line["what"] for line in given] == (["x", "end"] if "x" in code.split("what")[1] else ["end"])


def test_one_size_for_all_takes_each_stage_once() -> None:
    stages = first_hour.chosen(STAGES, "zoo")
    assert {stage.size for stage in stages.values()} == {"zoo"}
    assert "memory-sd15" in stages
    assert "memory-sdxl" not in stages
    assert all(stage.limit_seconds < 180 for stage in STAGES.values())


def test_the_section_names_device_versions_and_date_and_has_a_row_for_each_result() -> None:
    text = first_hour.section([
        {"stage": "environment", "what": "machine", "device_name": "NVIDIA H200", "driver": "580.1"},
        {"stage": "environment", "what": "versions", "torch": "2.11.0"},
        {"stage": "memory-sd15", "what": "fp16", "to_run_gib": 2.6543, "notes": []},
        {"stage": "bits", "what": "a|b", "not_measured": "needs a CUDA device"}], "cuda", "2026-12-01")
    assert text.startswith("## 2026-12-01 The first hour on NVIDIA H200\n")
    assert "driver 580.1, torch 2.11.0" in text
    assert "| memory-sd15 | fp16 | to_run_gib 2.654; notes none |" in text
    assert "| bits | a/b | not_measured needs a CUDA device |" in text


def test_units_apart_counts_the_numbers_between_two_values() -> None:
    one = torch.tensor([1.0, 0.0, -1.0, 6e-8], dtype=torch.float16)
    other = torch.tensor([1.001, -0.0, -1.002, -6e-8], dtype=torch.float16)
    assert units_apart(one, other).tolist() == [1, 0, 2, 2]
