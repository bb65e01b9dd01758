"""A plugin of pytest under which the tests marked `gpu` run on the simulated device:

    pytest -p tests.rehearsal.as_gpu -m gpu tests
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

import pytest

from tests.rehearsal.driver import with_driver

CANNOT: Final = {
    "test_a_phase_waits_for_the_kernels": "the simulated device computes while work is launched, so nothing is left to wait for",
    "test_events_and_the_hosts_clock_agree": "events of the simulated device are the host's clock",
    "test_the_timeline_sees_a_block_come_and_go": "a gigabyte that is only a shape goes before the driver is polled",
    "test_the_idle_use_is_read_before_this_process_has_a_context": "it starts a process, which has no simulated device",
}
"""Tests that only a GPU can pass, or of which the simulated device shows nothing, and why."""
SHAPES_ONLY: Final = frozenset({
    "test_the_drivers_figures_are_numbers_or_reasons",
    "test_a_cap_refuses_what_is_larger_and_is_lifted_again", "test_a_random_pipeline_of_full_size_computes_on_a_gpu"})
"""Tests of large tensors, of which the simulated device has the shapes."""


def pytest_collection_modifyitems(items: Sequence[pytest.Function]) -> None:
    """Skips what cannot be rehearsed, with the reason."""
    for item in items:
        if (reason := CANNOT.get(getattr(item, "originalname", ""))) is not None:  # suites are collected too
            item.add_marker(pytest.mark.skip(reason=f"not on the simulated device: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Function) -> Generator[None, object, object]:
    """Runs a test of a GPU on the simulated device, with a driver."""
    if item.get_closest_marker("gpu") is None:
        return (yield)
    with with_driver(shapes_only=item.originalname in SHAPES_ONLY):
        return (yield)
