"""Interleaved rounds with a fake machine: who is resident, what is timed, when it ends, and that drift cancels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager

import pytest

from harness.probes import Around, Rounds, Stopwatch, Visit, interleave, round_order
from tests.probes.fakes import FakeClock


class Machine:
    """One pipeline: making a candidate resident takes 5 s, an image 1 s times `slow`, which grows by `drift` an image."""

    def __init__(self, drift: float = 0.0, fails: str = "") -> None:
        self.clock, self.drift, self.slow, self.fails = FakeClock(), drift, 1.0, fails
        self.log: list[str] = []
        self.resident = ""

    def enter(self, name: str) -> Callable[[Stopwatch], None]:
        self.log.append(f"enter {name}")
        self.clock.time += 5
        self.resident = name

        def make(watch: Stopwatch) -> None:
            assert self.resident == name
            self.log.append(f"image {name}")
            if name == self.fails:
                raise MemoryError("Unable to allocate 1.00 GiB")
            with watch.phase("denoise"):
                self.clock.time += self.slow
            self.slow += self.drift

        return make

    def run(self, names: str, rounds: Rounds, around: Around | None = None) -> list[Visit]:
        return list(interleave(tuple(names), rounds, self.enter, around=around, now=self.clock,
                               watch=lambda: Stopwatch(now=self.clock)))


def test_a_visit_is_switch_untimed_image_timed_image() -> None:
    machine = Machine()
    visit = machine.run("a", Rounds(declared=1))[0]
    assert machine.log == ["enter a", "image a", "image a"]
    assert (visit.switch_seconds, visit.seconds) == (5, {"denoise": 1, "total": 1})
    assert [s.phase for s in visit.untimed] == ["switch", "denoise"]


def test_one_that_is_resident_already_is_neither_switched_nor_warmed_up() -> None:
    machine = Machine()
    visits = machine.run("a", Rounds(declared=3))
    assert machine.log == ["enter a", *["image a"] * 4]
    assert [v.switch_seconds for v in visits] == [5, None, None]


def test_every_candidate_has_every_place_once_in_a_block_of_rounds() -> None:
    for block in range(5):
        orders = [round_order("abcd", 4 * block + n, seed=3) for n in range(4)]
        assert all(sorted(order) == list("abcd") for order in orders)
        assert all(Counter(order[place] for order in orders) == Counter("abcd") for place in range(4))


def test_who_comes_before_whom_changes_between_blocks() -> None:
    before = {order[order.index("a") - 1] for n in range(40) if (order := round_order("abcd", n)).index("a")}
    assert before == set("bcd")
    assert round_order("abcd", 7, seed=1) == round_order("abcd", 7, seed=1)


def test_drift_hits_all_alike() -> None:
    """A machine that slows by 1 % an image: one after the other differ by 40 %, interleaved means by less than 2 %."""
    def means(visits: list[Visit]) -> list[float]:
        return [sum(taken) / len(taken) for name in "ab" if (taken := [v.seconds["denoise"] for v in visits if v.name == name])]

    machine = Machine(drift=0.01)
    first, second = means(machine.run("ab", Rounds(declared=40)))
    assert second / first == pytest.approx(1, abs=0.02)
    apart = Machine(drift=0.01)
    first, second = means(apart.run("a", Rounds(declared=40)) + apart.run("b", Rounds(declared=40)))
    assert second / first > 1.3


def test_one_that_fails_is_left_out_of_later_rounds_and_the_others_go_on() -> None:
    machine = Machine(fails="b")
    visits = machine.run("abc", Rounds(declared=4))
    assert Counter(v.name for v in visits) == {"a": 4, "b": 1, "c": 4}
    failed = next(v for v in visits if v.name == "b")
    assert isinstance(failed.error, MemoryError)
    assert failed.error.__traceback__ is None


def test_after_a_failure_nobody_counts_as_resident() -> None:
    seed = next(s for s in range(99) if (round_order("ab", 0, s), round_order("ab", 1, s)) == (("a", "b"), ("b", "a")))
    visits = Machine(fails="b").run("ab", Rounds(declared=2, seed=seed))
    # the failed switch left the shared weights half-way, so that "a" must be made resident anew
    assert [(v.name, v.switch_seconds) for v in visits] == [("a", 5), ("b", None), ("a", 5)]


def test_what_is_around_lies_where_it_should() -> None:
    machine = Machine()

    def marked(what: str) -> Callable[[str], AbstractContextManager[None]]:
        @contextmanager
        def mark(name: str):  # type: ignore[no-untyped-def]
            machine.log.append(f"{what} {name}")
            yield
            machine.log.append(f"end {what} {name}")
        return mark

    machine.run("a", Rounds(declared=1), Around(untimed=marked("untimed"), timed=marked("timed"),
                                                made=lambda name: machine.log.append(f"made {name}"),
                                                before=lambda name: machine.log.append(f"before {name}")))
    assert machine.log == ["untimed a", "enter a", "made a",
                           "image a", "end untimed a", "before a", "timed a", "image a", "end timed a"]


@pytest.mark.parametrize(("done", "elapsed", "reason"), [
    (4, 1e9, ""), (5, 10, ""), (5, 100, "another would exceed the budget of 110 s"), (29, 10, "29 rounds, as many as")])
def test_rounds_end_by_count_and_clock_alone(done: int, elapsed: float, reason: str) -> None:
    said = Rounds(declared=5, enough=29, budget_seconds=110).reached(done, elapsed)
    assert bool(said) == bool(reason)
    assert reason in said


def test_declared_rounds_are_made_whatever_the_budget() -> None:
    assert len(Machine().run("a", Rounds(declared=3, enough=29, budget_seconds=0))) == 3


def test_more_rounds_are_made_while_the_budget_lasts() -> None:
    # 5 s of switch and 1 s untimed, then 1 s a round: after n rounds (6 + n)(n + 1) / n passes 20 s first at n = 13
    assert len(Machine().run("a", Rounds(declared=2, enough=29, budget_seconds=20))) == 13


@pytest.mark.parametrize("names", ["", "aa"])
def test_no_name_and_a_name_twice_are_refused(names: str) -> None:
    with pytest.raises(ValueError, match="each only once"):
        Machine().run(names, Rounds(declared=1))
