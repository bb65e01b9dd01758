"""The safetensors library is the judge of headers: what is opened here, as a model or as an adapter, the library reads too, and
a header that it reads is not refused for its form."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from harness.adapters.open_adapter import open_stored
from harness.records.file_version import ChangedFileError
from harness.weights import open_tensors

X = '"x": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}'
REFUSED = {
    "NaN": '{"x": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4], "scale": NaN}}',
    "Infinity": '{"x": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4], "scale": -Infinity}}',
    "a number beyond a double": '{"x": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4], "scale": 1e999}}',
    "metadata as a list": f'{{"__metadata__": [], {X}}}',
    "metadata as text": f'{{"__metadata__": "", {X}}}',
    "metadata of null": f'{{"__metadata__": {{"a": null}}, {X}}}',
    "metadata of numbers": f'{{"__metadata__": {{"a": 1}}, {X}}}',
    "metadata of objects": f'{{"__metadata__": {{"x": {{"y": 1}}}}, {X}}}',
    "half a surrogate in a name": '{"\\ud800": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}',
    "half a surrogate in the metadata": f'{{"__metadata__": {{"a": "\\ud800"}}, {X}}}',
    "a negative zero": '{"x": {"dtype": "F16", "shape": [2], "data_offsets": [-0, 4]}}',
    "a deep extra": f'{{"x": {{"dtype": "F16", "shape": [2], "data_offsets": [0, 4], "deep": {"[" * 300}{"]" * 300}}}}}',
    "one field twice": '{"x": {"dtype": "F16", "shape": [2], "shape": [2], "data_offsets": [0, 4]}}',
    "text behind it": f"{{{X}}} x",
    "an entry of null": f'{{"y": null, {X}}}',
}
READ = {
    "metadata null": f'{{"__metadata__": null, {X}}}',
    "no metadata": f"{{{X}}}",
    "spaces behind it": f"{{{X}}}     ",
    "metadata last": f'{{{X}, "__metadata__": {{"format": "pt"}}}}',
    "an unknown field": '{"x": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4], "strides": [1]}}',
}

ODD = (b"0", b"-", b"1e3", b"NaN", b"null", b"{}", b"[]", b'"', b"\\ud800", b" ", b",", b"\xff", b"", b"\0", b"9")


def written(path: Path, header: str | bytes, data: bytes = bytes(4)) -> Path:
    text = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def read_by_the_library(path: Path) -> bool:
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118  not a dict
                file.get_tensor(name)
    except (SafetensorError, ValueError, TypeError):
        return False
    return True


@pytest.mark.parametrize("opened", [open_tensors, open_stored])
@pytest.mark.parametrize("what", REFUSED)
def test_a_header_that_the_library_refuses_is_refused_with_the_file(what: str, opened: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "odd.safetensors", REFUSED[what])
    assert not read_by_the_library(path)
    with pytest.raises(ValueError, match=r"odd\.safetensors"):
        opened(path)


@pytest.mark.parametrize("what", READ)
def test_a_header_that_the_library_reads_is_read(what: str, tmp_path: Path) -> None:
    path = written(tmp_path / "odd.safetensors", READ[what])
    assert read_by_the_library(path)
    assert list(open_tensors(path).read(["x"])) == ["x"]
    assert list(open_stored(path).load()) == ["x"]


def test_headers_changed_by_chance_are_opened_only_when_the_library_reads_them(tmp_path: Path) -> None:
    dice = random.Random(14)
    tensors = {f"lora_unet_{n}.lora_down.weight": np.ones((2, n + 1), np.float16) for n in range(4)}
    save_file(tensors, tmp_path / "seed.safetensors", {"ss_network_dim": "2"})
    seed = (tmp_path / "seed.safetensors").read_bytes()
    length = struct.unpack("<Q", seed[:8])[0]
    opened = 0
    for number in range(600):
        header = bytearray(seed[8:8 + length])
        for _ in range(dice.randint(1, 2)):
            place = dice.randrange(len(header))
            header[place:place + dice.randint(0, 2)] = dice.choice(ODD)
        path = written(tmp_path / "odd.safetensors", bytes(header), seed[8 + length:])
        for reader in (open_tensors, open_stored):
            try:
                reader(path)
            except ValueError as error:
                assert "odd.safetensors" in str(error), number
                assert str(error).isprintable(), number
            else:
                opened += 1
                assert read_by_the_library(path), number
    assert opened > 20


def test_both_readers_say_the_same_of_a_header(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", f'{{"__metadata__": {{"a": "b"}}, {X}}}')
    model, adapter = open_tensors(path), open_stored(path)
    assert model.metadata == adapter.metadata == {"a": "b"}
    assert {k: (t.dtype, t.shape) for k, t in model.stored.items()} == {k: (e.dtype, e.shape) for k, e in adapter.entries.items()}


@pytest.mark.parametrize("change", [b"", b"\x10", json.dumps({"y": 1}).encode()])
def test_a_file_that_was_replaced_after_it_was_opened_is_named(change: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "m.safetensors", f"{{{X}}}")
    file = open_tensors(path)
    path.write_bytes(change)
    with pytest.raises(ChangedFileError, match=r"m\.safetensors"):
        file.read(["x"])
