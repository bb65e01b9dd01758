"""Candidates in exported runtimes make the pictures that eager makes of them, whatever was live before."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness import Adapter, Candidate, Grid, Merge, Sampling
from harness.declare import Stage
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.executing import refuse_what_graphs_lack
from harness.materialise.exported import Exported
from harness.materialise.shape_model import shape_model
from harness.records.costs import STORED, STORED_DENOISER
from harness.run.latency import stored_readings
from harness.runtimes import RUNTIMES, Graph, Runtime
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


class Copying:
    """An executor that gives what it is given, and takes a while to be refreshed; it is its own U-Net, row and graphs."""

    holds, opened = "", 0
    config = SimpleNamespace(in_channels=4, cross_attention_dim=8)
    row = Runtime(description="", open=lambda *_: COPYING.once_more(), tolerance=1)

    def once_more(self) -> Copying:
        self.opened += 1
        return self

    def of(self, *_: object) -> Graph:
        return Graph(data=b"", weights={}, inputs={"sample": ("batch", 4, 8, 8)}, output=("batch", 4, 8, 8), dtype="float32",
                     architecture="")

    def refresh(self, _: object, identity: str) -> None:
        time.sleep(0.05)
        self.holds = identity

    def __call__(self, given: Any, *_: object) -> Any:
        return given["sample"] if isinstance(given, dict) else SimpleNamespace(sample=given)


COPYING = Copying()


def test_a_size_that_two_threads_see_first_is_opened_once_and_called_when_it_is_ready() -> None:
    frame: Any = SimpleNamespace(pipeline=SimpleNamespace(denoiser=COPYING, dtype=torch.float32), denoiser="unet", entered="live",
                                 live={"unet": {"weight": SimpleNamespace(tensor=torch.ones(1))}})
    graphs: Any = SimpleNamespace(of=COPYING.of, seconds={})
    exported = Exported(name="copying", row=COPYING.row, frame=frame, graphs=graphs, device="cpu")
    exported.enter("x", None)
    latents = torch.randn(1, 4, 8, 8)
    with ThreadPoolExecutor(2) as pool:
        predictions = [*pool.map(lambda _: exported(latents, 1.0, torch.zeros(1, 7, 8)).sample, range(2))]
    assert all(torch.equal(prediction, latents) for prediction in predictions)
    assert COPYING.opened == 1


def test_a_stage_opens_what_its_own_size_needs_before_the_first_image(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[object] = []
    monkeypatch.setattr(Exported, "enter", lambda self, candidate, size: sizes.append(size))
    larger = Stage(strength=0.5, sampling=Sampling(width=96, height=64))
    bench.prepare(merge(0.5, EXPORTED[0], stages=(larger,)))
    assert {(8, 8), (8, 12)} == {*sizes}
