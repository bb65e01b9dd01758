"""The benchmark session of one pytest run."""

from __future__ import annotations

from typing import Final

import pytest

from harness.plugin.options import session_options
from harness.records.harmless_text import printable_lines
from harness.run.progress import Bar
from harness.session.session import Session

_SESSION: Final = pytest.StashKey[Session]()


def session_for(config: pytest.Config) -> Session:
    """The session of this pytest run, created when first needed."""
    if _SESSION not in config.stash:
        config.stash[_SESSION] = Session(session_options(config), Bar(0), lambda line: _say(config, line))
    return config.stash[_SESSION]


def _say(config: pytest.Config, line: str) -> None:
    """Prints a line to the terminal at once, bypassing pytest's capture. Some of it may be anybody's text."""
    line = printable_lines(line)
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if reporter is None:
        return
    if capture is None:
        reporter.write_line(line)
        return
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(line)
