"""A race of candidates with stages, or with a control, a reference and a mask, that is stopped, between two looks or within one,
ends like an unbroken one: in the looks, the pictures and what they were made of, the values, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import Candidate, Prompt, Suite, control_sweep, strength_sweep
from harness.check import problems
from harness.declare import Budget, Control, Inpaint, Objective, Reference, Stage
from harness.records import Defect, Intermediate, Journal, Look, Measurement, Sample
from harness.records.json_lines import to_line
from harness.run.images import Gallery
from harness.zoo import resolve
from reports.read.run import Run, load_run
from reports.verdict.recommending import recommend
from tests.fakes import tiny_grid, tiny_suite
from tests.race.painted import go, pictures

TEXTS = ("a red star", "a blue car", "an orange cat", "a green fish", "a purple cup")
PICTURES = {"map": "zoo:edges-fish-1", "look": "zoo:picture-fish-1", "mask": "mask.png"}
PROMPTS = tuple(Prompt(id=f"p{number}", text=text, split="select" if number < 4 else "confirm", pictures=PICTURES)
                for number, text in enumerate(TEXTS))
GUIDED = Candidate(name="", model="zoo:photo", inpaint=Inpaint(picture="look", mask="mask"),
                   references=(Reference(path="zoo:image-prompt", picture="look"),))
SWEPT: dict[str, tuple[Candidate, ...]] = {
    "strength": strength_sweep("zoo:photo", Stage(model="zoo:anime"), (0, 0.5, 1)),
    "control": control_sweep(GUIDED, Control(path="zoo:control-edges", picture="map"), (0, 0.5, 1))}


def suite(axis: str) -> Suite:
    candidates = SWEPT[axis]
    return tiny_suite(candidates=candidates, baseline=candidates[0].name, metrics=("exposure", "psnr"), gates=(),
                      latency_rounds=1, grid=tiny_grid(prompts=PROMPTS, guidance_scales=(4,), steps=4, batch_size=1),
                      objective=Objective(maximise="saturation", penalties=()),
                      budget=Budget(first_prompts=2, step_prompts=2, refine=axis, finest=0.25, enough=1e-6))


def run_of(root: Path, declared: Suite, **options: Any) -> Run:
    mask = Path(resolve("zoo:edges-star-2"))
    root.mkdir(exist_ok=True)
    (root / "mask.png").write_bytes(mask.read_bytes())
    assert problems(declared, root) == []
    go(root, declared, [one.name for one in declared.candidates], **options)
    return load_run(root / "runs" / declared.name)


def facts(run: Run) -> list[str]:
    """What the journal says of looks, pictures, defects and values, each once."""
    records = Journal(run.folder / "journal.jsonl").read()[0]
    return sorted({to_line(one) for one in records if isinstance(one, Look | Sample | Intermediate | Defect | Measurement)})


def stopped_within(stored: int) -> Callable[..., Any]:
    """The storing of images, stopped after so many."""
    original, left = Gallery.store, [stored]

    def store(gallery: Gallery, *of: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(gallery, *of)

    return store


@pytest.mark.parametrize("axis", SWEPT)
def test_a_race_that_was_stopped_ends_like_an_unbroken_one(axis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(axis)
    whole = run_of(tmp_path / "whole", declared)
    assert whole.head["added"]
    assert {look.stage for look in whole.looks} == {"select", "refine", "confirm"}
    with pytest.raises(KeyboardInterrupt):  # before the refinement
        run_of(tmp_path / "broken", declared, stop_after=6)
    for stored in (1, 2):  # within the refinement, and within the next look
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Gallery, "store", stopped_within(stored))
            run_of(tmp_path / "broken", declared)
    broken = run_of(tmp_path / "broken", declared)
    assert broken.looks == whole.looks
    assert facts(broken) == facts(whole)
    pd.testing.assert_frame_equal(broken.images, whole.images)
    assert recommend(broken) == recommend(whole)
    assert pictures(tmp_path / "broken") == pictures(tmp_path / "whole")
