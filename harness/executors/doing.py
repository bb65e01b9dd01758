"""What a worker does with a task, in whichever process it is: all that comes of it, and what ends it."""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from harness.executors.contract import ENDINGS, SAMPLE, Done, Errand, Event, Failed, Found, Task

if TYPE_CHECKING:
    from harness.executors.contract import Job, Worker


def events_of(worker: Worker, task: Task) -> Iterator[Event | Done]:
    """All that comes of a unit or an errand, and Done where nothing else ended it."""
    last: Event | None = None
    try:
        for last in _found(worker, task) if isinstance(task, Errand) else worker.make(task):
            yield last
    except Exception as error:
        last = Failed.of(SAMPLE, error)
        yield last
    if not isinstance(last, ENDINGS):
        yield Done()


def worker_of(maker: str, job: Job) -> Worker:
    """A worker for a job. `maker` is a module and a name in it."""
    worker: Worker = named(maker)(job)
    return worker


def named(place: str) -> Any:
    """What "module:name" names."""
    module, _, name = place.partition(":")
    return attrgetter(name)(importlib.import_module(module))


def _found(worker: Worker, errand: Errand) -> Iterator[Found]:
    """What an errand finds. It runs on a thread of its own, as it tells something from within what measures."""
    told: queue.SimpleQueue[Found | BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            told.put(Found(value=named(errand.does)(worker, errand.given, lambda value: told.put(Found(value=value)))))
            told.put(None)
        except BaseException as error:
            told.put(error)

    threading.Thread(target=run, name="sweetspot-errand", daemon=True).start()
    while (event := told.get()) is not None:
        if isinstance(event, BaseException):
            raise event
        yield event
