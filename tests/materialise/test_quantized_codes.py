"""Weights stored as codes that are not multiplied out are refused wherever they would be taken for weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.cli import main
from harness.weights import ModelFileError, open_model
from harness.weights.quantized_codes import refuse_codes
from tests.materialise.models import State, write
from tests.materialise.tiny_dit import flux

E4, E5 = torch.float8_e4m3fn, torch.float8_e5m2
LAYER = "blocks.0.self_attn.q"
KNOWN = "single_blocks.0.linear2"
Form = Callable[[str], State]


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (draw(3, *shape) * 30).to(dtype)


COLUMN, ONE = torch.ones(8, 1), torch.tensor(0.01)
FORMS: dict[str, tuple[str, Form]] = {
    "int8": ("I8", lambda at: {f"{at}.weight": small(torch.int8, 8, 8), f"{at}.scale": COLUMN}),
    "int8 alone": ("I8", lambda at: {f"{at}.weight": small(torch.int8, 8, 8)}),
    "flat uint8": ("U8", lambda at: {f"{at}.weight": torch.ones(32, dtype=torch.uint8)}),
    "quanto": ("quanto", lambda at: {f"{at}.weight._data": small(torch.int8, 8, 8), f"{at}.weight._scale": COLUMN}),
    "quanto fp8": ("quanto", lambda at: {f"{at}.weight._data": small(E4, 8, 8), f"{at}.weight._scale": COLUMN}),
    "GPTQ": ("GPTQ", lambda at: {f"{at}.qweight": small(torch.int32, 2, 8), f"{at}.qzeros": small(torch.int32, 1, 4),
                                 f"{at}.scales": torch.ones(1, 8)}),
    "nunchaku": ("nunchaku", lambda at: {f"{at}.qweight": small(torch.int8, 8, 4), f"{at}.wscales": torch.ones(1, 8),
                                         f"{at}.smooth_factor": torch.ones(8)}),
    "HQQ": ("HQQ", lambda at: {f"{at}.W_q": small(torch.int32, 4, 8).to(torch.uint8), f"{at}.scale": COLUMN,
                               f"{at}.zero": COLUMN.clone()}),
    "block scales": ("block-scaled", lambda at: {f"{at}.weight": small(E4, 8, 8), f"{at}.weight_scale_inv": torch.ones(1, 1)}),
    "fp8 and .scale": ("scale", lambda at: {f"{at}.weight": small(E4, 8, 8), f"{at}.scale": ONE}),
    "e5m2 and .scale": ("scale", lambda at: {f"{at}.weight": small(E5, 8, 8), f"{at}.scale": ONE}),
    "fp8 and weight.scale": ("scale", lambda at: {f"{at}.weight": small(E4, 8, 8), f"{at}.weight.scale": ONE}),
    "fp8 and weight_s": ("weight_s", lambda at: {f"{at}.weight": small(E4, 8, 8), f"{at}.weight_s": ONE}),
    "fp8 and weight_amax": ("weight_amax", lambda at: {f"{at}.weight": small(E4, 8, 8), f"{at}.weight_amax": ONE}),
    "float8_data": ("scale", lambda at: {f"{at}.float8_data": small(E4, 8, 8), f"{at}.scale": ONE,
                                         f"{at}.scale_reciprocal": ONE.clone()}),
}


def unknown(seed: int) -> State:
    """A model of an architecture that is not known by name."""
    return {f"{LAYER}.weight": draw(seed, 8, 8), "blocks.0.ffn.weight": draw(seed + 1, 8, 8), "head.weight": draw(seed + 2, 8, 8)}


def known(seed: int) -> State:
    return flux(seed)


MODELS = {"unknown": (unknown, LAYER), "Flux": (known, KNOWN)}


def pair(root: Path, which: str, form: Form, both: bool) -> None:
    """a and b.safetensors: b in codes, and a too if `both`."""
    model, layer = MODELS[which]
    for seed, name, coded in ((1, "a", both), (2, "b", True)):
        tensors = model(seed)
        if coded:
            del tensors[f"{layer}.weight"]
            tensors |= form(layer)
        write(root / f"{name}.safetensors", tensors)


def command(root: Path, *words: str) -> int:
    return main([*(word if not word.endswith(".st") else f"{root}/{word[:-3]}.safetensors" for word in words), "-o",
                 f"{root}/out.safetensors"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("words", [
    "merge --a a.st --b b.st --alpha 1", "merge --a a.st --b b.st --alpha 0.5 --missing keep_a",
    "adapter extract --base a.st --tuned b.st --rank 2"])
def test_codes_are_refused_by_file_tensor_and_format(words, both, which, form, tmp_path, capsys):
    word, make = FORMS[form]
    pair(tmp_path, which, make, both)
    assert command(tmp_path, *words.split()) == 1
    text = capsys.readouterr().err
    assert f"{'a' if both else 'b'}.safetensors" in text
    assert MODELS[which][1] in text
    assert word in text
    assert "Give the unquantized model" in text
    assert "keep_a" not in text
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("which", MODELS)
def test_no_adapter_is_fused_into_codes(which, form, tmp_path, capsys):
    pair(tmp_path, which, FORMS[form][1], both=True)
    layer = MODELS[which][1]
    wide = known(1)[f"{KNOWN}.weight"].shape if which == "Flux" else (8, 8)
    write(tmp_path / "l.safetensors", {f"diffusion_model.{layer}.lora_A.weight": torch.ones(2, wide[1]),
                                       f"diffusion_model.{layer}.lora_B.weight": torch.ones(wide[0], 2)})
    assert command(tmp_path, "merge", "--a", "a.st", "--adapter", "l.st") == 1
    text = capsys.readouterr().err
    assert "a.safetensors" in text
    assert f"{layer}." in text
    assert "Give the unquantized model" in text
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("dtype", [torch.int8, E4])
def test_an_adapter_on_codes_of_the_right_shape_is_refused_by_the_weight(which, dtype, tmp_path, capsys):
    model, layer = MODELS[which]
    shape = model(1)[f"{layer}.weight"].shape
    pair(tmp_path, which, lambda at: {f"{at}.weight": small(dtype, *shape), f"{at}.weight_scale_inv": ONE}, both=True)
    write(tmp_path / "l.safetensors", {f"diffusion_model.{layer}.lora_A.weight": torch.ones(2, shape[1]),
                                       f"diffusion_model.{layer}.lora_B.weight": torch.ones(shape[0], 2)})
    assert command(tmp_path, "merge", "--a", "a.st", "--adapter", "l.st") == 1
    text = capsys.readouterr().err
    assert f"{layer}.weight" in text
    assert "quantized" in text


@pytest.mark.parametrize("name", ["ids", "position_ids", "attn.relative_position_index", "num_batches_tracked", "attn.mask"])
def test_integer_buffers_are_copied_as_before(name, tmp_path):
    buffer = torch.arange(8)[None]
    for seed, file in ((1, "a"), (2, "b")):
        write(tmp_path / f"{file}.safetensors", unknown(seed) | {f"codebook.{name}": buffer})
    assert command(tmp_path, "merge", "--a", "a.st", "--b", "b.st", "--alpha", "1") == 0
    out = load_file(tmp_path / "out.safetensors")
    assert torch.equal(out[f"codebook.{name}"], buffer)
    assert torch.equal(out["head.weight"], unknown(2)["head.weight"])


def test_plain_fp8_beside_scales_of_other_things_is_merged(tmp_path):
    """A norm's scale, and a table of scales and shifts, belong to no fp8 weight."""
    names = {"blocks.0.scale_shift_table": torch.ones(2, 8), "blocks.0.norm.scale": torch.ones(8)}
    for seed, file in ((1, "a"), (2, "b")):
        tensors = {name: tensor.to(E4) for name, tensor in (unknown(seed) | {"blocks.0.mod": torch.ones(2, 8)}).items()}
        write(tmp_path / f"{file}.safetensors", names | tensors)
    assert command(tmp_path, "merge", "--a", "a.st", "--b", "b.st", "--alpha", "1") == 0
    out = load_file(tmp_path / "out.safetensors")
    assert torch.equal(out["head.weight"].float(), unknown(2)["head.weight"].to(E4).float())


def test_a_known_model_with_codes_is_opened_but_refused_by_component(tmp_path):
    pair(tmp_path, "Flux", FORMS["int8 alone"][1], both=True)
    model = open_model(tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"a\.safetensors: transformer: .*linear2\.weight"):
        refuse_codes(model, "transformer")


@pytest.mark.parametrize(("value", "code"), [(448.0, 0), (464.0, 0), (464.1, 1), (1e6, 1), (-500.0, 1)])
def test_a_result_beyond_fp8_is_refused_like_any_overflow(value, code, tmp_path, capsys):
    write(tmp_path / "a.safetensors", {name: tensor.to(E4) for name, tensor in unknown(1).items()})
    b = unknown(2)
    b["head.weight"][3, 4] = value
    write(tmp_path / "b.safetensors", b)
    assert command(tmp_path, "merge", "--a", "a.st", "--b", "b.st", "--alpha", "1") == code
    if code:
        text = capsys.readouterr().err
        assert "'head.weight' overflows F8_E4M3" in text
        assert "wider dtype" in text
    else:
        assert float(load_file(tmp_path / "out.safetensors")["head.weight"].float()[3, 4]) == 448
