"""The pytest hooks: find suites, turn candidates, gates and the recommendation into items, and print the verdict."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from harness.declare import Suite
from harness.declare.load_suite import NoSuiteError, SuiteFileError, load_suite, mentions_suite
from harness.plugin import ci as plugin_ci
from harness.plugin.benchmark_table import hide_our_rows
from harness.plugin.items import CandidateItem, CostsItem, DeclarationItem, GateItem, RaceItem, RecommendationItem
from harness.plugin.options import add_options, benchmarking, refuse
from harness.records.harmless_text import printable


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flags; all of them are inert without --benchmark."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Refuses what would make the measurements meaningless."""
    if benchmarking(config):
        refuse(config)
        # diffusers' DPM-Solver warns at every batch, and a user of a suite cannot fix it.
        config.addinivalue_line("filterwarnings", "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A .py file in a suites folder (or named on the command line) with a module-level SUITE is a suite file."""
    if file_path.suffix != ".py":
        return None
    session = parent.session
    is_test = any(fnmatch(file_path.name, pattern) for pattern in parent.config.getini("python_files"))
    named = file_path.parent.name in parent.config.getini("sweetspot_suites") or session.isinitpath(file_path)
    if is_test or not named or not mentions_suite(file_path):
        return None
    return SuiteFile.from_parent(parent, path=file_path)


class SuiteFile(pytest.File):
    """One suite file. Without --benchmark it holds one item, the check of its declaration."""

    def collect(self) -> Iterator[pytest.Item]:
        """The declaration; with --benchmark also the candidates (baseline first), the gates and the recommendation."""
        try:
            declared = load_suite(self.path)
        except NoSuiteError as error:
            self.warn(pytest.PytestCollectionWarning(str(error)))
            return
        except SuiteFileError as error:
            raise self.CollectError(str(error)) from error
        from harness.check import load_rows

        load_rows(declared, [self.path.parent, self.config.invocation_params.dir])
        if not benchmarking(self.config):
            yield DeclarationItem.from_parent(self, name="declaration", declared=declared, session_of=None)
            return
        from harness.plugin.session import session_for

        session = session_for(self.config)
        suite = session.add(declared, self._relative())
        yield DeclarationItem.from_parent(self, name="declaration", declared=declared, session_of=suite)
        if suite is None or not isinstance(declared, Suite):
            return
        from harness.run.batch_packing import in_order

        for candidate in in_order(declared):
            yield CandidateItem.from_parent(self, name=f"candidate[{printable(candidate.name)}]", of=suite, candidate=candidate)
        if declared.budget is not None:
            yield RaceItem.from_parent(self, name="race", of=suite)
        yield CostsItem.from_parent(self, name="costs", of=suite)
        for gate in declared.gates:
            yield GateItem.from_parent(self, name=f"gate[{printable(gate.name)}]", of=suite, gate=gate.name)
        yield RecommendationItem.from_parent(self, name="recommendation", of=suite)

    def _relative(self) -> str:
        base = self.config.invocation_params.dir
        return self.path.relative_to(base).as_posix() if self.path.is_relative_to(base) else self.path.name


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tells each suite which of its candidates were selected, and whether its race and its timing will run."""
    if benchmarking(session.config) and not session.config.getoption("collectonly"):
        from harness.plugin.session import session_for

        chosen = [item for item in session.items if isinstance(item, CandidateItem)]
        timed = [item.of for item in session.items if isinstance(item, CostsItem)]
        raced = [item.of for item in session.items if isinstance(item, RaceItem)]
        for suite in session_for(session.config).suites:
            candidates = [item.candidate for item in chosen if item.of is suite]
            suite.select(candidates, timed_apart=suite in timed, raced=suite in raced)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, Any, Any]:
    """Prints the verdicts and the pages' paths, after all other output of pytest and its plugins."""
    config = terminalreporter.config
    if not benchmarking(config):
        return (yield)
    from harness.plugin.session import session_for
    from harness.session.terminal import closing, tables

    suites = [suite for suite in session_for(config).suites if suite.ran]
    hide_our_rows(config)
    try:
        return (yield)
    finally:
        terminalreporter.ensure_newline()
        for line in tables(suites, colour=sys.stdout.isatty()):
            terminalreporter.write_line(line)
        for line in plugin_ci.publish(session_for(config), config):
            terminalreporter.write_line(printable(line))
        for line in closing(suites):
            terminalreporter.write_line(line, bold=not line.startswith("page: "))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Closes the run folders."""
    if benchmarking(config) and "harness.plugin.session" in sys.modules:
        from harness.plugin.session import session_for

        session_for(config).close()
