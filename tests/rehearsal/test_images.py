"""Every kind of candidate makes on a device the images that it makes on the CPU, bit for bit in the same number format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import Emphasis, Merge
from harness.declare import Adapter
from harness.materialise import Phase, Workbench
from harness.merge import MERGE_METHODS, merge_tensor
from harness.samplers import SAMPLERS
from tests.adapters.test_hypernetwork import pairs, stored
from tests.merge.test_methods import call, inputs
from tests.rehearsal.gpu import Machine
from tests.rehearsal.making import MIDDLE, candidate, images, images_of, sketch
from tests.rehearsal.simulated_cuda import resumed, simulated
from tests.run.test_any_family import grid_of
from tests.weights.pipelines import FAMILIES, SAMPLED, folder_of, theirs

INTEGERS = ("int8_weight_only", "int8_dynamic", "int4_weight_only")
KINDS = {
    **{mode: candidate(model=MIDDLE, quantization=mode) for mode in ("fp32", "bf16")},
    **{mode: candidate(model=MIDDLE, quantization=mode, precision="fp32") for mode in INTEGERS},
    **{f"sketch{kind}": candidate(adapters=sketch(kind)) for kind in (
        "", "-tucker", "-full", "-loha", "-lokr", "-dora", "-word")},
    "hypernetwork": candidate(adapters=(Adapter(path="style.pt", weight=0.7),)),
    "LoRA on a merge, half of the steps": candidate(model=MIDDLE, adapters=sketch(start=0.5)),
    "DoRA, int8": candidate(adapters=sketch("-dora"), quantization="int8_weight_only", precision="fp32"),
    "LoHa, bf16, until half": candidate(adapters=sketch("-loha", end=0.5), quantization="bf16"),
    "LoRA, int4, emphasis": candidate(adapters=sketch(), quantization="int4_weight_only", precision="fp32",
                                      emphasis=Emphasis(weights={"red": 1.4})),
    **{f"emphasis {method}": candidate(emphasis=Emphasis(weights={"red": 1.4}, method=method)) for method in (
        "comfyui", "multiply")},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a hypernetwork for the widths of the zoo's attention layers."""
    folder = tmp_path_factory.mktemp("rehearsal")
    torch.save(stored(pairs((64, 96))), folder / "style.pt")
    return folder


@pytest.fixture(scope="module")
def cpu(root: Path) -> Workbench:
    return Workbench(device="cpu", root=root, steps=2)


@pytest.fixture(autouse=True)
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On a GPU images are decoded one by one. The CPU does so here too, and on one thread: the shape of a batch and the number of
    threads show in last bits."""
    monkeypatch.setattr("harness.sampling.denoise.DECODE_BATCH", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def machine() -> Machine:
    with simulated() as gpu:
        assert gpu.machine is not None
        return gpu.machine


@pytest.fixture(scope="module")
def bench(root: Path) -> Workbench:
    return Workbench(device="cuda", root=root, steps=2)


@pytest.fixture
def device(machine: Machine, bench: Workbench) -> Iterator[Workbench]:
    """The workbench of the device, and the device itself, for one test."""
    with resumed(machine):
        yield bench


@pytest.mark.parametrize("kind", KINDS)
def test_a_candidate_makes_on_a_device_the_images_of_the_cpu(kind: str, device: Workbench, cpu: Workbench) -> None:
    assert np.array_equal(images(device, KINDS[kind]), images(cpu, KINDS[kind]))


def test_each_16_bit_format_of_a_device_stays_near_float32(device: Workbench) -> None:
    exact = images(device, KINDS["fp32"]).astype(int)
    for mode in ("fp16", "bf16"):
        of = candidate(model=MIDDLE, quantization=mode)
        assert {p.dtype for p in device.prepare(of).pipeline.denoiser.parameters()} == {
            torch.float16 if mode == "fp16" else torch.bfloat16}
        assert 0 < np.abs(images(device, of) - exact).mean() < 3


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """In levels from 0 to 255, in the mean."""
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("kind", ["merge", "LoRA"])
@pytest.mark.parametrize("mode", INTEGERS)
def test_an_integer_mode_loses_in_16_bits_what_it_loses_in_float32(mode: str, kind: str, device: Workbench) -> None:
    of = candidate(model=MIDDLE) if kind == "merge" else candidate(adapters=sketch())
    exact = images(device, of)
    wide, usual = (images(device, replace(of, quantization=mode, precision=precision)) for precision in ("fp32", ""))
    assert distance(usual, exact) < 1.4 * distance(wide, exact)
    # Activations that are rounded to integers on the fly fall to one side or the other with their last bits.
    assert 0 < distance(usual, wide) < (1.4 * distance(wide, exact) if mode == "int8_dynamic" else 0.2)


@pytest.mark.parametrize("kind", ["sketch", "sketch-dora", "sketch-word", "hypernetwork", "LoRA on a merge, half of the steps"])
def test_each_kind_of_adapter_works_in_float16(kind: str, device: Workbench) -> None:
    exact, half = (images(device, replace(KINDS[kind], quantization=mode)) for mode in ("fp32", "fp16"))
    assert np.abs(half.astype(int) - exact).mean() < 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models of every family."""
    root = tmp_path_factory.mktemp("families")
    for family in FAMILIES:
        pipe = theirs(family)
        folder_of(pipe, root / f"{family}-a")
        with torch.no_grad():
            for value in (pipe.transformer if hasattr(pipe, "transformer") else pipe.unet).parameters():
                value.mul_(1.2)
        folder_of(pipe, root / f"{family}-b")
    return root


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merge_of_any_family_makes_the_images_of_the_cpu(family: str, folders: Path) -> None:
    part = "transformer" if family in ("sd3", "flux") else "unet"
    merge = candidate(model=Merge(a=f"{family}-a", b=f"{family}-b", alpha=0.5, parts=(part,)))
    grid = grid_of(family, batch_size=2)
    here = images(Workbench(device="cpu", root=folders, steps=2), merge, grid).astype(int)
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=folders, steps=2)
        there, usual = (images(bench, replace(merge, quantization=mode), grid) for mode in ("fp32", "bf16"))
        assert gpu.operations
    # T5 is in bfloat16 on a device, as it was trained.
    assert np.array_equal(there, here) if family in SAMPLED else np.abs(there - here).mean() < 1
    assert np.abs(usual - here).mean() < 8


@pytest.fixture(scope="module")
def either(folders: Path, machine: Machine) -> tuple[tuple[Phase, ...], tuple[Phase, ...]]:
    """A tiny model on the device and on the CPU."""
    of = candidate(model="sd1-a")
    with resumed(machine):
        there = Workbench(device="cuda", root=folders, steps=4).prepare(of).phases
    return there, Workbench(device="cpu", root=folders, steps=4).prepare(of).phases


@pytest.mark.parametrize("sampler", [name for name, row in SAMPLERS.items() if not row.flow])
def test_every_sampler_makes_the_images_of_the_cpu(
        sampler: str, either: tuple[tuple[Phase, ...], tuple[Phase, ...]], machine: Machine) -> None:
    grid, (device, cpu) = grid_of("sd1", batch_size=2, steps=4, sampler=sampler), either
    with resumed(machine):
        there = images_of(device, grid)
    assert np.array_equal(there, images_of(cpu, grid))


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_every_merge_method_computes_on_a_device_what_it_computes_on_the_cpu(name: str) -> None:
    method = MERGE_METHODS[name]
    tensors = inputs(method, torch.float16)
    numbers = call(method, tensors, 0.3, 0.4)

    def merged(place: str) -> torch.Tensor:
        return merge_tensor(method, numbers, [t.to(place) for t in tensors], generator=torch.Generator().manual_seed(0)).cpu()

    with simulated():
        there = merged("cuda")
    assert torch.equal(there, merged("cpu"))
