"""Graphs on the disk, by what they depend on: exporting takes minutes, and all candidates of an architecture share its graph."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from harness.records.atomic import write_atomically
from harness.records.regular_files import read_regular
from harness.runtimes.entry import Entry, Size
from harness.runtimes.exporting import architecture_of, export, shapes_of, versions_of_exporting
from harness.runtimes.graph import Graph, read_graph
from harness.runtimes.graph_check import trouble_of
from harness.runtimes.unet_entry import UNET

if TYPE_CHECKING:
    import torch

SUFFIX: Final = ".graph"
_MOST_BYTES: Final = 256 << 20
_DIGEST_BYTES: Final = 32


def graph_folder() -> Path:
    """The folder of exported graphs, beside the built-in models; in it is one for each set of versions."""
    return Path(os.environ.get("SWEETSPOT_CACHE", ".sweetspot")) / "graphs"


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """The graphs of this process, and what it took to export those that were not on the disk: seconds by architecture."""

    folder: Path
    """As `graph_folder`."""
    seconds: dict[str, float] = field(default_factory=dict)
    unkept: dict[str, str] = field(default_factory=dict)
    """Why graphs that were exported are not on the disk, by architecture."""
    _open: dict[str, Graph] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def of(self, module: torch.nn.Module, dtype: str, size: Size, entry: Entry = UNET) -> Graph:
        """The graph of a component for this size: from the disk, or exported now. What is damaged or foreign is made again."""
        name = architecture_of(module, dtype, size, entry)
        with self._lock:
            if name not in self._open:
                self._open[name] = (self._read(module, dtype, size, entry, name) or
                                    self._export(module, dtype, size, entry, name))
        return self._open[name]

    def _path(self, name: str) -> Path:
        return self.folder / versions_of_exporting() / f"{name}{SUFFIX}"

    def _read(self, module: Any, dtype: str, size: Size, entry: Entry, name: str) -> Graph | None:
        """The graph on the disk; None if there is none, or one that no export writes: anybody can write there."""
        data = read_kept(self._path(name), name)
        weights = {weight: shape for weight, shape in shapes_of(module).items() if entry.takes(weight)}
        if data is None or trouble_of(data, entry.inputs(module.config, size), weights, dtype):
            return None
        return read_graph(data, name)

    def _export(self, module: torch.nn.Module, dtype: str, size: Size, entry: Entry, name: str) -> Graph:
        started = time.perf_counter()
        graph = export(module, dtype, size, entry)
        self.seconds[name] = time.perf_counter() - started
        if reason := write_kept(self._path(name), name, graph.data):
            self.unkept[name] = reason
        return graph


@contextmanager
def alone(path: Path, seconds: float = 900.0, pause: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Within the block no other process makes what is kept at this path, where the file system has locks. One that holds its
    lock for longer than `seconds` is not waited for."""
    lock = None
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause(0.2)
    except (ImportError, OSError):  # without locks each process makes its own, and the last is kept
        pass
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def read_kept(path: Path, name: str) -> bytes | None:
    """What `write_kept` wrote under this name; None if there is nothing, or if it is damaged."""
    try:
        stored = read_regular(path, _MOST_BYTES)
    except OSError:
        return None
    digest, data = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    return data if digest == _digest(name, data) else None


def write_kept(path: Path, name: str, data: bytes) -> str:
    """Keeps data on the disk, with a digest before it. Returns why that failed, as in a folder that cannot be written; ""
    where it did not."""
    try:
        write_atomically(path, _digest(name, data) + data)
    except OSError as error:
        return f"not kept in {path.parent}, as it cannot be written ({error.strerror or error}), and made again in the next run"
    return ""


def _digest(name: str, data: bytes) -> bytes:
    """Of the name too, so that a graph under another's name is not read."""
    return hashlib.sha256(name.encode() + data).digest()
