"""Every damaged or foreign file is refused with its own sentence before anything is computed from it."""

import json
import pickle
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from harness.weights import ModelFileError, open_model, open_tensors, read_header


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: tuple[int, ...] = (2,), dtype: str = "F16") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


BAD = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 2\n", "Git LFS pointer"),
    "html": (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
    "pickle": (pickle.dumps({"a": 1}), "not a file of torch.save"),
    "zip": (b"PK\x03\x04" + bytes(60), "its archive is damaged"),
    "gguf": (b"GGUF" + bytes(60), "GGUF"),
    "empty": (b"", "an empty file"),
    "noise": (b"\xff" * 100, "ff ff ff ff"),
    "short": (b"abc", "a text, .*abc"),
    "cut in the header": (struct.pack("<Q", 900) + b"{", "truncated"),
    "cut in the data": (raw({"x": entry(0, 4)}, b"ab"), "truncated"),
    "trailing": (raw({"x": entry(0, 4)}, bytes(9)), "longer than its header"),
    "huge header": (struct.pack("<Q", 1 << 40) + b"{" + bytes(60), "not a safetensors file"),
    "no json": (raw(b"{nonsense}"), "not the JSON"),
    "a list": (raw([1, 2]), "unknown kind"),
    "twice": (raw(b'{"x": 1, "x": 2}'), "occurs twice"),
    "overlap": (raw({"x": entry(0, 4), "y": entry(2, 6)}, bytes(6)), "'y' overlaps that of 'x'"),
    "gap": (raw({"x": entry(0, 4), "y": entry(6, 10)}, bytes(10)), "'y' leaves a gap after"),
    "wrong size": (raw({"x": entry(0, 4, (3,))}, bytes(4)), "'x' takes 4 bytes"),
    "negative": (raw({"x": entry(-4, 0)}), "header entry of 'x'"),
    "no shape": (raw({"x": {"dtype": "F16"}}), "header entry of 'x'"),
    "dtype": (raw({"x": entry(0, 4, (2,), "Q4")}, bytes(4)), "dtype 'Q4'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_safetensors_file_is_refused_with_its_reason(tmp_path, case):
    content, said = BAD[case]
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=said) as refused:
        open_tensors(tmp_path / "m.safetensors")
    assert "m.safetensors" in str(refused.value)


def test_the_header_agrees_with_the_safetensors_library(tmp_path):
    tensors = {"half": torch.ones(2, 3, dtype=torch.float16), "ids": torch.arange(4), "none": torch.zeros(0)}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    stored, metadata = read_header(tmp_path / "m.safetensors")
    assert {n: (t.dtype, t.shape) for n, t in stored.items()} == {
        "half": ("F16", (2, 3)), "ids": ("I64", (4,)), "none": ("F32", (0,))}
    assert metadata == {"format": "pt"}


def test_a_header_whose_length_reads_like_a_pickle_is_still_a_header(tmp_path):
    header = json.dumps({"x": entry(0, 4)}).encode()
    (tmp_path / "m.safetensors").write_bytes(raw(header.ljust(0x280), bytes(4)))
    assert list(open_tensors(tmp_path / "m.safetensors").stored) == ["x"]


@pytest.mark.parametrize("legacy", [True, False])
def test_a_checkpoint_pickle_is_unwrapped_as_deep_as_it_goes(tmp_path, legacy):
    content = {"epoch": 3, "state_dict": {"state_dict": {"x": torch.ones(2, dtype=torch.bfloat16), "global_step": 7}}}
    torch.save(content, tmp_path / "m.ckpt", _use_new_zipfile_serialization=not legacy)
    file = open_tensors(tmp_path / "m.ckpt")
    assert torch.equal(file.read(["x"])["x"], torch.ones(2, dtype=torch.bfloat16))
    assert file.stored["x"].dtype == "BF16"
    assert file.metadata == {"not_tensors": "global_step"}


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_that_would_run_code_is_refused_unread(tmp_path, capsys):
    torch.save({"state_dict": Harmful()}, tmp_path / "m.ckpt")
    with pytest.raises(ModelFileError, match=r"weights only \(.*'print', which could run code\)") as refused:
        open_tensors(tmp_path / "m.ckpt")
    assert "weights_only" not in str(refused.value)
    assert "Convert it to .safetensors" in str(refused.value)
    assert capsys.readouterr().out == ""


def test_a_pickle_without_tensors_is_refused(tmp_path):
    torch.save({"name": "a model"}, tmp_path / "m.ckpt")
    with pytest.raises(ModelFileError, match="holds no tensors"):
        open_tensors(tmp_path / "m.ckpt")


@pytest.mark.parametrize("name", ["m.ckpt", "m.sft", "m.SAFETENSORS", "m.CKPT", "m.pti", "m", "584f0b", "m.txt"])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_the_content_and_never_the_suffix_says_how_a_file_is_read(tmp_path, name, kind):
    tensors = {"x": torch.ones(3)}
    if kind == "safetensors":
        save_file(tensors, tmp_path / name)
    else:
        torch.save(tensors, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "link.safetensors"):
        assert torch.equal(open_tensors(path).read(["x"])["x"], tensors["x"])


@pytest.mark.parametrize(("name", "said"), [
    ("absent.safetensors", "no such file"), ("notes.txt", "a text, .*hello"), ("", "a folder")])
def test_paths_that_are_no_models_are_refused(tmp_path, name, said):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelFileError, match=said):
        open_tensors(tmp_path / name)


def test_control_characters_in_a_tensor_name_never_reach_a_terminal(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(raw({"x\x1b[2J": {"dtype": "\x1b", "shape": "\x9b", "data_offsets": []}}))
    with pytest.raises(ModelFileError) as refused:
        open_tensors(tmp_path / "m.safetensors")
    assert str(refused.value).isprintable()


def test_a_wrong_suffix_is_a_warning_and_no_suffix_is_none(tmp_path):
    tensors = {f"model.diffusion_model.{name}.weight": torch.ones(8, 4, 3, 3) for name in ("input_blocks.0.0", "out.2")}
    torch.save(tensors, tmp_path / "m.safetensors")
    save_file(tensors, tmp_path / "n.ckpt")
    (tmp_path / "n").symlink_to(tmp_path / "n.ckpt")
    assert "is a pickle" in "".join(open_model(tmp_path / "m.safetensors").warnings)
    assert "is a safetensors file" in "".join(open_model(tmp_path / "n.ckpt").warnings)
    assert open_model(tmp_path / "n").warnings == ()


def test_single_tensors_are_what_the_library_reads_of_every_dtype(tmp_path):
    """They are read by their place, without the header; "odd" moves the others away from any alignment."""
    words = ("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float8_e4m3fn", "float8_e5m2",
             "float16", "bfloat16", "float32", "float64")
    tensors = {word: torch.arange(6).reshape(2, 3).to(getattr(torch, word)) for word in words}
    tensors |= {"odd": torch.tensor([True]), "scalar": torch.tensor(2.5), "none": torch.zeros(0, 3)}
    save_file(tensors, tmp_path / "m.safetensors")
    file = open_tensors(tmp_path / "m.safetensors")
    for name, tensor in tensors.items():
        assert file.read([name])[name].dtype == tensor.dtype and file.read([name])[name].shape == tensor.shape
        assert bytes(file.read([name])[name].view(torch.uint8).numpy() if tensor.ndim else b"") == bytes(
            tensor.view(torch.uint8).numpy() if tensor.ndim else b"")
    assert file.read(["scalar"])["scalar"] == 2.5


def test_few_tensors_are_read_without_the_header_and_a_cut_file_is_refused(tmp_path, monkeypatch):
    """The library's opening takes longer than a small tensor: merges read thousands of them one by one."""
    path = tmp_path / "m.safetensors"
    save_file({f"t{n}": torch.full((4,), float(n)) for n in range(9)}, path)
    file = open_tensors(path)
    whole = file.read([f"t{n}" for n in range(9)])

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("safetensors.safe_open", fail)
    assert all(torch.equal(file.read([name])[name], tensor) for name, tensor in whole.items())
    with pytest.raises(AssertionError, match="opened"):
        file.read(whole)
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelFileError, match="could not be read"):
        replace(file, version=None).read(["t8"])
