"""Measures for a GPU whose memory is short: the same pictures in less memory, but for the seams of tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import Candidate, Control, DeepCache, Grid
from harness.check import problems
from harness.materialise import Workbench
from harness.materialise.shape_model import shape_model
from harness.run.memory_plan import Footprint
from harness.sampling import embedded, setting
from tests.fakes import PROMPTS, tiny_grid, tiny_suite
from tests.rehearsal.gpu import Gpu
from tests.rehearsal.making import MIDDLE, candidate, images, sketch
from tests.rehearsal.simulated_cuda import simulated
from tests.run.test_any_family import grid_of
from tests.weights.pipelines import CALLED, folder_of, theirs

ON_HOST = ("vae_on_host", "denoiser_on_host")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("low-memory")
    for family in CALLED:
        folder_of(theirs(family), folder / family)
    return folder


def resident(gpu: Gpu, bench: Workbench, of: Candidate, grid: Grid) -> tuple[np.ndarray, int]:
    """The images, and the peak of making them."""
    bench.prepare(of)
    gpu.reset_peaks()
    return images(bench, of, grid), gpu.peak


KINDS = {"fp16": candidate(model=MIDDLE, quantization="fp16"), "int8": candidate(model=MIDDLE, quantization="int8_weight_only"),
         "LoRA": candidate(model="zoo:photo", adapters=sketch()), "switching": candidate(adapters=sketch(end=0.5)),
         "hypernetwork and words": candidate(adapters=sketch("-word")), "sd3": candidate(model="sd3"),
         "savers": candidate(model=MIDDLE, quantization="fp16", savers=("attention_slicing", "layerwise_casting")),
         "joined": candidate(model=MIDDLE, savers=("fuse_qkv",)),
         "step cache": candidate(model=MIDDLE, adapters=sketch(end=0.5), step_cache=DeepCache())}
FLUX = candidate(model="flux")


@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_on_the_host_makes_the_same_pictures_in_less_memory(kind: str, root: Path) -> None:
    grid = grid_of("sd3") if kind == "sd3" else tiny_grid(batch_size=2)
    with simulated() as gpu:
        plain, most = resident(gpu, Workbench(device="cuda", root=root, steps=grid.steps), KINDS[kind], grid)
    with simulated() as gpu:
        lent, less = resident(gpu, Workbench(device="cuda", root=root, steps=grid.steps, low_memory=ON_HOST), KINDS[kind], grid)
    assert np.array_equal(plain, lent)
    assert less < most


def test_control_networks_are_lent_layer_by_layer_with_the_denoiser(root: Path) -> None:
    prompts = tuple(replace(prompt, pictures={"edges": "zoo:edges-fish-3"}) for prompt in PROMPTS[:2])
    grid = tiny_grid(prompts=prompts, batch_size=2, width=64, height=64)
    of, alone = (candidate(controls=(Control(path="zoo:control-edges", picture="edges", weight=weight),)) for weight in (1, 0))
    made, peaks, plans = [], [], []
    for measures in ((), ("denoiser_on_host",)):
        with simulated() as gpu:
            bench = Workbench(device="cuda", root=root, steps=grid.steps, low_memory=measures)
            pictures, peak = resident(gpu, bench, of, grid)
            (network,) = {control.network for control in bench.prepare(of).pipeline.controls}
            assert {p.device.type for p in network.parameters()} == {"cpu" if measures else "cuda"}
            controlled, plain = (Footprint(shape_model(one, bench), grid, "cuda").need(2, measures) for one in (of, alone))
        made.append(pictures)
        peaks.append(peak)
        plans.append(sum(controlled.weights.values()) - sum(plain.weights.values()))
    assert np.array_equal(*made)
    assert peaks[1] < peaks[0] - sum(parameter.nbytes for parameter in network.parameters())
    assert plans == [sum(parameter.nbytes for parameter in network.parameters()), 0]


def test_tiles_change_pixels_only_above_their_size_and_the_key_of_a_picture_says_so(root: Path) -> None:
    vae = Workbench(device="cpu", root=root, steps=1).prepare(candidate()).pipeline.vae
    tiled = Workbench(device="cpu", root=root, steps=1, low_memory=("tiled_decoding",)).prepare(candidate()).pipeline.vae
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for pixels, same in ((256, True), (640, False)):
            latents = torch.randn(1, vae.config.latent_channels, pixels // factor, pixels // factor, generator=generator)
            whole, tiles = (v.decode(latents).sample for v in (vae, tiled))
            assert whole.shape == tiles.shape
            assert torch.equal(whole, tiles) == same
            assert (whole - tiles).abs().mean() < 0.1
    declared = tiny_grid(low_memory=("tiled_decoding", "vae_on_host"))
    assert setting(declared, "cuda") == setting(tiny_grid(), "cuda") | {"decoding": "tiled"}
    assert setting(tiny_grid(low_memory=ON_HOST), "cuda") == setting(tiny_grid(), "cuda")


@pytest.mark.parametrize(("changes", "expected"), [
    ({"grid": tiny_grid(low_memory=("tiled",))}, "did you mean 'tiled_decoding'"),
    ({"grid": tiny_grid(low_memory=("vae_on_host", "vae_on_host"))}, "given 2 times"),
    ({"grid": tiny_grid(low_memory=ON_HOST), "candidates": (Candidate(name="x", model="zoo:photo", runtime="compiled"),),
      "baseline": "x"}, "remove 'denoiser_on_host'")])
def test_a_measure_that_cannot_be_taken_is_refused(changes: dict[str, object], expected: str, tmp_path: Path) -> None:
    assert expected in "\n".join(problems(tiny_suite(**changes), tmp_path))


def test_what_each_part_computes_in_is_in_the_coverage(root: Path) -> None:
    with simulated():
        prepared = Workbench(device="cuda", root=root, steps=1).prepare(Candidate(name="c", model="sd3"))
    notes = {row.component: " ".join(row.notes) for row in prepared.coverage if row.stage == "merge"}
    assert "float32" in notes["vae"]
    assert "float32" in notes["text_encoder"]
    assert "bfloat16" in notes["text_encoder_3"]
    assert {row.stage for row in prepared.coverage} >= {"quantize bf16"}


@pytest.mark.parametrize("kind", ["fp16", "sd3", "flux"])
def test_without_room_for_encoders_the_denoiser_leaves_and_they_come_one_by_one(kind: str, root: Path) -> None:
    grid = grid_of(kind) if kind in CALLED else tiny_grid(batch_size=2)
    peaks = []
    for limit in (None, 300 * 2 ** 20):  # less than what is left free beside encoders
        with simulated(limit=limit) as gpu:
            phase = Workbench(device="cuda", root=root, steps=grid.steps).prepare(KINDS.get(kind, FLUX)).phases[0]
            gpu.reset_peaks()
            (texts,) = embedded([phase], grid.prompts).values()
            peaks.append((gpu.peak, [c.states.cpu().numpy() for c in texts.positive.values()]))
            assert {p.device.type for p in phase.enter().denoiser.parameters()} == {"cuda"}
            assert {p.device.type for e in phase.enter().encoders for p in e.module.parameters()} == {"cpu"}
    (most, plain), (least, lent) = peaks
    assert least < most
    assert all(map(np.array_equal, plain, lent))
