"""Workers in processes of this machine: each has a device of its own, a socket to this process, and ends when that is closed."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any, Final

from harness.executors.contract import About, Done, Event, Free, Job, Lost, Task
from harness.executors.messages import PICKLING_ERRORS, Incoming, packed, unpacked

MAKER: Final = "harness.executors.served:Served"
"""What makes images in a worker: a module and a name in it."""
CLOSING_SECONDS: Final = 5.0
"""How long a worker may take to end by itself."""
KILLED_SECONDS: Final = 5.0
"""How long the end of a process that was killed is awaited."""
CORES: Final = "PYTHON_CPU_COUNT"
"""The variable that says how many cores are a process's own; Python itself reads it since 3.13."""
_CHUNK: Final = 2 ** 20
_LAST_WORDS: Final = 2000
_START: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from harness.executors.local_worker import main; main()"


class PlacesError(ValueError):
    """These workers cannot be placed; the message says what was asked for, what is available, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one worker runs: its device as it calls it, and the variables that make it so."""

    device: str
    variables: Mapping[str, str]


def places(asked: str, device: str) -> tuple[Place, ...]:
    """The places of "local:N" or "local:cuda" for a run on `device`. N processes on a CPU share the cores; those on GPUs, one
    each. Raises PlacesError."""
    if sys.platform == "win32":
        raise PlacesError(f"--workers {asked}: local workers need Linux or macOS; on Windows run in WSL 2, or take Ray")
    kind, _, count = asked.partition(":")
    if kind != "local" or not (count == "cuda" or (count.isascii() and count.isdigit() and int(count))):
        raise PlacesError(f"--workers {asked!r}: expected local:N for N processes, as local:4, or local:cuda for one on each "
                          "GPU")
    on_gpus = device.startswith("cuda")
    if count == "cuda" and not on_gpus:
        raise PlacesError(f"--workers {asked}: the run is on {device!r}; add --device cuda, or take local:N for N "
                          "processes on the CPU")
    if not on_gpus:
        cores = max(1, _cores() // int(count))
        return (Place(device=device, variables={CORES: str(cores)}),) * int(count)
    gpus = visible_gpus()
    if not gpus:
        raise PlacesError(f"--workers {asked}: torch sees no CUDA device here; take local:N for N processes on the CPU")
    wanted = len(gpus) if count == "cuda" else int(count)
    if wanted > len(gpus):
        raise PlacesError(f"--workers {asked}: {wanted} processes on {len(gpus)} CUDA device(s); each needs one of its own, so "
                          f"take at most local:{len(gpus)}, or local:cuda")
    return tuple(Place(device="cuda:0", variables={"CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus[:wanted])


def visible_gpus() -> tuple[str, ...]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named[:count] if named else map(str, range(count)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalHands:
    """Carries units to processes of this machine (see contract.Hands). `maker` is what a worker makes images with, and `say` is
    called with sentences about processes that do not end. The thread that starts workers must live as long as they: the kernel
    ends them with it."""

    def __init__(self, places: Sequence[Place], maker: str = MAKER, say: Callable[[str], None] = lambda _: None) -> None:
        self._free, self._maker, self._say = list(places), maker, say
        self._processes: dict[int, _Process] = {}
        self._selector = selectors.DefaultSelector()
        self._next = 0
        self._early: list[tuple[int, Lost]] = []

    def start(self, job: Job, count: int) -> list[int]:
        """Starts workers, as many as there are free places for at most. See contract.Hands."""
        numbers = list(range(self._next, self._next + count))
        self._next += count
        for number in numbers:
            try:
                self._start(number, job)
            except (OSError, IndexError, *PICKLING_ERRORS) as error:
                why = "all places are taken" if isinstance(error, IndexError) else f"{type(error).__name__}: {error}"
                self._early.append((number, Lost(why=why)))
        return numbers

    def _start(self, number: int, job: Job) -> None:
        place = self._free[0]
        first = packed((self._maker, replace(job, device=place.device)))
        process = _Process(place)
        self._free.pop(0)
        process.send(first)
        self._processes[number] = process
        self._selector.register(process.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, number)

    def give(self, worker: int, task: Task | Job | Free) -> None:
        """See contract.Hands."""
        process = self._processes.get(worker)
        if process is not None:  # one that is gone is in the next arrivals
            process.send(packed(replace(task, device=process.place.device) if isinstance(task, Job) else task))
            self._watch(worker, process)

    def arrivals(self, timeout: float) -> list[tuple[int, About | Event | Done | Lost]]:
        """See contract.Hands. What is not read yet stays with the workers, which wait."""
        came: list[tuple[int, Any]] = [*self._early]
        self._early = []
        until = time.monotonic() + timeout
        while not came:
            ready = self._selector.select(max(0.0, until - time.monotonic())) if self._processes else []
            for key, events in ready:
                came += self._moved(key.data, events)
            if not came and (time.monotonic() >= until or not self._processes):
                break
        return came

    def stop(self, worker: int) -> None:
        """See contract.Hands."""
        if process := self._forget(worker):
            self._end(process, 0.0)

    def close(self) -> None:
        """See contract.Hands. A worker that is not gone after CLOSING_SECONDS is killed."""
        going = [process for worker in [*self._processes] if (process := self._forget(worker))]
        until = time.monotonic() + CLOSING_SECONDS
        for process in going:
            self._end(process, max(0.0, until - time.monotonic()))
        self._selector.close()

    def _end(self, process: _Process, seconds: float) -> None:
        if not process.end(seconds):
            self._say(f"process {process.number} of a worker was killed and does not end; it may still hold memory, and its GPU: "
                      "look what it waits for, as a disk that does not answer")

    def _watch(self, worker: int, process: _Process) -> None:
        """Waits for room in the socket only while something is to be sent."""
        writing = selectors.EVENT_WRITE if process.to_send else 0
        self._selector.modify(process.socket, selectors.EVENT_READ | writing, worker)

    def _moved(self, worker: int, events: int) -> list[tuple[int, Any]]:
        process = self._processes.get(worker)
        if process is None:
            return []
        if events & selectors.EVENT_WRITE:
            process.push()
            self._watch(worker, process)
        if not events & selectors.EVENT_READ:
            return []
        messages, ended = process.received()
        if ended or any(isinstance(message, Lost) for message in messages):
            self._forget(worker)
            why = process.why_it_ended()
            messages = [*messages] if messages and isinstance(messages[-1], Lost) else [*messages, Lost(why=why)]
        return [(worker, message) for message in messages]

    def _forget(self, worker: int) -> _Process | None:
        process = self._processes.pop(worker, None)
        if process is not None:
            self._selector.unregister(process.socket)
            process.socket.close()
            self._free.append(process.place)
        return process


class _Process:
    """One worker's process, the socket to it, and what is on the way in both directions."""

    def __init__(self, place: Place) -> None:
        self.place, self.to_send, self._came = place, bytearray(), Incoming()
        self.socket, theirs = socket.socketpair()
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=self._words, stderr=self._words,
                env={**os.environ, **place.variables}, process_group=0)  # Ctrl-C in a terminal is the driver's alone
        except BaseException:
            self.socket.close()
            self._words.close()
            raise
        finally:
            theirs.close()
        self.socket.setblocking(False)

    def send(self, message: bytes) -> None:
        """Queues a message and sends what there is room for."""
        self.to_send += message
        self.push()

    def push(self) -> None:
        """Sends what there is room for."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):  # its end shows where it is read
            while self.to_send:
                del self.to_send[:self.socket.send(self.to_send[:_CHUNK])]

    def received(self) -> tuple[list[Any], bool]:
        """The messages that are complete now, and whether the process has ended. Reads no more than a piece of a message, so that
        a fast worker waits for a slow driver."""
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return [], False
        except OSError:
            data = b""
        return [unpacked(message) for message in self._came.take(data)], not data

    def why_it_ended(self) -> str:
        """How the process ended, with the last words that it printed."""
        status = self._wait(CLOSING_SECONDS)
        with self._words:
            self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = [line.strip() for line in self._words.read().decode(errors="replace").splitlines() if line.strip()]
        last = f"; it last printed {lines[-1]!r}" if lines else ""
        if status is None:
            return f"its process does not end, although it was killed{last}"
        if status < 0:
            name = signal.Signals(-status).name
            kill = ", as where memory ran out" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{kill}{last}"
        return f"its process ended with status {status}{last}"

    @property
    def number(self) -> int:
        """The operating system's number of the process."""
        return self._process.pid

    def end(self, seconds: float) -> bool:
        """Waits for the end of the process, and kills it after so many seconds. Returns whether it has ended."""
        status = self._wait(seconds)
        self._words.close()
        return status is not None

    def _wait(self, seconds: float) -> int | None:
        """The status with which the process ends, within so many seconds or once it is killed; None if it does not: the kernel
        ends none that waits for a disk or a driver without interruption."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        try:
            return self._process.wait(KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            return None
