"""Reports: what a finished run means, told as a verdict, a page, a table and a Markdown text.
Reads run folders through harness.declare and harness.records only, so every page can be rebuilt without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from reports.gates import Verdict, judge
    from reports.gates.decision import Headline, headline
    from reports.page.build import write_page
    from reports.page.summary import markdown, terminal_table
    from reports.read.run import Run, load_run
    from reports.verdict.recommendation import Recommendation
    from reports.verdict.recommending import recommend

__all__ = ["Headline", "Recommendation", "Run", "Verdict", "headline", "judge", "load_run", "markdown", "recommend",
           "terminal_table", "write_page"]

_HOMES: Final = {
    "Run": "read.run", "load_run": "read.run", "Recommendation": "verdict.recommendation",
    "recommend": "verdict.recommending", "Verdict": "gates", "judge": "gates",
    "Headline": "gates.decision", "headline": "gates.decision", "write_page": "page.build",
    "terminal_table": "page.summary", "markdown": "page.summary",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use: pandas and plotly cost a second that `pytest --collect-only` must not pay."""
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"reports.{_HOMES[name]}"), name)
