"""Images are made once: a larger suite, another run and a smaller memory change what is sampled, never what an image is."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import Adapter, Suite
from harness.declare import Candidate, Checkpoint, Fused, Merge
from harness.materialise import Workbench
from harness.records import Coverage, Defect, Finished, Fit, Journal, Measurement, NoiseFloor, Sample
from harness.run.batch_packing import in_order
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.run_folder.image_files import ImageFiles
from harness.zoo import resolve
from tests.fakes import PROMPTS, plain_candidate, tiny_grid, tiny_suite
from tests.painted import paint_runs


def suite(**changes: object) -> Suite:
    return tiny_suite(**{"candidates": (plain_candidate(),), "baseline": "photo", "gates": (), "metrics": ("exposure",),
                         **changes})


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)


def go(root: Path, declared: Suite, **options: object) -> dict[str, object]:
    run = SuiteRun(declared, "s.py", Options(root=root, runs=root / "runs", **options), Silent())  # type: ignore[arg-type]
    try:
        return {c.name: run.candidate(c) for c in declared.candidates}
    finally:
        run.close()


def finished(done: dict[str, object], name: str = "photo") -> tuple[int, int]:
    one = done[name]
    assert isinstance(one, Finished), one
    return one.sampled, one.reused


def records(root: Path, kind: type) -> list[object]:
    return [r for r in Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0] if isinstance(r, kind)]


@pytest.mark.usefixtures("painted")
@pytest.mark.parametrize("larger", [
    {"prompts": PROMPTS}, {"prompts": PROMPTS[:3], "seeds": (5, 1)}, {"prompts": PROMPTS[:3], "guidance_scales": (2, 4, 1)}])
def test_a_larger_suite_samples_only_what_is_new(tmp_path: Path, larger: dict[str, object]) -> None:
    assert finished(go(tmp_path, suite(grid=tiny_grid(prompts=PROMPTS[:3])))) == (6, 0)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    sampled, reused = finished(go(tmp_path, suite(grid=tiny_grid(**larger))))
    assert reused == 6
    assert sampled == len(list(tmp_path.rglob("*.png"))) - 6
    assert all(p.read_bytes() == data for p, data in before.items())


def test_an_image_made_for_a_larger_suite_is_the_one_of_a_whole_run(tmp_path: Path) -> None:
    go(tmp_path / "in parts", suite(grid=tiny_grid(prompts=PROMPTS[:3])))
    go(tmp_path / "in parts", suite())
    go(tmp_path / "whole", suite())
    images = [{p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.png")} for name in ("in parts", "whole")]
    assert images[0] == images[1]


def refusing(largest: int):
    """Workbench whose U-Net runs out of memory for more than `largest` latents."""

    class Refusing(Workbench):
        def prepare(self, candidate: Candidate):
            prepared = super().prepare(candidate)
            unet = prepared.pipeline.unet

            def refuse(_: object, given: tuple[torch.Tensor, ...]) -> None:
                if len(given[0]) > largest:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 8 GiB")

            unet.register_forward_pre_hook(refuse)
            return prepared

    return Refusing


def test_refused_memory_halves_the_batch_and_the_keys_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.suite_run.Workbench", refusing(4))
    assert finished(go(tmp_path, suite())) == (10, 0)
    (refused,) = records(tmp_path, Fit)
    assert (refused.batch_size, refused.fits, refused.asked_bytes) == (4, False, int(2.5 * 2 ** 30))  # type: ignore[attr-defined]
    assert finished(go(tmp_path, suite())) == (0, 10)
    monkeypatch.undo()
    keys = {s.cell: s.key for s in records(tmp_path, Sample)}  # type: ignore[attr-defined]
    go(tmp_path / "other", suite())
    whole = {s.cell: s.key for s in records(tmp_path / "other", Sample)}  # type: ignore[attr-defined]
    # Without guidance four latents fit; with it they are eight.
    assert {cell.guidance for cell in keys if keys[cell] != whole[cell]} == {4}
    assert {cell.guidance for cell in keys if keys[cell] == whole[cell]} == {1}


def test_what_one_candidate_had_no_room_for_is_not_tried_for_the_next_so_that_pairs_are_alike(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.suite_run.Workbench", refusing(4))
    two = suite(candidates=(plain_candidate(), replace(plain_candidate("next"), model="zoo:anime")))
    done = go(tmp_path, two)
    assert finished(done) == finished(done, "next") == (10, 0)
    first, second = records(tmp_path, Fit)
    assert [(fit.candidate, fit.batch_size, fit.fits) for fit in (first, second)] == [  # type: ignore[attr-defined]
        ("photo", 4, False), ("next", 4, False)]
    assert "'photo'" in second.why  # type: ignore[attr-defined]
    monkeypatch.undo()
    assert finished(go(tmp_path, two), "next") == (0, 10)
    made = {(s.candidate, s.cell): s.key for s in records(tmp_path, Sample)}  # type: ignore[attr-defined]
    go(tmp_path / "other", two)
    whole = {(s.candidate, s.cell): s.key for s in records(tmp_path / "other", Sample)}  # type: ignore[attr-defined]
    smaller = {(name, cell.guidance) for (name, cell), key in made.items() if key != whole[name, cell]}
    assert smaller == {("photo", 4), ("next", 4)}


def test_memory_refused_for_one_image_is_the_candidates_result_and_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                                 ) -> None:
    class Large(refusing(0)):  # type: ignore[misc]
        def prepare(self, candidate: Candidate):
            return super().prepare(candidate) if candidate.name == "large" else Workbench.prepare(self, candidate)

    monkeypatch.setattr("harness.run.suite_run.Workbench", Large)
    done = go(tmp_path, suite(candidates=(plain_candidate(), replace(plain_candidate("large"), model="zoo:anime"))))
    assert finished(done) == (10, 0)
    assert done["large"][0].error == "OutOfMemoryError"  # type: ignore[index]
    assert [fit.batch_size for fit in records(tmp_path, Fit)] == [4, 2, 1]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("painted")
def test_a_shared_folder_gives_images_to_another_run(tmp_path: Path) -> None:
    address = f"folder:{tmp_path / 'shared'}"
    go(tmp_path / "one", suite(), cache=address)
    assert finished(go(tmp_path / "two", suite(), cache=address)) == (0, 10)
    images = [{p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.png")} for name in ("one", "two")]
    assert images[0] == images[1]


def test_the_distance_of_batches_from_single_images_is_measured_once_on_the_baseline(tmp_path: Path) -> None:
    go(tmp_path, suite())
    go(tmp_path, suite())
    floors = records(tmp_path, NoiseFloor)
    assert 1 <= len(floors) <= 5
    assert all(f.candidate == "photo" and f.batch_size == 4 and f.largest_levels <= 2 for f in floors)  # type: ignore[attr-defined]
    assert len({f.cell for f in floors}) == len(floors)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("painted")
def test_an_altered_image_is_found_and_made_again(tmp_path: Path) -> None:
    go(tmp_path, suite())
    image = sorted(tmp_path.rglob("*.png"))[3]
    before = image.read_bytes()
    image.write_bytes(before[:-20] + bytes(20))
    assert finished(go(tmp_path, suite())) == (1, 9)
    assert image.read_bytes() == before


def test_candidates_are_made_in_the_order_of_their_files_recipes_and_adapters() -> None:
    def merge(a: str, alpha: float) -> Merge:
        return Merge(a=a, b="b", alpha=alpha)

    given = [Candidate(name="1", model=merge("x", 0.5)), Candidate(name="2", model=merge("y", 0.5)),
             Candidate(name="3", model=merge("x", 0.6)), Candidate(name="4", model=merge("x", 0.5), quantization="bf16"),
             Candidate(name="5", model=Fused(model="y", adapters=())), Candidate(name="base", model="y")]
    ordered = in_order(suite(candidates=given, baseline="base"))
    assert [c.name for c in ordered] == ["base", "1", "4", "3", "2", "5"]


def breaking(cells_at: tuple[int, ...]):
    """Workbench whose U-Net gives NaN for these places of every guided batch."""

    class Breaking(Workbench):
        def prepare(self, candidate: Candidate):
            prepared = super().prepare(candidate)

            def spoil(_: object, __: object, output):
                if candidate.name == "bad" and len(output.sample) == 8:
                    for place in cells_at:
                        output.sample[place] = float("nan")
                return output

            prepared.pipeline.unet.register_forward_hook(spoil)
            return prepared

    return Breaking


def test_an_image_of_no_numbers_is_a_defect_and_the_others_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.suite_run.Workbench", breaking((1,)))
    pair = (plain_candidate(), replace(plain_candidate("bad"), model="zoo:anime"))
    done = go(tmp_path, suite(candidates=pair, metrics=("exposure", "psnr")))
    assert finished(done, "bad") == (10, 0)
    defects = {d.sample: d.why for d in records(tmp_path, Defect)}  # type: ignore[attr-defined]
    assert set(defects.values()) == {"NaN or infinite latents"}
    measured = [m for m in records(tmp_path, Measurement) if m.candidate == "bad"]  # type: ignore[attr-defined]
    assert len(measured) == 20
    for m in measured:
        assert (not m.values and all("NaN" in why for why in m.missing.values())) == (m.sample in defects)  # type: ignore[attr-defined]


def test_a_defect_of_the_baseline_takes_its_pairs_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.suite_run.Workbench", breaking((1,)))
    pair = (plain_candidate(), replace(plain_candidate("bad"), model="zoo:anime"))
    go(tmp_path, suite(candidates=pair, baseline="bad", metrics=("exposure", "psnr")))
    defects = {d.cell for d in records(tmp_path, Defect)}  # type: ignore[attr-defined]
    mine = [m for m in records(tmp_path, Measurement) if m.candidate == "photo" and m.cell in defects]  # type: ignore[attr-defined]
    assert defects
    assert all(m.values for m in mine if m.metric == "exposure")  # type: ignore[attr-defined]
    assert all(not m.values for m in mine if m.metric == "psnr")  # type: ignore[attr-defined]


def test_a_candidate_without_one_image_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.suite_run.Workbench", breaking(tuple(range(8))))
    grid = tiny_grid(guidance_scales=(4,))
    pair = (plain_candidate(), replace(plain_candidate("bad"), model="zoo:anime"))
    done = go(tmp_path, suite(candidates=pair, grid=grid))
    assert finished(done) == (5, 0)
    assert "all 5 images are unusable: NaN or infinite latents" in done["bad"][0].message  # type: ignore[index]
    again = go(tmp_path, suite(candidates=pair, grid=grid))
    assert "all 5 images are unusable" in again["bad"][0].message  # type: ignore[index]


@pytest.mark.usefixtures("painted")
def test_a_suite_without_guidance_has_a_noise_floor_too(tmp_path: Path) -> None:
    go(tmp_path, suite(grid=tiny_grid(guidance_scales=(1,))))
    assert {f.cell.guidance for f in records(tmp_path, NoiseFloor)} == {1}  # type: ignore[attr-defined]


def test_an_adapter_in_two_stretches_is_covered_once_and_for_all(tmp_path: Path) -> None:
    adapters = (Adapter(path="zoo:sketch", end=0.5), Adapter(path="zoo:sketch", start=0.5, weight=0.3))
    mine = suite(candidates=(plain_candidate(model="zoo:base", adapters=adapters),))
    for _ in range(2):
        go(tmp_path, mine)
    rows = [(c.stage, c.component) for c in records(tmp_path, Coverage)]  # type: ignore[attr-defined]
    assert len(rows) == len(set(rows))
    assert {"adapter zoo:sketch from 0 to 0.5", "adapter zoo:sketch from 0.5 to 1"} <= {stage for stage, _ in rows}


@pytest.mark.usefixtures("painted")
def test_a_batch_curve_that_crashes_keeps_the_timing_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(name: str, *_: object) -> object:
        if name == "b":
            raise ValueError("no kernel for this size")
        return ()

    monkeypatch.setattr("harness.run.timer.time_batches", crash)
    pair = (plain_candidate(), plain_candidate("b", model="zoo:anime"))
    run = SuiteRun(suite(candidates=pair, largest_batch=2), "s.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
    try:
        for candidate in pair:
            run.candidate(candidate)
        (failure,) = run.costs(["photo", "b"])
        assert (failure.candidate, failure.stage, failure.message) == ("b", "time", "no kernel for this size")
        assert run.ledger.latency("photo") is not None
        assert run.ledger.latency("b") is not None
    finally:
        run.close()


@pytest.mark.usefixtures("painted")
def test_every_metric_is_journalled_once_for_every_image(tmp_path: Path) -> None:
    """Measured while others are sampled, or afterwards: never both."""
    pair = (plain_candidate(), plain_candidate("b", model="zoo:anime"))
    for _ in range(2):
        go(tmp_path, suite(candidates=pair, metrics=("exposure", "psnr", "palette")))
    places = [(m.candidate, m.cell, m.metric) for m in records(tmp_path, Measurement)]  # type: ignore[attr-defined]
    assert len(places) == len(set(places)) == 2 * 10 * 3
    assert all(m.values.get("psnr_db") or m.values.get("exact_match") for m in records(tmp_path, Measurement)  # type: ignore[attr-defined]
               if m.metric == "psnr")  # type: ignore[attr-defined]


@pytest.mark.usefixtures("painted")
def test_a_metric_that_fails_on_one_image_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.metrics import METRICS

    row, seen = METRICS["exposure"], []

    def crashing(images):
        seen.append(len(images.images))
        if "a blue car" in images.texts:
            raise ZeroDivisionError("nothing to divide by")
        return row.measure(images)

    monkeypatch.setitem(METRICS, "exposure", replace(row, measure=crashing))
    (failure,) = go(tmp_path, suite())["photo"]  # type: ignore[misc]
    assert (failure.stage, failure.message) == ("metric exposure", "nothing to divide by")
    measured = {m.cell.prompt for m in records(tmp_path, Measurement)}  # type: ignore[attr-defined]
    assert measured == {"star", "cat", "fish", "cup"}
    assert len(records(tmp_path, Sample)) == 10


@pytest.mark.usefixtures("painted")
def test_a_disk_that_fills_up_half_way_loses_nothing_and_the_next_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                               ) -> None:
    write, count = ImageFiles.write, []

    def full(self: ImageFiles, sample: Sample, data: bytes) -> None:
        count.append(sample)
        if 5 < len(count) < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, sample, data)

    monkeypatch.setattr(ImageFiles, "write", full)
    (failure,) = go(tmp_path, suite())["photo"]  # type: ignore[misc]
    assert (failure.stage, failure.error) == ("sample", "OSError")
    assert "No space left" in failure.message
    monkeypatch.setattr(ImageFiles, "write", write)
    assert finished(go(tmp_path, suite())) == (5, 5)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.usefixtures("painted")
def test_a_model_file_that_changed_between_two_runs_is_sampled_anew_and_the_old_images_stay(tmp_path: Path) -> None:
    mine = suite(candidates=(plain_candidate(model=Checkpoint(path="mine.safetensors", config="zoo:config")),))
    shutil.copyfile(resolve("zoo:photo"), tmp_path / "mine.safetensors")
    assert finished(go(tmp_path, mine)) == (10, 0)
    before = {p.name: p.read_bytes() for p in tmp_path.rglob("*.png")}
    shutil.copyfile(resolve("zoo:anime"), tmp_path / "mine.safetensors")
    assert finished(go(tmp_path, mine)) == (10, 0)
    after = {p.name: p.read_bytes() for p in tmp_path.rglob("*.png")}
    assert len(after) == 20
    assert before.items() <= after.items()
    shutil.copyfile(resolve("zoo:photo"), tmp_path / "mine.safetensors")
    assert finished(go(tmp_path, mine)) == (0, 10)


@pytest.mark.usefixtures("painted")
def test_fresh_takes_no_image_from_a_candidate_of_the_same_weights(tmp_path: Path) -> None:
    go(tmp_path, suite())
    renamed = suite(candidates=(plain_candidate("other"),), baseline="other")
    assert finished(go(tmp_path, renamed), "other") == (0, 10)
    assert finished(go(tmp_path, renamed, fresh=True), "other") == (10, 0)


def test_a_suite_that_let_go_of_its_models_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    pair = (plain_candidate(), plain_candidate("b", model="zoo:anime"))
    run = SuiteRun(suite(candidates=pair), "s.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
    try:
        run.candidate(pair[0])
        before = run.bench
        run.release()
        assert run.bench is not before
        assert isinstance(run.candidate(pair[1]), Finished)
        assert run.costs(["photo", "b"]) == []
    finally:
        run.close()


@pytest.mark.usefixtures("painted")
def test_images_from_a_cache_that_are_not_the_candidates_fail_the_baseline(tmp_path: Path) -> None:
    """Somebody who can write to a shared cache replaced every picture."""
    import io

    from PIL import Image

    red = io.BytesIO()
    Image.new("RGB", (64, 64), (255, 0, 0)).save(red, "png")
    suite_of_one = suite(grid=tiny_grid(batch_size=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.run.image_making.to_png", lambda _: red.getvalue())
        go(tmp_path / "attacker", suite_of_one, cache=f"folder:{tmp_path / 'cache'}")
    done = go(tmp_path, suite_of_one, cache=f"folder:{tmp_path / 'cache'}")
    failure = done["photo"][0]  # type: ignore[index]
    assert failure.error == "SamplingError"  # type: ignore[union-attr]
    assert "is not the one that this candidate makes" in failure.message  # type: ignore[union-attr]
