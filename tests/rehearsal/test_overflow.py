"""A U-Net that overflows in float16 runs in bfloat16, as a whole and on record, unless a precision is declared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Candidate, Gate
from harness.cache import open_cache
from harness.cli import main
from harness.declare import Budget, Objective, Suite, plain
from harness.declare.effective_grid import largest_image
from harness.declare.post_steps import Temperature
from harness.executors.maker import Maker
from harness.materialise import declared_wider
from harness.race.race import Race
from harness.records import Defect, Failure, Finished, Journal, Sample
from harness.run.progress import Silent
from harness.run.shared_setting import SharedSetting
from harness.run.shared_work import SharedWork
from harness.run.suite_run import Options, SuiteRun
from harness.run.work_parts import parts_of
from harness.sampling import NOT_FINITE, sample
from harness.session.options import SessionOptions
from harness.session.suite_session import SuiteSession
from reports.read.run import load_run
from reports.verdict.cells import caveats
from tests.benchmarks.gpu_stages.whole_runs import SUITE_FILE
from tests.fakes import tiny_grid
from tests.race.painted import scripted
from tests.rehearsal.simulated_cuda import simulated
from tests.run.test_any_family import suite_of
from tests.weights.pipelines import folder_of, theirs

WARM = 0.5
BY_SATURATION: dict[str, Any] = {"metrics": ("exposure",), "objective": Objective(maximise="saturation", penalties=())}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("overflow"))


def write_models(root: Path) -> Path:
    """Models of one architecture: `a`, `warm`, of which one bias is known, `hot`, whose activations leave float16's range, and
    `beyond`, whose weights do."""
    pipe = theirs("sd1")
    folder_of(pipe, root / "a")
    with torch.no_grad():
        before = pipe.unet.conv_in.bias[0].clone()
        pipe.unet.conv_in.bias[0] = WARM
        folder_of(pipe, root / "warm")
        pipe.unet.conv_in.bias[0] = before
        pipe.unet.conv_in.weight.mul_(6e4 / pipe.unet.conv_in.weight.abs().max())
        folder_of(pipe, root / "hot")
        pipe.unet.conv_in.weight.mul_(2)
        folder_of(pipe, root / "beyond")
    return root


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with simulated():
        yield


def declared(hot: str = "hot", **changes: Any) -> Suite:
    suite = suite_of("sd1", steps=1, guidance_scales=(3,))
    candidates = (Candidate(name="a", model="a"), Candidate(name="hot", model=hot, **changes))
    return replace(suite, candidates=candidates, baseline="a")


def ran(suite: Suite, root: Path, runs: Path, *, file: str = "", **options: Any) -> tuple[
        SuiteRun, dict[str, Finished | list[Failure]]]:
    run = SuiteRun(suite, file, Options(root=root, runs=runs, device="cuda", **options), Silent())
    try:
        assert run.preflight() == []
        return run, {c.name: run.candidate(c) for c in run.suite.candidates}
    finally:
        run.close()


def in_bf16(run: SuiteRun) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((run.folder / "run.json").read_text()).get("in_bf16", {})
    return entries


@pytest.mark.parametrize(("model", "quantization", "why"), [
    ("hot", "", NOT_FINITE), ("hot", "int8_weight_only", NOT_FINITE), ("beyond", "", "beyond the range of float16"),
    ("beyond", "int4_weight_only", "beyond the range of fp16")])
def test_a_candidate_that_overflows_is_made_in_bf16_as_a_whole(model: str, quantization: str, why: str, root: Path,
                                                               tmp_path: Path) -> None:
    changes = {"quantization": quantization} if quantization else {}
    run, done = ran(declared(model, **changes), root, tmp_path)
    assert all(isinstance(one, Finished) for one in done.values()), done
    records = Journal(run.folder / "journal.jsonl").read()[0]
    identities = {record.identity for record in records if isinstance(record, Finished) and record.candidate == "hot"}
    asked = run.bench.weights(replace(run.suite.candidates[1], precision="bf16")).identity
    (entry,) = in_bf16(run).values()
    assert (identities, entry["identity"], why in entry["why"]) == ({asked}, asked, True)
    assert entry["in_fp16"] == run.bench.weights(replace(run.suite.candidates[1], precision="fp16")).identity
    assert not [record for record in records if isinstance(record, Defect)]
    # A promotion declares the format that was measured.
    assert declared_wider(run.suite.candidates[1], asked, in_bf16(run)).precision == "bf16"
    assert declared_wider(run.suite.candidates[1], "other weights", in_bf16(run)).precision == ""
    assert len(list(run.folder.rglob("images/hot/*.png"))) == len(run.gallery.cells("hot"))


def test_the_page_says_which_candidate_ran_in_bf16_and_that_formats_differ(root: Path, tmp_path: Path) -> None:
    run, _ = ran(declared(), root, tmp_path)
    sentences = " ".join(caveats(load_run(run.folder), ()))
    assert "hot ran in bf16" in sentences
    assert NOT_FINITE in sentences
    assert "different number formats" in sentences
    assert "fp16: a" in sentences


def test_the_next_session_makes_nothing_again_and_other_weights_are_tried_in_fp16(root: Path, tmp_path: Path) -> None:
    first, _ = ran(declared(), root, tmp_path)
    again, done = ran(declared(), root, tmp_path)
    assert [one.sampled for one in done.values() if isinstance(one, Finished)] == [0, 0]
    assert in_bf16(again) == in_bf16(first) != {}
    other, _ = ran(declared("a", quantization="int8_weight_only"), root, tmp_path)
    assert in_bf16(other) == {}
    fresh, done = ran(declared(), root, tmp_path, fresh=True)
    assert [one.sampled > 0 for one in done.values() if isinstance(one, Finished)] == [True, True]
    assert in_bf16(fresh) == in_bf16(first)


def test_another_run_finds_what_was_made_in_bf16_in_a_shared_cache(root: Path, tmp_path: Path) -> None:
    address = f"folder:{tmp_path / 'shared'}"
    first, _ = ran(declared(), root, tmp_path / "one", cache=address)
    second, done = ran(declared(), root, tmp_path / "two", cache=address)
    assert [one.sampled for one in done.values() if isinstance(one, Finished)] == [0, 0]
    assert in_bf16(first) == in_bf16(second) != {}


@pytest.mark.parametrize("changes", [{}, {"post": (Temperature(max_kelvin=5000),)}], ids=["plain", "post-steps"])
def test_workers_that_meet_an_overflow_let_the_run_know(changes: dict[str, Any], root: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    for what in ("keep_freed_memory", "load_libraries"):
        monkeypatch.setattr(f"harness.run.shared_setting.{what}", lambda **_: None)
    suite, address = declared(**changes), f"folder:{tmp_path / 'shared'}"
    for _ in range(2):
        setting = SharedSetting.of(suite, "", "cuda", root)
        outcome = SharedWork(suite=suite, head=setting.head, maker=setting.maker, cache=open_cache(address, largest_image(suite)),
                             claims=None, sample_of=setting.sampled, say=lambda _: None).go(parts_of(suite, suite.candidates))
        assert (outcome.failures, outcome.owed) == ({}, {})
    assert outcome.made == 0
    make, tried = Maker.make, list[str]()
    monkeypatch.setattr(Maker, "make", lambda self, unit: (
        tried.extend([unit.candidate.name] * len(unit.cells)), make(self, unit))[1])
    run, done = ran(suite, root, tmp_path / "run", cache=address)
    assert "hot" not in tried, "it is not tried in fp16 once more"
    assert [one.sampled for one in done.values() if isinstance(one, Finished)] == [0, 0]
    assert in_bf16(run) != {}


def test_costs_are_taken_in_the_format_of_the_images(root: Path, tmp_path: Path) -> None:
    run = SuiteRun(replace(declared(), latency_rounds=1), "", Options(root=root, runs=tmp_path, device="cuda"), Silent())
    try:
        assert all(isinstance(run.candidate(c), Finished) for c in run.suite.candidates)
        run.release()
        assert run.costs(["a", "hot"]) == []
        denoiser = run.bench.prepare(run.suite.candidates[1]).pipeline.denoiser
        assert {p.dtype for p in denoiser.parameters()} == {torch.bfloat16}
    finally:
        run.close()


@pytest.mark.parametrize(("changes", "model"), [({"precision": "fp16"}, "hot"), ({"quantization": "fp16"}, "hot"),
                                                ({"precision": "fp16"}, "beyond")])
def test_a_declared_fp16_that_overflows_is_an_error_with_a_way_out(changes: dict[str, str], model: str, root: Path,
                                                                   tmp_path: Path) -> None:
    run, done = ran(declared(model, **changes), root, tmp_path)
    failures = done["hot"]
    assert isinstance(failures, list)
    assert "precision='bf16'" in failures[0].message
    assert in_bf16(run) == {}
    _, mended = ran(declared(model, precision="bf16"), root, tmp_path)
    assert isinstance(mended["hot"], Finished)


def test_images_that_an_earlier_version_kept_in_fp16_are_made_again(root: Path, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("harness.materialise.Workbench.may_widen", lambda *_: False)
        run, done = ran(declared(), root, tmp_path)
        assert isinstance(done["hot"], list)
        assert any(isinstance(record, Defect) for record in Journal(run.folder / "journal.jsonl").read()[0])
    run, done = ran(declared(), root, tmp_path)
    assert isinstance(done["hot"], Finished)
    samples = {record.key for record in Journal(run.folder / "journal.jsonl").read()[0] if isinstance(record, Sample)}
    assert not any(run.ledger.defect(key) for key in samples)


def test_a_gpu_that_only_emulates_bf16_keeps_fp16_and_says_what_to_do(root: Path, tmp_path: Path) -> None:
    with simulated(capability=(7, 5)):
        run, done = ran(declared(), root, tmp_path)
        failures = done["hot"]
        assert isinstance(failures, list)
        assert "'fp32'" in failures[0].message
        assert in_bf16(run) == {}


def test_a_candidate_that_ran_in_bf16_is_promoted_in_bf16(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    suite = replace(declared(), gates=(Gate(value="coverage"),), **BY_SATURATION)
    file = tmp_path / "suite.py"
    file.write_text(SUITE_FILE.format(text=json.dumps(plain(suite))))
    run, _ = ran(suite, root, tmp_path / "runs", file=str(file))
    monkeypatch.chdir(root)
    code = main(["promote", "hot", "--run", str(run.folder), "--as", "hot", "--models", str(tmp_path / "models"),
                 "--policy", "inconclusive=pass", "--suite", str(file)])
    output = capsys.readouterr()
    assert code == 0, output.err
    # Weights and images are those of the run: both were made in bf16 here, or they would be infinite.
    assert "bit for bit" in output.out
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "models/hot/records").glob("*.json"))
    (entry,) = in_bf16(run).values()
    assert (record["candidate"], record["weights"]["identity"]) == ("hot", entry["identity"])
    assert record["resampled"]["equal"] == record["resampled"]["cells"] > 0


@pytest.mark.parametrize("late", [False, True], ids=["at the first image", "at a later look"])
def test_a_race_in_which_a_candidate_overflows_makes_all_of_it_in_bf16(late: bool, root: Path, tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """A later look asks for the images that earlier ones asked for as well, so that what is compared was made alike."""
    monkeypatch.setattr("harness.race.elimination.judge_look", scripted(
        {"candidates": ("a", "hot"), "guidances": (3.0,), "best": ("hot", 3.0), "pick": ("hot", 3.0)},
        {"candidates": ("a", "hot"), "guidances": (3.0,), "best": ("hot", 3.0), "pick": ("hot", 3.0), "done": True}))
    monkeypatch.setattr("harness.race.elimination.confirm_plan", lambda *_: (("a", "hot"), (3.0,)))
    suite, prompts = declared("warm" if late else "hot"), tiny_grid().prompts
    if late:
        monkeypatch.setattr("harness.executors.maker.sample", overflowing_at(prompts[1].id))
    suite = replace(suite, grid=replace(suite.grid, prompts=prompts, batch_size=1), gates=(),
                    budget=Budget(first_prompts=1, step_prompts=1), **BY_SATURATION)
    options = SessionOptions(root=root, runs=tmp_path, baselines=tmp_path / "b", device="cuda")
    session = SuiteSession(suite, "s.py", options, Silent())
    session.select(suite.candidates)
    try:
        assert [session.candidate(c) for c in suite.candidates] == [[], []]
        assert Race(session, suite.budget).go() == []
        run = session.run()
        (entry,) = in_bf16(run).values()
        assert {look.stage for look in run.ledger.looks(run.race)} == {"select", "confirm"}
        samples = run.gallery.at_hand("hot")
        assert {s.cell for s in samples} >= set(run.gallery.wanted("hot"))
        assert len({s.cell.prompt for s in samples}) > 2
        assert run.ledger.identity("hot") == entry["identity"]
        assert not any(run.ledger.defect(s.key) for s in samples)
    finally:
        session.close()


def overflowing_at(prompt: str) -> Any:
    """Sampling in which the U-Net of `warm` overflows in fp16 at one prompt."""
    def overflowing(phases: Any, grid: Any, todo: Any, texts: Any, note: Any = None, later: Any = None) -> Iterator[Any]:
        for cells, made in sample(phases, grid, todo, texts, note, later):
            denoiser = phases[0].enter().denoiser
            if note is not None and next(denoiser.parameters()).dtype is torch.float16 and denoiser.conv_in.bias[0] == WARM:
                for cell in cells:
                    if cell.prompt == prompt:
                        note(cell, NOT_FINITE)
            yield cells, made

    return overflowing
