"""The pytest door: finds suites, turns candidates, gates and the recommendation into items, and prints the verdict.
Hooks and items only; the work is in check, run and reports."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness import plugin_ci, plugin_live
from harness.cli import megabytes
from harness.declare import Candidate, Suite
from harness.ledger import RunFolderError

if TYPE_CHECKING:
    from harness.plugin_session import Session, SuiteSession
    from harness.records import Failure

_MENTIONS_SUITE: Final = re.compile(r"\bSUITE\b")
_DEVICE: Final = re.compile(r"cpu|cuda(:\d+)?")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flags; all of them are inert without --benchmark."""
    group = parser.getgroup("sweetspot")
    group.addoption("--benchmark", action="store_true", dest="sweetspot_benchmark",
                    help="materialise, sample and measure the suites' candidates, and write the report")
    group.addoption("--device", default="cpu", dest="sweetspot_device", metavar="cpu|cuda|cuda:N",
                    help="where candidates run (default: cpu)")
    group.addoption("--runs-dir", default="runs", dest="sweetspot_runs", metavar="DIR",
                    help="folder that holds one folder per suite (default: runs)")
    group.addoption("--fresh", action="store_true", dest="sweetspot_fresh",
                    help="throw away what an earlier run of these suites left, and start over")
    group.addoption("--exact", action="store_true", dest="sweetspot_exact",
                    help="sample at batch size 1, so that images are comparable bit for bit with single ones")
    group.addoption("--verify", action="store_true", dest="sweetspot_verify",
                    help="hash every image that is reused, instead of trusting files that look untouched")
    group.addoption("--shared-cache", default=os.environ.get("SWEETSPOT_SHARED_CACHE", ""), dest="sweetspot_cache",
                    metavar="ADDRESS", help="images shared between runs: folder:/path or redis://host:6379/0 "
                                            "(default: $SWEETSPOT_SHARED_CACHE, else none)")
    group.addoption("--baselines", default="models/baselines", dest="sweetspot_baselines", metavar="DIR",
                    help="folder of the baseline files that promotions leave, one per suite (default: models/baselines)")
    group.addoption("--page-budget", type=megabytes, default=10.0, dest="sweetspot_page_budget", metavar="MB",
                    help="how large a page may be; pictures beyond it are left out, which it says (default: 10)")
    plugin_ci.add_options(group)
    plugin_live.add_options(group)
    parser.addini("sweetspot_suites", "names of folders whose files may declare a SUITE", type="args", default=["suites"])


def pytest_configure(config: pytest.Config) -> None:
    """Refuses what would make the measurements meaningless."""
    if config.getoption("sweetspot_benchmark") and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "--benchmark with -n: candidates that run side by side disturb each other's latency and memory, and "
            "pytest-benchmark switches itself off. Leave -n out; batching already uses the whole device.")
    if config.getoption("sweetspot_benchmark"):
        _refuse_device(config.getoption("sweetspot_device"))
        _refuse_cache(config.getoption("sweetspot_cache"))
        plugin_ci.refuse_markdown(config)
        # diffusers' DPM-Solver says it at every batch; it is nothing a user of a suite could mend.
        config.addinivalue_line("filterwarnings", "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def _refuse_cache(address: str) -> None:
    """Raises UsageError for an address that is none, or that needs a package which is not installed."""
    from harness.cache import CacheAddressError, open_cache

    try:
        open_cache(address, (8, 8))
    except (CacheAddressError, ModuleNotFoundError) as error:
        raise pytest.UsageError(f"--shared-cache: {error}") from error


def _refuse_device(device: str) -> None:
    """Raises UsageError for a device that is none, or that this machine does not have."""
    if not _DEVICE.fullmatch(device):
        raise pytest.UsageError(f"--device {device}: expected cpu, cuda or cuda:N")
    if device != "cpu":
        import torch

        count, number = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
        if number >= count:
            raise pytest.UsageError(f"--device {device}: torch {torch.__version__} sees {count} CUDA devices here; "
                                    "leave --device out to run on the CPU")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A .py file in a suites folder (or named on the command line) with a module-level SUITE is a suite file."""
    if file_path.suffix != ".py":
        return None
    session = parent.session
    is_test = any(fnmatch(file_path.name, pattern) for pattern in parent.config.getini("python_files"))
    named = file_path.parent.name in parent.config.getini("sweetspot_suites") or session.isinitpath(file_path)
    if is_test or not named or not _MENTIONS_SUITE.search(file_path.read_text(encoding="utf-8", errors="replace")):
        return None
    return SuiteFile.from_parent(parent, path=file_path)


_NO_SUITE: Final = object()
_REFUSED_BY_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


class SuiteFile(pytest.File):
    """One suite file. Without --benchmark it holds one item, the check of its declaration."""

    def collect(self) -> Iterator[pytest.Item]:
        """The declaration; with --benchmark also the candidates (baseline first), the gates and the recommendation."""
        declared = _load(self.path)
        if declared is _NO_SUITE:
            self.warn(pytest.PytestCollectionWarning(f"{self.path.name} speaks of SUITE but has none at module level"))
            return
        if not self.config.getoption("sweetspot_benchmark"):
            yield DeclarationItem.from_parent(self, name="declaration", declared=declared, session_of=None)
            return
        from harness.plugin_session import session_for

        session = session_for(self.config)
        suite = session.add(declared, self._relative())
        yield DeclarationItem.from_parent(self, name="declaration", declared=declared, session_of=suite)
        if suite is None or not isinstance(declared, Suite):
            return
        from harness.packing import in_order

        for candidate in in_order(declared):
            yield CandidateItem.from_parent(self, name=f"candidate[{_shown(candidate.name)}]", of=suite, candidate=candidate)
        if declared.budget is not None:
            yield RaceItem.from_parent(self, name="race", of=suite)
        yield CostsItem.from_parent(self, name="costs", of=suite)
        for gate in declared.gates:
            yield GateItem.from_parent(self, name=f"gate[{_shown(gate.name)}]", of=suite, gate=gate.name)
        yield RecommendationItem.from_parent(self, name="recommendation", of=suite)

    def _relative(self) -> str:
        base = self.config.invocation_params.dir
        return self.path.relative_to(base).as_posix() if self.path.is_relative_to(base) else self.path.name


class SuiteProblemError(Exception):
    """Shown as it stands, without a traceback."""


class _Item(pytest.Item):
    """What the items share: a plain message instead of a traceback, and the file's path as the place."""

    fixturenames: Final = ["benchmark"]
    """What pytest-benchmark looks for when --benchmark-only or --benchmark-skip chooses among all items."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Our own messages stand alone; anything else is a defect and keeps its traceback."""
        if isinstance(excinfo.value, SuiteProblemError | RunFolderError):
            return "\n".join(_shown(line) for line in str(excinfo.value).splitlines())
        if isinstance(excinfo.value, OSError) and excinfo.value.errno in _REFUSED_BY_DISK:
            return _shown(f"the run folder could not be written: {excinfo.value}. Make room, or give --runs-dir another folder, "
                          "and run again: what was written is kept and used")
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
        from harness.carrier import carry

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
    from harness.carrier import carry

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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tells each suite which of its candidates were selected, and the bar how many images there are."""
    if session.config.getoption("sweetspot_benchmark") and not session.config.getoption("collectonly"):
        from harness.plugin_session import session_for

        chosen = [(i.of, i.candidate) for i in session.items if isinstance(i, CandidateItem)]
        session_for(session.config).select(chosen, [i.of for i in session.items if isinstance(i, CostsItem)],
                                           [i.of for i in session.items if isinstance(i, RaceItem)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables, the sentences and the pages' paths, last on the screen."""
    config = terminalreporter.config
    if config.getoption("sweetspot_benchmark"):
        from harness.plugin_session import session_for

        terminalreporter.ensure_newline()
        for line in session_for(config).summary(sys.stdout.isatty()):
            terminalreporter.write_line(line)
        for line in session_for(config).live.closing():
            terminalreporter.write_line(_shown(line))
        for line in plugin_ci.publish(session_for(config), config):
            terminalreporter.write_line(_shown(line))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Lets go of the run folders."""
    if config.getoption("sweetspot_benchmark", default=False) and "harness.plugin_session" in sys.modules:
        from harness.plugin_session import session_for

        session_for(config).close()


def _shown(name: object) -> str:
    """A name without characters that could act on a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def _load(path: Path) -> object:
    """The SUITE of a file, imported under a private name; an error while importing is the file's own and is shown."""
    spec = importlib.util.spec_from_file_location(f"_sweetspot_suite_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise pytest.Collector.CollectError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise pytest.Collector.CollectError(f"{path.name}: {type(error).__name__}: {error}") from error
    return getattr(module, "SUITE", _NO_SUITE)
