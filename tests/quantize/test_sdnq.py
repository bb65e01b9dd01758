"""The modes of sdnq have the values of the package, quantize what they say, and leave nothing behind in the process."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from harness import Candidate
from harness.declare import Mixed
from harness.quantize import MADE_ON_HOST, QUANTIZATION_MODES, QuantizeError, stored_bytes
from harness.quantize.by_layer import quantizable
from harness.quantize.declared import identity_of, make_on_host, problems
from harness.quantize.layers import QuantizedWeight
from harness.quantize.sdnq_codes import SDNQ_TYPES
from tests.quantize.conftest import forward, new_unet
from tests.quantize.test_formats import drawn

MODES = [f"sdnq_{kind}" for kind in SDNQ_TYPES]
SHAPES = [(64, 64), (8, 640), (6, 32, 3, 3), (4, 96, 1, 1), (8, 24)]


def theirs(weight: torch.Tensor, kind: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The weight that a layer of sdnq computes with, and its tensors."""
    from sdnq import SDNQConfig, sdnq_quantize_layer

    out, into, *kernel = weight.shape
    layer = torch.nn.Conv2d(into, out, tuple(kernel)) if kernel else torch.nn.Linear(into, out)
    layer.weight.data = weight.clone()
    layer, _ = sdnq_quantize_layer(layer, SDNQConfig(weights_dtype=kind, quant_conv=True, minimum_allowed_numel=0))
    tensors = [getattr(layer, name) for name in ("weight", "scale", "zero_point") if getattr(layer, name, None) is not None]
    return layer.dequantize().weight.detach(), [tensor.detach() for tensor in tensors]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SDNQ_TYPES)
def test_codes_scales_and_weights_are_those_of_the_package(kind, shape):
    weight = drawn(shape)
    own = QuantizedWeight(weight, f"sdnq_{kind}")
    decoded, tensors = theirs(weight, kind)
    assert all(torch.equal(mine.float(), other.float()) for mine, other in zip(own.buffers(), tensors, strict=True))
    assert torch.equal(own(torch.float32), decoded)
    assert not torch.equal(decoded, weight)


@pytest.mark.parametrize("kind", SDNQ_TYPES)
def test_without_values_grouped_convolutions_have_the_same_sizes(kind):
    weight = drawn((6, 96, 3, 3))
    real, bare = (dict(QuantizedWeight(w, f"sdnq_{kind}").named_buffers()) for w in (weight, weight.to("meta")))
    assert {name: (t.shape, t.dtype) for name, t in real.items()} == {name: (t.shape, t.dtype) for name, t in bare.items()}


@pytest.mark.parametrize("mode", MODES)
def test_all_layers_are_quantized_whatever_their_size(mode):
    """sdnq by itself leaves convolutions and layers of less than 16384 weights as they are, and reports nothing."""
    unet = new_unet()
    names = {f"{path}.weight" for path in quantizable(unet)}
    before = stored_bytes(unet)
    report = QUANTIZATION_MODES[mode].apply(unet)
    assert {*report.quantized} == names
    assert {*report.by_mode} == {mode}
    assert "conv_in.weight" in report.kept
    assert stored_bytes(unet) < before * (QUANTIZATION_MODES[mode].weight_bits + 3) / 32


def test_weights_that_cannot_be_packed_are_kept_and_named():
    layers = torch.nn.ModuleDict({"odd": torch.nn.Linear(5, 3), "even": torch.nn.Linear(8, 4)})
    report = QUANTIZATION_MODES["sdnq_int5"].apply(layers)
    assert report.quantized == ("even.weight",)
    assert any("15 weights" in note and note.endswith(": odd") for note in report.notes)
    with pytest.raises(QuantizeError, match="odd: 15 weights"):
        QUANTIZATION_MODES["sdnq_int5"].apply(torch.nn.ModuleDict({"odd": torch.nn.Linear(5, 3)}))


def test_a_mixture_takes_layers_of_sdnq_beside_others():
    mixed, alone = new_unet(), new_unet()
    report = make_on_host(mixed, Mixed(default="int8_weight_only", keys={"up_blocks.*": "sdnq_uint4"}), "float32")
    assert all(name.startswith("up_blocks.") for name in report.by_mode["sdnq_uint4"])
    assert {*report.by_mode} == {"int8_weight_only", "sdnq_uint4"}
    make_on_host(alone, Mixed(default="sdnq_uint4"), "float32")
    whole = new_unet()
    MADE_ON_HOST["sdnq_uint4"](whole, "float32")
    assert torch.equal(forward(alone), forward(whole))
    assert not torch.equal(forward(alone), forward(mixed))


def test_the_packages_version_is_part_of_what_a_candidate_is(monkeypatch):
    first = identity_of("sdnq_int8")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "9.9")
    assert identity_of("sdnq_int8") != first
    assert identity_of(Mixed(default="sdnq_int8")) != identity_of(Mixed(default="sdnq_int6"))
    assert identity_of("int8_weight_only") == QUANTIZATION_MODES["int8_weight_only"].version


def test_a_machine_without_the_package_says_so(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "sdnq" else find(name, *rest))
    candidate = Candidate(name="c", model="zoo:photo", quantization={"unet": "fp32", "text_encoder": "sdnq_int8"})
    (problem,) = problems(candidate.quantization, "cpu")
    assert "sdnq_int8" in problem
    assert "sweetspot[sdnq]" in problem
    assert not list(problems("nf4", "cpu"))


def test_importing_the_package_leaves_no_setting_behind():
    """By itself it has torch.load trust its layers, raises the limits of torch.compile, and registers a quantizer."""
    script = """
import json, logging, os, sys, torch
import diffusers.quantizers.auto, transformers.quantizers.auto
from harness.quantize.formats import FORMATS
def settings():
    import torch._dynamo as dynamo
    return [sorted(str(one) for one in torch.serialization.get_safe_globals() if "sdnq" in str(one)),
            [getattr(dynamo.config, name) for name in dir(dynamo.config) if "limit" in name],
            torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled(), logging.root.manager.disable,
            sorted(name for name in os.environ if "SDNQ" in name), hash(torch.random.get_rng_state().numpy().tobytes()),
            [sorted(name for name in module.AUTO_QUANTIZER_MAPPING if "sdnq" in name and module is transformers.quantizers.auto)
             for module in (diffusers.quantizers.auto, transformers.quantizers.auto)]]
before = settings()
FORMATS["sdnq_uint4"].encode(torch.ones(8, 8))
assert "sdnq.quantizer" in sys.modules
print(json.dumps([before, settings()]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert before == after
