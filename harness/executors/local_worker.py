"""A worker's own process: takes units from a socket, makes them, and sends what comes. It ends when the socket is closed."""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from harness.executors.contract import (
    MATERIALISE,
    SAMPLE,
    About,
    Batch,
    Done,
    Event,
    Failed,
    Lost,
    Overflowed,
    Refused,
    Unfit,
    Unit,
)
from harness.executors.messages import Incoming, packed, unpacked

if TYPE_CHECKING:
    from harness.executors.contract import Image, Worker

SENT_AHEAD: Final = 4
"""Events that wait to be sent while the next batch is made."""
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """The whole life of a worker. `sys.argv` holds Python's path, the number of the socket and the driver's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    _die_with(int(sys.argv[3]))
    connection = socket.socket(fileno=int(sys.argv[2]))
    connection.set_inheritable(False)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    outbox = Outbox(connection)
    try:
        maker, job = unpacked(inbox.get())
        module, _, name = maker.partition(":")
        worker: Worker = attrgetter(name)(importlib.import_module(module))(job)
        outbox.put(About(facts=worker.about()))
    except Exception as error:
        outbox.put(Lost(why=f"{type(error).__name__}: {error}"))
        outbox.close()
        os._exit(1)
    last = ""
    while True:
        try:
            unit: Unit = unpacked(inbox.get())
        except Exception as error:
            outbox.put(Failed.of(MATERIALISE, error))
            continue
        if unit.candidate.name != last:  # if this one ends the process, nothing of another one is lost with it
            outbox.flush()
        last = unit.candidate.name
        make(worker, unit, outbox.put)


def make(worker: Worker, unit: Unit, send: Callable[[Event | Done], None]) -> None:
    """Sends all that comes of a unit, and Done where nothing else ended it."""
    event: Event | None = None
    try:
        for event in worker.make(unit):
            send(event)
    except Exception as error:
        event = Failed.of(SAMPLE, error)
        send(event)
    if not isinstance(event, Refused | Overflowed | Failed | Unfit):
        send(Done())


def as_files(batch: Batch) -> Batch:
    """A batch with its pictures as PNG files."""
    return Batch(pictures=tuple(replace(picture, image=_file(picture.image), stages={
        name: _file(image) for name, image in picture.stages.items()}) for picture in batch.pictures))


def _file(image: Image) -> bytes:
    if isinstance(image, bytes):
        return image
    from harness.sampling.png import to_png

    return to_png(image)


class Outbox:
    """Sends events in order from a thread of its own, which encodes pictures while the next ones are made. `put` waits where the
    driver is slow."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: queue.Queue[Any] = queue.Queue(SENT_AHEAD)
        self._failed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, event: About | Event | Done | Lost) -> None:
        """Sends an event after those before it."""
        self._queue.put(event)

    def flush(self) -> None:
        """Returns when all is sent."""
        self._queue.join()

    def close(self) -> None:
        """Returns when all is sent, and nothing can be any more."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            self._send(event)
            self._queue.task_done()

    def _send(self, event: About | Event | Done | Lost) -> None:
        failed = False
        try:
            data = packed(as_files(event) if isinstance(event, Batch) else event)
        except Exception as error:  # what cannot be encoded or sent ends the unit, as what cannot be made
            failed = True
            data = packed(Lost(why=f"{type(error).__name__}: {error}") if isinstance(event, About) else Failed.of(SAMPLE, error))
        if not self._failed:
            try:
                self._connection.sendall(data)
            except OSError:
                os._exit(0)
        # Nothing more of a unit that could not be sent; it ends with the first of these.
        self._failed = (self._failed or failed) and not isinstance(event, Done | Refused | Overflowed | Failed | Unfit)


def _listen(connection: socket.socket, inbox: queue.SimpleQueue[bytes]) -> None:
    """Reads messages until the driver is gone, which ends this process at once, whatever it is doing."""
    incoming = Incoming()
    try:
        while part := connection.recv(2 ** 16):
            for message in incoming.take(part):
                inbox.put(message)
    finally:
        os._exit(0)


def _die_with(driver: int) -> None:
    """On Linux, asks the kernel to end this process with the thread of the driver that started it: also one that is stopped, or
    stuck in a library."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:  # it was gone before
        os._exit(0)

