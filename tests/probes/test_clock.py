"""The stopwatch with a clock that is turned by hand."""

import pytest

from harness.probes import Stopwatch


class Device:
    """A fake clock and a fake device: work given to it finishes only when somebody waits."""

    def __init__(self):
        self.time, self.queued, self.waits = 0.0, 0.0, 0

    def now(self):
        return self.time

    def wait(self):
        self.waits += 1
        self.time += self.queued
        self.queued = 0.0


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def watch(device):
    return Stopwatch("fake", now=device.now, wait=device.wait)


def test_a_phase_is_charged_for_the_work_it_queued(device, watch):
    with watch.phase("denoise"):
        device.queued = 3.0
    assert watch.seconds == {"denoise": 3.0}


def test_work_queued_before_a_phase_is_not_charged_to_it(device, watch):
    device.queued = 5.0
    with watch.phase("decode"):
        device.time += 1.0
    assert watch.seconds == {"decode": 1.0}


def test_phases_nest_and_add_up(device, watch):
    with watch.phase("total"):
        for _ in range(2):
            with watch.phase("text"):
                device.queued = 0.5
    assert watch.seconds == {"text": 1.0, "total": 1.0}


def test_a_phase_that_raises_is_not_counted(device, watch):
    with pytest.raises(RuntimeError), watch.phase("denoise"):
        raise RuntimeError
    assert watch.seconds == {}


def test_reset_forgets(device, watch):
    with watch.phase("text"):
        device.time += 1.0
    watch.reset()
    assert watch.seconds == {}


def test_the_real_clock_runs_forward():
    watch = Stopwatch()
    with watch.phase("text"):
        sum(range(1000))
    assert watch.seconds["text"] > 0
