"""The batch curve with a machine whose speed and memory are known."""

from __future__ import annotations

import pytest

from harness.probes import CurveLimits, MemoryProbe, batch_curve, images_per_second
from harness.records import BatchCurve, from_line, to_line
from tests.probes.fakes import FakeClock


class Machine:
    """Takes a second for a batch and `per_image` for each image, and refuses more than `room` images."""

    def __init__(self, per_image: float = 0.1, room: int = 10**6) -> None:
        self.clock, self.per_image, self.room = FakeClock(), per_image, room
        self.made: list[int] = []

    def make(self, size: int) -> None:
        self.made.append(size)
        if size > self.room:
            raise MemoryError("Unable to allocate 8.00 GiB for an array")
        self.clock.time += 1 + self.per_image * size

    def curve(self, **limits: float) -> tuple[list[int], str, object]:
        points, stopped, refused = batch_curve(self.make, lambda: MemoryProbe("cpu", "no GPU"), now=self.clock,
                                               limits=CurveLimits(**{"budget_seconds": 1e6, **limits}))  # type: ignore[arg-type]
        self.points = points
        return [p.batch_size for p in points], stopped, refused


def test_the_curve_doubles_until_its_limit() -> None:
    machine = Machine(per_image=0.001)
    assert machine.curve(batch_size=10)[:2] == ([1, 2, 4, 8], "the limit of 10 images per batch was reached")
    assert images_per_second(machine.points[2]) == pytest.approx(4 / 1.004)


def test_every_size_has_one_untimed_batch_and_its_memory() -> None:
    machine = Machine(per_image=0.001)
    machine.curve(batch_size=2, rounds=3)
    assert machine.made == [1] * 4 + [2] * 4
    assert [len(p.seconds) for p in machine.points] == [3, 3]
    assert all(r.value for p in machine.points for r in p.readings if r.name == "process_rss_peak_bytes")


def test_it_ends_where_a_larger_batch_gains_nothing() -> None:
    sizes, stopped, _ = Machine(per_image=10).curve()  # 1/11 images a second, then 2/21: 1.048 times
    assert sizes == [1, 2]
    assert stopped.startswith("no more gain: a batch of 2 makes 1.05 times")


def test_it_ends_where_memory_ends_with_the_bytes_asked_for() -> None:
    sizes, stopped, refused = Machine(per_image=0.001, room=4).curve()
    assert sizes == [1, 2, 4]
    assert stopped == "a batch of 8 does not fit: Unable to allocate 8.00 GiB for an array"
    assert refused.asked_bytes == 8 * 2**30  # type: ignore[attr-defined]


def test_nothing_fits_is_a_curve_without_points() -> None:
    assert Machine(room=0).curve()[0] == []


def test_it_ends_before_the_budget_is_passed() -> None:
    sizes, stopped, _ = Machine(per_image=0.001).curve(budget_seconds=11)
    assert sizes == [1]
    assert "a batch of 2 would exceed the budget of 11 s" in stopped


def test_another_error_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        batch_curve(lambda size: size // 0, lambda: MemoryProbe("cpu", "no GPU"))  # type: ignore[arg-type, return-value]


def test_a_curve_survives_its_line() -> None:
    machine = Machine()
    machine.curve(batch_size=2)
    curve = BatchCurve(candidate="a", points=machine.points, stopped="why")
    assert from_line(to_line(curve)) == curve
