"""Suite files in pytest: which files are ones, and the items that they hold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import islice
from os.path import relpath
from pathlib import Path
from typing import Final

import pytest

from harness.check import load_rows
from harness.declare import Suite
from harness.declare.load_suite import LoadedSuite, NoSuiteError, SuiteFileError, loaded_suite
from harness.declare.nearest import did_you_mean
from harness.declare.suite_signs import Signs, signs_of
from harness.plugin.items import (
    CandidateItem,
    CostsItem,
    DeclarationItem,
    GateItem,
    RaceItem,
    RecommendationItem,
    UndeclaredItem,
)
from harness.plugin.options import benchmarking
from harness.records.harmless_text import printable


@dataclass
class Collected:
    """What was collected: whether any suite file was, the files that suite files import from beside them, and the files in a
    suites folder that hold neither a suite nor tests."""

    any_file: bool = False
    imported: set[str] = field(default_factory=set)
    passed_over: list[Path] = field(default_factory=list)


_COPIES: Final = (".ipynb_checkpoints", ".git", ".hg", "node_modules")
"""Folders of tools, which hold no suites of their own."""
_LOOKED_AT: Final = 1000
"""Files looked at in a folder that pytest leaves out."""
_COLLECTED: Final = pytest.StashKey[Collected]()


def collected(config: pytest.Config) -> Collected:
    """What this pytest run has collected so far."""
    return config.stash.setdefault(_COLLECTED, Collected())


def missing_files(config: pytest.Config) -> str:
    """What the command line names and is not there, with the nearest names beside it; empty if all is there."""
    phrases = []
    for word in config.args:
        path = config.invocation_params.dir / word.partition("::")[0]
        if not path.exists() and not config.getoption("pyargs", False):
            beside = [file.name for file in islice(path.parent.glob("*.py"), _LOOKED_AT)] if path.parent.is_dir() else []
            near = did_you_mean(path.name, beside, list_known=False)
            phrases.append(f"{word} does not exist below {config.invocation_params.dir}{f'; {near}' if near else ''}")
    return "; ".join(phrases)


def is_suite_file(path: Path, parent: pytest.Collector) -> bool:
    """Whether a .py file is to be loaded as a suite file.

    Below a suites folder, at any depth, that is every file that could hold a suite, whatever its name; a file of tests only if it
    gives SUITE a value. Elsewhere a file with tests is pytest's own. Of the rest it is every file named on the command line that
    could hold a suite, and else one that gives SUITE a value and imports harness.
    """
    signs = signs_of(path)
    if _in_suites(path, parent.config):
        return signs.assigns if signs.tests and _is_test(path, parent.config) else signs.worth_loading
    return not signs.tests and (signs.worth_loading if parent.session.isinitpath(path) else signs.declares)


def may_hold_tests(path: Path, config: pytest.Config) -> bool:
    """Whether a file has tests of its own, or a name by which pytest takes it for one that has."""
    return signs_of(path).tests or _is_test(path, config)


def note_passed_over(path: Path, parent: pytest.Collector) -> None:
    """Remembers a file in a suites folder that is not loaded, unless its name, its tests or its emptiness says why."""
    if _in_suites(path, parent.config) and not path.name.startswith(("_", "conftest.")) and not (
            may_hold_tests(path, parent.config)) and path.stat().st_size:
        collected(parent.config).passed_over.append(path)


def passed_over(config: pytest.Config) -> list[str]:
    """A sentence on each remembered file that no suite file imports. No warning: under -W error one would end the session."""
    files = [path for path in collected(config).passed_over if str(path) not in collected(config).imported]
    return [printable(f"note: {relpath(path, config.invocation_params.dir)} has no SUITE, and no suite file imports it, so "
                      "nothing of it is run. Give it SUITE = harness.Suite(...), or start a helper's name with an underscore")
            for path in files]


def warn_of_unvisited(folder: Path, config: pytest.Config) -> None:
    """Warns of a folder below a suites folder that pytest leaves out because of its name, if one of its files has a suite."""
    patterns = [pattern for pattern in config.getini("norecursedirs") if _left_out(folder, pattern)]
    if not patterns or folder.name in _COPIES or (folder / "pyvenv.cfg").exists() or not _in_suites(folder / "x.py", config):
        return
    for file in islice(folder.rglob("*.py"), _LOOKED_AT):
        if signs_of(file).declares:
            warnings.warn(pytest.PytestCollectionWarning(printable(
                f"{file} declares a suite, but pytest leaves out folders called {patterns[0]!r} (norecursedirs), so nothing of "
                f"it is run. Rename the folder {folder.name!r}, or set norecursedirs in pytest's ini file "
                "without that pattern")), stacklevel=1)
            return


def _left_out(folder: Path, pattern: str) -> bool:
    """Whether a pattern of norecursedirs means a folder: by its name, or by the end of its path if the pattern has a slash."""
    return fnmatch(folder.as_posix(), f"*/{pattern}") if "/" in pattern else fnmatch(folder.name, pattern)


def _in_suites(path: Path, config: pytest.Config) -> bool:
    names = config.getini("sweetspot_suites")
    # What lies above a project is not its own. Without an ini file pytest's root is no more than the folder it was called in.
    rooted = config.inipath is not None and path.is_relative_to(config.rootpath)
    inside = path.relative_to(config.rootpath) if rooted else path
    return any(fnmatch(folder, name) for folder in inside.parts[:-1] for name in names)


def _is_test(path: Path, config: pytest.Config) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in config.getini("python_files"))


class SuiteFile(pytest.File):
    """One suite file. Without --benchmark it holds one item, the check of its declaration."""

    def collect(self) -> Iterator[pytest.Item]:
        """The declaration; with --benchmark also the candidates (baseline first), the gates and the recommendation."""
        try:
            loaded = loaded_suite(self.path)
        except NoSuiteError as error:
            yield from self._undeclared(error, signs_of(self.path))
            return
        except SuiteFileError as error:
            raise self.CollectError(str(error)) from error
        collected(self.config).imported |= loaded.imported
        load_rows(loaded.declared, [self.path.parent, self.config.invocation_params.dir])
        if not benchmarking(self.config):
            yield DeclarationItem.from_parent(self, name="declaration", declared=loaded.declared, session_of=None,
                                              further=self._further(loaded))
            return
        yield from self._benchmark(loaded)

    def _benchmark(self, loaded: LoadedSuite) -> Iterator[pytest.Item]:
        from harness.plugin.session import session_for

        declared = loaded.declared
        suite = session_for(self.config).add(declared, self._relative())
        if suite is not None:
            suite.problems += self._further(loaded)
        yield DeclarationItem.from_parent(self, name="declaration", declared=declared, session_of=suite,
                                          further=self._further(loaded))
        if suite is None or not isinstance(declared, Suite):
            return
        from harness.run.batch_packing import in_order

        for candidate in in_order(suite.suite):
            yield CandidateItem.from_parent(self, name=f"candidate[{printable(candidate.name)}]", of=suite, candidate=candidate)
        if declared.budget is not None:
            yield RaceItem.from_parent(self, name="race", of=suite)
        yield CostsItem.from_parent(self, name="costs", of=suite)
        for gate in declared.gates:
            name = declared.gate_name(gate)
            yield GateItem.from_parent(self, name=f"gate[{printable(name)}]", of=suite, gate=name)
        yield RecommendationItem.from_parent(self, name="recommendation", of=suite)

    def _undeclared(self, error: NoSuiteError, signs: Signs) -> Iterator[pytest.Item]:
        """A failing item for a file that makes a suite and does not call it SUITE; a warning for one that only speaks of it."""
        helper = self.path.name.startswith("_")
        if not helper and (error.others or (signs.makes and self.path.name != "conftest.py")):
            why = str(error) if error.others else (
                f"{self.path.name} uses harness's Suite, but has no SUITE at module level, so nothing of it is run")
            yield UndeclaredItem.from_parent(self, name="declaration", why=(
                f"{why}. Call the suite SUITE, one in each file. If other suite files import this one, let one of those be "
                "collected too, or start the file's name with an underscore"))
        elif signs.mentions:
            self.warn(pytest.PytestCollectionWarning(str(error)))

    def _further(self, loaded: LoadedSuite) -> list[str]:
        """A problem if the file holds more suites than its SUITE."""
        return [f"{self.path.name}: besides SUITE, {loaded.others}, which nothing runs; give each suite a file of its own"] if (
            loaded.others) else []

    def _relative(self) -> str:
        """The file as seen from the working directory, so that a command that names it finds it there."""
        try:
            return Path(relpath(self.path, self.config.invocation_params.dir)).as_posix()
        except ValueError:  # on another drive
            return self.path.as_posix()
