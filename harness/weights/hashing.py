"""Content hashes of model files, which record the weights that a run or a merged file used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from blake3 import blake3

from harness.records.file_version import FileVersion, files_of, refuse_other_version, version_of
from harness.weights.safetensors_header import ModelFileError

_AT_ONCE: Final = 1 << 20
_WORTH_A_PROCESS: Final = 200_000_000
"""In bytes. Hashing less takes less time than starting an interpreter."""

_WEIGHTS: Final = (".safetensors", ".sft", ".bin", ".ckpt", ".pt", ".pth", ".gguf", ".msgpack", ".onnx", ".onnx_data", ".h5")
"""Suffixes of files that hold the weights of models, and nothing else."""

_known: dict[tuple[Path, FileVersion], str] = {}
"""By path and version: a file is read once per process for as long as both stay the same."""


def content_hash(path: Path, weights_of: Collection[str] | None = None) -> str:
    """BLAKE3 (64 hex digits) of a file's bytes, or of a folder's sorted relative names and file hashes; of its files of weights
    only those in these subfolders, if any are given.

    BLAKE3 is three to four times as fast as SHA-256 on one core; model sites list both. Hidden files and folders are left
    out, because hubs keep their bookkeeping there. Raises ModelFileError if `path` does not exist, ChangedFileError for a file
    that changes while it is hashed.
    """
    if path.is_file():
        return _file_hash(path)
    names = {file.relative_to(path).as_posix(): file for file in _files_of(path)}
    if weights_of is not None:
        names = {name: file for name, file in names.items()
                 if file.suffix.lower() not in _WEIGHTS or ("/" in name and name.partition("/")[0] in weights_of)}
    lines = [f"{name} {_file_hash(names[name])}\n" for name in sorted(names)]
    return blake3("".join(lines).encode()).hexdigest()


class HashingApart:
    """Hashes files in a separate process, started at once; `finish` waits for it.

    After `finish`, `content_hash` returns the stored hashes. If there is little to hash, or the process fails,
    `content_hash` hashes the files itself.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        files = [file for path in dict.fromkeys(paths) for file in _files_of(path)]
        self._versions = [place for place in map(_place, files) if place not in _known]
        self._process: subprocess.Popen[str] | None = None
        if sum(version.size for _, version in self._versions) >= _WORTH_A_PROCESS and sys.executable:
            script = Path(__file__).with_name("hash_process.py")
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(script), *(str(path) for path, _ in self._versions)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def finish(self) -> None:
        """Waits for the process and stores its hashes."""
        if self._process is None:
            return
        output, _ = self._process.communicate()
        digests = output.split()
        if self._process.returncode == 0 and len(digests) == len(self._versions):
            # A file that changed meanwhile is left to `content_hash`: this may be the hash of either content.
            _known.update({place: digest for place, digest in zip(self._versions, digests, strict=True)
                           if place[0].exists() and _place(place[0]) == place})
        self._process = None

    def stop(self) -> None:
        """Kills the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _files_of(path: Path) -> list[Path]:
    """The file itself, or all files of a folder that are not hidden."""
    if not path.is_file() and not path.is_dir():
        raise ModelFileError(f"{path}: no such file or folder. Check the path.")
    return files_of(path)


def _file_hash(path: Path) -> str:
    place = _place(path)
    if place not in _known:
        digest = blake3()
        buffer = bytearray(_AT_ONCE)
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
        refuse_other_version(path, place[1])
        _known[place] = digest.hexdigest()
    return _known[place]


def _place(path: Path) -> tuple[Path, FileVersion]:
    return path.resolve(), version_of(path)
