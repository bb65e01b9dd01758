"""Which candidates of a run are timed now, together, and which were timed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.records import Failure
from harness.run.costs import Costs
from harness.run_folder.ledger import Ledger


@dataclass(kw_only=True)
class Timings:
    """The timings of one run. `costs` times candidates, `timeable` says whether the files of one are those that its images were
    made of, and `quieten` ends what would disturb a timing. With `again`, candidates with timings are timed once more."""

    ledger: Ledger
    costs: Callable[[], Costs]
    timeable: Callable[[str], bool]
    quieten: Callable[[], None]
    again: bool

    def time(self, names: Sequence[str]) -> list[Failure]:
        """Times the named candidates together, in alternating rounds, unless the journal has their latencies from one timing in
        this environment, or `again`. Those of earlier sessions among them are timed if their files are still the same. One that
        an earlier session could not time is tried alone first: while it fails, the others are not timed again. Returns a Failure
        for each candidate that cannot be timed."""
        self.quieten()
        costs, timed = self.costs(), self._to_time(names)
        self.again = False
        if timed or not (untimed := self.untimed(names)):
            return costs.time(timed)
        failures = costs.try_again([name for name in untimed if self.timeable(name)])
        return failures if len(failures) == len(untimed) else costs.time([name for name in names if self.timeable(name)])

    def untimed(self, names: Sequence[str]) -> list[str]:
        """Those of the named candidates that the last session could not time."""
        return [name for name in names if self.ledger.timing_failure(name) is not None]

    def why_again(self, names: Sequence[str]) -> str:
        """Why candidates with earlier latencies are about to be timed again, in words; empty if they are not."""
        if not (timed := self._to_time(names)):
            return ""
        return self.costs().why_again(timed) or ("--retime" if self.again else "")

    def _to_time(self, names: Sequence[str]) -> list[str]:
        """Those of the named candidates that can be timed; empty if their latencies are all in the journal."""
        costs = self.costs()
        if not (self.again or costs.due(names)):
            return []
        timeable = [name for name in names if self.timeable(name)]
        return timeable if self.again or costs.due(timeable) else []
