"""Units made in this process: a second thread writes images while the next batch is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from harness.executors.contract import Batch, Event, Unit, Worker

WRITES_AHEAD: Final = 4


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """Has a worker of this process make units."""

    worker: Worker

    def run(self, unit: Unit, write: Callable[[Batch], None]) -> Iterator[Event]:
        """Makes a unit, and calls `write` with its batches in order. Yields everything else, what ends the unit when all batches
        before it are written. An error of `write` is raised."""
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(max_workers=1) as writer:
            try:
                for event in self.worker.make(unit):
                    if isinstance(event, Batch):
                        pending.append(writer.submit(write, event))
                        if len(pending) > WRITES_AHEAD:  # a full disk is noticed now, and memory stays bounded
                            pending.pop(0).result()
                        continue
                    while pending:
                        pending.pop(0).result()
                    yield event
            finally:
                for written in pending:
                    written.result()
