"""The workers of a session: they go from one suite to the next, and one thread uses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from harness.executors.contract import Job
from harness.executors.crew import Crew


class Staff:
    """Keeps a crew that has rested for the next job. All that uses workers runs on one thread, which lives as long as they: the
    kernel ends local workers with the thread that started them."""

    def __init__(self) -> None:
        self._turns: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._kept: Crew | None = None
        self._say: Callable[[str], None] = lambda _: None

    def run(self, turn: Callable[[], None]) -> threading.Event:
        """Has `turn`, which raises nothing, run on the thread of the workers. Returns what is set when it has."""
        ended = threading.Event()

        def run() -> None:
            try:
                turn()
            finally:
                ended.set()

        self._turns.put(run)
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name="sweetspot-crew", daemon=True)
            self._thread.start()
        return ended

    def crew(self, job: Job, new: Callable[[Callable[[str], None]], Crew], *, limit: float, say: Callable[[str], None]) -> Crew:
        """The crew for a job, which has not started yet: the one that is kept, or a `new` one. On the thread of the workers."""
        self._say, kept, self._kept = say, self._kept, None
        return new(self._tell) if kept is None else kept.next(job, limit=limit, say=say)

    def let_go(self, crew: Crew, *, keep: bool) -> None:
        """Ends a crew or, if it is to `keep`, lets it rest. On the thread of the workers."""
        if keep and crew.rest():
            self._kept = crew
        else:
            crew.close()

    def end(self) -> None:
        """Ends all workers, and the thread. The next crew starts others."""
        if self._thread is None:
            return
        self.run(self._close)
        self._turns.put(None)
        self._thread.join()
        self._thread = None

    def _close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _tell(self, text: str) -> None:
        self._say(text)

    def _live(self) -> None:
        while (turn := self._turns.get()) is not None:
            turn()
