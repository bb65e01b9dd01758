"""How long a suite will take is said from earlier runs on this machine, or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.check import extent
from harness.check.expected_time import duration
from harness.declare import Budget, Sampling, Suite, plain
from harness.probes.environment import processor
from harness.records import Finished, Journal
from tests.fakes import tiny_suite

SUITE = tiny_suite()
HERE = {"device": "cpu", "cpu": processor(), "cores": os.cpu_count()}


def ran(runs: Path, *done: tuple[int, float], grid: dict[str, Any] | None = None, **machine: Any) -> None:
    """A run folder of an earlier suite of the same models, with (images, seconds) of its finished candidates."""
    (runs / "before").mkdir(parents=True)
    declared = plain(replace(SUITE, name="before"))
    head = {"environment": HERE | machine, "suite": declared | {"grid": declared["grid"] | (grid or {})}}
    (runs / "before" / "run.json").write_text(json.dumps(head))
    Journal(runs / "before" / "journal.jsonl").add([
        Finished(candidate=f"c{i}", identity="x", sampled=images, reused=5, seconds=seconds)
        for i, (images, seconds) in enumerate(done)])


def test_the_pace_is_that_of_all_images_sampled_earlier(tmp_path: Path) -> None:
    ran(tmp_path, (10, 30.0), (30, 50.0), (0, 100.0))
    assert f"about {duration(SUITE.images * 2.0)} on cpu at 2 s an image, as in before" in extent(SUITE, tmp_path)


@pytest.mark.parametrize("other", [{"cores": 1000}, {"cpu": "another"}, {"device": "cuda"}, {"grid": {"steps": 999}},
                                   {"grid": {"width": 512}}])
def test_a_run_elsewhere_or_of_other_settings_says_nothing(other: dict[str, Any], tmp_path: Path) -> None:
    ran(tmp_path, (10, 30.0), **other)
    assert "not known yet: no run of these models on this machine's cpu" in extent(SUITE, tmp_path)


def test_a_run_of_candidates_that_were_sampled_otherwise_says_nothing(tmp_path: Path) -> None:
    ran(tmp_path, (10, 30.0))
    few = replace(SUITE, candidates=tuple(replace(c, sampling=Sampling(steps=1)) for c in SUITE.candidates))
    assert "no run of these models on this machine's cpu was sampled in these ways" in extent(few, tmp_path)
    assert "not known yet" not in extent(SUITE, tmp_path)


def swept(*steps: int, name: str) -> Suite:
    candidates = [replace(SUITE.candidates[0], name=f"steps={count}", sampling=Sampling(steps=count)) for count in steps]
    return replace(SUITE, name=name, candidates=candidates, baseline=candidates[0].name)


def test_each_way_of_sampling_has_its_own_pace_of_the_latest_run_that_has_it(tmp_path: Path) -> None:
    for number, (declared, seconds) in enumerate([(swept(4, 8, name="old"), {"steps=4": 99.0, "steps=8": 30.0}),
                                                  (swept(2, 4, name="new"), {"steps=2": 5.0, "steps=4": 10.0})]):
        folder = tmp_path / declared.name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"environment": HERE, "suite": plain(declared)}))
        os.utime(folder / "run.json", (number, number))
        Journal(folder / "journal.jsonl").add([Finished(candidate=name, identity="x", sampled=10, reused=0, seconds=each)
                                               for name, each in seconds.items()])
    both = swept(4, 8, name="both")
    assert f"about {duration(both.images * 2.0)} on cpu at 2 s an image, as in new and old" in extent(both, tmp_path)
    assert "not known yet" in extent(swept(4, 8, 16, name="more"), tmp_path)


def test_without_an_earlier_run_nothing_is_guessed(tmp_path: Path) -> None:
    assert "not known yet" in extent(SUITE, tmp_path / "missing")
    assert "not known yet" not in extent(SUITE)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b'{"environment": [], "suite": 3}', b'{"suite": {"grid": 1}}'])
def test_a_damaged_run_says_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.json").write_bytes(content)
    assert "not known yet" in extent(SUITE, tmp_path)


def test_a_budget_limits_what_is_expected(tmp_path: Path) -> None:
    ran(tmp_path, (10, 20.0))
    raced = replace(SUITE, budget=Budget(images=20, minutes=3))
    assert "within 3 min, at most 20 images" in extent(raced, tmp_path)
    assert f"about {duration(20 * 2.0)} on cpu" in extent(raced, tmp_path)


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (6000, "1.7 h")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
