"""Candidates in exported runtimes make the pictures that eager makes of them, whatever was live before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import Adapter, Candidate, Grid, Merge
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.executing import refuse_what_graphs_lack
from harness.materialise.shape_model import shape_model
from harness.records.costs import STORED, STORED_DENOISER
from harness.run.latency import stored_readings
from harness.runtimes import RUNTIMES
from harness.sampling import batches, embedded, sample
from tests.fakes import tiny_grid

EXPORTED = tuple(name for name, row in RUNTIMES.items() if row.exported and not row.why_not("cpu"))
GRID = tiny_grid(seeds=(1, 2))
LORA = "zoo:sketch"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
        return Workbench.for_grid(GRID, device="cpu", root=tmp_path_factory.mktemp("root"))


def merge(alpha: float, runtime: str, **changes: object) -> Candidate:
    values: dict[str, object] = {"model": Merge(a="zoo:photo", b="zoo:anime", alpha=alpha), "runtime": runtime, **changes}
    return Candidate(name=f"alpha={alpha:g} {runtime}", **values)  # type: ignore[arg-type]


def pictures(bench: Workbench, candidate: Candidate, grid: Grid = GRID) -> np.ndarray:
    """The grid's twenty pictures (20, h, w, 3)."""
    phases = bench.prepare(candidate).phases
    texts = embedded(phases, grid.prompts, steps=grid.steps)
    return np.concatenate([images for _, images in sample(phases, grid, batches(grid), texts)])


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    """The least PSNR of the pairs."""
    errors = ((one.astype(float) - other) ** 2).mean(axis=(1, 2, 3))
    return float(10 * np.log10(255 ** 2 / max(errors.max(), 1e-12)))


@pytest.mark.parametrize("runtime", EXPORTED)
def test_there_and_back_between_two_alphas_gives_eagers_pictures_each_time(runtime: str, bench: Workbench) -> None:
    there = [pictures(bench, merge(alpha, runtime)) for alpha in (0, 0.5, 0)]
    for alpha, images in zip((0, 0.5), there, strict=False):
        assert decibels(images, pictures(bench, merge(alpha, "eager"))) >= 80
    assert np.array_equal(there[0], there[2])
    assert decibels(there[0], there[1]) < 60


@pytest.mark.parametrize("runtime", EXPORTED)
def test_adapters_are_written_into_the_weights(runtime: str, bench: Workbench) -> None:
    plain, adapted = (pictures(bench, merge(0.5, "eager", adapters=adapters)) for adapters in ((), (Adapter(path=LORA),)))
    of_graph = [pictures(bench, merge(0.5, runtime, adapters=(Adapter(path=LORA),))) for _ in range(2)]
    assert decibels(of_graph[0], adapted) >= 80
    assert decibels(of_graph[0], plain) < 60
    assert decibels(pictures(bench, merge(0.5, runtime)), plain) >= 80
    assert np.array_equal(*of_graph)
    assert np.array_equal(pictures(bench, merge(0.5, "eager", adapters=(Adapter(path=LORA),))), adapted)


@pytest.mark.parametrize("runtime", EXPORTED)
def test_adapters_for_some_of_the_steps_are_given_at_each_change(runtime: str, bench: Workbench) -> None:
    late = (Adapter(path=LORA, start=0.5),)
    made, expected = (pictures(bench, merge(0.5, one, adapters=late)) for one in (runtime, "eager"))
    assert decibels(made, expected) >= 80


@pytest.mark.parametrize("runtime", EXPORTED)
def test_the_coverage_says_that_every_weight_was_given_and_how_far_from_eager_it_is(runtime: str, bench: Workbench) -> None:
    candidate = merge(0.3, runtime)
    prepared = bench.prepare(candidate)
    [row] = [row for row in prepared.coverage if row.stage == f"runtime {runtime}"]
    assert any("206 of 206 parameters given" in note and "from eager" in note for note in row.notes)
    assert bench.runtime_seconds(candidate).keys() >= {"refresh"}
    assert bench.runtime_seconds(merge(0.3, "eager")) == {}


@pytest.mark.parametrize("runtime", EXPORTED)
def test_the_copies_that_a_runtime_holds_are_recorded_and_planned(runtime: str, bench: Workbench) -> None:
    eager, executed = ({reading.name: reading.value for reading in stored_readings(bench.prepare(merge(0.5, one)))}
                       for one in ("eager", runtime))
    beside = executed[STORED_DENOISER] if RUNTIMES[runtime].copies else 0
    assert executed == {**eager, STORED: eager[STORED] + beside}
    planned = [sum(shape_model(merge(0.5, one), bench).copies.values()) for one in ("eager", runtime)]
    assert planned[1] - planned[0] == beside


@pytest.mark.parametrize(("changes", "fact"), [
    ({"family": "flux"}, "'eager' or 'compiled'"), ({"hypernetworks": ["h.pt"]}, "'h.pt' is a hypernetwork")])
def test_what_a_graph_cannot_take_is_refused_by_name(changes: dict[str, Any], fact: str) -> None:
    with pytest.raises(MaterialiseError, match=fact):
        refuse_what_graphs_lack(merge(0.5, "onnxruntime"), **{"family": "sd1", "hypernetworks": (), **changes})


def test_images_know_in_what_runtime_they_were_made(bench: Workbench) -> None:
    identities = {bench.weights(merge(0.5, runtime)).identity for runtime in ("eager", *EXPORTED)}
    assert len(identities) == 1 + len(EXPORTED)
