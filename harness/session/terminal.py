"""The output at the end of a session: a table for each suite, then two lines for each with its verdict and its page."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence

from harness.session.suite_session import SuiteSession

NARROWEST = 80


def tables(suites: Sequence[SuiteSession], *, colour: bool) -> list[str]:
    """The lines of the suites' tables, with gates and caveats. Writes the pages that were not written yet."""
    if not suites:
        return []  # what only collects tests loads no statistics
    from reports.formatting import visible

    lines: list[str] = []
    for suite in suites:
        try:
            lines += _table(suite, colour)
        except Exception as error:
            suite.trouble = f"{type(error).__name__}: {error}"
        if suite.live is not None and suite.live.trouble:
            lines.append(visible(f"{suite.suite.name}: a live page could not be written ({suite.live.trouble}); the run was not "
                                 "affected"))
    return lines


def closing(suites: Sequence[SuiteSession]) -> list[str]:
    """Two lines for each suite: what to ship, and where the page is."""
    if not suites:
        return []
    from reports.formatting import visible
    from reports.page.summary import closing_lines

    lines: list[str] = []
    for suite in suites:
        if suite.trouble or suite.page is None:
            lines.append(visible(f"{suite.suite.name}: no verdict and no page ({suite.trouble}); "
                                 f"`sweetspot report {suite.folder}` tries again"))
        else:
            analysed = suite.analysis()
            first, *rest = closing_lines(analysed, analysed.recommendation, analysed.verdicts, suite.page)
            lines += [f"{first}; {visible(suite.unselected)}" if suite.unselected else first, *rest]
    return lines


def _table(suite: SuiteSession, colour: bool) -> list[str]:
    from rich.console import Console

    from reports import terminal_table
    from reports.formatting import visible

    analysed = suite.analysis()
    if suite.page is None:
        suite.report()
    text = io.StringIO()
    width = max(shutil.get_terminal_size((120, 40)).columns, NARROWEST)
    console = Console(file=text, width=width, force_terminal=colour and sys.platform != "win32", highlight=False)
    console.print(terminal_table(analysed, analysed.recommendation, analysed.verdicts))
    return [*text.getvalue().rstrip().splitlines(), visible(suite.reused()), *filter(None, [suite.shared_cache()]), ""]
