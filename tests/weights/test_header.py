"""A header to be written is the same for the same tensors, and the safetensors library reads it."""

import json
import struct

import pytest
from safetensors import safe_open

from harness.weights.header import data_bytes, encode_header, lay_out

ENTRIES = [("b", "F16", (2, 3)), ("a", "F16", (3,)), ("ids", "I64", (1, 2)), ("mask", "BOOL", (5,)), ("scale", "F32", ())]


def test_tensors_lie_wide_ones_first_then_by_name_whatever_their_order() -> None:
    spans = lay_out(ENTRIES)
    assert list(spans) == ["ids", "scale", "a", "b", "mask"]
    assert [(s.begin, s.end) for s in spans.values()] == [(0, 16), (16, 20), (20, 26), (26, 38), (38, 43)]
    assert lay_out(reversed(ENTRIES)) == spans
    assert data_bytes(spans) == 43
    assert data_bytes({}) == 0


def test_the_data_start_on_a_page() -> None:
    assert len(encode_header(lay_out(ENTRIES), {})) == 4096


def test_metadata_are_in_the_order_of_their_names() -> None:
    one, two = ({"z": "1", "a": "2"}, {"a": "2", "z": "1"})
    assert encode_header(lay_out(ENTRIES), one) == encode_header(lay_out(ENTRIES), two)


def test_a_header_fills_the_size_that_was_reserved_or_says_that_it_does_not_fit() -> None:
    header = encode_header(lay_out(ENTRIES), {"k": "v"}, size=8192)
    assert len(header) == 8192
    assert json.loads(header[8:8 + struct.unpack("<Q", header[:8])[0]])["__metadata__"] == {"k": "v"}
    with pytest.raises(ValueError, match="were reserved"):
        encode_header(lay_out(ENTRIES), {"k": "v" * 9000}, size=8192)


def test_metadata_must_be_text() -> None:
    with pytest.raises(TypeError, match="'k' is 3"):
        encode_header({}, {"k": 3})  # type: ignore[dict-item]


def test_the_safetensors_library_reads_it(tmp_path) -> None:
    spans = lay_out(ENTRIES)
    (tmp_path / "m.safetensors").write_bytes(encode_header(spans, {"by": "us"}) + bytes(data_bytes(spans)))
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert set(file.keys()) == {"a", "b", "ids", "mask", "scale"}
        assert file.metadata() == {"by": "us"}
        assert file.get_tensor("b").shape == (2, 3)
