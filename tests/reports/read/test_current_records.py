"""Which records count: those that follow from the weights announced last and from the suite as it is declared now."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.declare import Candidate, plain
from harness.records import (
    BatchCurve,
    Cell,
    Coverage,
    Defect,
    Durations,
    Failure,
    Finished,
    Fit,
    Intermediate,
    Journal,
    Latency,
    Measurement,
    Memory,
    NoiseFloor,
    Power,
    Record,
    Sample,
    Timeline,
    sample_key,
)
from harness.records.costs import MAKING
from reports import judge, load_run, recommend, write_page
from reports.read import current_records as rules
from reports.read.run import Run
from reports.verdict.costs import peak_memory, weights_size
from tests.reports import synthetic

SUITE = synthetic.merge_suite(grid=synthetic.SMALL)
FIRST = SUITE.candidates[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return synthetic.write_run(tmp_path, SUITE)


def records(folder: Path) -> list[Record]:
    return Journal(folder / "journal.jsonl").read()[0]


def first(folder: Path, kind: type[Any], name: str = FIRST.name) -> Any:
    return next(r for r in records(folder) if isinstance(r, kind) and r.candidate == name)


def add(folder: Path, *found: Record) -> Run:
    Journal(folder / "journal.jsonl").add(found)
    return load_run(folder)


def with_head(folder: Path, **changes: Any) -> Run:
    head = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**head, **changes}))
    return load_run(folder)


def gaps(run: Run, name: str = FIRST.name) -> set[tuple[str, int, str]]:
    return {(g.value, g.count, g.why) for g in run.missing if g.candidate == name}


def declared(folder: Path, change: Callable[[Candidate], Candidate]) -> Run:
    suite = replace(SUITE, candidates=(change(FIRST), *SUITE.candidates[1:]))
    return with_head(folder, suite=plain(suite))


def test_samples_of_weights_that_changed_no_longer_count(folder: Path) -> None:
    run = add(folder, synthetic.announced(FIRST, identity="other"))
    assert FIRST.name not in set(run.images["candidate"])
    assert ("image", 4, rules.OTHER_SAMPLES) in gaps(run)


def test_samples_count_again_when_the_weights_are_what_they_were(folder: Path) -> None:
    run = add(folder, synthetic.announced(FIRST, identity="other"), synthetic.announced(FIRST))
    assert len(run.images) == 7 * 4
    assert run.images["clip_score"].notna().all()


@pytest.mark.parametrize("change", [{"steps": 99}, {"device": "cuda"}, {"batch_size": 3}, {"version": 2}])
def test_samples_taken_with_other_settings_do_not_count(folder: Path, change: dict[str, Any]) -> None:
    run = with_head(folder, sampling={**synthetic.sampling(SUITE), **change})
    assert len(run.images) == 0
    assert gaps(run) >= {("image", 4, rules.OTHER_SAMPLES)}
    assert "No recommendation" in recommend(run).sentence


def test_a_prompt_whose_text_was_changed_has_no_image_any_more(folder: Path) -> None:
    prompts = (replace(SUITE.grid.prompts[0], text="another text"), *SUITE.grid.prompts[1:])
    run = with_head(folder, suite=plain(replace(SUITE, grid=replace(SUITE.grid, prompts=prompts))))
    assert len(run.images) == 7 * 3
    assert ("image", 1, rules.OTHER_SAMPLES) in gaps(run)


def test_a_sample_of_another_key_that_came_later_replaces_nothing(folder: Path) -> None:
    run = add(folder, replace(first(folder, Sample), key="other", path="images/other.png"))
    assert run.images.iloc[0]["path"] != "images/other.png"
    assert len(run.images) == 7 * 4


def test_a_candidate_that_is_declared_otherwise_now_counts_with_nothing(folder: Path) -> None:
    run = declared(folder, lambda c: replace(c, quantization="bf16"))
    assert gaps(run) >= {("image", 4, rules.OTHER_DECLARATION), ("seconds_per_image", 0, rules.OTHER_DECLARATION),
                         ("peak_bytes", 0, rules.OTHER_DECLARATION), ("coverage", 0, rules.OTHER_DECLARATION)}
    assert FIRST.name not in {*run.latency, *run.memory, *run.weights, *run.finished, *(c.candidate for c in run.coverage)}


def test_an_image_made_again_with_other_bytes_voids_what_was_measured_on_it_and_against_it(folder: Path) -> None:
    sample, other = first(folder, Sample), first(folder, Sample, "alpha=1")
    against = Measurement(sample=other.key, candidate=other.candidate, cell=other.cell, metric="psnr", version=1,
                          values={"psnr_db": 31.0}, reference=sample.key)
    assert add(folder, against).images["psnr_db"].notna().sum() == 1
    run = add(folder, replace(sample, sha256="1" * 64))
    assert np.isnan(run.images.iloc[0]["clip_score"])
    assert "psnr_db" not in run.images.columns
    assert ("clip_score", 1, rules.OTHER_BYTES) in gaps(run)
    assert ("psnr_db", 1, rules.OTHER_BYTES) in gaps(run, "alpha=1")


class Counted(str):
    """A key that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_images_made_again_are_each_looked_up_once_and_not_in_all_measurements() -> None:
    sample = Sample(key="", candidate="a", cell=Cell(prompt="p", seed=0, guidance=3.0), path="x", sha256="1")
    samples = [replace(sample, key=Counted(f"k{i}")) for i in range(200)]
    measured = [Measurement(sample=s.key, candidate="a", cell=s.cell, metric="m", version=1, values={}) for s in samples]
    Counted.compared = 0
    found = rules._measured([*samples, *measured, *(replace(s, sha256="2") for s in samples[:150]), *measured[:50]])
    assert [void for _, void in found] == [False] * 50 + [True] * 100 + [False] * 50
    assert Counted.compared < 10 * len(samples)


def test_an_image_noted_again_with_the_same_bytes_keeps_its_measurements(folder: Path) -> None:
    run = add(folder, first(folder, Sample))
    assert run.images["clip_score"].notna().all()


def test_values_of_another_metric_setting_are_gaps(folder: Path) -> None:
    run = with_head(folder, metric_settings={"clip_score": "another CLIP model"})
    assert ("clip_score", 4, rules.OTHER_SETTING) in gaps(run)
    assert "clip_score" not in run.images.columns
    assert run.images["saturation"].notna().all()


@pytest.mark.parametrize(("dropped", "counts"), [(0.0, True), (7.0, False)])
def test_a_clip_score_of_the_beginning_of_a_prompt_alone_is_a_gap(folder: Path, *, dropped: float, counts: bool) -> None:
    old = next(r for r in records(folder) if isinstance(r, Measurement) and (r.candidate, r.metric) == (FIRST.name, "clip_score"))
    run = add(folder, replace(old, values={"clip_score": 20.0, "tokens_dropped": dropped}))
    assert (("clip_score", 1, rules.IN_PART) in gaps(run)) is not counts


def test_values_of_another_metric_version_are_gaps(folder: Path) -> None:
    run = with_head(folder, metrics={n: {**m, "version": 2 if n == "clip_score" else 1} for n, m in synthetic.METRICS.items()})
    assert ("clip_score", 4, rules.OTHER_VERSION) in gaps(run)


def test_a_measurement_against_an_image_the_baseline_no_longer_has_is_a_gap(folder: Path) -> None:
    sample = first(folder, Sample)
    run = add(folder, Measurement(sample=sample.key, candidate=sample.candidate, cell=sample.cell, metric="psnr", version=1,
                                  values={"psnr_db": 40.0}, reference="gone"))
    assert "psnr_db" not in run.images.columns
    assert ("psnr_db", 1, rules.OTHER_REFERENCE) in gaps(run)


def test_costs_taken_in_another_setting_do_not_count_and_say_why(folder: Path) -> None:
    run = add(folder, replace(first(folder, Latency), setting="old"), replace(first(folder, Memory), setting="old"))
    assert gaps(run) >= {("seconds_per_image", 0, rules.OTHER_TIMING), ("peak_bytes", 0, rules.OTHER_TIMING)}
    assert FIRST.name not in {*run.latency, *run.memory}
    assert f"not measured: {rules.OTHER_TIMING}" in write_page(folder).read_text()


def test_a_peak_that_holds_making_and_running_in_one_does_not_count_and_the_size_of_the_weights_does(folder: Path) -> None:
    memory = first(folder, Memory)
    run = add(folder, replace(memory, readings=tuple(r for r in memory.readings if not r.name.startswith(MAKING))))
    assert peak_memory(run, FIRST.name).value is None
    assert "counted what making the candidate takes" in peak_memory(run, FIRST.name).why_missing
    assert weights_size(run, FIRST.name).value == 4e8
    assert peak_memory(run, SUITE.candidates[1].name).value


def test_a_candidate_taken_out_of_the_suite_leaves_no_trace_and_breaks_nothing(folder: Path) -> None:
    add(folder, Failure(candidate="alpha=1", stage="sample", error="E", message="m"))
    run = with_head(folder, suite=plain(replace(SUITE, candidates=SUITE.candidates[:-1])))
    assert run.failures == ()
    assert "alpha=1" not in {*run.latency, *run.memory, *run.weights, *run.finished, *(c.candidate for c in run.coverage)}
    assert judge(run, recommend(run))
    assert "OutOfMemory" not in write_page(folder).read_text()


def changed_for(*names: str) -> Callable[[Candidate], list[Record]]:
    new = {"photo.safetensors": "cd" * 32}
    return lambda c: [synthetic.announced(c, inputs=new)] if c.name in names else []


def test_a_file_that_was_changed_between_candidates_is_named_with_those_to_run_again(tmp_path: Path) -> None:
    late = [c.name for c in SUITE.candidates if c.name not in ("alpha=0.15", "alpha=0.3")]
    run = load_run(synthetic.write_run(tmp_path, SUITE, extra=changed_for(*late)))
    assert run.changed == {"photo.safetensors": ("alpha=0.15", "alpha=0.3")}
    said = [c for c in recommend(run).caveats if "photo.safetensors" in c]
    assert said == ["photo.safetensors was changed between candidates: run alpha 0.15 and alpha 0.3 again."]
    assert not {"alpha=0.15", "alpha=0.3"} & {*run.images["candidate"], *run.latency}


def test_the_newest_hash_is_that_of_the_candidate_that_ran_last_announced_or_not(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path, SUITE, extra=changed_for("alpha=1"))
    assert len(load_run(folder).changed["photo.safetensors"]) == 6
    run = add(folder, Finished(candidate=FIRST.name, identity="i", sampled=0, reused=4, seconds=1.0))
    assert run.changed == {"photo.safetensors": ("alpha=1",)}


def test_a_changed_file_of_a_candidate_that_is_declared_otherwise_now_accuses_nobody(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path, SUITE, extra=lambda c: [
        synthetic.announced(c, inputs={"photo.safetensors": "cd" * 32}, declared="old")] if c.name == "alpha=1" else [])
    assert load_run(folder).changed == {}


def test_coverage_of_weights_that_changed_is_void(folder: Path) -> None:
    run = add(folder, synthetic.announced(FIRST, identity="other"))
    assert FIRST.name not in {c.candidate for c in run.coverage}
    row = Coverage(candidate=FIRST.name, stage="merge", component="vae", keys={}, of=1)
    assert row in add(folder, row).coverage


def test_an_image_that_is_not_offered_here_says_so(folder: Path) -> None:
    (folder / "journal.jsonl").unlink()
    assert gaps(with_head(folder, not_offered={FIRST.name: "fp16 is not offered on cpu"})) >= {
        ("image", 4, "fp16 is not offered on cpu")}


@pytest.mark.parametrize(("kind", "place"), [
    (Timeline, "timeline"), (Power, "power"), (Durations, "durations"), (BatchCurve, "curves")])
def test_what_was_measured_beside_latency_counts_while_its_setting_is_that_of_the_weights(
        folder: Path, kind: type[Any], place: str) -> None:
    newer = replace(first(folder, kind), setting="old")
    assert getattr(load_run(folder), place)[FIRST.name] == first(folder, kind)
    assert FIRST.name not in getattr(add(folder, newer), place)
    assert len(getattr(load_run(folder), place)) == 6


def test_a_refusal_counts_until_what_was_refused_fits_or_the_weights_change(folder: Path) -> None:
    small, large = (Fit(candidate=FIRST.name, batch_size=n, fits=False, asked_bytes=3, setting=synthetic.TIMED) for n in (1, 8))
    assert add(folder, small, large, replace(large, setting="old", batch_size=16)).fits == (small, large)
    assert add(folder, first(folder, Latency)).fits == (large,)
    assert add(folder, synthetic.announced(FIRST, identity="other"), synthetic.announced(FIRST)).fits == ()


def test_images_of_a_halved_batch_count_only_where_the_larger_one_was_refused(folder: Path) -> None:
    sample = first(folder, Sample)
    half = {**synthetic.sampling(SUITE), "batch_size": SUITE.grid.batch_size // 2}
    prompt = SUITE.grid.prompts[0]
    key = sample_key(synthetic.announced(FIRST).identity, sample.cell, (prompt.text, prompt.negative), half)
    lines = [line for line in (folder / "journal.jsonl").read_text().splitlines() if sample.key not in line]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    assert len(add(folder, replace(sample, key=key)).images) == 7 * 4 - 1
    refusal = Fit(candidate=FIRST.name, batch_size=SUITE.grid.batch_size, fits=False)
    assert len(add(folder, refusal).images) == 7 * 4


def test_a_defect_and_a_noise_floor_count_for_the_weights_and_the_batches_of_now(folder: Path) -> None:
    sample, weights = first(folder, Sample), synthetic.announced(FIRST)
    defect = Defect(candidate=FIRST.name, cell=sample.cell, sample=sample.key, why="NaN or infinite pixels")
    floor = NoiseFloor(candidate=FIRST.name, cell=sample.cell, batch_size=SUITE.grid.batch_size, largest_levels=1,
                       changed_share=0.1, setting=weights.identity)
    run = add(folder, defect, replace(defect, sample="gone"), floor, replace(floor, candidate="alpha=1"))
    assert (run.defects, run.floors) == ({sample.key: "NaN or infinite pixels"}, (floor,))


def test_the_pictures_that_a_current_image_was_made_of_are_known(folder: Path) -> None:
    sample = first(folder, Sample)
    raw = Intermediate(candidate=FIRST.name, cell=sample.cell, sample=sample.key, name="raw", key="raw key", path=sample.path,
                       sha256=sample.sha256, notes=("Temperature: left as it is: ...",))
    run = add(folder, raw, replace(raw, sample="gone"))
    assert run.made_of == {sample.key: (raw,)}
    assert any("Temperature" in caveat for caveat in recommend(run).caveats)


def test_a_run_of_an_older_version_loads_and_says_that_these_costs_were_not_recorded(folder: Path) -> None:
    journal = folder / "journal.jsonl"
    newer = tuple(f'"kind":"{kind}"' for kind in ("timeline", "power", "durations", "batch_curve", "fit"))
    kept = [line for line in journal.read_text().splitlines() if not any(word in line for word in newer)]
    journal.write_text("\n".join(kept) + "\n")
    run = load_run(folder)
    assert (run.timeline, run.power, run.durations, run.curves, run.fits) == ({}, {}, {}, {}, ())
    assert "Style switch (first and later): not measured: not recorded in this run." in write_page(folder).read_text()


def test_images_on_which_a_metric_failed_are_missing_its_values_with_its_reason(folder: Path) -> None:
    failure = Failure(candidate=FIRST.name, stage="metric clip_score", error="ValueError", message="too hard")
    assert all(value != "clip_score" for value, _, _ in gaps(add(folder, failure)))  # every image has its value
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    lost = {r.key for r in records(folder) if isinstance(r, Sample) and r.candidate == FIRST.name}
    keep = [line for line in lines if not ('"kind":"measurement"' in line and '"metric":"clip_score"' in line
                                           and any(key in line for key in lost))]
    (folder / "journal.jsonl").write_text("".join(keep))
    why = 'failed at "metric clip_score" (ValueError: too hard)'
    assert ("clip_score", len(lost), why) in gaps(load_run(folder))


@pytest.mark.parametrize("metric", ["clip_score", "dropped_since"])
def test_the_failure_of_a_metric_counts_while_the_suite_declares_it(metric: str, folder: Path) -> None:
    failure = Failure(candidate=FIRST.name, stage=f"metric {metric}", error="ValueError", message="too hard")
    assert add(folder, failure).failures == ((failure,) if metric in SUITE.metrics else ())


@pytest.mark.parametrize(("scale", "texts"), [(1.0, 1), (3.0, 4)])
def test_prompts_that_differ_in_an_idle_negative_are_one_text(scale: float, texts: int, tmp_path: Path) -> None:
    prompts = tuple(replace(prompt, text="a ball", negative=prompt.id) for prompt in synthetic.SMALL.prompts)
    grid = replace(synthetic.SMALL, prompts=prompts, guidance_scales=(scale,))
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite(grid=grid)))
    assert run.images["same_text"].nunique() == texts
    assert any("no effect" in caveat for caveat in recommend(run).caveats) == (texts == 1)
