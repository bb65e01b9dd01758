"""Models of every family go through a whole run: merged, sampled, measured and journalled, with one way for all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness import Candidate, Grid, Merge, Objective, Prompt, Sampling, Suite
from harness.materialise import Workbench
from harness.records import Finished
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.samplers import SAMPLERS
from harness.sampling.text import TextState
from harness.weights import Pipeline
from tests.weights.pipelines import CALLED, FAMILIES, folder_of, theirs

PROMPTS = (Prompt(id="one", text="abc"), Prompt(id="two", text="xyz", negative="b", split="confirm"))


def grid_of(family: str, **changes: object) -> Grid:
    values = {"prompts": PROMPTS, "seeds": (1,), "guidance_scales": (1, 3), "steps": 2, "width": 32, "height": 32,
              "batch_size": 3, "sampler": "flow_euler" if family in CALLED else "euler", **changes}
    if family == "flux":
        values["prompts"] = tuple(Prompt(id=p.id, text=p.text, split=p.split) for p in PROMPTS)
    return Grid(**values)  # type: ignore[arg-type]


def suite_of(family: str, **changes: object) -> Suite:
    """Two ends and the middle of a merge of a model with itself, moved."""
    component = "transformer" if family in CALLED else "unet"
    merges = [Candidate(name=f"alpha={alpha:g}", axes={"alpha": alpha},
                        model=Merge(a="a", b="b", alpha=alpha, parts=(component,))) for alpha in (0.0, 0.5)]
    return Suite(name=family, candidates=tuple(merges), baseline="alpha=0", grid=grid_of(family, **changes),
                 metrics=("psnr", "exposure"), objective=Objective(maximise="psnr_db", penalties=()),
                 latency_rounds=1)


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp(request.param)
    pipe = theirs(request.param)
    folder_of(pipe, root / "a")
    with torch.no_grad():
        for value in (pipe.transformer if request.param in CALLED else pipe.unet).parameters():
            value.mul_(1.2)
    folder_of(pipe, root / "b")
    return request.param, root


def test_a_suite_of_any_family_is_merged_sampled_and_measured(made: tuple[str, Path], tmp_path: Path) -> None:
    family, root = made
    run = SuiteRun(suite_of(family), "suite.py", Options(root=root, runs=tmp_path), Silent())
    try:
        assert run.preflight() == []
        done = [run.candidate(candidate) for candidate in run.suite.candidates]
        failed = run.costs([candidate.name for candidate in run.suite.candidates])
    finally:
        run.close()
    assert [type(one) for one in done] == [Finished, Finished], done
    assert failed == []
    assert len(list(tmp_path.rglob("*.png"))) == 8
    assert run.ledger.latency("alpha=0.5") is not None


def test_the_noise_of_a_cell_is_the_same_for_any_batch(made: tuple[str, Path]) -> None:
    from harness.sampling import batches, embedded, sample

    family, root = made
    (phase,) = Workbench(device="cpu", root=root, steps=2).prepare(suite_of(family).candidates[1]).phases
    pictures = []
    for size in (1, 3):
        grid = grid_of(family, batch_size=size)
        texts = embedded([phase], grid.prompts)
        pictures.append({cell: image for cells, images in sample((phase,), grid, batches(grid), texts)
                         for cell, image in zip(cells, images, strict=True)})
    assert max(int(np.abs(pictures[0][c].astype(int) - pictures[1][c]).max()) for c in pictures[0]) <= 1


def test_a_sampler_of_the_other_kind_is_refused_before_the_first_image(made: tuple[str, Path], tmp_path: Path) -> None:
    family, root = made
    wrong = "euler" if family in CALLED else "flow_euler"
    run = SuiteRun(suite_of(family, sampler=wrong), "suite.py", Options(root=root, runs=tmp_path), Silent())
    try:
        assert all(f"sampler {wrong!r} cannot sample a model of the family {family}" in said for said in run.preflight())
        assert len(run.preflight()) == 1
    finally:
        run.close()


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, TextState]:
    """A built-in model that is live, and the prompts as it reads them."""
    from harness.sampling import encode
    from tests.fakes import plain_candidate

    (phase,) = Workbench(device="cpu", root=tmp_path_factory.mktemp("models")).prepare(plain_candidate()).phases
    return phase.enter(), encode(phase.enter(), PROMPTS)


@pytest.mark.parametrize("sampler", sorted(name for name, row in SAMPLERS.items() if not row.flow))
def test_every_sampler_makes_pictures_that_do_not_depend_on_the_batch(sampler: str, read: tuple[Pipeline, TextState]) -> None:
    from harness.sampling import Denoising, alone, batches
    from tests.fakes import tiny_grid

    (pipeline, text), latents = read, []
    for size in (1, 2):
        grid = tiny_grid(prompts=PROMPTS, sampler=sampler, steps=4, guidance_scales=(4,), batch_size=size)
        found = {}
        for cells in batches(grid):
            run = Denoising(pipeline, grid, cells)
            run.advance(alone(pipeline, text))
            found.update(zip(cells, run.latents, strict=True))
        latents.append(found)
    assert max(float((latents[0][cell] - latents[1][cell]).abs().max()) for cell in latents[0]) < 0.02


@pytest.mark.parametrize(("knobs", "said"), [({"sampler": "heun"}, "'heun' cannot sample a model with zero terminal SNR"),
                                             ({"sampler": "euler", "clip_skip": 9}, "clip_skip is 9; expected 1 to 3")])
def test_what_a_model_cannot_be_sampled_with_is_said_before_the_first_image(
        knobs: dict[str, object], said: str, tmp_path: Path) -> None:
    folder_of(theirs("sd1", rescale_betas_zero_snr=True), tmp_path / "a")
    asked = Suite(name="s", baseline="a", grid=grid_of("sd1"), metrics=("exposure",), candidates=(
        Candidate(name="a", model="a"), Candidate(name="b", model="a", sampling=Sampling(**knobs))),  # type: ignore[arg-type]
        objective=Objective(maximise="saturation", penalties=()))
    run = SuiteRun(asked, "suite.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
    try:
        (problem,) = run.preflight()
    finally:
        run.close()
    assert said in problem
    assert "'b'" in problem
