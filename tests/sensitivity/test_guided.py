"""A candidate that pictures of the prompts guide: its forwards are measured with them, and its file is one of theirs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness import Candidate, Control, Inpaint, Prompt, Suite
from harness.run.progress import Silent
from harness.sensitivity import PROBE, Gauging, Subject, SubjectError, measured, subject_of
from harness.sensitivity.gauges import Forwards, forwards_of
from tests.control.adapters import adapter, pipeline_of
from tests.fakes import tiny_grid
from tests.weights.pipelines import folder_of

PROMPT = Prompt(id="star", text="a", pictures={"edges": "a.png", "unused": "c.png"})
GUIDED = Candidate(name="guided", model="sd1", controls=(Control(path="t2i", picture="edges"),))


INPAINTED = Candidate(name="inpainted", model="sd1", inpaint=Inpaint(picture="look", mask="hole"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    folder_of(pipeline_of("sd1"), root / "sd1")
    adapter().save_pretrained(root / "t2i")
    return root


@pytest.fixture(autouse=True)
def pictures(root: Path) -> None:
    for seed, name in enumerate(("a", "b", "c")):
        draw(root / f"{name}.png", seed)


def draw(file: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)


def subject(root: Path, prompt: Prompt = PROMPT, candidate: Candidate = GUIDED) -> Subject:
    grid = tiny_grid(prompts=(prompt,), steps=4, sampler="euler", width=32, height=32, guidance_scales=(4,))
    suite = Suite(name="tiny", candidates=(candidate,), baseline=candidate.name, grid=grid)
    return subject_of(suite, candidate.name, "cpu", root)


def test_forwards_are_repeated_with_the_adapter(root: Path) -> None:
    of = subject(root)
    prepared = of.prepared()
    outputs: list[torch.Tensor] = []
    hook = prepared.pipeline.denoiser.register_forward_hook(
        lambda _, __, output: outputs.append((output[0] if isinstance(output, tuple) else output.sample).clone()))
    gauge = forwards_of(of, prepared, of.cells(("star",), (1,)))
    hook.remove()
    run, repeated = outputs[:4], outputs[4:]
    assert len(repeated) == 4
    for before, again in zip(run, repeated, strict=True):
        torch.testing.assert_close(again, before, rtol=0, atol=0)
    assert [gauge.error(), gauge.error()] == [0, 0]


def test_a_list_that_the_denoiser_empties_is_whole_in_every_forward() -> None:
    class Emptying(torch.nn.Module):
        def forward(self, x: torch.Tensor, added: dict[str, list[torch.Tensor]]) -> tuple[torch.Tensor]:
            return (x + added["features"].pop(0),)

    one = torch.ones(2)
    gauge = Forwards(denoiser=Emptying(), calls=[((one,), {"added": {"features": [one]}})], predictions=[2 * one],
                     within=nullcontext)
    assert [gauge.error(), gauge.error()] == [0, 0]


def in_syntax(text: str, **changes: Any) -> Prompt:
    return Prompt(**{"id": "star", "text": text, "syntax": "a1111", "pictures": PROMPT.pictures, **changes})


@pytest.mark.parametrize(("one", "other"), [
    (in_syntax("a [cat:dog:0.5]"), in_syntax("a [lion:dog:0.5]")),
    (in_syntax("a [cat:dog:0.5]"), in_syntax("a [cat:dog:0.8]")),
    (in_syntax("a", negative="[cat:dog:0.5]"), in_syntax("a", negative="[cat:lion:0.5]")),
    (in_syntax("(a)"), in_syntax("(a)", syntax="plain")),
    (PROMPT, Prompt(id="star", text="a", pictures={**PROMPT.pictures, "edges": "b.png"})),
])
def test_other_texts_and_pictures_are_another_measurement(root: Path, one: Prompt, other: Prompt) -> None:
    assert subject(root, one).identity() != subject(root, other).identity()


def test_a_file_of_another_picture_is_refused(root: Path, tmp_path: Path) -> None:
    out, gauging = tmp_path / "out.json", Gauging(kind=PROBE, prompts=("star",))
    measured(subject(root), ["nf4"], gauging, out, Silent())
    measured(subject(root), ["nf4"], gauging, out, Silent())
    draw(root / "a.png", 7)
    with pytest.raises(SubjectError, match="another measurement"):
        measured(subject(root), ["nf4"], gauging, out, Silent())


@pytest.mark.parametrize("name", ["look", "hole"])
def test_the_picture_and_the_mask_of_an_inpainting_are_in_the_identity(root: Path, name: str) -> None:
    pictures = {"look": "a.png", "hole": "b.png"}
    one, other = (Prompt(id="star", text="a", pictures=files) for files in (pictures, pictures | {name: "c.png"}))
    assert subject(root, one, INPAINTED).identity() != subject(root, other, INPAINTED).identity()


def test_a_picture_that_the_candidate_does_not_use_does_not_matter(root: Path) -> None:
    before = subject(root).identity()
    draw(root / "c.png", 7)
    assert subject(root).identity() == before
