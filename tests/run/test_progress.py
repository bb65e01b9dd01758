"""A log without a terminal is never silent for long, whatever is being done."""

from __future__ import annotations

import pytest

from harness.run.progress import HEARTBEAT_SECONDS, LINE_EVERY_SECONDS, Bar, Heartbeat


class Clock:
    """Seconds that pass when somebody waits; `waits` ends after so many of them."""

    def __init__(self, waits: int = 0) -> None:
        self.now, self.left = 100.0, waits

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.left -= 1
        self.now += seconds
        return self.left < 0


def test_a_stage_that_finishes_no_image_says_every_thirty_seconds_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(waits=3)
    bar = Bar(140, clock)
    bar.heartbeat = Heartbeat(bar._line, clock, clock.wait)
    bar.begin("alpha_cfg alpha=0.35: materialise")
    bar.heartbeat.run()
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 3
    assert all("0/140 images" in line and line.endswith("alpha_cfg alpha=0.35: materialise") for line in lines)
    assert clock.now - 100.0 == 4 * HEARTBEAT_SECONDS


def test_a_heartbeat_is_silent_while_images_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    bar = Bar(1000, clock)
    told = 0

    def wait(seconds: float) -> bool:
        nonlocal told
        for _ in range(int(seconds)):
            clock.now += 1.0
            bar.advance(1, "alpha_cfg alpha=0.35")
        told += 1
        return told > 3

    bar.heartbeat = Heartbeat(bar._line, clock, wait)
    bar.heartbeat.run()
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == int((clock.now - 100.0) / LINE_EVERY_SECONDS)


def test_a_line_says_how_far_how_long_and_how_long_still(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    bar = Bar(40, clock)
    bar.start()
    clock.now += 20.0
    bar.advance(10, "tiny\x1b[31m alpha=1")
    bar.stop()
    assert capsys.readouterr().err == "\n[10/40 images, 20 s, about 60 s left] tiny\\x1b[31m alpha=1\n"


def test_no_thread_is_left_behind(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar(1)
    for _ in range(2):
        bar.start()
        thread = bar.heartbeat._thread
        assert thread is not None
        assert thread.is_alive()
        bar.stop()
        assert not thread.is_alive()
    assert capsys.readouterr().err == ""
