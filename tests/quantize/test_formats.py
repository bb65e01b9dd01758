"""Formats of quantized weights, bit for bit: nf4 against bitsandbytes, GGUF's against the package gguf, e4m3 against torch's
cast."""

import numpy as np
import pytest
import torch

from harness.quantize.formats import FORMATS
from harness.quantize.layers import QuantizedWeight
from harness.weights.gguf_codes import BLOCK_FORMATS, divided, joined

SHAPES = [(64, 64), (6, 32, 3, 3), (4, 8, 1, 1), (3, 7, 32)]


def drawn(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Random weights with some ties, zeros, and blocks that are all zero or tiny."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    flat = weight.reshape(-1)
    flat[::7] = (flat[::7] * 4).round() / 4
    flat[:32] = 0
    flat[-32:] *= 1e-6
    return weight


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_gguf_blocks_have_the_bits_and_the_values_of_the_package_gguf(name, shape):
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    kind = gguf.GGMLQuantizationType[name]
    weight = drawn(shape)
    with np.errstate(all="ignore"):
        theirs = gguf.quants.quantize(weight.numpy().reshape(-1, 32), kind)
    own = QuantizedWeight(weight, name)
    assert torch.equal(joined(name, dict(own.named_buffers())), torch.from_numpy(theirs))
    assert torch.equal(own(torch.float32), torch.from_numpy(gguf.quants.dequantize(theirs, kind)).reshape(shape))


@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_the_parts_of_blocks_come_back_from_their_bytes(name):
    parts = FORMATS[name].encode(drawn((8, 64)))
    again = divided(name, joined(name, parts))
    assert all(torch.equal(again[part], tensor) for part, tensor in parts.items())


@pytest.mark.parametrize("shape", [*SHAPES, (5, 13), (1, 3), (3, 65)])
def test_nf4_has_the_bits_and_the_values_of_bitsandbytes(shape):
    """The last block may be shorter than 64, and the last byte hold one code."""
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    weight = drawn(shape) if torch.Size(shape).numel() > 64 else torch.randn(shape)
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    own = QuantizedWeight(weight, "nf4")
    assert torch.equal(own.values, packed.reshape(-1))
    assert torch.equal(own.scales, state.absmax)
    assert torch.equal(own.codes, state.code)
    codes = state.code[torch.stack([packed.reshape(-1) >> 4, packed.reshape(-1) & 15], dim=1).reshape(-1).long()]
    flat = codes[:weight.numel()] * state.absmax.repeat_interleave(64)[:weight.numel()]
    assert torch.equal(own(torch.float32), flat.reshape(shape))


def test_nf4_reads_as_bitsandbytes_reads_it():
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    weight = drawn((64, 64))
    theirs = functional.dequantize_4bit(*functional.quantize_4bit(weight, blocksize=64, quant_type="nf4"))
    assert torch.equal(QuantizedWeight(weight, "nf4")(torch.float32), theirs)


def test_fp8_is_the_cast_of_torch_by_row():
    weight = drawn((6, 48))
    own, rows = QuantizedWeight(weight, "fp8"), weight.abs().amax(dim=1, keepdim=True) / 448
    assert torch.equal(own.values.float(), (weight / rows).to(torch.float8_e4m3fn).float())
    assert torch.equal(own(torch.float32), (weight / rows).to(torch.float8_e4m3fn).float() * rows)
    assert float(own.values.float().abs().amax(dim=1).min()) == 448


@pytest.mark.parametrize("stored_as", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_the_float32_weight_rounded_once(stored_as, dtype):
    own = QuantizedWeight(drawn((16, 64)), stored_as)
    assert torch.equal(own(dtype), own(torch.float32).to(dtype))


@pytest.mark.parametrize("stored_as", FORMATS)
def test_without_values_the_tensors_have_the_same_sizes(stored_as):
    weight = drawn((16, 64))
    real, bare = (dict(QuantizedWeight(w, stored_as).named_buffers()) for w in (weight, weight.to("meta")))
    assert {name: (t.shape, t.dtype) for name, t in real.items()} == {name: (t.shape, t.dtype) for name, t in bare.items()}
