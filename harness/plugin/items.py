"""The test items of a suite: its declaration, candidates, race, costs, gates and recommendation. plugin.py makes them; each says
in plain words what is wrong, and the work is in plugin_session.py."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.declare import Candidate
from harness.plugin import ci as plugin_ci
from harness.records.text import printable
from harness.run_folder.ledger import RunFolderError

if TYPE_CHECKING:
    from harness.plugin.session import Session, SuiteSession
    from harness.records import Failure

_REFUSED_BY_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


class SuiteProblemError(Exception):
    """Shown as it stands, without a traceback."""


class _Item(pytest.Item):
    """What the items share: a plain message instead of a traceback, and the file's path as the place."""

    fixturenames: Final = ["benchmark"]
    """What pytest-benchmark looks for when --benchmark-only or --benchmark-skip chooses among all items."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Our own messages stand alone; anything else is a defect and keeps its traceback."""
        if isinstance(excinfo.value, SuiteProblemError | RunFolderError):
            return "\n".join(printable(line) for line in str(excinfo.value).splitlines())
        if isinstance(excinfo.value, OSError) and excinfo.value.errno in _REFUSED_BY_DISK:
            return printable(f"the run folder could not be written: {excinfo.value}. Make room, or give --runs-dir another "
                             "folder, and run again: what was written is kept and used")
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where pytest says that the item is."""
        return self.path, 0, self.name

    @contextmanager
    def visible(self, session: Session) -> Iterator[None]:
        """Lets the progress bar through pytest's capture."""
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            session.bar.start()
            try:
                yield
            finally:
                session.bar.stop()


class DeclarationItem(_Item):
    """Passes when nothing is wrong with the suite that can be known before the first image."""

    def __init__(self, *, declared: object, session_of: SuiteSession | None, **rest: Any) -> None:
        super().__init__(**rest)
        self.declared, self.of = declared, session_of

    def runtest(self) -> None:
        """All problems at once; with --benchmark the model files' headers are read too."""
        from harness.check import problems

        found = problems(self.declared, Path(self.config.invocation_params.dir))
        if not found and self.of is not None:
            found = self.of.preflight()
        if found:
            raise SuiteProblemError("\n".join(found))


class CandidateItem(_Item):
    """Passes when the candidate went through all stages."""

    def __init__(self, *, of: SuiteSession, candidate: Candidate, **rest: Any) -> None:
        super().__init__(**rest)
        self.of, self.candidate = of, candidate

    def runtest(self) -> None:
        """Runs the candidate; every failed stage is named."""
        from harness.plugin.benchmark_table import carry

        _refuse_broken(self.of)
        self.of.items[self.candidate.name] = self
        if reason := self.of.refusal(self.candidate):
            raise pytest.skip.Exception(reason, _use_item_location=True)
        with self.visible(self.of.session):
            failures = self.of.candidate(self.candidate)
            if self.of.times_with(self.candidate):
                failures = failures + self.of.costs()
        if not self.of.timed_apart and (seconds := self.of.latency(self.candidate)):
            carry(self, self.of.suite.name, seconds, {"candidate": self.candidate.name, "key": self.candidate.key})
        plugin_ci.record_candidate(self, self.of, self.candidate, failures)
        _refuse_failed(self.of, failures)


class RaceItem(_Item):
    """Passes when the candidates of a suite with a budget were sampled as far as it takes to know which one to ship."""

    def __init__(self, *, of: SuiteSession, **rest: Any) -> None:
        super().__init__(**rest)
        self.of = of

    def runtest(self) -> None:
        """Look after look; then the timing, if no item of its own does that."""
        _refuse_broken(self.of)
        if not self.of.selected:
            raise pytest.skip.Exception("no candidate is selected, so that there is none to race", _use_item_location=True)
        with self.visible(self.of.session):
            failures = self.of.race()
            if not self.of.timed_apart:
                failures = failures + self.of.costs()
                _hand_over(self.of)
        plugin_ci.record_race(self, self.of)
        _refuse_failed(self.of, failures)


class CostsItem(_Item):
    """Passes when all candidates that were sampled could be timed. They are timed together, so that what slows the machine
    down for a while slows all alike."""

    def __init__(self, *, of: SuiteSession, **rest: Any) -> None:
        super().__init__(**rest)
        self.of = of

    def runtest(self) -> None:
        """Times the candidates, and hands a row for each to pytest-benchmark."""
        _refuse_broken(self.of)
        with self.visible(self.of.session):
            failures = self.of.costs()
        _hand_over(self.of)
        plugin_ci.record_costs(self, self.of)
        _refuse_failed(self.of, failures)


class GateItem(_Item):
    """Passes, fails, or is skipped as inconclusive; a value that was not measured fails, because it was asked for."""

    def __init__(self, *, of: SuiteSession, gate: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.of, self.gate = of, gate

    def runtest(self) -> None:
        """Judges the gate from the run folder."""
        _refuse_broken(self.of)
        verdicts = self.of.verdicts(self.gate)
        plugin_ci.record_gate(self, self.of, verdicts)
        if not verdicts:
            raise SuiteProblemError("not measured: there is no candidate to judge")
        for status in ("failed", "not_measured", "inconclusive"):
            if reasons := [f"{v.candidate}: {v.reason}" for v in verdicts if v.status == status]:
                said = f"{status.replace('_', ' ')}: " + "; ".join(reasons)
                if status == "inconclusive" and plugin_ci.tolerates_inconclusive(self):
                    raise pytest.skip.Exception(said, _use_item_location=True)
                if status == "not_measured" and self.of.nothing_promoted(self.gate):
                    raise pytest.skip.Exception(said, _use_item_location=True)
                raise SuiteProblemError(said)


class RecommendationItem(_Item):
    """Passes when a verdict could be reached; writes the page."""

    def __init__(self, *, of: SuiteSession, **rest: Any) -> None:
        super().__init__(**rest)
        self.of = of

    def runtest(self) -> None:
        """Writes page, Markdown and table, also when there is no pick: then it says why."""
        _refuse_broken(self.of)
        with self.visible(self.of.session):
            recommendation = self.of.report()
        plugin_ci.record_recommendation(self, self.of, recommendation)
        if recommendation.pick is None:
            raise SuiteProblemError(recommendation.sentence)


def _hand_over(of: SuiteSession) -> None:
    """A row of pytest-benchmark's table for every candidate that has an item and was timed."""
    from harness.plugin.benchmark_table import carry

    for candidate in of.suite.candidates:
        item, seconds = of.items.get(candidate.name), of.latency(candidate)
        if item is not None and seconds:
            carry(item, of.suite.name, seconds, {"candidate": candidate.name, "key": candidate.key})


def _refuse_failed(suite: SuiteSession, failures: Sequence[Failure]) -> None:
    if failures:
        raise SuiteProblemError("\n".join(
            f"suite {suite.suite.name!r}, candidate {f.candidate!r}, {f.stage}: {f.error}: {f.message}" for f in failures))


def _refuse_broken(suite: SuiteSession) -> None:
    """Nothing of a suite is run while its declaration has problems."""
    if found := suite.problems:
        raise SuiteProblemError(f"not run: the declaration of suite {suite.suite.name!r} has "
                                f"{len(found)} problem{'s' if len(found) > 1 else ''}, see its declaration item")
