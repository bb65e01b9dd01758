"""Takes the timings of candidates on a workbench: latency, memory, energy and the batch-size curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from harness.declare import Candidate, Suite, grid_of
from harness.executors.contract import Failed
from harness.materialise import Workbench
from harness.probes import CurveLimits
from harness.records import Durations, Failure, Reading, Record
from harness.records.reusable import TIME
from harness.run.latency import Together, time_batches, time_together
from harness.sampling import threads_for

if TYPE_CHECKING:
    from harness.materialise import Prepared


class Timer(Protocol):
    """Takes timings, in this process or on a worker."""

    def time(self, together: Together, *, curves: bool) -> Iterator[tuple[str, Sequence[Record]]]:
        """Times candidates together, in alternating rounds; then, with `curves`, measures their batch-size curves. Yields the
        records of each by its name; a Failure is among them for one that cannot be timed."""

    def curve(self, name: str, key: str) -> Sequence[Record]:
        """The batch-size curve of a candidate whose timing has this hash, or a Failure."""


@dataclass(frozen=True, kw_only=True)
class BenchTimer:
    """Times candidates of `suite` on a workbench of this process. `idle` is the number of bytes in use on the device before this
    process loaded anything; `begin` is called with the candidate that is timed next."""

    suite: Suite
    bench: Workbench
    device: str
    idle: Reading | None
    begin: Callable[[str], None]

    def time(self, together: Together, *, curves: bool) -> Iterator[tuple[str, Sequence[Record]]]:
        """See Timer."""
        together = replace(together, device=self.device, idle=self.idle)
        with self._threads(together.settings):
            records = [self._with_load(record) for record in time_together(self.suite, self._switch, together)]
            failed = {record.candidate for record in records if isinstance(record, Failure)}
            for name, key in together.settings.items():
                curve = self.curve(name, key) if curves and name not in failed else ()
                yield name, [*(record for record in records if record.candidate == name), *curve]

    def curve(self, name: str, key: str) -> Sequence[Record]:
        """See Timer."""
        self.begin(name)
        try:
            with self._threads([name]):
                return time_batches(name, self.bench.prepare(self._declared(name)), self.suite, key,
                                    CurveLimits(batch_size=self.suite.largest_batch), self.idle)
        except Exception as error:
            return [failure_of(name, Failed.of(TIME, error))]

    def _declared(self, name: str) -> Candidate:
        return next(candidate for candidate in self.suite.candidates if candidate.name == name)

    def _threads(self, names: Iterable[str]) -> AbstractContextManager[None]:
        """Within it, operations use one thread if the images of all these candidates are small."""
        grids = [grid_of(self.suite, self._declared(name)) for name in names]
        return threads_for(max(grids, key=lambda grid: grid.width * grid.height), self.device)

    def _switch(self, name: str) -> Prepared:
        """The candidate that is timed next, ready to sample."""
        self.begin(name)
        return self.bench.prepare(self._declared(name))

    def _with_load(self, record: Record) -> Record:
        """The durations of a candidate, with the seconds that its architecture took to load if this process loaded it, and those
        of its runtime."""
        if not isinstance(record, Durations):
            return record
        candidate = self._declared(record.candidate)
        loaded = self.bench.load_seconds(candidate)
        return replace(record, seconds={**record.seconds, **({"load": loaded} if loaded else {}),
                                        **self.bench.runtime_seconds(candidate)})


def failure_of(name: str, failed: Failed) -> Failure:
    """The record that a candidate could not be timed."""
    return Failure(candidate=name, stage=TIME, error=failed.error, message=failed.message)
