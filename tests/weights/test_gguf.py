"""GGUF files: blocks against values worked out by hand and against the package gguf, whole files against what was written, and
every header that does not fit its file against its refusal."""

from __future__ import annotations

import math
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from harness.weights import ModelFileError, open_model, open_tensors
from harness.weights.gguf_blocks import dequantised
from harness.weights.gguf_header import read_gguf_header
from harness.weights.gguf_types import GGUF_TYPES, NOT_READ, PACKED
from tests.weights.gguf_files import (
    BLOCKS,
    NUMBERS,
    blocks,
    entry,
    gguf,
    head,
    listed,
    padded,
    plain,
    q8_0,
    text,
    write_city96,
)
from tests.weights.tiny import tiny

TINY = tiny()
UNET = "model.diffusion_model."


def half(number: float) -> bytes:
    return struct.pack("<e", number)


def six(scales: list[int], least: list[int]) -> bytes:
    """Eight scales and eight minima of 6 bits in 12 bytes, as ggml packs them."""
    low = [s | (t >> 4) << 6 for s, t in zip(scales[:4], scales[4:], strict=True)]
    middle = [s | (t >> 4) << 6 for s, t in zip(least[:4], least[4:], strict=True)]
    return bytes([*low, *middle, *(s & 15 | (m & 15) << 4 for s, m in zip(scales[4:], least[4:], strict=True))])


SCALES, LEAST = [1, 2, 3, 63, 17, 33, 48, 5], [0, 1, 62, 7, 16, 47, 0, 63]
RAMP = bytes(range(256))


def k4(n: int, high: int = 0) -> float:
    """Weight n of the Q4_K and Q5_K blocks below: (0.5 * scale) * code - 0.25 * minimum."""
    byte = RAMP[n // 64 * 32 + n % 32]
    return 0.5 * SCALES[n // 32] * ((byte >> 4 if n // 32 % 2 else byte & 15) + 16 * high) - 0.25 * LEAST[n // 32]


HANDMADE = {
    "Q8_0": (half(0.5) + struct.pack("<32b", *range(-16, 16)), lambda n: 0.5 * (n - 16)),
    "Q4_0": (half(2) + bytes(n | (15 - n) << 4 for n in range(16)), lambda n: 2.0 * ((n if n < 16 else 31 - n) - 8)),
    "Q4_1": (half(2) + half(-3) + bytes(n | (15 - n) << 4 for n in range(16)), lambda n: 2.0 * (n if n < 16 else 31 - n) - 3),
    "Q5_0": (half(1) + (0xFFFF0000).to_bytes(4, "little") + bytes(n | n << 4 for n in range(16)), lambda n: n - 16.0),
    "Q5_1": (half(1) + half(5) + (0xFFFF0000).to_bytes(4, "little") + bytes(n | n << 4 for n in range(16)), lambda n: n + 5.0),
    "Q2_K": (bytes(n | (15 - n) << 4 for n in range(16)) + bytes([0b11100100]) * 64 + half(2) + half(0.5),
             lambda n: 2.0 * (n // 16) * (n // 32 % 4) - 0.5 * (15 - n // 16)),
    "Q3_K": (b"\xF0" * 32 + bytes([0b11100100]) * 64 + b"\x21" * 8 + b"\xE4" * 4 + half(2),
             lambda n: 2.0 * ((1 if n // 16 < 8 else 2) + 16 * (n // 16 // 4) - 32) * (n // 32 % 4 - (4 if n < 128 else 0))),
    "Q4_K": (half(0.5) + half(0.25) + six(SCALES, LEAST) + RAMP[:128], k4),
    "Q5_K": (half(0.5) + half(0.25) + six(SCALES, LEAST) + b"\xAA" * 32 + RAMP[:128], lambda n: k4(n, n // 32 % 2)),
    "Q6_K": (RAMP[:128] + bytes([0b11100100]) * 64 + struct.pack("<16b", *range(-8, 8)) + half(0.5),
             lambda n: 0.5 * (n // 16 - 8) * (((RAMP[n // 128 * 64 + n % 64] >> (4 if n % 128 >= 64 else 0)) & 15)
                                              + 16 * (n % 128 // 32) - 32)),
    "IQ4_NL": (half(0.5) + bytes(n | (15 - n) << 4 for n in range(16)), lambda n: 0.5 * (
        -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)[n if n < 16 else 31 - n]),
    "IQ4_XS": (half(1) + (0b11_10_01_00_11_10_01_00).to_bytes(2, "little") + bytes([0x10, 0x32, 0x54, 0x76]) + b"\x88" * 128,
               lambda n: float(n // 32 + 16 * (n // 32 % 4) - 32)),
}
"""A block of each format, and its weights by number, as ggml's documentation of the format says them."""


@pytest.mark.parametrize("kind", HANDMADE)
def test_a_block_gives_the_weights_worked_out_by_hand(kind):
    data, weight = HANDMADE[kind]
    assert dequantised(kind, np.frombuffer(data, np.uint8)).tolist() == [[weight(n) for n in range(BLOCKS[kind][0])]]


def test_every_format_of_blocks_has_a_block_by_hand():
    assert set(HANDMADE) == set(PACKED)
    assert {name: (row.weights, row.bytes) for name, row in PACKED.items()} == BLOCKS
    assert {row.name: number for number, row in GGUF_TYPES.items()} == NUMBERS


@pytest.mark.parametrize("kind", PACKED)
def test_random_blocks_give_the_bits_of_the_package_gguf(kind):
    package = pytest.importorskip("gguf", reason="the package gguf is not installed")
    data = np.random.default_rng(1).integers(0, 256, (999, BLOCKS[kind][1]), dtype=np.uint8)
    with np.errstate(all="ignore"):
        ideal = package.quants.dequantize(data, package.GGMLQuantizationType[kind])
    values, ideal = dequantised(kind, data), ideal.reshape(999, -1)
    numbers = ~np.isnan(ideal)  # which of two NaNs a sum keeps depends on the processor's instructions
    assert np.array_equal(np.isnan(values), ~numbers)
    assert np.array_equal(values[numbers].view(np.uint32), ideal[numbers].view(np.uint32))


@pytest.mark.parametrize("kind", PACKED)
def test_pieces_of_a_tensor_are_read_in_their_order(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("harness.weights.gguf_blocks._AT_ONCE", 512)
    count, data = BLOCKS[kind][0], blocks(kind, 2560 // BLOCKS[kind][0])
    (tmp_path / "m").write_bytes(gguf({"first": plain(torch.ones(3)), "x": (kind, (10, 256), data)}))
    values = open_tensors(tmp_path / "m").read(["x"])["x"]
    assert values.shape == (10, 256)
    assert np.array_equal(values.numpy().reshape(-1, count), dequantised(kind, np.frombuffer(data, np.uint8)))


def test_plain_tensors_and_texts_are_read_as_they_are(tmp_path):
    state = {str(t.dtype): t for t in (torch.arange(6).reshape(2, 3).to(dtype) for dtype in (
        torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int32, torch.int64))}
    said = {"general.architecture": "sd1", "general.name": "x", "tokens": ["a", "b"], "list": [1, 2], "general.file_type": 7}
    (tmp_path / "m").write_bytes(gguf({name: plain(tensor) for name, tensor in state.items()}, said))
    file = open_tensors(tmp_path / "m")
    assert file.metadata == {"general.architecture": "sd1", "general.name": "x", "general.file_type": "7"}
    read = file.read(state)
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in state.items())


def test_the_header_of_the_package_gguf_is_read(tmp_path):
    package = pytest.importorskip("gguf", reason="the package gguf is not installed")
    writer = package.GGUFWriter(tmp_path / "m", "sdxl")
    writer.add_array("comfy.gguf.orig_shape.x", [128, 2, 1, 1])
    values = np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 256)
    writer.add_tensor("y", values.astype(np.float16))
    writer.add_tensor("x", package.quants.quantize(values, package.GGMLQuantizationType.Q8_0),
                      raw_dtype=package.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = open_tensors(tmp_path / "m").read(["x", "y"])
    assert torch.equal(read["y"], torch.from_numpy(values).half())
    assert read["x"].shape == (128, 2, 1, 1)
    assert float((read["x"].flatten() - torch.from_numpy(values).flatten()).abs().max()) < 1 / 250


def unet_of(file: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(UNET): tensor for name, tensor in file.items() if name.startswith(UNET)}


@pytest.mark.parametrize("layout", ["ldm", "diffusers", "whole"])
def test_a_model_has_the_names_and_shapes_of_its_unquantized_file_and_values_within_half_a_step(tmp_path, layout):
    state = {"ldm": unet_of(TINY.file()), "diffusers": TINY.unet, "whole": TINY.file()}[layout]
    formats = write_city96(tmp_path / "called.safetensors", state)
    assert sum(kind == "Q8_0" for kind in formats.values()) > 20
    model = open_model(tmp_path / "called.safetensors")
    assert list(model.components) == (["unet", "vae", "text_encoder"] if layout == "whole" else ["unet"])
    assert (model.family, len(model.warnings), "but is a GGUF file" in model.warnings[0]) == ("sd1", 1, True)
    for part in model.components:
        ideal = getattr(TINY, part)
        values = model.tensors(part)
        assert values.keys() == ideal.keys()
        for key, tensor in ideal.items():
            assert values[key].shape == tensor.shape
            step = float(tensor.abs().max()) / 127
            assert float((values[key] - tensor).abs().max()) <= (0.57 * step if model.components[part][key].packed else 0), key


def test_a_changed_shape_is_named(tmp_path):
    (tmp_path / "m").write_bytes(gguf({"x": ("Q8_0", (8, 32), q8_0(np.ones(256)))}, {"comfy.gguf.orig_shape.x": [16, 16]}))
    assert open_tensors(tmp_path / "m").stored["x"].shape == (16, 16)


def test_a_file_that_was_written_over_is_not_read(tmp_path):
    (tmp_path / "m").write_bytes(gguf({"x": ("Q8_0", (8, 32), q8_0(np.ones(256)))}))
    file = open_tensors(tmp_path / "m")
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:-64])
    with pytest.raises(ValueError, match="m"):
        file.read(["x"])


ONE = listed("x", "F32", (2,), 0)
SHAPE = "comfy.gguf.orig_shape.x"
HOSTILE = {
    "only the name": (b"GGUF", "truncated"),
    "version 1": (head(0, 0, version=1), "version 1; expected version 2 or 3"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "tensors without end": (head(1 << 60, 0), "declares 1152921504606846976 tensors"),
    "entries without end": (head(0, 1 << 60), "1152921504606846976 entries"),
    "entries that are not there": (head(0, 9_999), "truncated"),
    "tensors that are not there": (head(99_999, 0), "truncated"),
    "a name without end": (head(0, 1) + struct.pack("<Q", 1 << 62), "name of an entry has 4611686018427387904 bytes"),
    "a name beyond the file": (head(1, 0) + struct.pack("<Q", 900) + b"x", "truncated"),
    "a long name": (head(1, 0) + text("x" * 2000), "name of a tensor has 2000 bytes"),
    "a name that is not text": (head(1, 0) + text(b"\xff"), "not UTF-8"),
    "a text beyond the file": (head(0, 1) + text("k") + struct.pack("<IQ", 8, 1 << 61), "truncated"),
    "a text that is not text": (head(0, 1) + text("k") + struct.pack("<I", 8) + text(b"\xff"), "'k' is not UTF-8"),
    "a list beyond the file": (head(0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 1 << 62), "truncated"),
    "texts without end": (head(0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 40), "more than 2000000 texts"),
    "texts beyond the file": (head(0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 5) + text("a"), "truncated"),
    "a list of lists": (head(0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1), "list of values of the kind 9"),
    "an unknown kind": (head(0, 1) + text("k") + struct.pack("<I", 77), "'k' is of the unknown kind 77"),
    "an entry twice": (head(0, 2) + entry("k", 1) + entry("k", 2), "'k' occurs twice"),
    "a control character": (head(0, 1) + text("\x1b[2J") + struct.pack("<I", 77), r"'\\x1b\[2J'"),
    "an odd alignment": (head(1, 1) + entry("general.alignment", 24) + ONE + bytes(99), "alignment is 24"),
    "no alignment": (head(1, 1) + entry("general.alignment", 0) + ONE + bytes(99), "alignment is 0"),
    "a text as alignment": (head(1, 1) + entry("general.alignment", "32") + ONE + bytes(99), "alignment is '32'"),
    "many dimensions": (head(1, 0) + text("x") + struct.pack("<I", 1 << 31), "2147483648 dimensions"),
    "a huge shape": (head(1, 0) + listed("x", "F32", (1 << 40, 1 << 40), 0) + bytes(99), "fits into memory"),
    "an empty huge shape": (head(1, 0) + listed("x", "F32", (0, 1 << 40, 1 << 40), 0) + bytes(99), "fits into memory"),
    "a cut block": (head(1, 0) + listed("x", "Q4_K", (4, 128), 0) + bytes(999), "whole blocks of 256"),
    "a scalar of blocks": (head(1, 0) + listed("x", "Q8_0", (), 0) + bytes(99), "whole blocks of 32"),
    "an unknown format": (head(1, 0) + listed("x", 99, (2,), 0) + bytes(99), "'x' is stored as number 99"),
    **{f"the format {word}": (head(1, 0) + listed("x", number, (256,), 0) + bytes(999),
                             f"'x' is stored as {word}, .*Q4_K.*IQ4_XS")
       for number, word in NOT_READ.items()},
    "a tensor twice": (padded(head(2, 0) + ONE + listed("x", "F32", (2,), 32)) + bytes(64), "'x' is listed twice"),
    "the same data": (padded(head(2, 0) + ONE + listed("y", "F32", (2,), 0)) + bytes(64), "'y' are at byte 0; expected 32"),
    "a gap": (padded(head(2, 0) + ONE + listed("y", "F32", (2,), 64)) + bytes(128), "'y' are at byte 64; expected 32"),
    "data far beyond": (padded(head(1, 0) + listed("x", "F32", (2,), 1 << 63)) + bytes(64), "expected 0"),
    "data beyond the file": (padded(head(1, 0) + listed("x", "F32", (99,), 0)) + bytes(64), "truncated: .*396 bytes"),
    "blocks beyond the file": (padded(head(1, 0) + listed("x", "Q4_K", (1 << 30, 256), 0)) + bytes(64), "truncated"),
    "a shape of other size": (gguf({"x": ("Q8_0", (32,), bytes(34))}, {SHAPE: [5, 7]}), r"\[5, 7\]; expected a shape of the 32"),
    "a negative shape": (gguf({"x": ("Q8_0", (32,), bytes(34))}, {SHAPE: [-4, -8]}), "expected a shape of the 32"),
    "a shape of words": (gguf({"x": ("Q8_0", (32,), bytes(34))}, {SHAPE: "4 8"}), "expected a shape of the 32"),
    "a shape of many numbers": (gguf({"x": ("Q8_0", (32,), bytes(34))}, {SHAPE: [1] * 40 + [32]}), "expected a shape of the 32"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_header_that_does_not_fit_its_file_is_refused_with_the_file_and_the_reason(tmp_path, case):
    data, said = HOSTILE[case]
    (tmp_path / "m.gguf").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ModelFileError, match=said) as refused:
        open_tensors(tmp_path / "m.gguf")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert str(refused.value).startswith(f"{tmp_path / 'm.gguf'}: ")
    assert all(letter.isprintable() for letter in str(refused.value).replace(str(tmp_path), ""))


def test_all_lists_of_texts_together_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.weights.gguf_header._MAX_TEXTS", 5)
    lists = [entry("a", ["x"] * 3), entry("b", ["x"] * 2), entry("c", ["x"])]
    (tmp_path / "m").write_bytes(padded(head(0, 2) + lists[0] + lists[1]))
    assert read_gguf_header(tmp_path / "m") == ({}, {})
    (tmp_path / "m").write_bytes(padded(head(0, 3) + b"".join(lists)))
    with pytest.raises(ModelFileError, match="more than 5 texts"):
        read_gguf_header(tmp_path / "m")


def test_every_byte_of_a_header_may_be_wrong(tmp_path):
    state = {"x": ("Q8_0", (1, 32), q8_0(np.ones(32))), "y": plain(torch.ones(4))}
    sound = gguf(state, {SHAPE: [4, 8], "general.name": "n"})
    for place in range(len(sound) - 96):
        for value in (0, 1, 0x7F, 0xFF):
            (tmp_path / "m").write_bytes(sound[:place] + bytes([value]) + sound[place + 1:])
            try:
                file = open_tensors(tmp_path / "m")
            except ModelFileError:
                continue
            read = file.read(file.stored)
            assert all(math.prod(tensor.shape) == tensor.numel() for tensor in read.values())
