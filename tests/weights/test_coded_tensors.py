"""Weights in the codes of other tools, against the values that these tools read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness.weights import ModelFileError, open_tensors
from tests.weights.coded_files import State, changed, described, four_bits, hadamard, values_of

functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
W = "x.weight"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def read(root: Path, state: State, metadata: dict[str, str] | None = None, name: str = W) -> torch.Tensor:
    """The weight as it is read; nothing else is in the file then."""
    path = root / "m.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata)
    file = open_tensors(path)
    assert list(file.stored) == [name]
    values = file.read([name])[name]
    assert file.stored[name].shape == values.shape
    return values


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "nested", "block", "shape"), [
    ("nf4", False, 64, (96, 64)), ("nf4", True, 64, (300, 1024)), ("nf4", True, 128, (64, 256)), ("nf4", False, 64, (4, 66)),
    ("fp4", False, 64, (96, 64)), ("fp4", True, 256, (80, 512))])
def test_four_bits_of_bitsandbytes_have_its_values(kind, nested, block, shape, dtype, tmp_path):
    state = four_bits(W, drawn(*shape, dtype=dtype), kind, nested, block)
    values = read(tmp_path, state)
    assert values.dtype == dtype
    assert torch.equal(values, values_of(W, state))


def test_codes_that_are_stored_as_another_dtype_are_the_same_codes(tmp_path):
    state = four_bits(W, drawn(96, 64))
    stored = state[W].reshape(-1).view(torch.bfloat16).reshape(-1, 1)
    assert torch.equal(read(tmp_path, {**state, W: stored}), values_of(W, state))


def test_an_odd_number_of_values_and_a_short_last_block_are_read(tmp_path):
    weight = drawn(5, 13)
    state = four_bits(W, weight)
    values = read(tmp_path, state)
    scales = state[f"{W}.absmax"].repeat_interleave(64)[:65].reshape(5, 13)
    assert float(((values - weight) / scales).abs().max()) < 0.16  # half the widest gap between values of nf4


def test_int8_of_bitsandbytes_has_its_values(tmp_path):
    codes = (drawn(48, 40) * 40).to(torch.int8)
    scales = drawn(48).abs()
    state = {W: codes, "x.SCB": scales, "x.weight_format": torch.tensor(0, dtype=torch.uint8)}
    assert same_bits(read(tmp_path, state), functional.int8_vectorwise_dequant(codes, scales))


def torchao(name: str, weight: torch.Tensor) -> Any:
    from torchao.prototype.mx_formats.mx_tensor import MXTensor
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, PerTensor, quantize_

    kind, _, swizzled = name.partition(" ")
    if kind in ("mxfp8", "mxfp4"):
        word = torch.float8_e4m3fn if kind == "mxfp8" else torch.float4_e2m1fn_x2
        return MXTensor.to_mx(weight, word, 32, is_swizzled_scales=bool(swizzled))
    if kind == "nvfp4":
        return NVFP4Tensor.to_nvfp4(weight, per_tensor_scale=per_tensor_amax_to_scale(weight.abs().max()),
                                    is_swizzled_scales=bool(swizzled))
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight.data = weight
    quantize_(layer, {"fp8": Float8WeightOnlyConfig(), "int8": Int8WeightOnlyConfig(),
                      "int8 tensor": Int8WeightOnlyConfig(granularity=PerTensor())}[name])
    return layer.weight.data


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mxfp8", "mxfp8 swizzled", "mxfp4", "nvfp4", "nvfp4 swizzled", "fp8", "int8", "int8 tensor"])
def test_tensors_of_torchao_have_its_values(name, dtype, tmp_path):
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    tensor = torchao(name, drawn(160, 128, dtype=dtype))
    state, metadata = flatten_tensor_state_dict({W: tensor})
    assert same_bits(read(tmp_path, state, metadata), tensor.dequantize())


def comfy(name: str) -> tuple[State, torch.Tensor]:
    """A layer as ComfyUI saves it, and its values: those of torchao, which has the same blocks, or a product in float64."""
    kind, _, how = name.partition(" ")
    if kind in ("nvfp4", "mxfp8"):
        tensor = torchao(f"{kind} swizzled", drawn(160, 192, dtype=torch.float32 if kind == "nvfp4" else torch.bfloat16))
        codes = (tensor.qdata >> 4 | tensor.qdata << 4) if kind == "nvfp4" else tensor.qdata
        over = {"x.weight_scale_2": tensor.per_tensor_scale} if kind == "nvfp4" else {}
        return {W: codes, "x.weight_scale": tensor.scale, "x.input_scale": torch.tensor(2.0), **over,
                "x.comfy_quant": described({"format": kind})}, tensor.dequantize()
    four = kind == "convrot_w4a4"
    codes = (drawn(24, 512) * 3).clamp(-7, 7).to(torch.int8) if four else (drawn(24, 512) * 40).clamp(-127, 127).to(torch.int8)
    scales = torch.tensor(0.02) if how == "tensor" else drawn(24, 1).abs()
    rotated = 256 if four or how == "rotated" else 0
    turned = codes.double() @ torch.block_diag(*[hadamard(rotated)] * (512 // rotated)).T if rotated else codes.double()
    said = {"format": kind, **({"convrot": how == "rotated", "convrot_groupsize": rotated} if rotated else {})}
    packed = (codes[:, 0::2] & 15) | (codes[:, 1::2] << 4) if four else codes
    return {W: packed, "x.weight_scale": scales.reshape(-1) if four else scales, "x.comfy_quant": described(said)}, (
        turned * scales.double()).float()


@pytest.mark.parametrize("name", ["nvfp4", "mxfp8", "int8_tensorwise tensor", "int8_tensorwise rows", "int8_tensorwise rotated",
                                  "convrot_w4a4 rotated rows"])
def test_layers_of_comfyui_have_its_values(name, tmp_path):
    state, values = comfy(name)
    assert same_bits(read(tmp_path, state), values)


def test_a_layer_is_described_in_the_header_too_and_with_parameters_of_its_own(tmp_path):
    state, values = comfy("int8_tensorwise rotated")
    said = '{"format": "int8_tensorwise", "params": {"convrot": true, "convrot_groupsize": 256}}'
    del state["x.comfy_quant"]
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()}
    for path in ("x", "model.diffusion_model.x"):
        header = {"_quantization_metadata": f'{{"layers": {{"{path}": {said}}}}}'}
        assert same_bits(read(tmp_path, state, header, f"model.diffusion_model.{W}"), values)


def test_fp8_that_is_stored_as_bytes_is_fp8(tmp_path):
    codes = drawn(8, 8).to(torch.float8_e5m2)
    state = {W: codes.view(torch.uint8), "x.weight_scale": torch.tensor(0.5),
             "x.comfy_quant": described({"format": "float8_e5m2"})}
    assert same_bits(read(tmp_path, state), codes.float() * 0.5)


@pytest.mark.parametrize("kind", ["nvfp4", "mxfp4", "mxfp8"])
def test_layers_of_compressed_tensors_have_its_values(kind, tmp_path):
    tensor = torchao(kind, drawn(32, 96, dtype=torch.bfloat16))
    over = {"x.weight_global_scale": 1 / tensor.per_tensor_scale.reshape(1)} if kind == "nvfp4" else {}
    scale = tensor.scale if kind == "nvfp4" else tensor.scale.view(torch.uint8)
    state = {W if kind == "mxfp8" else "x.weight_packed": tensor.qdata, "x.weight_scale": scale, **over}
    values = read(tmp_path, state)
    if kind == "nvfp4":  # the scale of the tensor divides there, and the quotient is rounded
        from torchao.prototype.mx_formats.kernels import f4_unpacked_to_f32, unpack_uint4
        scales = tensor.scale.float() / over["x.weight_global_scale"]
        wanted = (f4_unpacked_to_f32(unpack_uint4(tensor.qdata)) * scales.repeat_interleave(16, dim=1)).bfloat16()
        assert same_bits(values, wanted)
    else:
        assert same_bits(values, tensor.dequantize())


NF4 = f"{W}.quant_state.bitsandbytes__nf4"


def nf4(**changes: torch.Tensor) -> State:
    return {**four_bits(W, drawn(96, 64)), **changes}


def nested(**settings: Any) -> State:
    return changed(four_bits(W, drawn(96, 64), nested=True), NF4, **settings)


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


def rows(kind: str = "int8_tensorwise", **changes: torch.Tensor) -> State:
    return {**comfy(f"{kind} rows")[0], **changes}


HOSTILE: dict[str, tuple[Any, str]] = {
    "scales that are too few": (lambda: nf4(**{f"{W}.absmax": torch.ones(95)}), rf"{W}.absmax' is F32 \[95\]; .* \[96\]"),
    "no scales": (lambda: without(nf4(), f"{W}.absmax"), rf"lacks '{W}.absmax'"),
    "no codes": (lambda: without(nf4(), W), rf"lacks '{W}'"),
    "no state": (lambda: without(nf4(), NF4), rf"{W}\.(absmax|quant_map)' belongs to a layer"),
    "another table": (lambda: nf4(**{f"{W}.quant_map": torch.zeros(16)}), "quant_map' holds other numbers"),
    "a shape that lies": (lambda: changed(nf4(), NF4, shape=[96, 65]), r"states the shape \[96, 65\], and 'x.weight' holds 6144"),
    "a shape of many sizes": (lambda: changed(nf4(), NF4, shape=[2 ** 40, 2 ** 40]), "states the shape"),
    "a negative shape": (lambda: changed(nf4(), NF4, shape=[-96, -64]), "states the shape"),
    "no shape": (lambda: changed(nf4(), NF4, shape=None), "states the shape None"),
    "blocks of nothing": (lambda: changed(nf4(), NF4, blocksize=0), "states blocks of 0 values"),
    "blocks of true": (lambda: changed(nf4(), NF4, blocksize=[64]), r"states blocks of \[64\]"),
    "another dtype": (lambda: changed(nf4(), NF4, dtype="float64"), "states the dtype 'float64'"),
    "a list as dtype": (lambda: changed(nf4(), NF4, dtype=["float32"]), "states the dtype"),
    "another format": (lambda: changed(nf4(), NF4, quant_type="int4"), "states the format 'int4'"),
    "a state without JSON": (lambda: nf4(**{NF4: torch.zeros(9, dtype=torch.uint8)}), "bitsandbytes__nf4' does not hold"),
    "a state of deep JSON": (lambda: nf4(**{NF4: torch.full((4000,), 91, dtype=torch.uint8)}), "does not hold"),
    "nested blocks of nothing": (lambda: nested(nested_blocksize=0), "states nested blocks of 0"),
    "a nested offset of text": (lambda: nested(nested_offset="0"), "states the nested offset '0'"),
    "a nested offset beyond float32": (lambda: nested(nested_offset=1e200), "states the nested offset 1e"),
    "no values of nested scales": (lambda: without(nested(), f"{W}.nested_quant_map"), "lacks 'x.weight.nested_quant_map'"),
    "scales of NaN": (lambda: nf4(**{f"{W}.absmax": torch.full((96,), torch.nan)}), "absmax' gives NaN"),
    "nested scales of infinity": (lambda: {**nested(), f"{W}.nested_absmax": torch.tensor([torch.inf])}, "absmax' gives NaN"),
    "SCB without a weight": (lambda: {"x.SCB": torch.ones(4)}, "lacks 'x.weight'"),
    "SCB of other rows": (lambda: {W: torch.ones(4, 4, dtype=torch.int8), "x.SCB": torch.ones(3)}, r"x.SCB' is F32 \[3\]"),
    "int8 for a certain GPU": (lambda: {W: torch.ones(4, 4, dtype=torch.int8), "x.SCB": torch.ones(4),
                                        "x.weight_format": torch.tensor(1, dtype=torch.uint8)}, "weight_format' states a layout"),
    "int8 scales of other rows": (lambda: rows(**{"x.weight_scale": torch.ones(23)}), r"weight_scale' is F32 \[23\]"),
    "int8 without scales": (lambda: without(rows(), "x.weight_scale"), "lacks 'x.weight_scale'"),
    "rotation in odd groups": (lambda: changed(rows(), "x.comfy_quant", convrot=True, convrot_groupsize=32), "in groups of 32"),
    "rotation in long groups": (lambda: changed(rows(), "x.comfy_quant", convrot=True, convrot_groupsize=1024), "groups of 1024"),
    "what is not known of int8": (lambda: changed(rows(), "x.comfy_quant", smooth=True), "with 'smooth'"),
    "scaled inputs": (lambda: rows(**{"x.pre_quant_scale": torch.ones(512)}), "pre_quant_scale' scales the inputs"),
    "nvfp4 scales of another order": (
        lambda: {**comfy("nvfp4")[0], "x.weight_scale": torch.ones(160, 12).to(torch.float8_e4m3fn)}, r"F8_E4M3 \[160, 12\]"),
    "nvfp4 without its second scale": (lambda: without(comfy("nvfp4")[0], "x.weight_scale_2"), "lacks 'x.weight_scale_2'"),
    "MX scales of nothing": (lambda: {"x.weight_scale": torch.ones(4).to(torch.float8_e8m0fnu)}, "does not say of which"),
    "MX scales of NaN": (lambda: {**comfy("mxfp8")[0], "x.weight_scale": torch.full((256, 8), 255, dtype=torch.uint8)},
                         "weight_scale' gives NaN"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_fit_together_is_refused_by_file_and_tensor(case, tmp_path):
    make, message = HOSTILE[case]
    with pytest.raises(ModelFileError, match=message) as refused:
        read(tmp_path, make())
    assert str(refused.value).startswith(f"{tmp_path / 'm.safetensors'}: ")


@pytest.mark.parametrize("kind", ["Int4Tensor", None])
def test_another_tensor_of_torchao_is_refused_by_its_type(kind, tmp_path):
    metadata = {"tensor_names": '["x.weight"]', W: f'{{"_type": "{kind}", "_data": {{}}}}' if kind else "no JSON"}
    with pytest.raises(ModelFileError, match=f"x.weight' is a tensor of torchao of the type .*{kind}"):
        read(tmp_path, {"x._weight_qdata": torch.zeros(4, 4, dtype=torch.uint8)}, metadata)


@pytest.mark.parametrize("block", [0, -32, 7, 10 ** 300, "32", [1, 32], None, True])
def test_blocks_of_torchao_that_fill_no_row_are_refused(block, tmp_path):
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    state, metadata = flatten_tensor_state_dict({W: torchao("mxfp4", drawn(8, 64))})
    said = json.loads(metadata[W])
    said["_data"]["block_size"] = block
    with pytest.raises(ModelFileError, match=r"x._weight_(qdata|scale)' is "):
        read(tmp_path, state, {**metadata, W: json.dumps(said)})


def test_memory_holds_a_piece_of_the_codes_at_a_time(tmp_path):
    import tracemalloc

    state = four_bits(W, drawn(2048, 1024, dtype=torch.bfloat16))
    path = tmp_path / "m.safetensors"
    save_file(state, path)
    file = open_tensors(path)
    file.read([W])
    tracemalloc.start()
    again = file.read([W])[W]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(again, values_of(W, state))
    assert peak < state[W].numel() // 2
