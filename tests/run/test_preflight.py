"""What the model files say against a suite is said before the first image, and of many candidates once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import Alphas, Blocks, Budget, Candidate, Merge, Objective, Search, Suite, alpha_sweep, run_suite
from harness.materialise import Workbench
from harness.run.device_refusals import refusal
from harness.run.preflight import file_problems, search_remarks
from tests.fakes import tiny_grid, tiny_suite
from tests.painted import paint_runs


@pytest.fixture(autouse=True)
def zoo_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))


def said(root: Path, suite: Suite) -> list[str]:
    bench = Workbench(device="cpu", root=root)
    return file_problems(suite, list(suite.candidates), bench, bench.equalities(suite.candidates), lambda *_: None)


def test_a_part_that_no_model_has_is_said_once_for_all_candidates(tmp_path):
    candidates = alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1), parts=("text_encoder_2",))
    listed = said(tmp_path, tiny_suite(candidates=candidates, baseline="alpha=0"))
    assert len(listed) == 1
    assert listed[0].startswith("suite 'tiny', candidates 'alpha=0', 'alpha=0.5' and 'alpha=1': text_encoder_2: A (zoo:photo)")


def test_two_candidates_with_equal_weights_are_named(tmp_path):
    made = [Candidate(name=name, model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, parts=parts))
            for name, parts in (("x", ("unet", "vae")), ("y", ("vae", "unet")))]
    listed = said(tmp_path, tiny_suite(candidates=made, baseline="x"))
    assert len(listed) == 1
    assert "'x' and 'y' have equal weights" in listed[0]


def test_of_two_candidates_with_equal_weights_the_second_is_not_sampled(tmp_path, monkeypatch):
    """Also where nobody looks at the preflight."""
    monkeypatch.chdir(tmp_path)
    paint_runs(monkeypatch)
    made = [Candidate(name=name, model=Merge(a="zoo:photo", b="zoo:anime", alpha=alpha))
            for name, alpha in (("x", 0.5), ("y", Alphas(default=0.5)), ("z", 0.25))]
    suite = tiny_suite(candidates=made, baseline="x", metrics=("exposure",), gates=(), budget=None,
                       grid=tiny_grid(seeds=(1,), width=16, height=16), objective=Objective(maximise="saturation", penalties=()))
    run = run_suite(suite, progress=False)
    assert [(failure.candidate, "'x' and 'y' have equal weights" in failure.message) for failure in run.failures] == [("y", True)]
    assert set(run.images["candidate"]) == {"x", "z"}
    assert not run.complete


@pytest.mark.parametrize(("blocks", "words"), [(9, []), (10, ["the block BASE", "blocks=9"]), (25, ["25 block weights"])])
def test_the_merge_of_a_search_is_planned_before_the_first_image(blocks, words, tmp_path):
    search = Search(merge=Merge(a="zoo:photo", b="zoo:anime"), guidance=4, blocks=blocks, presets=())
    listed = said(tmp_path, tiny_suite(search=search, budget=Budget()))
    assert len(listed) == bool(words)
    assert [word for word in words if word not in listed[0]] == []


@pytest.mark.parametrize(("parts", "blocks", "follows"), [
    (("text_encoder",), 10, (("text_encoder", "denoiser"), 10)), (("vae", "denoiser"), 9, (("vae", "denoiser"), 10)),
    (("text_encoder",), 10, (("denoiser", "text_encoder"), 10)), (("denoiser",), 10, (("denoiser",), 9)),
    (("unet",), 10, (("unet", "text_encoder"), 10))])
def test_a_search_that_has_no_tensors_is_refused_with_a_way_out_that_works(
        parts: tuple[str, ...], blocks: int, follows: tuple[tuple[str, ...], int], tmp_path: Path) -> None:
    def listed(parts: tuple[str, ...], blocks: int) -> list[str]:
        search = Search(merge=Merge(a="zoo:photo", b="zoo:anime", parts=parts), guidance=4, blocks=blocks, presets=())
        return said(tmp_path, tiny_suite(search=search, budget=Budget()))

    (problem,) = listed(parts, blocks)
    assert "give 0" not in problem.lower()
    assert "give base" not in problem
    assert ("'denoiser'" if len(follows[0]) > len(parts) and "unet" not in parts else "parts") in problem
    assert listed(*follows) == []


@pytest.mark.parametrize(("blocks", "merge", "idle"), [
    (9, {}, ()),
    (10, {"parts": ("unet", "text_encoder")}, ("BASE",)),  # the zoo's parents have one text encoder
    (9, {"alpha": Alphas(default=Blocks(values=(0,) * 9), keys={"*output_blocks.[012].*": 0.3})}, ("OUT00", "OUT01", "OUT02")),
])
def test_blocks_of_a_search_that_change_no_tensor_are_named(
        blocks: int, merge: dict[str, Any], idle: tuple[str, ...], tmp_path: Path) -> None:
    search = Search(merge=Merge(a="zoo:photo", b="zoo:anime", **merge), guidance=4, blocks=blocks, presets=())
    suite, bench = tiny_suite(search=search, budget=Budget()), Workbench(device="cpu", root=tmp_path)
    assert bench.idle_blocks(search) == idle
    assert said(tmp_path, suite) == []
    remarks = search_remarks(suite, bench)
    assert len(remarks) == bool(idle)
    assert all(block in remark for remark in remarks for block in idle)


def test_a_search_of_models_with_equal_blocks_is_refused(tmp_path: Path) -> None:
    search = Search(merge=Merge(a="zoo:photo", b="zoo:photo"), guidance=4, blocks=9, presets=())
    (problem,) = said(tmp_path, tiny_suite(search=search, budget=Budget()))
    assert "no block weight changes a tensor" in problem


def test_a_precision_that_a_device_does_not_offer_is_named_like_a_quantization() -> None:
    for declared in ({"precision": "fp16"}, {"quantization": "fp16"}):
        assert "fp16 is not offered on cpu" in refusal(Candidate(name="c", model="zoo:photo", **declared), "cpu")  # type: ignore[arg-type]
    assert not refusal(Candidate(name="c", model="zoo:photo"), "cpu")
