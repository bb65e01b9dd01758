"""What a file holds decides its hash, and nothing else does."""

from pathlib import Path

import pytest
from blake3 import blake3

from harness.weights import content_hash, hashing
from harness.weights.hashing import HashingApart
from harness.weights.safetensors_header import ModelFileError


def test_the_hash_is_blake3_of_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_AT_ONCE", 3)
    (tmp_path / "a").write_bytes(b"0123456789")
    assert content_hash(tmp_path / "a") == blake3(b"0123456789").hexdigest()


def test_a_changed_file_has_another_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    before = content_hash(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"other")
    assert content_hash(tmp_path / "a") != before


def test_a_folder_is_known_by_its_names_and_contents_but_not_by_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "w").write_bytes(b"w")
    before = content_hash(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "lock").write_bytes(b"x")
    assert content_hash(tmp_path) == before
    (tmp_path / "unet" / "w").rename(tmp_path / "unet" / "v")
    assert content_hash(tmp_path) != before


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nothing: no such file or folder"):
        content_hash(tmp_path / "nothing")


def test_files_hashed_apart_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_WORTH_A_PROCESS", 0)
    (tmp_path / "a b").write_bytes(b"0123456789")
    apart = HashingApart([tmp_path / "a b"])
    apart.finish()
    monkeypatch.setattr(hashing, "blake3", None)
    assert content_hash(tmp_path / "a b") == blake3(b"0123456789").hexdigest()


def test_a_process_that_fails_leaves_the_work_to_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_WORTH_A_PROCESS", 0)
    (tmp_path / "a").write_bytes(b"0123")
    apart = HashingApart([tmp_path / "a"])
    apart.stop()
    apart.finish()
    assert content_hash(tmp_path / "a") == blake3(b"0123").hexdigest()
