"""A worker's own process: takes units from a socket, makes them, and sends what comes. It ends when the socket is closed."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from harness.executors.contract import (
    ENDINGS,
    MATERIALISE,
    SAMPLE,
    About,
    Batch,
    Done,
    Event,
    Failed,
    Free,
    Job,
    Lost,
    Unit,
)
from harness.executors.doing import events_of, worker_of
from harness.executors.messages import Incoming, packed, unpacked
from harness.probes.fits import free_memory

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
    worker: Worker | None = None
    maker, device, last = "", "cpu", ""
    while True:
        try:
            task = unpacked(inbox.get())
        except Exception as error:
            outbox.put(Failed.of(MATERIALISE, error))
            continue
        if not maker:
            maker, task = task
        if isinstance(task, Job | Free):  # its models are freed before others are loaded
            worker, last = None, ""
            free_memory(device)
        if isinstance(task, Job):
            device = task.device
            worker = _begun(maker, task, outbox)
        elif worker is not None:
            # If this one ends the process, nothing of another one is lost with it.
            if not isinstance(task, Unit) or task.candidate.name != last:
                outbox.flush()
            last = task.candidate.name if isinstance(task, Unit) else ""
            for event in events_of(worker, task):
                outbox.put(event)


def _begun(maker: str, job: Job, outbox: Outbox) -> Worker:
    """The worker of a job, which has said what it is. One that cannot be made ends the process."""
    try:
        worker = worker_of(maker, job)
        outbox.put(About(facts=worker.about(), job=job.number))
    except Exception as error:
        outbox.put(Lost(why=f"{type(error).__name__}: {error}"))
        outbox.close()
        os._exit(1)
    return worker


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
        self._failed = (self._failed or failed) and not isinstance(event, (Done, *ENDINGS))


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

