"""The host never waits for the device within a denoising step: a step is launched while the one before is computed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Candidate
from harness.declare import Grid
from harness.materialise import Workbench
from harness.quantize import stored_bytes
from harness.records import Cell
from harness.samplers import SAMPLERS
from harness.sampling import Denoising, batches, embedded, encode, entered, sample
from harness.sampling.denoise import called
from harness.weights import ModelFileError, upload
from tests.fakes import tiny_grid
from tests.rehearsal.gpu import Gpu
from tests.rehearsal.making import MIDDLE, candidate, images, sketch
from tests.rehearsal.simulated_cuda import simulated
from tests.run.test_any_family import grid_of
from tests.weights.pipelines import CALLED, folder_of, theirs


def waits_within_steps(bench: Workbench, gpu: Gpu, of: Candidate, grid: Grid) -> set[str]:
    """The kinds of waits in more steps than the first two, of which the second is a call of its own."""
    (phase,) = bench.prepare(of).phases
    branches = entered(phase, embedded([phase], grid.prompts))
    cells = tuple(Cell(prompt=prompt.id, seed=1, guidance=grid.guidance_scales[-1]) for prompt in grid.prompts[:2])
    run, counts = Denoising(phase.enter(), grid, cells), []
    for until in (1, 2, grid.steps):
        gpu.forget_counts()
        run.advance(branches, until)
        counts.append(dict(gpu.waits))
        assert gpu.operations
    return {kind for kind, count in counts[2].items() if count > counts[1].get(kind, 0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("waits")
    for family in ("sd1", "sdxl", *CALLED):
        folder_of(theirs(family), root / family)
    return root


@pytest.mark.parametrize("sampler", [name for name, row in SAMPLERS.items() if not row.flow])
def test_no_sampler_waits_in_a_step(sampler: str, folder: Path) -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folder, steps=5)
        assert not waits_within_steps(bench, gpu, candidate(model="sd1"), grid_of("sd1", steps=5, sampler=sampler))


def test_no_number_format_waits_in_a_step(folder: Path) -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folder, steps=5)
        for mode in ("fp32", "fp16", "bf16", "int8_weight_only", "int4_weight_only"):
            of = candidate(model=MIDDLE, adapters=sketch("-loha"), quantization=mode)
            assert not waits_within_steps(bench, gpu, of, tiny_grid(steps=5)), mode


@pytest.mark.parametrize("family", CALLED)
def test_more_steps_of_a_diffusers_pipeline_are_no_more_waits(family: str, folder: Path) -> None:
    waits = []
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folder, steps=2)
        pipeline = bench.prepare(candidate(model=family)).pipeline
        for steps in (2, 6):
            grid = grid_of(family, steps=steps)
            text = encode(pipeline, grid.prompts)
            gpu.forget_counts()
            called(pipeline, grid, (Cell(prompt=grid.prompts[0].id, seed=1, guidance=3),), text)
            waits.append(dict(gpu.wait_sites))
    assert waits[0] == waits[1]


def test_a_batch_waits_once_for_its_pixels_and_only_after_the_next_was_launched() -> None:
    grid = tiny_grid(steps=2, batch_size=2, guidance_scales=(4,))
    todo = batches(grid)
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=Path.cwd(), steps=2)
        phases = bench.prepare(candidate(model=MIDDLE)).phases
        texts = embedded(phases, grid.prompts)
        gpu.forget_counts()
        launched, waits = [], []
        for _ in sample(phases, grid, noted(todo, launched), texts):
            waits.append(dict(gpu.waits))
            assert len(launched) == min(len(waits) + 1, len(todo))
    # One event for each batch, and nothing else: noise, guidance, timesteps and pixels pass through pinned memory.
    assert waits == [{"event": count + 1} for count in range(len(todo))]


def noted(todo: Iterable[tuple[Cell, ...]], launched: list[int]) -> Iterator[tuple[Cell, ...]]:
    for number, cells in enumerate(todo):
        launched.append(number)
        yield cells


def test_a_batch_that_was_launched_is_handed_out_before_the_error_of_the_next() -> None:
    grid = tiny_grid(steps=1, batch_size=2, guidance_scales=(4,))

    def failing() -> Iterator[tuple[Cell, ...]]:
        yield from batches(grid)[:2]
        raise KeyboardInterrupt

    with simulated():
        phases = Workbench(device="cuda", root=Path.cwd(), steps=1).prepare(candidate()).phases
        texts = embedded(phases, grid.prompts)
        handed_out = []
        with pytest.raises(KeyboardInterrupt):
            for cells, _ in sample(phases, grid, failing(), texts):
                handed_out.append(cells)
    assert handed_out == [*batches(grid)[:2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.int64])
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (5, 3, 3, 3)])
def test_what_is_sent_through_pinned_buffers_arrives_as_it_was(
        dtype: torch.dtype, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE_BYTES", 16)  # many pieces
    tensors = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(4).to(dtype) for seed in range(3)]
    with simulated() as gpu:
        uploads = upload.Uploads()
        there = [uploads.send(tensor, torch.device("cuda", 0)) for tensor in tensors]
        # An empty tensor has nothing to send.
        assert not gpu.waits or shape == (0, 3)
        for tensor, copy in zip(tensors, there, strict=True):
            assert (copy.dtype, copy.shape, copy.device.type) == (dtype, tensor.shape, "cuda")
            assert torch.equal(copy.cpu().view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8))


def test_a_merge_sends_parents_without_a_wait_and_in_their_stored_bytes() -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=Path.cwd(), steps=1)
        bench.prepare(candidate(model=MIDDLE))
        gpu.forget_counts()
        bench.prepare(candidate(model=replace(MIDDLE, alpha=0.25)))
        assert not gpu.waits["copy to device"]
        assert gpu.copied_bytes["to device"]


WRITTEN = {"weighted": candidate(model=MIDDLE), "slerp": candidate(model=replace(MIDDLE, method="slerp")),
           "geometric": candidate(model=replace(MIDDLE, method="geometric")),
           "fp16 of float32": candidate(model=MIDDLE, quantization="fp16"),
           "DoRA on a merge": candidate(model=MIDDLE, adapters=sketch("-dora"))}
"""Candidates of which the next alpha is written into the live weights, some with a check of its values."""


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_host_waits_for_no_single_tensor_of_a_load_or_of_the_next_alpha(kind: str) -> None:
    of = WRITTEN[kind]
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=Path.cwd(), steps=1)
        for alpha in (0.5, 0.25):
            bench.prepare(replace(of, model=replace(MIDDLE, method=of.model.method, alpha=alpha)))
            # What was loaded, and what was written, is asked about once for each component.
            assert sum(gpu.waits.values()) <= 2 * 3, gpu.wait_sites
            gpu.forget_counts()


def test_values_that_are_not_finite_are_named_though_all_are_asked_about_at_once(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "sd1", tmp_path / "broken")
    (file,) = (tmp_path / "broken" / "unet").glob("*.safetensors")
    weights = load_file(file)
    for name in ("conv_in.bias", "conv_out.bias"):
        weights[name][0] = torch.inf
    save_file(weights, file)
    with simulated(), pytest.raises(ModelFileError, match=r"2 tensors hold NaN or infinite values: 'conv_in\.bias'"):
        Workbench(device="cuda", root=tmp_path, steps=1).prepare(candidate(model="broken"))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_texts_are_embedded_and_encoders_are_lent_without_a_wait(family: str, folder: Path) -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folder, steps=1)
        pipeline = bench.prepare(candidate(model=family)).pipeline
        gpu.forget_counts()
        encode(pipeline, grid_of(family).prompts)
        assert gpu.copied_bytes["to device"] > stored_bytes(pipeline.text_encoder)
        assert not gpu.waits, gpu.wait_sites


@pytest.mark.parametrize("mode", ["fp16", "int8_weight_only", "int4_weight_only"])
def test_layers_and_a_vae_that_are_kept_on_the_host_are_lent_without_a_wait(mode: str) -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=Path.cwd(), steps=2, low_memory=("denoiser_on_host", "vae_on_host"))
        images(bench, candidate(model=MIDDLE, quantization=mode))
        gpu.forget_counts()
        images(bench, candidate(model=MIDDLE, quantization=mode))
        assert gpu.copied_bytes["to device"]
        assert gpu.waits == {"event": 1}, gpu.wait_sites  # the pixels of the batch
