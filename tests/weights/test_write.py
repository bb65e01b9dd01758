"""A written file is whole or not there, and holds what was given."""

import shutil
from collections import namedtuple

import pytest
import torch

from harness.weights import ModelFileError, open_tensors, save_single_file


def test_what_is_written_is_read_again(tmp_path):
    weights = torch.arange(6.0).reshape(2, 3)
    save_single_file(tmp_path / "new" / "m.safetensors", {"w": weights, "tied": weights, "turned": weights.T}, {"by": "us"})
    file = open_tensors(tmp_path / "new" / "m.safetensors")
    read = file.read(["w", "tied", "turned"])
    assert torch.equal(read["w"], weights)
    assert torch.equal(read["tied"], weights)
    assert torch.equal(read["turned"], weights.T)
    assert file.metadata == {"format": "pt", "by": "us"}


def test_a_full_disk_is_seen_before_writing(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(ModelFileError, match="the disk has 1 left"):
        save_single_file(tmp_path / "m.safetensors", {"w": torch.ones(3)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    save_single_file(tmp_path / "m.safetensors", {"w": torch.ones(3)}, {})
    with pytest.raises(TypeError):
        save_single_file(tmp_path / "m.safetensors", {"w": torch.zeros(3)}, {"by": 3})
    assert [f.name for f in tmp_path.iterdir()] == ["m.safetensors"]
    assert torch.equal(open_tensors(tmp_path / "m.safetensors").read(["w"])["w"], torch.ones(3))


def test_models_are_written_as_safetensors_only(tmp_path):
    with pytest.raises(ModelFileError, match=r"m\.ckpt"):
        save_single_file(tmp_path / "m.ckpt", {"w": torch.ones(3)}, {})
