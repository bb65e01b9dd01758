"""What full-size models take on a simulated GPU is what was planned, and within what a card of its owner holds."""

from __future__ import annotations

import gc
import re
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness import Candidate, Ensemble, Merge, Relay
from harness.declare import Grid, Prompt
from harness.materialise import Workbench
from harness.materialise.shape_model import shape_model
from harness.records import Cell
from harness.run.memory_plan import Footprint
from harness.run.memory_problems import memory_problems, memory_remarks
from harness.samplers import FLOW_FAMILIES
from harness.sampling import embedded, pack, sample
from tests.fakes import tiny_suite
from tests.rehearsal.full_configs import full_configs
from tests.rehearsal.full_size import sparse_folder
from tests.rehearsal.gpu import GIB, Gpu
from tests.rehearsal.host_of_shapes import positions_without_values, without_values
from tests.rehearsal.simulated_cuda import simulated

TILED = ("tiled_decoding",)


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Makes a folder with two parents of a family when it is first asked for."""
    folder = tmp_path_factory.mktemp("full-size")

    @cache
    def made(family: str) -> Path:
        configs = full_configs(family, folder / f"{family}-configs") if family in ("sd3", "flux") else None
        for name in ("a", "b"):
            sparse_folder(folder / family / name, family, configs)
        return folder / family

    with pytest.MonkeyPatch.context() as patch:
        positions_without_values(patch)
        yield made


def grid_of(size: int, **changes: object) -> Grid:
    values = {"prompts": (Prompt(id="p", text="a cat"),), "seeds": (1,), "guidance_scales": (4.0,), "steps": 2, "width": size,
              "height": size, "batch_size": 1, **changes}
    return Grid(**values)  # type: ignore[arg-type]


def merge(quantization: str = "", alpha: float = 0.5) -> Candidate:
    own = {"quantization": quantization} if quantization else {}
    return Candidate(name="m", model=Merge(a="a", b="b", alpha=alpha), **own)  # type: ignore[arg-type]


def to_run(gpu: Gpu, bench: Workbench, candidate: Candidate, grid: Grid) -> int:
    """The peak of embedding the texts and making one image."""
    phases = bench.prepare(candidate).phases
    gc.collect()
    gpu.reset_peaks()
    texts = embedded(phases, grid.prompts)
    list(sample(phases, grid, pack(grid, [Cell(prompt="p", seed=1, guidance=4.0)]), texts))
    return gpu.peak


def planned(folder: Path, candidate: Candidate, grid: Grid, batch_size: int = 1) -> int:
    bench = Workbench(device="cuda", root=folder, steps=grid.steps)
    return Footprint(shape_model(candidate, bench), grid, "cuda").need(batch_size, grid.low_memory).peak


@pytest.mark.full_size
def test_sd15_takes_what_was_planned_whatever_ran_before(parents: Callable[[str], Path]) -> None:
    folder, grid = parents("sd1"), grid_of(512)
    order = (merge(), merge("fp32"), merge("int8_weight_only"), merge("int4_weight_only"), merge(alpha=0.7))
    with simulated(shapes_only=True, limit=24 * GIB) as gpu:
        bench = Workbench(device="cuda", root=folder, steps=grid.steps)
        counted = [to_run(gpu, bench, candidate, grid) for candidate in order]
    assert counted == pytest.approx([planned(folder, candidate, grid) for candidate in order], rel=0.1)
    fp16, fp32, int8, int4, again = counted
    assert int4 < int8 < fp16 < fp32
    assert fp16 <= 3 * GIB
    assert again == pytest.approx(fp16, rel=0.01)


@pytest.mark.full_size
@pytest.mark.parametrize("model", [Relay(models=("a", "b"), at=(0.5,)), Ensemble(models=("a", "b"), weights=(0.5, 0.5))])
def test_two_unets_take_what_was_planned(parents: Callable[[str], Path], model: Relay | Ensemble) -> None:
    folder, grid, of = parents("sd1"), grid_of(512), Candidate(name="m", model=model)
    with simulated(shapes_only=True, limit=24 * GIB) as gpu:
        counted = to_run(gpu, Workbench(device="cuda", root=folder, steps=grid.steps), of, grid)
    assert counted == pytest.approx(planned(folder, of, grid), rel=0.1)
    assert counted > planned(folder, Candidate(name="a", model="a"), grid) + 1.5 * GIB


def test_weights_that_no_card_of_this_size_holds_are_refused_with_a_way_out_that_works(parents: Callable[[str], Path]) -> None:
    folder, name = parents("sd1"), "fp32"
    declared = tiny_suite(candidates=(Candidate(name=name, model="a", quantization="fp32"),), baseline=name, grid=grid_of(512))
    with simulated(shapes_only=True, limit=2 * GIB):
        (problem,) = memory_problems(declared, declared.candidates, Workbench(device="cuda", root=folder))
        assert all(part in problem for part in (name, " take 3.5", "has 2.00 GiB"))
        measures = literal_eval(problem.partition("low_memory=")[2].partition(" in the grid")[0])
        easier = replace(declared, grid=grid_of(512, low_memory=measures))
        smaller = tuple(replace(c, quantization="fp16") for c in declared.candidates)
        for mended in (easier, replace(declared, candidates=smaller)):
            assert not memory_problems(mended, mended.candidates, Workbench(device="cuda", root=folder))


@pytest.mark.parametrize(("free", "batch_size", "expected"), [
    (24, 16, ""), (4, 16, "batch_size=8"), (2.5, 1, "low_memory=")])
def test_a_batch_that_may_not_fit_is_a_remark_with_what_fits(parents: Callable[[str], Path], free: float, batch_size: int,
                                                             expected: str) -> None:
    folder = parents("sd1")
    declared = tiny_suite(candidates=(Candidate(name="x", model="a"),), baseline="x", grid=grid_of(512, batch_size=batch_size),
                          metrics=("palette",))
    with simulated(shapes_only=True, limit=round(free * GIB)):
        bench = Workbench(device="cuda", root=folder)
        remarks = memory_remarks(declared, declared.candidates, bench)
        assert len(remarks) == bool(expected)
        if expected:
            assert all(fact in remarks[0] for fact in ("'x'", expected, f"{free:.2f} GiB of cuda"))
            batch = re.search(r"batch_size=(\d+)", remarks[0])
            measures = re.search(r"low_memory=(\([^)]*\))", remarks[0])
            changes = {"batch_size": int(batch[1]) if batch else batch_size,
                       "low_memory": literal_eval(measures[1]) if measures and not batch else ()}
            assert not memory_remarks(replace(declared, grid=grid_of(512, **changes)), declared.candidates, bench)
        assert not memory_remarks(declared, declared.candidates, Workbench(device="cpu", root=folder))


@pytest.mark.full_size
@pytest.mark.parametrize(("low_memory", "card", "most"), [((), 11.3, 8.1), (TILED, 7.3, 5.9)])
def test_sdxl_fits_cards_of_8_and_12_gb(parents: Callable[[str], Path], low_memory: tuple[str, ...], card: float,
                                         most: float) -> None:
    folder, grid = parents("sdxl"), grid_of(1024, low_memory=low_memory)
    with simulated(shapes_only=True, limit=round(card * GIB)) as gpu:
        bench = Workbench(device="cuda", root=folder, steps=grid.steps, low_memory=low_memory)
        counted = to_run(gpu, bench, merge(), grid)
    assert counted <= most * GIB
    assert counted == pytest.approx(planned(folder, merge(), grid), rel=0.1)


@pytest.mark.full_size
def test_sd35_medium_fits_a_card_of_12_gb(parents: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, grid = parents("sd3"), grid_of(1024, sampler="flow_euler")
    expected = planned(folder, merge(), grid)
    without_values(monkeypatch)
    # Without room for all encoders they come one by one.
    with simulated(shapes_only=True, limit=round(11.3 * GIB)) as gpu:
        counted = to_run(gpu, Workbench(device="cuda", root=folder, steps=grid.steps), merge(), grid)
    assert counted <= 10 * GIB
    assert counted == pytest.approx(expected, rel=0.1)


@pytest.mark.full_size
def test_flux_in_int8_fits_a_card_of_16_gb(parents: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, grid, of = parents("flux"), grid_of(1024, sampler="flow_euler"), merge("int8_weight_only")
    expected = planned(folder, of, grid)
    without_values(monkeypatch)
    with simulated(shapes_only=True, limit=round(15.3 * GIB)) as gpu:
        counted = to_run(gpu, Workbench(device="cuda", root=folder, steps=grid.steps), of, grid)
    assert counted <= 15 * GIB
    assert counted == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("family", "quantization", "low_memory", "most"), [
    ("sdxl", "", (), 8.1), ("sdxl", "", TILED, 5.9), ("sdxl", "int8_weight_only", (), 5.8),
    pytest.param("sd3", "", (), 10, marks=pytest.mark.full_size),
    pytest.param("flux", "int8_weight_only", (), 15, marks=pytest.mark.full_size)])
def test_the_plan_of_full_size_models(parents: Callable[[str], Path], family: str, quantization: str, low_memory: tuple[str, ...],
                                      most: float) -> None:
    sampler = "flow_euler" if family in FLOW_FAMILIES else "dpmpp_2m"
    grid = grid_of(1024, low_memory=low_memory, sampler=sampler)
    assert planned(parents(family), merge(quantization), grid) <= most * GIB
