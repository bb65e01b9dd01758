"""Gates against what was promoted: equal cells are compared, and whatever is not comparable is refused with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.declare import Control, Gate, Objective
from harness.declare.same_text import prompts_hash
from harness.declare.sampling import Sampling
from harness.promotion.copy_baseline import take_promoted
from harness.records import Coverage
from harness.records.baseline_file import baseline_text, read_baseline
from harness.records.images import CHUNKED, PROMPTS
from harness.records.signed_json import digest_of, signed_text
from reports.gates import Verdict
from reports.read.promoted_values import Promoted, read_promoted
from reports.read.prompts import pictures_of, prompts_of
from reports.read.run import Run
from reports.statistics.intervals import paired_difference
from reports.verdict.recommendation import Recommendation
from tests.reports.gates.test_gates import judged
from tests.rows import row

OLD = "alpha=0.3"
PICK = "alpha=0.45"
VALUES = ("clip_score", "clipped_share", "saturation", "palette_drift", "palette_left", "objective")
CLIP = Gate(value="clip_score", not_worse_than="promoted", margin=0.5)


def baseline_file(run: Run, **changes: Any) -> dict[str, Any]:
    """What a promotion of `OLD` writes for this run, digest aside."""
    rows = run.images[run.images["candidate"] == OLD]
    numbers = {"mean": 0.184, "low": 0.182, "high": 0.186, "images": 6, "unit": "s"}
    reading = {"mean": 8.02e8, "low": 8.02e8, "high": 8.02e8, "images": 1, "unit": "bytes to run, process_rss_peak_bytes"}
    data = {
        "format": 1, "suite": {"name": "dress"}, "name": "blend", "version": 3, "candidate": OLD, "metrics": {
            "clip_score": 1, "exposure": 1, "palette": 1, "palette_left": 2, "psnr": 1},
        "metric_settings": dict(run.head["metric_settings"]),
        "sampling": dict(run.head["sampling"]), "environment": dict(run.environment),
        "prompts": {p.id: [p.text, p.negative] for p in run.suite.grid.prompts},
        "reference": {"key": run.candidate("alpha=0").key, "inputs": ["ab" * 32]},
        "figures": {"seconds_per_image": numbers, "peak_bytes": reading,
                    "yardstick_seconds": {**numbers, "mean": 0.01}},
        "cells": {"columns": ["prompt", "seed", "guidance", "image", *VALUES], "rows": [
            [r["prompt"], int(r["seed"]), float(r["guidance"]), r["sample"], *(float(r[v]) for v in VALUES)]
            for r in rows.to_dict("records")]}}
    return {**data, **changes}


Hold = Callable[..., Run]


@pytest.fixture
def against(merge_run: Run, tmp_path: Path) -> Hold:
    """The run with a baseline file that has `changes`."""

    def hold(**changes: Any) -> Run:
        (tmp_path / "baseline.json").write_text(signed_text(baseline_file(merge_run, **changes)), encoding="utf-8")
        drift = replace(merge_run.row("palette_drift"), better="lower")
        return replace(merge_run, promoted=read_promoted(tmp_path), values={**merge_run.values, "palette_drift": drift})

    return hold


def verdict(run: Run, rec: Recommendation, gate: Gate = CLIP) -> Verdict:
    return judged(run, rec, replace(gate, candidates=(PICK,)))


def test_the_same_cells_of_the_promoted_candidate_are_the_difference(against: Hold, merge_verdict: Recommendation) -> None:
    run = against()
    rows = run.images[run.images["guidance"] == merge_verdict.guidance]
    expected = paired_difference(rows[rows["candidate"] == PICK], rows[rows["candidate"] == OLD], row("clip_score"))
    found = verdict(run, merge_verdict)
    assert (found.observed, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert found.status == "passed"
    assert found.reason == "all prompts at CFG 8, minus blend version 3 (alpha=0.3; 24 of 24 cells comparable)"
    assert found.limit == "not worse than promoted by more than 0.50"


@pytest.mark.parametrize(("gate", "status"), [
    (Gate(value="clip_score", not_worse_than="promoted", ratio=0.9), "passed"),
    (Gate(value="clip_score", not_worse_than="promoted", ratio=1.5), "failed"),
    (Gate(value="palette_drift", not_worse_than="promoted", margin=1), "failed"),
    (Gate(value="objective", not_worse_than="promoted", margin=5), "passed"),
    (Gate(value="seconds_per_image", not_worse_than="promoted", margin=0.1), "passed"),
    (Gate(value="seconds_per_image", not_worse_than="promoted", ratio=1.2), "passed"),
    (Gate(value="seconds_per_image", not_worse_than="promoted", ratio=0.9), "failed"),
    (Gate(value="seconds_per_image", not_worse_than="promoted", ratio=1.0), "inconclusive"),
    (Gate(value="peak_bytes", not_worse_than="promoted", ratio=1.01), "passed"),
    (Gate(value="peak_bytes", not_worse_than="promoted", margin=1e5), "failed")])
def test_every_kind_can_be_held_against_what_was_promoted(against: Hold, merge_verdict: Recommendation, gate: Gate,
                                                          status: str) -> None:
    assert verdict(against(), merge_verdict, gate).status == status


@pytest.mark.parametrize(("value", "status"), [("palette_left", "not_measured"), ("objective", "not_measured"),
                                               ("clip_score", "passed")])
def test_a_file_of_an_older_derivation_is_refused_for_what_is_made_of_it(against: Hold, merge_run: Run, value: str, status: str,
                                                                         merge_verdict: Recommendation) -> None:
    older = {name: version for name, version in baseline_file(merge_run)["metrics"].items() if name != "palette_left"}
    found = verdict(against(metrics=older), merge_verdict, Gate(value=value, not_worse_than="promoted", margin=5))
    assert found.status == status
    assert status == "passed" or "palette_left: measured by version" in found.reason


def test_the_objective_is_that_of_today_on_the_values_of_then(against: Hold, merge_verdict: Recommendation) -> None:
    """Today the drift is maximised, planted as 30 times alpha; the file's own objective was the CLIP score."""
    run = against()
    today = replace(run, suite=replace(run.suite, objective=Objective(maximise="palette_drift", penalties=())),
                    images=run.images.assign(objective=run.images["palette_drift"]))
    found = verdict(today, merge_verdict, Gate(value="objective", not_worse_than="promoted"))
    assert found.observed == pytest.approx(30 * 0.45 - 30 * 0.3)


@pytest.mark.parametrize(("changes", "value", "reason"), [
    ({"metrics": {"clip_score": 0, "exposure": 1}}, "clip_score", "clip_score: measured by version 0 and 1 of clip_score"),
    ({"metrics": {"clip_score": 0, "exposure": 1}}, "objective", "clip_score: measured by version 0 and 1 of clip_score"),
    ({"metrics": {"exposure": 1}}, "clip_score", "was promoted without the metric clip_score"),
    ({"metric_settings": {"clip_score": "another"}}, "clip_score", "measured with another setting of clip_score"),
    ({"reference": {"key": "another", "inputs": []}}, "palette_drift", "taken against another baseline candidate"),
    ({"reference": {"key": "another", "inputs": []}}, "exact_match", "exact_match: taken against another baseline candidate"),
    ({"suite": {"name": "other"}}, "clip_score", "the baseline file is of suite 'other', not of 'dress'"),
    ({"environment": {"device": "cuda:0", "device_name": "NVIDIA H100"}}, "seconds_per_image",
     "device name NVIDIA H100 and "),
    ({"environment": {"device": "cpu", "device_name": "CPU", "cpu": "Other"}}, "peak_bytes", "cpu Other and "),
    ({"figures": {}}, "peak_bytes", "was promoted without peak memory"),
    ({"figures": {"peak_bytes": 3}}, "peak_bytes", "was promoted without peak memory"),
    ({"figures": {"peak_bytes": {"mean": 8e8, "low": 8e8, "high": 8e8, "images": 1, "unit": "bytes, process_rss_peak_bytes"}}},
     "peak_bytes", "by an earlier version, which counted what making the candidate takes"),
])
def test_what_is_not_comparable_is_refused_with_its_reason(against: Hold, merge_verdict: Recommendation, changes: dict[str, Any],
                                                           value: str, reason: str) -> None:
    found = verdict(against(**changes), merge_verdict, Gate(value=value, not_worse_than="promoted", margin=9e9))
    assert found.status == "not_measured"
    assert reason in found.reason


@pytest.mark.parametrize("changes", [
    {"metrics": {"clip_score": 0, "exposure": 1, "palette": 7}}, {"metric_settings": {"clip_score": "another"}},
    {"reference": {"key": "another", "inputs": []}}, {"environment": {"device": "cuda", "device_name": "NVIDIA H100"}},
    {"figures": {}}])
def test_what_is_not_touched_by_it_is_still_compared(against: Hold, merge_verdict: Recommendation,
                                                     changes: dict[str, Any]) -> None:
    gate = Gate(value="clipped_share", not_worse_than="promoted", margin=0.1)
    assert verdict(against(**changes), merge_verdict, gate).status == "passed"


@pytest.mark.parametrize(("value", "status"), [("palette_left", "not_measured"), ("clip_score", "passed")])
def test_what_depends_on_all_images_of_a_prompt_needs_the_same_scales(against: Hold, merge_run: Run, value: str, status: str,
                                                                      merge_verdict: Recommendation) -> None:
    cells = baseline_file(merge_run)["cells"]
    fewer = {**cells, "rows": [row for row in cells["rows"] if row[2] != 12.0]}
    found = verdict(against(cells=fewer), merge_verdict, Gate(value=value, not_worse_than="promoted", margin=0.9))
    assert found.status == status
    assert status == "passed" or "other seeds or guidance scales" in found.reason


def test_images_of_another_device_are_compared_with_a_note_on_noise(against: Hold, merge_verdict: Recommendation) -> None:
    found = verdict(against(environment={"device": "cuda", "device_name": "NVIDIA H100"}, sampling={
        **against().head["sampling"], "device": "cuda"}), merge_verdict)
    assert (found.status, "made on NVIDIA H100, here on CPU: the last bits" in found.reason) == ("passed", True)


def test_other_sampling_settings_compare_nothing(against: Hold, merge_verdict: Recommendation) -> None:
    run = against()
    other = against(sampling={**run.head["sampling"], "steps": 50})
    found = verdict(other, merge_verdict)
    assert (found.status, "(steps 50 and 20)" in found.reason) == ("not_measured", True)
    assert verdict(other, merge_verdict, Gate(value="seconds_per_image", not_worse_than="promoted")).status == "not_measured"


GATES = (CLIP, Gate(value="seconds_per_image", not_worse_than="promoted", margin=9))


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.value)
@pytest.mark.parametrize(("then", "now", "differing"), [(4, 8, "steps 4 and 8"), (4, 4, ""), (None, 8, "steps 20 and 8"),
                                                        (4, None, "steps 4 and 20"), (None, 20, "")])
def test_a_candidate_that_is_sampled_otherwise_than_when_it_was_promoted_is_not_compared(
        against: Hold, merge_verdict: Recommendation, gate: Gate, then: int | None, now: int | None, differing: str) -> None:
    run = sampling_at(against(**promoted_at(against(), then)), OLD, now)
    judged_now = judged(run, merge_verdict, replace(gate, candidates=(OLD,)))
    assert judged_now.status == ("not_measured" if differing else "passed")
    assert differing in judged_now.reason


def test_another_candidate_is_compared_with_the_difference_in_sampling_said(against: Hold, merge_verdict: Recommendation) -> None:
    alike, other = (sampling_at(against(**promoted_at(against(), 4)), PICK, steps) for steps in (4, 8))
    assert "sampled otherwise" not in verdict(alike, merge_verdict).reason
    assert "sampled otherwise: steps 4 and 8" in verdict(other, merge_verdict).reason
    assert verdict(other, merge_verdict).status == "passed"


def promoted_at(run: Run, steps: int | None) -> dict[str, Any]:
    """The change of a baseline file whose candidate declared its own steps."""
    return {} if steps is None else {"sampled_as": {**run.head["sampling"], "steps": steps}}


def sampling_at(run: Run, name: str, steps: int | None) -> Run:
    """The run with steps of its own for a candidate."""
    own = None if steps is None else Sampling(steps=steps)
    candidates = tuple(replace(c, sampling=own) if c.name == name else c for c in run.suite.candidates)
    return replace(run, suite=replace(run.suite, candidates=candidates))


def test_only_prompts_of_the_same_text_are_paired(against: Hold, merge_run: Run, merge_verdict: Recommendation) -> None:
    prompts = {p.id: [p.text, p.negative] for p in merge_run.suite.grid.prompts}
    prompts["p00"] = ["another text", ""]
    prompts["p01"] = [prompts["p01"][0], "another negative"]
    del prompts["p02"]
    found = verdict(against(prompts=prompts), merge_verdict)
    assert found.status == "passed"
    assert "18 of 24 cells comparable" in found.reason
    assert "2 prompts changed, 1 new" in found.reason


def test_only_prompts_with_the_same_pictures_are_paired(against: Hold, merge_run: Run, merge_verdict: Recommendation) -> None:
    control = Control(path="zoo:control-edges", picture="edges")
    prompts = tuple(replace(p, pictures={"edges": f"{p.id}.png", "idle": "x.png"}) for p in merge_run.suite.grid.prompts)
    suite = replace(merge_run.suite, grid=replace(merge_run.suite.grid, prompts=prompts), candidates=tuple(
        replace(c, controls=(control,)) if c.name == PICK else c for c in merge_run.suite.candidates))
    contents = {f"{p.id}.png": f"content of {p.id}" for p in prompts}
    then = pictures_of(replace(merge_run, suite=suite, head={**merge_run.head, "pictures": contents}))
    assert then["p00"] == {"edges": "content of p00"}
    for same, pictures in (("24 of 24", {}), ("24 of 24", then), ("22 of 24", {**then, "p00": {"edges": "other"}})):
        run = against(pictures=pictures)
        run = replace(run, suite=suite, head={**run.head, "pictures": contents})
        assert f"{same} cells comparable" in verdict(run, merge_verdict).reason


def test_a_promotion_passes_the_pictures_on_to_its_baseline_file(merge_run: Run, tmp_path: Path) -> None:
    data = baseline_file(merge_run)
    pictures = {"p00": {"edges": "content"}}
    record = {**data, "number": 3, "weights": {}, "inputs": {}, "pictures": pictures}
    (tmp_path / "baseline.json").write_text(baseline_text(record))
    assert read_baseline(tmp_path / "baseline.json").pictures == pictures


def test_cells_pair_by_seed_and_guidance_too(against: Hold, merge_run: Run, merge_verdict: Recommendation) -> None:
    cells = baseline_file(merge_run)["cells"]
    moved = [[r[0], 7 if r[1] == 2 else r[1], *r[2:]] for r in cells["rows"]]
    assert "12 of 24 cells comparable" in verdict(against(cells={**cells, "rows": moved}), merge_verdict).reason
    moved = [[*r[:2], r[2] + 0.5, *r[3:]] for r in cells["rows"]]
    found = verdict(against(cells={**cells, "rows": moved}), merge_verdict)
    assert (found.status, "0 of 24 cells comparable" in found.reason) == ("not_measured", True)


def test_a_machine_that_was_busy_then_has_no_comparable_latency(against: Hold, merge_run: Run,
                                                                merge_verdict: Recommendation) -> None:
    figures = baseline_file(merge_run)["figures"]
    slow = {**figures, "yardstick_seconds": {**figures["yardstick_seconds"], "mean": 0.03}}
    found = verdict(against(figures=slow), merge_verdict, Gate(value="seconds_per_image", not_worse_than="promoted", ratio=2))
    assert (found.status, "the machine was 3.0 times slower when blend version 3" in found.reason) == ("not_measured", True)


def test_another_memory_reading_is_refused(against: Hold, merge_run: Run, merge_verdict: Recommendation) -> None:
    figures = baseline_file(merge_run)["figures"]
    other = {**figures, "peak_bytes": {**figures["peak_bytes"], "unit": "bytes to run, nvml_device_peak_bytes"}}
    found = verdict(against(figures=other), merge_verdict, Gate(value="peak_bytes", not_worse_than="promoted", ratio=2))
    assert (found.status, "its reading was NVML, whole device" in found.reason) == ("not_measured", True)


def test_without_a_baseline_file_nothing_was_promoted_yet(merge_run: Run, merge_verdict: Recommendation) -> None:
    for value in ("clip_score", "seconds_per_image", "peak_bytes"):
        found = verdict(merge_run, merge_verdict, Gate(value=value, not_worse_than="promoted"))
        assert found.status == "not_measured"
        assert "nothing was promoted from this suite yet" in found.reason


def test_a_changed_file_is_refused_as_a_whole(merge_run: Run, merge_verdict: Recommendation, tmp_path: Path) -> None:
    text = signed_text(baseline_file(merge_run))
    (tmp_path / "baseline.json").write_text(text.replace('"version": 3', '"version": 4'), encoding="utf-8")
    run = replace(merge_run, promoted=read_promoted(tmp_path))
    for value in ("clip_score", "seconds_per_image", "peak_bytes"):
        found = verdict(run, merge_verdict, Gate(value=value, not_worse_than="promoted"))
        assert found.status == "not_measured"
        assert "baseline.json was changed after it was written" in found.reason


@pytest.mark.parametrize("text", ["", "null", "[]", "3", "{", "[" * 100_000, '{"digest": null}', '{"format": NaN}', "\xff"])
def test_what_is_no_baseline_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "baseline.json").write_text(text, encoding="latin-1")
    found = read_promoted(tmp_path)
    assert isinstance(found, Promoted)
    assert found.why.startswith("baseline.json")


@pytest.mark.parametrize("changes", [
    {"cells": 3}, {"cells": {"columns": ["prompt"], "rows": [[1, 2]]}}, {"cells": {"columns": ["seed", "guidance"], "rows": []}},
    {"cells": {"columns": ["prompt", "seed", "guidance", "image", "x"], "rows": [["p", 1, 2, "k", "word"]]}},
    {"cells": {"columns": ["prompt", "seed", "guidance"], "rows": [["p", 1, 2], ["p", 1, 2]]}}, {"prompts": {"p": "text"}},
    {"pictures": {"p": "content"}}, {"pictures": {"p": {"edges": 1}}}, {"pictures": 1},
    {"prompts": 1}, {"metrics": 1}, {"suite": None}, {"version": "x"}, {"format": 2}, {"environment": []}, {"figures": None},
    {"cells": {"columns": ["prompt", "seed", "guidance"], "rows": [["p", 10**30, 2]]}}])
def test_a_file_signed_anew_with_odd_content_is_refused_not_raised(merge_run: Run, tmp_path: Path,
                                                                   changes: dict[str, Any]) -> None:
    data = {**baseline_file(merge_run), **changes}
    (tmp_path / "baseline.json").write_text(json.dumps({**data, "digest": digest_of(data)}))
    found = read_promoted(tmp_path)
    assert found is not None
    assert found.why


def test_a_file_of_an_older_version_says_what_to_do(merge_run: Run, tmp_path: Path) -> None:
    data = {k: v for k, v in baseline_file(merge_run).items() if k not in ("prompts", "digest")}
    (tmp_path / "baseline.json").write_text(json.dumps({**data, "digest": digest_of(data)}))
    assert read_promoted(tmp_path).why == "baseline.json was written by an older version, without prompts. Promote again"  # type: ignore[union-attr]


def test_taking_the_baseline_over_copies_it_whole(merge_run: Run, tmp_path: Path) -> None:
    source = tmp_path / "dress.json"
    source.write_text(signed_text(baseline_file(merge_run)), encoding="utf-8")
    said = take_promoted(source, tmp_path / "run")
    assert said == f"baseline: blend version 3 (candidate 'alpha=0.3'), from {source}"
    assert (tmp_path / "run" / "baseline.json").read_bytes() == source.read_bytes()
    found = read_promoted(tmp_path / "run")
    assert found is not None
    assert (found.why, len(found.table)) == ("", 120)


def test_a_baseline_that_is_gone_takes_its_copy_with_it(merge_run: Run, tmp_path: Path) -> None:
    test_taking_the_baseline_over_copies_it_whole(merge_run, tmp_path)
    (tmp_path / "dress.json").unlink()
    assert "nothing was promoted from this suite yet" in take_promoted(tmp_path / "dress.json", tmp_path / "run")
    assert read_promoted(tmp_path / "run") is None
    assert "nothing was promoted" in take_promoted(tmp_path / "dress.json", tmp_path / "no run yet")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", "folder", '{"name": "a", "version": 1, "candidate": "b", "cells": {}, '
                                  '"digest": "0"}'])
def test_a_damaged_baseline_leaves_its_reason(tmp_path: Path, text: str) -> None:
    source = tmp_path / "dress.json"
    source.mkdir() if text == "folder" else source.write_text(text)
    said = take_promoted(source, tmp_path / "run")
    assert str(source) in said
    found = read_promoted(tmp_path / "run")
    assert found is not None
    assert found.why == said


@pytest.mark.parametrize("current", [True, False])
def test_texts_are_marked_as_chunked_only_by_a_coverage_of_the_prompts_as_they_are(merge_run: Run, current: bool) -> None:
    one = merge_run.suite.grid.prompts[0]
    coverage = Coverage(candidate=PICK, stage=PROMPTS, component="text", keys={CHUNKED: (f"{one.id} (prompt)",)},
                        setting=prompts_hash(merge_run.suite.grid.prompts) if current else "another")
    texts = prompts_of(replace(merge_run, coverage=(coverage,)))
    assert (texts[one.id] != (one.text, one.negative)) == current
