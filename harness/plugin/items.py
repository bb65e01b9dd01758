"""The test items of a suite: its declaration, candidates, race, costs, gates and recommendation. Each reports problems as plain
messages; the session does the work."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.declare import Candidate
from harness.declare.listing import LONGEST_MESSAGE, first_of
from harness.executors.crew import NoWorkerError
from harness.plugin import ci as plugin_ci
from harness.plugin.options import tolerates_inconclusive
from harness.records.harmless_text import printable
from harness.run_folder.ledger import RunFolderError

if TYPE_CHECKING:
    from harness.records import Failure
    from harness.session.suite_session import SuiteSession

LISTED: Final = 12
"""Lines on what a run lacks that the terminal shows."""
_REFUSED_BY_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG, errno.EISDIR,
                           errno.ENOTDIR, errno.EINVAL, errno.ENXIO)


_NUMBERS: Final = pytest.StashKey[Iterator[int]]()
"""Numbers the items as they are collected."""


class SuiteProblemError(Exception):
    """Shown as it is, without a traceback."""


class SuiteWarning(UserWarning):
    """What is worth a look in a suite that may run."""


class _Item(pytest.Item):
    """The base of all items: a plain message instead of a traceback, and the file's path as the location."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)
        self.extra_keyword_matches.add(selectable(self.name))
        numbers: Iterator[int] = self.config.stash.setdefault(_NUMBERS, iter(count()))
        self.number = next(numbers)

    @property
    def fixturenames(self) -> list[str]:
        """The attribute by which pytest-benchmark skips items: ours are benchmarks for --benchmark-only, and none for
        --benchmark-skip, which would skip the check of a declaration too."""
        return ["benchmark"] if self.config.getoption("benchmark_only", default=False) else []

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Our own errors are shown without a traceback; any other exception is a bug and keeps it."""
        if isinstance(excinfo.value, SuiteProblemError | RunFolderError | NoWorkerError):
            return "\n".join(printable(line) for line in str(excinfo.value).splitlines())
        if isinstance(excinfo.value, OSError) and excinfo.value.errno in _REFUSED_BY_DISK:
            return printable(f"the run folder could not be written: {excinfo.value}. Make room, or give --runs-dir another "
                             "folder, and run again: what was written is kept and used")
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The location that pytest shows for the item."""
        return self.path, 0, self.name

    @contextmanager
    def visible(self, of: SuiteSession) -> Iterator[None]:
        """A context for the session's work: the progress bar bypasses pytest's capture, and warnings are no failures."""
        from harness.executors.quiet import own_warnings

        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext(), own_warnings():
            of.display.start()
            try:
                yield
            finally:
                of.display.stop()


    def hand_over(self, of: SuiteSession) -> None:
        """Adds a row to pytest-benchmark's table for every candidate that has an item and was timed."""
        from harness.plugin.benchmark_table import carry

        for item in self.session.items:
            if isinstance(item, CandidateItem) and item.of is of:
                carry(item, of, item.candidate)


CHECKED: Final = pytest.StashKey[list[str]]()
"""A line for each suite that was only checked, for the end of the session."""


class UndeclaredItem(_Item):
    """Fails: a file that makes a suite without declaring it as SUITE."""

    def __init__(self, *, why: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.why = why

    def runtest(self) -> None:
        """Says what is missing."""
        raise SuiteProblemError(self.why)


class DeclarationItem(_Item):
    """Passes when no problem of the suite is found before the first image. `further` are problems of its file."""

    def __init__(self, *, declared: object, session_of: SuiteSession | None, further: Sequence[str] = (), **rest: Any) -> None:
        super().__init__(**rest)
        self.declared, self.of, self.further = declared, session_of, further

    def runtest(self) -> None:
        """Reports all problems at once; with --benchmark it also reads the model files' headers."""
        from harness.check import problems, remarks

        if self.of is None:
            wrong = [*problems(self.declared, Path(self.config.invocation_params.dir)), *self.further, *self._same_name()]
        else:
            with self.visible(self.of):
                wrong = self.of.preflight()
        if wrong:
            raise SuiteProblemError("\n".join(wrong))
        for remark in remarks(self.declared, Path(self.config.invocation_params.dir)) if self.of is None else self.of.remarks():
            try:
                self.warn(SuiteWarning(printable(remark)))
            except SuiteWarning as strict:  # warnings are errors here, by the user's own filter
                raise SuiteProblemError(str(strict)) from None
        if self.of is None:
            from harness.check import extent

            given = self.config.option
            self.config.stash.setdefault(CHECKED, []).append(printable(
                extent(self.declared, Path(self.config.invocation_params.dir) / given.sweetspot_runs, given.sweetspot_device)))

    def _same_name(self) -> list[str]:
        """What is wrong if another suite file of this session declares the same name."""
        from harness.check import same_name

        others = [item for item in self.session.items if isinstance(item, DeclarationItem) and item is not self]
        return same_name(self.declared, [(item.declared, item.nodeid.partition("::")[0]) for item in others])


class CandidateItem(_Item):
    """Passes when the candidate went through all stages."""

    def __init__(self, *, of: SuiteSession, candidate: Candidate, **rest: Any) -> None:
        super().__init__(**rest)
        self.of, self.candidate = of, candidate

    def runtest(self) -> None:
        """Runs the candidate. The error names every failed stage."""
        from harness.plugin.benchmark_table import carry

        _refuse_broken(self.of)
        if reason := self.of.refusal(self.candidate):
            raise pytest.skip.Exception(reason, _use_item_location=True)
        with self.visible(self.of):
            failures = self.of.candidate(self.candidate)
            if self.of.times_with(self.candidate):
                failures = failures + self.of.costs()
        if not self.of.timed_apart:
            carry(self, self.of, self.candidate)
        plugin_ci.record_candidate(self, self.of, self.candidate, failures)
        _refuse_failed(self.of, failures)


class RaceItem(_Item):
    """Passes when the race of a suite with a budget has sampled its candidates far enough to decide which one to ship."""

    def __init__(self, *, of: SuiteSession, **rest: Any) -> None:
        super().__init__(**rest)
        self.of = of

    def runtest(self) -> None:
        """Runs all looks; then the timing, if the costs item is not selected."""
        _refuse_broken(self.of)
        if not self.of.selected:
            raise pytest.skip.Exception("no candidate is selected, so there is nothing to sweep", _use_item_location=True)
        with self.visible(self.of):
            failures = self.of.race()
            if not self.of.timed_apart:
                failures = failures + self.of.costs()
                self.hand_over(self.of)
        plugin_ci.record_race(self, self.of)
        _refuse_failed(self.of, failures)


class CostsItem(_Item):
    """Passes when all sampled candidates could be timed. They are timed together, so a temporary slowdown of the machine affects
    all of them."""

    def __init__(self, *, of: SuiteSession, **rest: Any) -> None:
        super().__init__(**rest)
        self.of = of

    def runtest(self) -> None:
        """Times the candidates, and passes a row for each to pytest-benchmark."""
        _refuse_broken(self.of)
        with self.visible(self.of):
            failures = self.of.costs()
        self.hand_over(self.of)
        plugin_ci.record_costs(self, self.of)
        _refuse_failed(self.of, failures)


class GateItem(_Item):
    """Passes, fails, or is skipped as inconclusive. A value that was not measured is a failure."""

    def __init__(self, *, of: SuiteSession, gate: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.of, self.gate = of, gate

    def runtest(self) -> None:
        """Judges the gate from the run folder."""
        _refuse_broken(self.of)
        with self.visible(self.of):
            verdicts = self.of.verdicts(self.gate)
        plugin_ci.record_gate(self, self.of, verdicts)
        if not verdicts:
            raise SuiteProblemError("not measured: there is no candidate to judge")
        for status in ("failed", "not_measured", "inconclusive"):
            if reasons := [f"{v.candidate}: {v.reason}" if v.candidate else v.reason for v in verdicts if v.status == status]:
                outcome = f"{status.replace('_', ' ')}: {first_of(reasons, between='; ', longest=LONGEST_MESSAGE)}"
                if status == "inconclusive" and tolerates_inconclusive(self.config):
                    raise pytest.skip.Exception(outcome, _use_item_location=True)
                if status == "not_measured" and self.of.waives(self.gate):
                    raise pytest.skip.Exception(outcome, _use_item_location=True)
                raise SuiteProblemError(outcome)


class RecommendationItem(_Item):
    """Passes when a verdict could be reached and lacks nothing that was asked for; writes the page."""

    def __init__(self, *, of: SuiteSession, **rest: Any) -> None:
        super().__init__(**rest)
        self.of = of

    def runtest(self) -> None:
        """Writes page, Markdown and table. Without a pick they say why there is none."""
        _refuse_broken(self.of)
        with self.visible(self.of):
            analysed = self.of.report()
        recommendation = analysed.recommendation
        plugin_ci.record_recommendation(self, self.of, analysed)
        if recommendation.pick is None:
            raise SuiteProblemError(recommendation.sentence)
        if lacking := analysed.lacking:
            more = [f"and {len(lacking) - LISTED} more, see the page"] if len(lacking) > LISTED else []
            raise SuiteProblemError("\n".join([f"suite {self.of.suite.name!r} is not complete:", *lacking[:LISTED], *more]))


def in_running_order(items: list[pytest.Item]) -> None:
    """Sorts the items of suites in place: suite by suite, each from its declaration to its recommendation. Other items stay where
    they are."""
    ours = [(place, item) for place, item in enumerate(items) if isinstance(item, _Item)]
    ordered = sorted((item for _, item in ours), key=lambda item: (not isinstance(item, UndeclaredItem), item.number))
    for (place, _), item in zip(ours, ordered, strict=True):
        items[place] = item


def selectable(text: str) -> str:
    """A name, or an expression of -k, without "=", which -k does not allow: both sides are written with ":" instead."""
    return text.replace("=", ":")


def _refuse_failed(suite: SuiteSession, failures: Sequence[Failure]) -> None:
    """Names every failure; a message that an earlier candidate had is not printed again."""
    lines = []
    for f in failures:
        first = next(k for k in (*suite.failures, f) if _alike(k, f))
        why = f"{f.error}: {f.message}" if first.candidate == f.candidate else (
            f"{f.error}, with the message of candidate {first.candidate!r}")
        lines.append(f"suite {suite.suite.name!r}, candidate {f.candidate!r}, {f.stage}: {why}")
    if lines:
        raise SuiteProblemError("\n".join(lines))


def _alike(one: Failure, other: Failure) -> bool:
    return (one.stage, one.error, one.message) == (other.stage, other.error, other.message)


def _refuse_broken(suite: SuiteSession) -> None:
    """Raises SuiteProblemError if the suite's declaration has problems: then nothing of it is run."""
    if problems := suite.problems:
        raise SuiteProblemError(f"not run: the declaration of suite {suite.suite.name!r} has "
                                f"{len(problems)} problem{'s' if len(problems) > 1 else ''}, see its declaration item")
