"""Exit code 0 means that all that was asked for is in the result: a value that images lack ends a run with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from harness import load_run
from harness.declare import Grid
from harness.records import Cell
from tests.painted import paint
from tests.plugin.test_plugin import loaded, painted, write_suite, zoo_cache

__all__ = ["loaded", "painted", "zoo_cache"]

WHY = "too dark to tell"
METRIC = """
from harness.metrics import ImageScore, Metric, ValueSpec
def measure(image_set):
    return [ImageScore(missing={{"level": "{why}"}}) if {where} else ImageScore(values={{"level": 1.0}})
            for text in image_set.texts]
LEVEL = Metric(measure=measure, version=1, values=(
    ValueSpec(name="level", title="Level", unit="levels", better="nearer", definition="mean level", undefined="{undefined}"),))
"""
METRICS = "('clip_score', 'palette', 'exposure', 'levels_beside:LEVEL')"


@pytest.mark.parametrize(("where", "undefined", "cells"), [
    ("True", "", 8), ("'star' in text", "", 2), ("True", "another reason", 8), ("True", WHY, 0), ("False", "", 0)])
def test_a_value_that_images_lack_fails_the_run_unless_it_does_not_exist_by_definition(
        pytester: pytest.Pytester, painted: None, where: str, undefined: str, cells: int) -> None:
    write_suite(pytester, metrics=METRICS)
    (pytester.path / "suites" / "levels_beside.py").write_text(METRIC.format(why=WHY, where=where, undefined=undefined))
    result = pytester.runpytest("suites", "--benchmark")
    run = load_run(pytester.path / "runs" / "tiny")
    lacking = [line for line in run.lacking if "level" in line]
    assert (result.ret == 0) == (not cells) == (not run.lacking) == run.complete
    assert all(f"{cells} images" in line and WHY in line for line in lacking)
    for line in lacking:
        result.stdout.fnmatch_lines([f"*{line.replace('[', '[[]')}*"])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, painted: None) -> None:
    """One prompt's images at CFG 1 have a NaN."""
    def paint_broken(phases: Any, grid: Grid, todo: Any, texts: object = None,
                     spoil: Callable[[Cell, str], None] = lambda *_: None,
                     later: object = None) -> Iterator[tuple[tuple[Cell, ...], np.ndarray]]:
        for cells, images in paint(phases, grid, todo):
            for cell in cells:
                if (cell.prompt, cell.guidance) == ("star", 1):
                    spoil(cell, "NaN in the latents")
            yield cells, images

    monkeypatch.setattr("harness.executors.maker.sample", paint_broken)


@pytest.mark.parametrize(("limit", "failed"), [(None, True), (0.9, False), (0.0, True)])
def test_unusable_images_fail_the_run_unless_a_gate_allows_so_many(
        pytester: pytest.Pytester, broken: None, limit: float | None, failed: bool) -> None:
    file = write_suite(pytester)
    if limit is not None:
        gate = f"Gate(value='failure_rate', at_most={limit}, candidates=['alpha=0.5'])"
        file.write_text(file.read_text().replace("Gate(value=\"coverage\")", gate))
    result = pytester.runpytest("suites", "--benchmark")
    assert (result.ret != 0) == failed
    if limit is None:
        result.stdout.fnmatch_lines(["*lacks clip_score in 1 image **NaN in the latents*"])


def test_one_error_of_all_candidates_is_printed_once_and_fails_no_candidate(pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester, metrics=METRICS)
    raising = METRIC.format(why=WHY, where="True", undefined="").replace(
        "    return [Image", "    raise ValueError('no weights here')\n    return [Image")
    (pytester.path / "suites" / "levels_beside.py").write_text(raising)
    result = pytester.runpytest("suites", "--benchmark", "-q")
    lines = [line for line in result.outlines if not line.startswith(("FAILED", "!"))]
    run = load_run(pytester.path / "runs" / "tiny")
    assert len({f.candidate for f in run.failures}) > 1
    assert sum("no weights here" in line for line in lines if line.startswith("suite 'tiny', candidate")) == 1
    assert sum("no weights here" in caveat for caveat in run.recommendation.caveats) == 1
    assert not any("candidates failed" in line for line in lines)
    assert any("metric levels_beside:LEVEL failed on" in line for line in lines)
