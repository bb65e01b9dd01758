"""pytest's way to Sweetspot's plugin. It lies outside the package `harness`, so that a folder of the user's that hides it, as in
`python -m pytest`, is named instead of an import error."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).resolve().parent
OPTION = "--benchmark"


def hiding() -> str:
    """The folder or file that takes the place of Sweetspot's own `harness`; empty if none does."""
    module = sys.modules.get("harness")
    try:
        spec = find_spec("harness") if module is None else module.__spec__
    except (ImportError, ValueError):
        spec = None
    places = [] if spec is None else list(spec.submodule_search_locations or ()) or [str(spec.origin)]
    own = HOME / "harness"
    return "" if any(Path(place).resolve() == own for place in places) else (places[0] if places else "nothing")


class Hidden:
    """What stands in for the plugin where another `harness` hides it: it stops a benchmark, and says so in any other run."""

    def __init__(self, place: str) -> None:
        self.why = (f"{place} hides Sweetspot's own package 'harness'. Rename yours, or call pytest itself instead of "
                    "python -m pytest")

    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(self, args: list[str]) -> None:
        """Stops a benchmark before its options are found unknown."""
        if OPTION in args:
            raise pytest.UsageError(self.why)

    def pytest_report_header(self) -> str:
        """A line at the start of any other run, whose suites are not checked."""
        return f"sweetspot: suites are not checked, because {self.why}"


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Loads the plugin before pytest reads its options, or what stands in for it."""
    pluginmanager.register(*plugin())


def plugin() -> tuple[Any, str]:
    """The plugin, or what stands in for it, and the name that pytest shows."""
    if place := hiding():
        return Hidden(place), "sweetspot-hidden"
    import harness.plugin

    return harness.plugin, "harness.plugin"
