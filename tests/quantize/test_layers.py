"""The layers of quantized weights: error bounds, packing, storage and agreement with the float layer they replace."""

import pytest
import torch
from torch import nn

from harness.quantize import QUANTIZATION_MODES
from harness.quantize.formats import FORMATS, group_size, pack_int4, quantize_symmetric, unpack_int4
from harness.quantize.layers import QuantizedWeight, WeightOnlyConv2d, WeightOnlyLinear
from harness.quantize.storage import stored_bytes


@pytest.mark.parametrize("bits", [4, 8])
def test_no_weight_is_off_by_more_than_half_a_scale(bits):
    weight = torch.randn(16, 24, generator=torch.Generator().manual_seed(0))
    values, scale = quantize_symmetric(weight, bits)
    assert ((weight - values * scale).abs() <= scale / 2 * (1 + 1e-5)).all()
    assert values.abs().max() == 2 ** (bits - 1) - 1


@pytest.mark.parametrize("stored_as", FORMATS)
def test_a_weight_of_zeros_stays_zero(stored_as):
    assert torch.equal(QuantizedWeight(torch.zeros(3, 32), stored_as)(torch.float32), torch.zeros(3, 32))


@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_packing_two_per_byte_loses_nothing(count):
    values = torch.arange(count, dtype=torch.int8) % 16 - 8
    packed = pack_int4(values)
    assert packed.numel() == (count + 1) // 2
    assert torch.equal(unpack_int4(packed, count), values)


def test_groups_divide_the_row():
    assert [group_size(n) for n in (576, 864, 36, 72, 10, 7, 37)] == [32, 32, 18, 24, 10, 7, 37]


def test_int8_has_one_scale_per_output_channel():
    assert QuantizedWeight(torch.randn(6, 4, 3, 3), "int8").scales.shape == (6, 1)


@pytest.mark.parametrize("stored_as", FORMATS)
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"groups": 2}, {"bias": False}, {"dilation": 2}])
def test_a_convolution_computes_with_its_dequantized_weight(stored_as, options):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(16, 4, 3, **options), torch.randn(2, 16, 9, 9)
    layer = WeightOnlyConv2d(conv, stored_as)
    with torch.no_grad():
        conv.weight.copy_(layer.weight)
        assert torch.allclose(layer(x), conv(x), atol=1e-6)


def test_a_linear_layer_computes_with_its_dequantized_weight():
    torch.manual_seed(0)
    linear, x = nn.Linear(10, 6), torch.randn(3, 5, 10)
    layer = WeightOnlyLinear(linear, "int4")
    with torch.no_grad():
        linear.weight.copy_(layer.weight)
        assert torch.allclose(layer(x), linear(x), atol=1e-6)


def test_stored_bytes_are_those_of_integers_and_scales():
    linear = nn.Linear(64, 32, bias=False)
    assert stored_bytes(linear) == 64 * 32 * 4
    assert stored_bytes(WeightOnlyLinear(linear, "int8")) == 64 * 32 + 32 * 4
    assert stored_bytes(WeightOnlyLinear(linear, "int4")) == 64 * 32 // 2 + 64 * 32 // 32 * 4


def test_a_quantized_layer_saves_and_loads(tmp_path):
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    first, second = (WeightOnlyConv2d(nn.Conv2d(4, 4, 3), "int4") for _ in range(2))
    save_file(first.state_dict(), tmp_path / "layer.safetensors")
    second.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    assert torch.equal(first.weight, second.weight)


def test_padding_other_than_zeros_is_refused():
    with pytest.raises(ValueError, match="circular"):
        WeightOnlyConv2d(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), "int8")


def test_time_steps_keep_their_precision_when_features_are_cast() -> None:
    """751.3 is 752 in bfloat16: another noise level, and another embedding."""
    seen = {}

    class Denoiser(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, sample, timestep, added):
            seen.update(sample=sample.dtype, timestep=timestep.dtype, **{name: value.dtype for name, value in added.items()})
            return self.layer(sample)

    module = Denoiser()
    QUANTIZATION_MODES["bf16"].apply(module)
    out = module(torch.ones(2, 4), torch.tensor(751.3), added={"text_embeds": torch.ones(2, 3), "time_ids": torch.ones(2, 6)})
    assert seen == {"sample": torch.bfloat16, "timestep": torch.float32, "text_embeds": torch.bfloat16, "time_ids": torch.float32}
    assert out.dtype == torch.float32
