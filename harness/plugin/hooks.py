"""The pytest hooks: find suites, turn candidates, gates and the recommendation into items, and print the verdict."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.plugin import ci as plugin_ci
from harness.plugin.benchmark_table import hide_our_rows
from harness.plugin.items import (
    CHECKED,
    CandidateItem,
    CostsItem,
    GateItem,
    RaceItem,
    RecommendationItem,
    UndeclaredItem,
    in_running_order,
    selectable,
)
from harness.plugin.options import add_options, benchmarking, refuse
from harness.plugin.suite_files import (
    SuiteFile,
    collected,
    is_suite_file,
    may_hold_tests,
    missing_files,
    note_passed_over,
    passed_over,
    warn_of_unvisited,
)
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.session.suite_session import SuiteSession

_FINISHING: Final = pytest.StashKey[pytest.Session]()
"""pytest's session, once it finishes: its exit status fails where something could not be written."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flags; all of them are inert without --benchmark."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Refuses what would make the measurements meaningless."""
    config.option.keyword = selectable(config.option.keyword)
    if benchmarking(config):
        _keep_own_packages(libraries=False)
        refuse(config)


def _keep_own_packages(libraries: bool) -> None:
    from harness.session.own_packages import keep_own_packages

    if wrong := keep_own_packages(libraries=libraries):
        raise pytest.UsageError(wrong)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Generator[None, list[Any], list[Any]]:
    """The suite file that a .py file is, if it is one; its tests, if it has any, are collected besides. pytest takes every file
    that the command line names for one of tests: it would run a suite file a second time, and end at its sys.exit."""
    collectors = yield
    if file_path.suffix != ".py":
        return collectors
    if not is_suite_file(file_path, parent):
        note_passed_over(file_path, parent)
        return collectors
    collected(parent.config).any_file = True
    others = collectors if may_hold_tests(file_path, parent.config) else [
        other for other in collectors if type(other) is not pytest.Module]  # doctests have a subclass of it
    return [SuiteFile.from_parent(parent, path=file_path), *others]


@pytest.hookimpl(wrapper=True)
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> Generator[None, bool | None, bool | None]:
    """Warns of a suite in a folder that pytest leaves out because of its name."""
    ignored = yield
    if ignored and collection_path.is_dir():
        warn_of_unvisited(collection_path, config)
    return ignored


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the helper files that suite files import: what they hold is run there."""
    imported = collected(config).imported
    items[:] = [item for item in items if not (isinstance(item, UndeclaredItem) and str(item.path) in imported)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Puts the items of the suites into their order, whatever another plugin made of it, and tells each suite which of its
    candidates were selected, and whether its race and its timing will run."""
    if not benchmarking(session.config):
        return
    if not collected(session.config).any_file:
        if missing := missing_files(session.config):
            raise pytest.UsageError(printable(missing))
        raise pytest.UsageError("--benchmark was given, but no suite file was found where pytest looked; give the folder or "
                                "file, as in: pytest suites/ --benchmark")
    _keep_own_packages(libraries=True)
    in_running_order(session.items)
    if not session.config.getoption("collectonly"):
        from harness.plugin.session import session_for

        chosen = [item for item in session.items if isinstance(item, CandidateItem)]
        timed = [item.of for item in session.items if isinstance(item, CostsItem)]
        raced = [item.of for item in session.items if isinstance(item, RaceItem)]
        _fetch(session)
        for suite in session_for(session.config).suites:
            candidates = [item.candidate for item in chosen if item.of is suite]
            suite.select(candidates, timed_apart=suite in timed, raced=suite in raced)
            suite.unselected = _unselected(session, suite)


def _fetch(session: pytest.Session) -> None:
    """Fetches what the selected suites lack of the hub, if that is allowed. Their items take the candidates as they are then."""
    if not session.config.option.sweetspot_allow_download:
        return
    chosen = [item for item in session.items if isinstance(item, CandidateItem)]
    capture = session.config.pluginmanager.getplugin("capturemanager")
    for suite in dict.fromkeys(item.of for item in chosen):
        with capture.global_and_fixture_disabled() if capture else nullcontext():  # huggingface_hub draws bars of its own
            suite.fetch()
    for item in chosen:
        item.candidate = next(c for c in item.of.suite.candidates if c.name == item.candidate.name)


def _unselected(session: pytest.Session, suite: SuiteSession) -> str:
    """That gates or the recommendation were left out of this session by its user, so that the exit code does not count them."""
    gates = {item.gate for item in session.items if isinstance(item, GateItem) and item.of is suite}
    absent = [name for gate in suite.suite.gates if (name := suite.suite.gate_name(gate)) not in gates]
    parts = [f"{len(absent)} gate{'s' if len(absent) > 1 else ''}"] if absent else []
    parts += [] if any(isinstance(item, RecommendationItem) and item.of is suite for item in session.items) else [
        "the recommendation"]
    given = session.config.option
    by = " and ".join(f"{word} {value!r}" for word, value in (("-k", given.keyword), ("-m", given.markexpr)) if value)
    return "" if not parts else (
        f"the exit code does not count {' and '.join(parts)}, not selected {f'by {by}' if by else 'on the command line'}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, Any, Any]:
    """Prints the verdicts and the pages' paths, after all other output of pytest and its plugins. What could not be written fails
    the run."""
    config = terminalreporter.config
    if not benchmarking(config):
        lines = [*(f"{line}; --benchmark runs it" for line in config.stash.get(CHECKED, [])), *passed_over(config)]
        if lines:
            terminalreporter.ensure_newline()
        for line in lines:
            terminalreporter.write_line(line)
        return (yield)
    from harness.executors.quiet import own_warnings
    from harness.plugin.session import session_for
    from harness.session.terminal import closing, tables

    session = session_for(config)
    suites = [suite for suite in session.suites if suite.ran]
    hide_our_rows(config)
    try:
        return (yield)
    finally:
        terminalreporter.ensure_newline()
        with own_warnings():
            lines = tables(suites, colour=sys.stdout.isatty())
        for line in [*passed_over(config), *lines]:
            terminalreporter.write_line(line)
        for line in plugin_ci.publish(session, config):
            terminalreporter.write_line(printable(line))
        for line in closing(suites):
            terminalreporter.write_line(line, bold=not line.startswith("page: "))
        session.unwritten += [f"the page of {suite.suite.name}" for suite in suites if suite.trouble or suite.page is None]
        finishing = config.stash.get(_FINISHING, None)
        if session.unwritten and finishing is not None and finishing.exitstatus == pytest.ExitCode.OK:
            finishing.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, Any, Any]:
    """Says that pytest or another plugin could not write a report, such as JUnit's, so that the verdict is printed as well."""
    config = session.config
    if not benchmarking(config) or "harness.plugin.session" not in sys.modules:
        return (yield)
    from harness.plugin.session import session_for

    config.stash[_FINISHING] = session
    try:
        return (yield)
    except OSError as error:
        session_for(config).unwritten.append("a report of pytest")
        if reporter := config.pluginmanager.getplugin("terminalreporter"):
            reporter.ensure_newline()
            reporter.write_line(printable(f"a report that was asked of pytest was not written ({error})"))
        return None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Closes the run folders."""
    if benchmarking(config) and "harness.plugin.session" in sys.modules:
        from harness.plugin.session import session_for

        session_for(config).close()
