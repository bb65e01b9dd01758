"""What the page says of runtimes: seconds with their ratio to eager, memory, PSNR, what export, opening and new weights took, and
which runtimes the machine does not offer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.declare import Candidate, Merge
from harness.records import Coverage, Durations, Latency, Memory, Reading, Record
from harness.records.costs import STORED
from reports import judge, load_run, recommend
from reports.page.build import render
from reports.page.picture_decibels import decibels
from reports.page.runtime_table import runtime_section
from reports.read.run import Run
from reports.verdict.runtimes import fastest_runtime, pairs_by_runtime
from tests.reports import synthetic

MIB = 2**20
RUNTIMES = {"eager": 0.2, "onnxruntime": 0.05, "onnxruntime_live": 0.1, "openvino": 0.1}
REFUSED = "openvino is not offered on cpu: openvino is not installed; install the extra 'openvino'"


def candidates(*alphas: float) -> tuple[Candidate, ...]:
    return tuple(Candidate(name=f"{runtime} {alpha:g}", model=Merge(a="zoo:photo", b="zoo:anime", alpha=alpha), runtime=runtime,
                           axes={"runtime": runtime, "alpha": alpha}) for alpha in alphas for runtime in RUNTIMES)


def records(candidate: Candidate) -> list[Record]:
    """Six rounds, memory as a driver reads it, and what the runtime took."""
    seconds = RUNTIMES[candidate.runtime] * (1 if candidate.axes["alpha"] else 1.1)
    took: dict[str, tuple[float, ...]] = {"onnxruntime": {"export": (20.0,), "open": (0.25,), "refresh": (0.5, 0.7)},
                                          "onnxruntime_live": {"open": (0.25,)}}.get(candidate.runtime, {})
    readings = (Reading(name="over_idle_peak_bytes", unit="bytes", value=40 * MIB),
                Reading(name=STORED, unit="bytes", value=(20 if candidate.runtime == "onnxruntime" else 10) * MIB))
    compared = [Coverage(candidate=candidate.name, stage=f"runtime {candidate.runtime}", component="unet", keys={}, notes=(
        f"runtime {candidate.runtime}: 206 of 206 parameters given; 2.5e-06 from <i>eager",))]
    return [Latency(candidate=candidate.name, batch_size=1, warmup_rounds=1, guidance=3.0, setting=synthetic.TIMED,
                    yardstick=(0.010,) * 6, seconds={"total": tuple(seconds + 0.001 * i for i in range(6))}),
            Memory(candidate=candidate.name, readings=readings, setting=synthetic.TIMED),
            Durations(candidate=candidate.name, seconds=took, setting=synthetic.TIMED),
            *(compared if candidate.runtime != "eager" else [])]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run of every runtime at these alphas on a machine without OpenVINO."""
    def write(*alphas: float, **changes: Any) -> Run:
        every = candidates(*alphas)
        whole = synthetic.merge_suite(name="runtimes", candidates=every, baseline="eager 0.5", gates=(), **changes)
        run = load_run(synthetic.write_run(tmp_path_factory.mktemp("runtimes") / "run", whole, extra=records))
        refused = {c.name: REFUSED for c in every if c.runtime == "openvino"}
        return replace(run, head={**run.head, "not_offered": refused},
                       images=run.images[~run.images["candidate"].isin([*refused])].copy())
    return write


@pytest.fixture(scope="module")
def run(written: Callable[..., Run]) -> Run:
    return written(0.0, 0.5)


def rows(run: Run) -> dict[str, dict[str, str]]:
    section = runtime_section(run)
    assert section is not None
    heads = section["columns"]
    return {row["name"]: {"of": row["candidates"], **{head: " ".join((cell.text, *cell.below)) for head, cell in
                                                      zip(heads, row["cells"], strict=True)}} for row in section["rows"]}


def test_candidates_of_one_runtime_share_a_row_and_each_is_compared_with_its_own_weights_on_eager(run: Run) -> None:
    table = rows(run)
    assert list(table) == ["eager", "onnxruntime", "onnxruntime_live"]
    assert table["onnxruntime"]["of"] == "2 candidates"
    assert table["onnxruntime"]["Seconds per image"] == "52.5 to 57.5 ms [50.0 ms, 60.0 ms] n=6, batch 1"
    assert table["onnxruntime"]["Times eager"] == "0.26 [0.25, 0.27] faster"
    assert table["eager"]["Times eager"] == "1"


def test_weights_count_copies_and_what_export_opening_and_new_weights_took_is_shown(run: Run) -> None:
    table = rows(run)
    assert (table["eager"]["Weights, all parts"], table["onnxruntime"]["Weights, all parts"]) == ("10 MiB", "20 MiB")
    assert [table["onnxruntime"][head] for head in ("Export", "Open", "New weights")] == ["20.00 s", "250 ms", "600 ms"]
    assert table["eager"]["Export"] == "none"
    assert table["onnxruntime_live"]["New weights"].startswith("not measured")


def test_a_runtime_that_the_machine_does_not_offer_is_said_once(run: Run) -> None:
    section = runtime_section(run)
    assert section is not None
    assert [said for said in section["absent"] if "penvino" in said] == [
        "openvino is not offered on cpu: openvino is not installed; install the extra 'openvino'."]


def test_psnr_is_that_of_the_metric_where_the_baseline_is_the_same_candidate_on_eager(run: Run) -> None:
    images = run.images.copy()
    images["psnr_db"] = images["candidate"].map({"onnxruntime 0": 12.0, "onnxruntime 0.5": 84.0})
    images["exact_match"] = 0.0
    table = rows(replace(run, images=images[images["candidate"] != "eager 0"]))
    assert table["onnxruntime"]["PSNR to eager, median"].startswith("84.00 dB lowest 84.00 dB 0 of ")
    assert table["eager"]["PSNR to eager, median"] == "the reference"
    assert table["onnxruntime_live"]["PSNR to eager, median"].startswith("not measured")


def test_psnr_of_other_merges_is_that_of_their_own_pictures_on_eager(run: Run, tmp_path: Path) -> None:
    reference = np.full((4, 4, 3), 100, dtype=np.uint8)
    pictures = {"eager 0": (reference,) * 3, "onnxruntime 0": (reference, reference + 1, reference + 10)}
    table = pd.DataFrame([{"candidate": name, "prompt": str(at), "seed": 1, "guidance": 3.0, "path": f"{name} {at}.png"}
                          for name, of in pictures.items() for at in range(3)])
    for name, of in pictures.items():
        for at, picture in enumerate(of):
            Image.fromarray(picture).save(tmp_path / f"{name} {at}.png")
    own = replace(run, images=table, folder=tmp_path, digests=None)
    assert decibels(own, [("onnxruntime 0", "eager 0")]) == pytest.approx([math.inf, 48.1308, 28.1308], abs=1e-4)
    (tmp_path / "eager 0 2.png").unlink()
    assert len(decibels(own, [("onnxruntime 0", "eager 0")])) == 2


def test_the_verdict_of_a_suite_with_another_question_names_the_fastest_runtime(run: Run) -> None:
    assert "onnxruntime, with 0.26 times" in recommend(run).evidence
    assert fastest_runtime(replace(run, latency={})) == ""
    alike = {name: replace(timed, seconds=run.latency["eager 0"].seconds) for name, timed in run.latency.items()}
    assert fastest_runtime(replace(run, latency=alike)) == "no runtime was measurably faster than eager"


def test_other_spellings_of_runtimes_are_paired_alike(run: Run) -> None:
    spelled = tuple(replace(c, runtime={"unet": c.runtime}) for c in run.suite.candidates)
    assert pairs_by_runtime(replace(run, suite=replace(run.suite, candidates=spelled))) == pairs_by_runtime(run)


def test_without_the_same_candidate_on_eager_there_is_no_ratio(run: Run) -> None:
    others = tuple(c for c in run.suite.candidates if c.runtime != "eager")
    table = rows(replace(run, suite=replace(run.suite, candidates=others, baseline="onnxruntime 0.5")))
    assert table["onnxruntime_live"]["Seconds per image"].startswith("103 to 113 ms")
    assert "Times eager" not in table["onnxruntime"]


def test_a_suite_of_one_runtime_has_no_such_table(merge_run: Run) -> None:
    assert runtime_section(merge_run) is None


def test_the_page_has_the_table_and_what_the_comparison_with_eager_showed_and_nothing_of_it_acts(run: Run) -> None:
    verdict = recommend(run)
    page = render(run, verdict, judge(run, verdict))
    assert 'id="h-runtimes"' in page
    assert "2.5e-06 from &lt;i&gt;eager" in page
    assert "<i>eager" not in page
