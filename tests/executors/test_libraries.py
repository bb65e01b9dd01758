"""Loading the libraries of a run: at once, and out of the garbage collector's way only where the process is the run's."""

from __future__ import annotations

import gc
import sys

import pytest

from harness.executors import libraries
from harness.executors.libraries import SLOWEST, load_libraries


@pytest.fixture
def collecting_at_import(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the collector was on at each import, in a process that seems to have loaded nothing."""
    states: list[bool] = []

    def imported(name: str) -> None:
        states.append(gc.isenabled())
        if name == "accelerate":
            raise ImportError(name)

    monkeypatch.delitem(sys.modules, SLOWEST, raising=False)
    monkeypatch.setattr(libraries, "import_module", imported)
    return states


@pytest.mark.parametrize("clip", [False, True])
def test_a_missing_library_stops_neither_the_others_nor_the_collector(clip: bool, collecting_at_import: list[bool]) -> None:
    load_libraries(clip=clip, own_process=False)
    assert collecting_at_import == [False] * (6 + clip)
    assert gc.isenabled()


@pytest.mark.parametrize("own_process", [False, True])
def test_only_in_a_process_of_its_own_does_a_run_exempt_what_exists_from_collection(
        own_process: bool, collecting_at_import: list[bool]) -> None:
    kept = [[] for _ in range(1000)]
    before = gc.get_freeze_count()
    load_libraries(clip=False, own_process=own_process)
    assert collecting_at_import
    assert (gc.get_freeze_count() > before + len(kept)) is own_process


def test_what_is_loaded_is_not_loaded_again(collecting_at_import: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, SLOWEST, sys)
    load_libraries(clip=True, own_process=True)
    assert collecting_at_import == []
