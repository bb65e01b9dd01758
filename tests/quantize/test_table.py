"""Properties every row of QUANTIZATION_MODES keeps, on a small U-Net."""

import copy
import math

import pytest
import torch

from harness.declare import Mixed
from harness.quantize import MADE_ON_HOST, QUANTIZATION_MODES, QuantizeError, stored_bytes
from harness.quantize.declared import make_on_host
from tests.quantize.conftest import forward, new_unet

ON_CPU = [name for name, mode in QUANTIZATION_MODES.items() if not mode.why_not("cpu")]


def decibels(output, reference):
    error = float((output - reference).pow(2).mean())
    return 10 * math.log10(float(reference.pow(2).mean()) / error) if error else math.inf


@pytest.fixture(scope="module")
def outputs():
    made = {}
    for name in ON_CPU:
        unet = new_unet()
        report = QUANTIZATION_MODES[name].apply(unet)
        made[name] = (unet, report, forward(unet))
    return made


@pytest.mark.parametrize("name", ON_CPU)
def test_the_report_names_every_parameter_once(name, outputs):
    _, report, _ = outputs[name]
    assert sorted(report.quantized + report.kept) == sorted(key for key, _ in new_unet().named_parameters())
    assert report.notes


@pytest.mark.parametrize("name", [name for name in ON_CPU if name in MADE_ON_HOST])
def test_modes_of_layers_say_which_layers_have_them(name, outputs):
    report = outputs[name][1]
    assert {mode: set(names) for mode, names in report.by_mode.items()} == {name: set(report.quantized)}


def test_a_mixture_says_which_layers_have_which_mode():
    unet = new_unet()
    report = make_on_host(unet, Mixed(default="int8_weight_only", keys={"up_blocks.*": "nf4", "mid_block.*": "fp32"}), "float32")
    assert sorted(name for names in report.by_mode.values() for name in names) == sorted(report.quantized)
    assert set(report.by_mode["nf4"]) == {name for name in report.quantized if name.startswith("up_blocks.")}
    assert not any(name.startswith("mid_block.") for name in report.quantized)
    assert any(note.startswith(f"nf4: {len(report.by_mode['nf4'])} of {len(report.quantized)} layers: up_blocks.")
               for note in report.notes)


@pytest.mark.parametrize("name", ON_CPU)
def test_the_module_takes_and_returns_float32(name, outputs):
    output = outputs[name][2]
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", ON_CPU)
def test_the_same_weights_quantize_to_the_same_output(name, outputs):
    again = new_unet()
    QUANTIZATION_MODES[name].apply(again)
    assert torch.equal(forward(again), outputs[name][2])


@pytest.mark.parametrize("name", ON_CPU)
def test_storage_shrinks_with_the_bits(name, outputs):
    unet, report, _ = outputs[name]
    sizes = {key: parameter.numel() for key, parameter in new_unet().named_parameters()}
    quantized = sum(sizes[key] for key in report.quantized)
    assert quantized > 0 or name == "fp32"
    expected = (quantized * QUANTIZATION_MODES[name].weight_bits + (sum(sizes.values()) - quantized) * 32) / 8
    assert expected <= stored_bytes(unet) <= expected * 1.3


@pytest.mark.parametrize("name", ON_CPU)
def test_quantized_layers_hold_no_float_copy_of_their_weights(name, outputs):
    unet, report, _ = outputs[name]
    if QUANTIZATION_MODES[name].weight_bits >= 16:
        pytest.skip("casts keep float parameters")
    assert not set(report.quantized) & {key for key, p in unet.named_parameters() if type(p) is torch.nn.Parameter}


def test_fewer_bits_are_further_from_fp32(outputs):
    reference = outputs["fp32"][2]
    int8, int4 = (decibels(outputs[name][2], reference) for name in ("int8_weight_only", "int4_weight_only"))
    assert int8 > 30
    assert int8 > int4 + 10
    assert int4 > 5


def test_fp32_changes_nothing(outputs):
    assert torch.equal(outputs["fp32"][2], forward(new_unet()))


def test_fp16_on_the_cpu_is_refused_before_and_when_applied():
    assert "20 times slower" in QUANTIZATION_MODES["fp16"].why_not("cpu")
    assert QUANTIZATION_MODES["fp16"].why_not("cuda:0") == ""
    with pytest.raises(QuantizeError, match="use bf16"):
        QUANTIZATION_MODES["fp16"].apply(new_unet())


def test_first_and_last_layers_and_the_time_embedding_are_kept(outputs):
    _, report, _ = outputs["int8_weight_only"]
    for layer in ("conv_in", "conv_out", "time_embedding.linear_1"):
        assert f"{layer}.weight" in report.kept
    assert "mid_block.resnets.0.conv1.weight" in report.quantized
    assert any("conv_in" in note for note in report.notes)


def test_a_note_names_the_layers_whose_rows_have_one_scale():
    """37 has no divisor from 8 to 32; a row of 7 has one scale too, of less than 32 weights."""
    layers = torch.nn.ModuleDict({"odd": torch.nn.Linear(37, 4), "even": torch.nn.Linear(64, 4), "few": torch.nn.Linear(7, 4)})
    notes = QUANTIZATION_MODES["int4_weight_only"].apply(layers).notes
    assert any(note.endswith("in 1 of 3 layers: odd") for note in notes)
    even = torch.nn.Sequential(torch.nn.Linear(64, 4))
    assert any(note.endswith("at most 32 weights") for note in QUANTIZATION_MODES["int4_weight_only"].apply(even).notes)


def test_own_layers_are_named_in_the_notes(outputs):
    assert any("WeightOnlyConv2d" in note for note in outputs["int8_dynamic"][1].notes)
    assert any("own packed int4 layers" in note for note in outputs["int4_weight_only"][1].notes)


@pytest.mark.parametrize("name", MADE_ON_HOST)
def test_a_mode_that_would_quantize_nothing_is_refused(name):
    for module in (torch.nn.LayerNorm(4), torch.nn.ModuleDict({"conv_in": torch.nn.Conv2d(32, 32, 1)})):
        with pytest.raises(QuantizeError, match="no linear or convolution layer"):
            QUANTIZATION_MODES[name].apply(module)


@pytest.mark.parametrize("name", [name for name in MADE_ON_HOST if name.startswith("gguf")])
def test_layers_that_are_not_whole_blocks_are_kept_and_named(name):
    layers = torch.nn.ModuleDict({"odd": torch.nn.Linear(5, 7, bias=False), "even": torch.nn.Linear(8, 8, bias=False)})
    report = QUANTIZATION_MODES[name].apply(layers)
    assert (report.quantized, report.kept) == (("even.weight",), ("odd.weight",))
    assert any(note == "kept, as 35 weights are not whole blocks of 32: odd" for note in report.notes)
    with pytest.raises(QuantizeError, match="odd: 35 weights"):
        QUANTIZATION_MODES[name].apply(torch.nn.ModuleDict({"odd": torch.nn.Linear(5, 7)}))


def test_fp8_products_are_refused_by_name_where_there_are_none(monkeypatch):
    mode = QUANTIZATION_MODES["fp8_dynamic"]
    assert "fp8_weight_only" in mode.why_not("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, refused in (((8, 6), True), ((8, 9), False), ((9, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, has=capability: has)
        assert ("capability 8.6" in mode.why_not("cuda:0")) == refused


@pytest.mark.parametrize("name", [name for name in MADE_ON_HOST if name.startswith("gguf")])
def test_weights_beyond_the_range_of_half_precision_scales_are_refused(name):
    layer = torch.nn.ModuleDict({"huge": torch.nn.Linear(32, 1)})
    with torch.no_grad():
        layer["huge"].weight.fill_(3e7)
        layer["huge"].weight[0, 0] = -3e7
    with pytest.raises(QuantizeError, match=f"huge.weight holds values beyond the range of {name}"):
        QUANTIZATION_MODES[name].apply(layer)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(QUANTIZATION_MODES))
def test_every_mode_runs_on_a_gpu(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    unet = new_unet().cuda()
    QUANTIZATION_MODES[name].apply(unet)
    with torch.inference_mode():
        noise, context = torch.randn(2, 4, 8, 8, device="cuda"), torch.randn(2, 12, 32, device="cuda")
        output = unet(noise, 500, encoder_hidden_states=context).sample
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", ON_CPU)
def test_an_attached_lora_survives_in_full_precision(name):
    from peft import LoraConfig, inject_adapter_in_model

    unet = new_unet()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q", "conv1"], init_lora_weights=False), unet)
    reference = forward(unet)
    copied = copy.deepcopy(unet)
    report = QUANTIZATION_MODES[name].apply(copied)
    factors = [key for key, _ in unet.named_parameters() if "lora_" in key]
    assert decibels(forward(copied), reference) > 5
    if QUANTIZATION_MODES[name].weight_bits < 16:
        assert set(factors) <= set(report.kept)
        assert "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.base_layer.weight" in report.quantized
