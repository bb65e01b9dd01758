"""What is refused, and in which words: gates, gaps, changed files and suites, candidates that are no single file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness import Adapter, Candidate, Ensemble, Gate, Merge, Relay
from harness.commands import promote as command
from harness.materialise import Workbench
from harness.promotion import PromotionError, promoting, resampling
from harness.promotion import eligibility as deciding
from harness.promotion import export as fusing
from tests.adapters.test_hypernetwork import pairs, stored

COVERAGE = Gate(value="coverage")


def words(candidate: str = "alpha=0.5", *more: str) -> tuple[str, ...]:
    return ("promote", candidate, "--run", "runs/tiny", "--as", "blend", *more)


def middling(folder: Path, candidate: str) -> Gate:
    """A limit at the mean CLIP score of the candidate's confirm prompts at the recommended guidance: nobody can decide it."""
    from reports import load_run, recommend

    run = load_run(folder)
    images = run.images
    rows = images[(images["candidate"] == candidate) & (images["guidance"] == recommend(run).guidance)
                  & (images["split"] == "confirm")]
    return Gate(value="clip_score", at_least=float(rows["clip_score"].mean()))


def nothing_is_published() -> bool:
    return not list(Path("models").rglob("*.json")) and not list(Path("models").rglob("*.safetensors"))


def test_a_failed_gate_is_named_with_what_was_observed(work, sweetspot):
    work([COVERAGE, Gate(value="clip_score", at_least=1000)])
    code, _, err = sweetspot(*words())
    assert code == 1
    assert "suite 'tiny', candidate 'alpha=0.5': gate 'clip_score at_least 1000' on candidate 'alpha=0.5' is failed" in err
    assert nothing_is_published()


def test_a_failed_gate_on_another_candidate_refuses_too(work, sweetspot):
    work([COVERAGE, Gate(value="clip_score", at_least=1000, candidates=("alpha=1",))])
    code, _, err = sweetspot(*words())
    assert (code, "on candidate 'alpha=1' is failed" in err) == (1, True)


def test_an_inconclusive_gate_refuses_unless_the_policy_allows_it(ran, work, sweetspot):
    work([COVERAGE, middling(ran / "runs/tiny", "alpha=0.5")])
    code, _, err = sweetspot(*words())
    assert (code, "is inconclusive" in err, "--policy inconclusive=pass" in err) == (1, True, True)
    assert nothing_is_published()
    code, out, _ = sweetspot(*words("alpha=0.5", "--policy", "inconclusive=pass"))
    assert (code, "was allowed" in out) == (0, True)
    assert json.loads(Path("models/blend/records/0001.json").read_text())["policy"] == "inconclusive=pass"


def test_a_gate_that_was_not_measured_refuses_whatever_the_policy(work, sweetspot):
    work([COVERAGE, Gate(value="seconds_per_image", at_most=100)])
    code, _, err = sweetspot(*words("alpha=0.5", "--policy", "inconclusive=pass"))
    assert (code, "is not measured" in err) == (1, True)


def test_gates_that_are_all_about_others_say_nothing(work, sweetspot):
    work([Gate(value="coverage", candidates=("alpha=1",))])
    code, _, err = sweetspot(*words())
    assert (code, "no gate of the suite applies to this candidate" in err) == (1, True)


def test_a_changed_input_is_named(work, sweetspot):
    work()
    with Path("parents/photo.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    code, _, err = sweetspot(*words())
    assert (code, "input 'parents/photo.safetensors' has changed since the run" in err) == (1, True)
    Path("parents/photo.safetensors").unlink()
    assert "can no longer be read" in sweetspot(*words())[2]


def test_a_changed_suite_is_named_with_what_changed(work, sweetspot):
    work()
    file = Path("suites/tiny.py")
    file.write_text(file.read_text().replace("a red star", "a red sun"))
    code, _, err = sweetspot(*words())
    assert (code, "suites/tiny.py has changed since the run in runs/tiny: grid" in err) == (1, True)


def test_a_run_of_the_suite_at_batch_size_one_is_not_another_suite(work, sweetspot):
    root = work()
    head = json.loads((root / "runs/tiny/run.json").read_text())
    head["suite"]["grid"]["batch_size"] = 1
    evidence = type("E", (), {"head": head, "suite": None, "candidate": "", "folder": root / "runs/tiny"})()
    deciding.refuse_changed_suite(evidence, None, root)


@pytest.mark.parametrize("named", ["../evil/suites/x.py", "/etc/suites/x.py", "runs/tiny/suites/x.py", "x.py", "", 7, "a\0b",
                                   None])
def test_only_a_suite_file_below_here_is_run_unasked(named, work, sweetspot):
    root = work()
    for evil in (root / "../evil/suites/x.py", root / "runs/tiny/suites/x.py", root / "x.py"):
        evil.parent.mkdir(parents=True, exist_ok=True)
        evil.write_text("from pathlib import Path\nPath('ran').touch()")
    head = json.loads((root / "runs/tiny/run.json").read_text())
    (root / "runs/tiny/run.json").write_text(json.dumps({**head, "suite_file": named}))
    code, _, err = sweetspot(*words())
    assert (code, "Give --suite FILE" in err, Path("ran").exists()) == (1, True, False)


def test_a_suite_file_that_the_user_names_is_run(work, sweetspot):
    root = work()
    (root / "x.py").write_text((root / "suites/tiny.py").read_text())
    (root / "suites/tiny.py").unlink()
    assert sweetspot(*words())[0] == 1
    assert sweetspot(*words("alpha=0.5", "--suite", "x.py"))[0] == 0


@pytest.mark.parametrize("text", ["1 / 0", "import sys; sys.exit(3)", "SUITE = 3", "def"])
def test_a_suite_file_that_is_none_is_refused(text, work, sweetspot):
    work()
    Path("suites/tiny.py").write_text(text)
    code, _, err = sweetspot(*words())
    assert (code, "suites/tiny.py" in err) == (1, True)


@pytest.mark.parametrize(("candidate", "said"), [
    ("quantized", "is quantized (bf16)"), ("by step", "acts from 0 to 0.5 of the steps"), ("emphasised", "has emphasis")])
def test_what_a_single_file_cannot_hold_is_refused_with_what_to_do(candidate, said, work, sweetspot):
    work()
    code, _, err = sweetspot(*words(candidate))
    assert (code, said in err, "Fused(model=..., adapters=(...))" in err) == (1, True, True)


def test_a_textual_inversion_is_refused_with_what_to_do():
    candidate = Candidate(name="x", model="zoo:base", adapters=(Adapter(path="zoo:sketch-word"),))
    with pytest.raises(PromotionError, match=r"works only at run time \(.*textual inversion.*Fused\(model"):
        fusing.as_one_file(candidate, Workbench(device="cpu", root=Path()))


def test_a_hypernetwork_is_refused_with_what_to_do(tmp_path):
    torch.save(stored(pairs()), tmp_path / "net.pt")
    candidate = Candidate(name="x", model="zoo:base", adapters=(Adapter(path=str(tmp_path / "net.pt")),))
    with pytest.raises(PromotionError, match=r"works only at run time \(.*hypernetwork.*Fused\(model"):
        fusing.as_one_file(candidate, Workbench(device="cpu", root=Path()))


BOTH = ("zoo:photo", "zoo:anime")


@pytest.mark.parametrize(("model", "said"), [
    (Relay(models=BOTH, at=(0.5,)), "a relay"), (Ensemble(models=BOTH, weights=(0.5, 0.5)), "an ensemble.*Merge")])
def test_several_models_are_refused_with_what_to_do_which_works(model, said):
    bench = Workbench(device="cpu", root=Path())
    with pytest.raises(PromotionError, match=f"'x'.*{said}"):
        fusing.as_one_file(Candidate(name="x", model=model), bench)
    for instead in (*BOTH, Merge(a=BOTH[0], b=BOTH[1], alpha=0.5)):
        alone = Candidate(name="x", model=instead)
        assert fusing.as_one_file(alone, bench) == alone


def test_an_unfinished_run_is_refused(work, sweetspot):
    work()
    journal = Path("runs/tiny/journal.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if not all(
        word in line for word in ('"kind":"sample"', '"alpha=1"', "fish"))))
    Path("runs/tiny/journal.index").unlink(missing_ok=True)
    code, _, err = sweetspot(*words())
    assert (code, "the run is incomplete: candidate 'alpha=1' lacks image in 2 cells (not sampled yet)" in err) == (1, True)


def test_a_candidate_that_never_finished_is_refused(work, sweetspot):
    work()
    journal = Path("runs/tiny/journal.jsonl")
    kept = [line for line in journal.read_text().splitlines(keepends=True) if '"kind":"finished"' not in line]
    journal.write_text("".join(kept))
    assert "did not go through all stages" in sweetspot(*words())[2]


def test_images_that_come_out_otherwise_are_refused(work, sweetspot):
    """The run's images replaced together with their hashes in the journal, as somebody would who forges a run."""
    import hashlib

    work()
    journal = Path("runs/tiny/journal.jsonl")
    text = journal.read_text()
    for path in Path("runs/tiny/images/alpha=0.5").glob("*.png"):
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(path)
        text = text.replace(before, hashlib.sha256(path.read_bytes()).hexdigest())
    journal.write_text(text)
    Path("runs/tiny/journal.index").unlink(missing_ok=True)
    code, _, err = sweetspot(*words())
    assert (code, "0 of 4 re-sampled images are equal" in err, nothing_is_published()) == (1, True, True)


def test_adapters_fused_at_another_weight_are_no_rounding(work, sweetspot, monkeypatch):
    def stronger(candidate, bench):
        return fusing.as_one_file(replace(candidate, adapters=(replace(candidate.adapters[0], weight=0.7),)), bench)

    work()
    monkeypatch.setattr(promoting, "as_one_file", stronger)
    code, _, err = sweetspot(*words("adapted"))
    assert (code, "more than a mean of 1 for fused adapters" in err, nothing_is_published()) == (1, True, True)


def test_a_file_that_does_not_hold_what_was_measured_is_refused(work, sweetspot, monkeypatch):
    from harness.materialise import saving

    def other(plan, library, path, title):
        saving.save(plan, library, path, title)
        with path.open("r+b") as file:
            file.seek(-2, 2)
            file.write(b"\x12\x34")

    work()
    monkeypatch.setattr(fusing, "save", other)
    code, _, err = sweetspot(*words())
    assert (code, "does not hold what was measured: 1 of" in err, nothing_is_published()) == (1, True, True)


@pytest.mark.parametrize(("cpu", "floor", "outcome"), [
    ("", 1, (1, "must be equal where the environment is the run's")),
    ("", 255, (1, "must be equal where the environment is the run's")),
    ("another", 0, (1, "the run's noise floor is 0 levels")),
    ("another", 1, (0, "within the run's noise floor of 1 levels, which is allowed because the environment differs")),
    ("another", 255, (1, "noise floor of 255 levels is more than rounding makes")),
])
def test_only_another_environment_allows_a_difference_and_only_a_small_one(cpu, floor, outcome, work, sweetspot, monkeypatch):
    """Every re-sampled image is one level off."""
    root, (code, word) = work(), outcome
    if cpu:
        head = json.loads((root / "runs/tiny/run.json").read_text())
        head["environment"]["cpu"] = cpu
        (root / "runs/tiny/run.json").write_text(json.dumps(head))
    made = resampling._made
    monkeypatch.setattr(resampling, "_made", lambda *given: {
        cell: np.where(image < 255, image + 1, image - 1).astype(np.uint8) for cell, image in made(*given).items()})
    journal = Path("runs/tiny/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    changed = [{**line, "largest_levels": floor} if line["kind"] == "noise_floor" else line for line in lines]
    journal.write_text("".join(json.dumps(line) + "\n" for line in changed))
    found, out, err = sweetspot(*words())
    assert (found, word in out + err) == (code, True)


def test_a_device_that_is_none_and_one_that_is_not_here(work, sweetspot):
    root = work()
    head = json.loads((root / "runs/tiny/run.json").read_text())
    for device, said in (("cuda:99", "device cuda:99"), ("; rm", "expected cpu, cuda"), (None, "expected cpu")):
        head["environment"]["device"] = device
        (root / "runs/tiny/run.json").write_text(json.dumps(head))
        assert said in sweetspot(*words())[2]


def test_the_policies_of_the_command_are_those_of_the_decision():
    assert command._POLICIES == deciding.POLICIES
