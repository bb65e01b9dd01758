"""The plan of memory of a candidate of several stages: the weights of all, and the most that any stage takes beside them."""

from __future__ import annotations

from pathlib import Path

from harness import Candidate, Sampling, Stage
from harness.materialise import Workbench
from harness.run.memory_plan import Footprint, planned
from tests.fakes import tiny_grid, tiny_suite

GRID = tiny_grid(steps=4, guidance_scales=(4,))


def footprints(*candidates: Candidate) -> list[tuple[Footprint, str]]:
    suite = tiny_suite(candidates=candidates, baseline=candidates[0].name, grid=GRID, metrics=("exposure",))
    rows = planned(suite, candidates, Workbench.for_grid(GRID, device="cpu", root=Path()))
    return [(row.footprint, row.size) for row in rows if isinstance(row.footprint, Footprint)]


def test_the_weights_of_all_stages_are_resident_and_the_largest_stage_counts() -> None:
    photo = Candidate(name="photo", model="zoo:photo")
    two = Candidate(name="two", model="zoo:photo", stages=(Stage(model="zoo:anime", strength=0.5),))
    hires = Candidate(name="hires", model="zoo:photo", stages=(Stage(strength=0.5, sampling=Sampling(width=128, height=128)),))
    large = Candidate(name="large", model="zoo:photo", sampling=Sampling(width=128, height=128))
    (of_one, _), (of_two, _), (of_hires, size), (of_large, _) = footprints(photo, two, hires, large)
    one = of_one.weights()
    assert sum(of_two.weights().values()) == 2 * sum(one.values())
    assert of_two.weights()["stage 2 unet"] == one["unet"]
    assert of_two.need(4).step - of_one.need(4).step == sum(one.values())
    assert of_hires.weights() == one  # the same model
    assert size == "128 x 128"
    assert of_hires.need(2).decode == of_large.need(2).decode
