"""An integer mode computes on a GPU in the 16 bits in which the model would run unquantized, and in float32 on a CPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from harness import Candidate
from harness.check import problems
from harness.materialise import Workbench
from harness.quantize.layers import QuantizedWeight
from harness.records.format_range import FormatRangeError
from harness.run.device_refusals import refusal
from tests.fakes import tiny_suite
from tests.rehearsal.making import MIDDLE, candidate, images_of, sketch
from tests.rehearsal.simulated_cuda import simulated
from tests.rehearsal.test_images import INTEGERS
from tests.run.test_any_family import grid_of
from tests.weights.pipelines import folder_of, theirs

USUAL = {"sd1": torch.float16, "sd3": torch.bfloat16, "flux": torch.bfloat16}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("integers")
    for family in USUAL:
        folder_of(theirs(family), folder / family)
    return folder


def computed_in(module: torch.nn.Module) -> Counter[torch.dtype]:
    """Counts, while the module runs, the dtypes of what its layers are given."""
    counts: Counter[torch.dtype] = Counter()

    def note(_: torch.nn.Module, args: tuple[object, ...]) -> None:
        counts.update(arg.dtype for arg in args[:1] if isinstance(arg, torch.Tensor) and arg.is_floating_point())

    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.GroupNorm) or hasattr(layer, "quantized"):
            layer.register_forward_pre_hook(note)
    return counts


@pytest.mark.parametrize("family", USUAL)
@pytest.mark.parametrize("mode", INTEGERS)
def test_activations_and_kept_layers_are_in_the_precision_of_the_family(mode: str, family: str, root: Path) -> None:
    with simulated():
        bench = Workbench(device="cuda", root=root, steps=2)
        of = Candidate(name="c", model=family, quantization=mode)
        prepared = bench.prepare(of)
        denoiser = prepared.pipeline.denoiser
        counts = computed_in(denoiser)
        images_of(prepared.phases, grid_of(family, batch_size=2))
        plain = {p.dtype for p in denoiser.parameters() if not hasattr(p, "__tensor_flatten__") and p.is_floating_point()}
        scales = {layer.scales.dtype for layer in denoiser.modules() if isinstance(layer, QuantizedWeight)}
    assert plain == {USUAL[family]}
    assert scales <= {torch.float32}
    # Time steps are embedded from float32.
    assert counts[USUAL[family]] > 9 * counts[torch.float32]


def test_the_integers_are_those_of_the_cpu(root: Path) -> None:
    def codes(bench: Workbench, mode: str) -> list[torch.Tensor]:
        of = candidate(model=MIDDLE, quantization=mode)
        state = bench.prepare(of).pipeline.denoiser.state_dict()
        inner = [getattr(value, "qdata", value) for value in state.values()]
        return [value.cpu() for value in inner if not value.is_floating_point()]

    here = Workbench(device="cpu", root=root, steps=2)
    with simulated():
        there = Workbench(device="cuda", root=root, steps=2)
        for mode in INTEGERS:
            pairs = [*zip(codes(here, mode), codes(there, mode), strict=True)]
            assert len(pairs) > 40
            assert all(torch.equal(one, other) for one, other in pairs), mode


@pytest.mark.parametrize("mode", INTEGERS)
def test_the_arithmetic_is_part_of_the_identity_on_a_gpu_alone(mode: str, root: Path) -> None:
    def identity(device: str, precision: str = "") -> str:
        of = Candidate(name="c", model="zoo:base", quantization=mode, precision=precision)
        return Workbench(device=device, root=root).weights(of).identity

    with simulated():
        assert identity("cuda") == identity("cuda", "fp16")
        assert len({identity("cuda", precision) for precision in ("fp16", "bf16", "fp32")}) == 3
        assert identity("cuda", "fp32") == identity("cpu") == identity("cpu", "fp32")


def test_the_coverage_says_what_a_quantized_candidate_computes_in(root: Path) -> None:
    with simulated():
        bench = Workbench(device="cuda", root=root)
        rows = bench.prepare(candidate(quantization="int8_weight_only", adapters=sketch())).coverage
    (row,) = (row for row in rows if row.stage == "quantize int8_weight_only")
    assert any(note.startswith("kept in float16") for note in row.notes)
    assert {name for name in row.keys["kept"] if "lora_" in name}


def test_a_precision_is_declared_for_an_integer_mode_and_offered_on_a_gpu_alone(tmp_path: Path) -> None:
    of = Candidate(name="x", model="zoo:photo", quantization="int8_weight_only", precision="bf16")
    assert problems(tiny_suite(candidates=(of,), baseline="x"), tmp_path) == []
    assert "computes in fp32; leave precision out" in refusal(of, "cpu")
    with simulated():
        assert refusal(of, "cuda") == ""
    with simulated(capability=(7, 5)):
        assert "emulation" in refusal(of, "cuda:0")


def test_a_gpu_without_bf16_computes_a_quantized_transformer_in_float32(root: Path) -> None:
    with simulated(capability=(7, 5)):
        bench = Workbench(device="cuda", root=root)
        of = bench.in_its_format(Candidate(name="c", model="sd3", quantization="int8_weight_only"))
        assert of.precision == "fp32"
        assert bench.in_its_format(Candidate(name="c", model="sd1", quantization="int8_weight_only")).precision == "fp16"


@pytest.mark.parametrize("mode", ["int8_weight_only", "int8_dynamic"])
def test_sums_of_integer_products_do_not_leave_the_range_of_float16(mode: str) -> None:
    from harness.quantize import MADE_ON_HOST

    net = torch.nn.Sequential(torch.nn.Linear(512, 32, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(0.01)
    MADE_ON_HOST[mode](net, "float16")
    with torch.inference_mode():
        out = net(torch.full((32, 512), 10.0))  # 512 * 10 * 127 is beyond 65504
    assert out.dtype == torch.float32
    assert torch.allclose(out, torch.tensor(51.2), rtol=0.01)


@pytest.mark.parametrize("mode", INTEGERS)
def test_a_kept_value_beyond_float16_is_named(mode: str) -> None:
    from harness.quantize import MADE_ON_HOST

    net = torch.nn.Sequential(torch.nn.Linear(64, 8))
    with torch.no_grad():
        net[0].bias.fill_(7e4)
    with pytest.raises(FormatRangeError, match=r"'0\.bias'.*precision='bf16'"):
        MADE_ON_HOST[mode](net, "float16")
