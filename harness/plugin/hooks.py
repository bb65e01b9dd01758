"""The pytest door: finds suites, turns candidates, gates and the recommendation into items, and prints the verdict.
Hooks alone: the items are in plugin_items.py, the work is in check, run and reports."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest

from harness.commands.report import megabytes
from harness.declare import Suite
from harness.plugin import ci as plugin_ci
from harness.plugin import live as plugin_live
from harness.plugin.items import CandidateItem, CostsItem, DeclarationItem, GateItem, RaceItem, RecommendationItem
from harness.records.text import printable

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
        from harness.plugin.session import session_for

        session = session_for(self.config)
        suite = session.add(declared, self._relative())
        yield DeclarationItem.from_parent(self, name="declaration", declared=declared, session_of=suite)
        if suite is None or not isinstance(declared, Suite):
            return
        from harness.run.batching import in_order

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
    """Tells each suite which of its candidates were selected, and the bar how many images there are."""
    if session.config.getoption("sweetspot_benchmark") and not session.config.getoption("collectonly"):
        from harness.plugin.session import session_for

        chosen = [(i.of, i.candidate) for i in session.items if isinstance(i, CandidateItem)]
        session_for(session.config).select(chosen, [i.of for i in session.items if isinstance(i, CostsItem)],
                                           [i.of for i in session.items if isinstance(i, RaceItem)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables, the sentences and the pages' paths, last on the screen."""
    config = terminalreporter.config
    if config.getoption("sweetspot_benchmark"):
        from harness.plugin.session import session_for

        terminalreporter.ensure_newline()
        for line in session_for(config).summary(sys.stdout.isatty()):
            terminalreporter.write_line(line)
        for line in session_for(config).live.closing():
            terminalreporter.write_line(printable(line))
        for line in plugin_ci.publish(session_for(config), config):
            terminalreporter.write_line(printable(line))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Lets go of the run folders."""
    if config.getoption("sweetspot_benchmark", default=False) and "harness.plugin.session" in sys.modules:
        from harness.plugin.session import session_for

        session_for(config).close()


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
