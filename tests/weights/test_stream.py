"""Bytes in and out by position: nothing half-written, nothing lost, nothing read that is not there."""

import errno
import os
from pathlib import Path

import pytest

from harness.weights.safetensors_header import ModelFileError
from harness.weights.stream import BLOCK, InputFiles, OutputFile, aligned_buffer, remove_abandoned


def write(path: Path, data: bytes, header: bytes = b"") -> Path | None:
    output = OutputFile(path, len(header) + len(data), direct=False)
    output.write(len(header), memoryview(data))
    return output.commit(header)


def test_a_file_appears_whole_with_its_header_first(tmp_path: Path) -> None:
    assert write(tmp_path / "new" / "m.safetensors", b"data", b"head") is None
    assert (tmp_path / "new" / "m.safetensors").read_bytes() == b"headdata"
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_until_it_is_committed_there_is_no_file_of_its_name(tmp_path: Path) -> None:
    output = OutputFile(tmp_path / "m.safetensors", 4, direct=False)
    output.write(0, memoryview(b"data"))
    assert not (tmp_path / "m.safetensors").exists()
    output.abort()
    assert list(tmp_path.iterdir()) == []


def test_old_files_are_kept_and_numbered(tmp_path: Path) -> None:
    target = tmp_path / "m.safetensors"
    for data in (b"one", b"two", b"three"):
        write(target, data)
    assert target.read_bytes() == b"three"
    assert (tmp_path / "m.safetensors.bak1").read_bytes() == b"one"
    assert (tmp_path / "m.safetensors.bak2").read_bytes() == b"two"


def test_what_goes_past_the_page_cache_is_cut_to_its_size(tmp_path: Path) -> None:
    output = OutputFile(tmp_path / "m.safetensors", BLOCK + 10, direct=True)
    buffer = aligned_buffer(10)
    buffer[:10] = b"0123456789"
    output.write(BLOCK, buffer)
    output.commit(b"h" * BLOCK)
    assert (tmp_path / "m.safetensors").read_bytes() == b"h" * BLOCK + b"0123456789"


def test_a_file_system_without_direct_access_is_written_through_the_cache(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def refusing(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return really(path, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    output = OutputFile(tmp_path / "m.safetensors", 3, direct=True)
    assert not output.direct
    output.write(0, memoryview(b"abc"))
    output.commit(b"")
    assert (tmp_path / "m.safetensors").read_bytes() == b"abc"


def test_what_killed_processes_left_is_removed_and_what_living_ones_write_is_not(tmp_path: Path) -> None:
    dead, alive, other = (tmp_path / name for name in (
        ".m.safetensors.999999999.tmp", f".m.safetensors.{os.getppid()}.tmp", ".n.safetensors.999999999.tmp"))
    for file in (dead, alive, other):
        file.write_bytes(b"x")
    assert remove_abandoned(tmp_path / "m.safetensors") == [dead]
    assert alive.exists()
    assert other.exists()


def test_bytes_are_read_from_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    buffer = memoryview(bytearray(4))
    with InputFiles() as files:
        files.read_into(tmp_path / "a", 3, buffer)
    assert bytes(buffer) == b"3456"


def test_a_file_that_shrank_meanwhile_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123")
    with InputFiles() as files, pytest.raises(ModelFileError, match=r"a: ends before byte 4.*changed"):
        files.read_into(tmp_path / "a", 2, memoryview(bytearray(4)))
