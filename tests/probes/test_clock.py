"""The stopwatch with a clock that is turned by hand."""

import pytest

from harness.probes import Stopwatch, timed


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


class Events:
    """A timer as CUDA's is: marks are places in a queue of work, and their times are known only after a wait."""

    def __init__(self, device):
        self.device, self.done, self.times = device, 0.0, {}

    def mark(self):
        place = (len(self.times), self.device.queued)
        self.times[place] = None
        return place

    def seconds(self, start, end):
        return self.times[end] - self.times[start]

    def wait(self):
        for place, at in self.times.items():
            self.times[place] = self.done + place[1] if at is None else at
        self.done += self.device.queued
        self.device.time += self.device.queued
        self.device.queued = 0.0


def test_events_tell_steps_apart_without_waiting_between_them(device):
    watch = Stopwatch("fake", now=device.now, timer=Events(device))
    with watch.phase("denoise"):
        lap = watch.laps("step")
        for seconds in (1.0, 2.0, 3.0):
            device.queued += seconds
            lap()
    assert device.time == 0.0
    assert [s.end_seconds - s.start_seconds for s in watch.spans if s.phase == "step"] == [1.0, 2.0, 3.0]
    assert watch.seconds == {"step": 6.0, "denoise": 6.0}


def test_events_are_laid_onto_the_hosts_clock(device):
    device.time = 50.0
    watch = Stopwatch("fake", now=device.now, timer=Events(device))
    with watch.phase("text"):
        device.queued += 1.5
    with watch.phase("denoise"):
        device.queued += 2.0
    assert [(s.phase, s.start_seconds, s.end_seconds) for s in watch.spans] == [("text", 50.0, 51.5), ("denoise", 51.5, 53.5)]


def test_every_passage_has_its_own_span(device, watch):
    for seconds in (1.0, 2.0):
        with watch.phase("text"):
            device.queued = seconds
    assert [(s.start_seconds, s.end_seconds) for s in watch.spans] == [(0.0, 1.0), (1.0, 3.0)]
    assert Stopwatch().spans == ()


def test_a_load_is_timed_and_hands_over_what_it_made():
    clock = iter([1.0, 3.5])
    assert timed(lambda: "pipeline", now=lambda: next(clock)) == ("pipeline", 2.5)


def test_the_real_clock_runs_forward():
    watch = Stopwatch()
    with watch.phase("text"):
        sum(range(1000))
    assert watch.seconds["text"] > 0
