"""Workers in threads of this process: what tests replace here, such as the sampling, is replaced for them too."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from harness.executors.contract import About, Batch, Done, Event, Free, Job, Lost, Task, Worker
from harness.executors.crew import Crew
from harness.executors.doing import events_of
from harness.executors.local_worker import as_files
from harness.executors.maker import Maker


class _Closed(BaseException):
    """Nobody listens any more."""


class WorkerEnds(BaseException):
    """Raised by a worker whose process ends."""


def maker_of(job: Job, number: int) -> Worker:
    """A worker as a process of its own has it, but for what is the whole process's. `number` is its own."""
    import harness.run.suite_run as driver

    return Maker(grid=job.suite.grid, new_bench=lambda: driver.Workbench.for_grid(
        job.suite.grid, device=job.device, root=Path(job.root)))


class ThreadHands:
    """See contract.Hands."""

    def __init__(self, worker_of: Callable[[Job, int], Worker]) -> None:
        self._worker_of = worker_of
        self._inboxes: dict[int, queue.SimpleQueue[Task | Job | Free | str]] = {}
        self._outbox: queue.SimpleQueue[tuple[int, About | Event | Done | Lost]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def start(self, job: Job, count: int) -> Sequence[int]:
        numbers = range(len(self._inboxes), len(self._inboxes) + count)
        for number in numbers:
            self._inboxes[number] = queue.SimpleQueue()
            self._threads.append(threading.Thread(target=self._live, args=(job, number), daemon=True))
            self._threads[-1].start()
        return numbers

    def _live(self, job: Job, number: int) -> None:
        try:
            self._work(job, number)
        except WorkerEnds as end:
            self._outbox.put((number, Lost(why=str(end))))

    def _work(self, job: Job, number: int) -> None:
        worker: Worker | None = self._worker_of(job, number)

        def send(event: About | Event | Done) -> None:
            if self._closed:
                raise _Closed
            self._outbox.put((number, as_files(event) if isinstance(event, Batch) else event))

        with suppress(_Closed):
            send(About(facts=worker.about(), job=job.number))
            while not isinstance(task := self._inboxes[number].get(), str):
                if isinstance(task, Job | Free):
                    worker = None
                if isinstance(task, Job):
                    worker = self._worker_of(task, number)
                    send(About(facts=worker.about(), job=task.number))
                elif worker is not None:
                    for event in events_of(worker, task):
                        send(event)

    def give(self, worker: int, task: Task | Job | Free) -> None:
        self._inboxes[worker].put(task)

    def arrivals(self, timeout: float) -> Sequence[tuple[int, About | Event | Done | Lost]]:
        try:
            return [self._outbox.get(timeout=timeout)]
        except queue.Empty:
            return []

    def stop(self, worker: int) -> None:
        self._inboxes[worker].put("end")

    def close(self) -> None:
        self._closed = True
        for inbox in self._inboxes.values():
            inbox.put("end")
        for thread in self._threads:
            thread.join()


def work_in_threads(patch: pytest.MonkeyPatch, worker_of: Callable[[Job, int], Worker] = maker_of) -> None:
    """From here on the workers of "local:N" are threads."""

    def crew_of(asked: str, job: Job, *, limit: float, say: Callable[[str], None]) -> Crew:
        return Crew(ThreadHands(worker_of), job, int(asked.partition(":")[2]), limit=limit, say=say)

    patch.setattr("harness.run.suite_run.crew_of", crew_of)
