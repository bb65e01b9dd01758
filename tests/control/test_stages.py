"""Controls of a later stage: of a picture of the prompt, and of the picture that the stage begins from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from harness import STAGE_BEFORE, Candidate, Canny, Control, Prompt, Sampling, Stage
from harness.control.edge_map import edge_f1, edges_of
from harness.materialise import Workbench
from harness.sampling import Images, Later, batches, embedded, sample
from tests.fakes import tiny_grid

PROMPT = Prompt(id="p", text="a red fish on a white background", pictures={"edges": "zoo:edges-star-1"})
GRID = tiny_grid(prompts=(PROMPT,), seeds=(1, 2), guidance_scales=(3,), steps=6, batch_size=2)


def made(root: Path, *controls: Control, sampling: Sampling | None = None) -> tuple[Images, Images]:
    """The pictures of the first stage, and the finished ones."""
    candidate = Candidate(name="c", model="zoo:photo", stages=(
        Stage(model="zoo:anime", strength=0.9, controls=controls, sampling=sampling),))
    bench = Workbench.for_grid(GRID, device="cpu", root=root)
    prepared = bench.prepare(candidate)
    first: list[Images] = []
    later = Later(stages=prepared.stages, beside=lambda cells, name, images: first.append(images))
    texts = embedded(prepared.phases, GRID.prompts, steps=GRID.steps)
    for stage in prepared.stages:
        texts |= embedded(stage.phases, stage.grid.prompts, steps=stage.grid.steps)
    ((_, finished),) = sample(prepared.phases, GRID, batches(GRID), texts, later=later)
    return first[0], finished


def follows(finished: Images, wanted: Images) -> float:
    return float(np.mean([edge_f1(edges_of(one), edges_of(other)) or 0.0 for one, other in zip(finished, wanted, strict=True)]))


def test_a_control_of_the_stage_before_keeps_its_edges(tmp_path: Path) -> None:
    control = Control(path="zoo:control-edges", picture=Canny(of=STAGE_BEFORE), weight=1.25)
    first, alone = made(tmp_path)
    again, kept = made(tmp_path, control)
    assert (first == again).all()
    assert follows(kept, first) > follows(alone, first) + 0.1
    idle, same = made(tmp_path, replace(control, weight=0))
    assert (idle == first).all()
    assert (same == alone).all()


def test_a_picture_of_the_prompt_and_another_size_work_in_a_later_stage(tmp_path: Path) -> None:
    _, alone = made(tmp_path)
    _, controlled = made(tmp_path, Control(path="zoo:control-edges", picture="edges"))
    assert (alone != controlled).any()
    _, large = made(tmp_path, Control(path="zoo:control-edges", picture=Canny(of=STAGE_BEFORE)),
                    sampling=Sampling(width=96, height=96))
    assert large.shape[1:] == (96, 96, 3)


