"""The driver's loop over workers: what is lost, stuck, refused or too large is made good or named, and nothing comes twice."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.declare import Candidate
from harness.executors.alike import difference
from harness.executors.contract import (
    About,
    Batch,
    Done,
    Errand,
    Failed,
    Found,
    Lost,
    Overflowed,
    Picture,
    Ready,
    Refused,
    Unfit,
    Unit,
)
from harness.executors.crew import NOBODY, START_SECONDS, Arrival, Crew, NoWorkerError
from harness.executors.errands import Asked
from harness.records import Cell, Fit
from tests.executors.acted import SILENCE, ActedHands, Clock
from tests.executors.sleeper import ENVIRONMENT, job, painted, units


class Sweep:
    """A crew on acted workers, and what came of it."""

    def __init__(self, tmp_path: Any, count: int = 2, limit: float = 0.0, **acted: Any) -> None:
        self.clock, self.said = Clock(), list[str]()
        self.hands = ActedHands(self.clock, **acted)
        self.crew = Crew(self.hands, job(tmp_path), count, limit=limit, say=self.said.append, clock=self.clock)
        self.arrived: list[Arrival] = []
        self.crew.start()

    def run(self, owed: list[Unit], every: Callable[[], None] = lambda: None) -> None:
        self.crew.owe(owed)
        while self.crew.owed:
            self.arrived += self.crew.arrivals(1000.0)
            every()

    def of(self, kind: type) -> list[Any]:
        return [one.event for one in self.arrived if isinstance(one.event, kind)]

    @property
    def pictures(self) -> Counter[bytes]:
        return Counter(bytes(picture.image) for batch in self.of(Batch) for picture in batch.pictures)


def all_of(owed: list[Unit]) -> Counter[bytes]:
    return Counter(painted(unit.candidate.name, cell, unit.batch_size) for unit in owed for cell in unit.cells)


def at(prompt: str, what: Any) -> Callable[[int, Unit, Cell | None], Any]:
    return lambda worker, unit, cell: what if cell is not None and cell.prompt == prompt else None


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_image_comes_once_and_every_unit_ends_once(tmp_path: Any, count: int) -> None:
    owed, sweep = units(5, 70), Sweep(tmp_path, count)
    sweep.run(owed)
    assert sweep.pictures == all_of(owed)
    assert Counter(one.unit.number for one in sweep.arrived if isinstance(one.event, Done)) == Counter(range(5))


def test_of_each_unit_comes_one_ready_then_batches_then_done(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 3)
    sweep.run(units(4, 70))
    for number in range(4):
        kinds = [type(one.event) for one in sweep.arrived if one.unit.number == number]
        assert kinds[0] is Ready and kinds[-1] is Done and set(kinds[1:-1]) == {Batch}


def test_a_worker_has_its_next_piece_before_it_ends_one(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.crew.owe(units(1, 200))
    sweep.crew.arrivals(1.0)
    assert len(sweep.hands.given) == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_sweep_whose_workers_are_killed_at_random_is_the_unbroken_one(tmp_path: Any, seed: int) -> None:
    draw, owed = random.Random(seed), units(6, 100)
    sweep, kills = Sweep(tmp_path, 4, prepare=3.0), list[object]()

    def perhaps_kill() -> None:
        if len(kills) < 50 and sweep.crew.workers and draw.random() < 0.5:
            victim = draw.choice(sweep.crew.workers)
            place = sweep.hands.workers[victim].candidate, sweep.hands.workers[victim].cells
            if kills.count(place) < 2:  # three kills at one batch would be its own fault
                kills.append(place)
                sweep.hands.kill(victim)

    sweep.run(owed, perhaps_kill)
    assert len(kills) > 5
    assert sweep.pictures == all_of(owed)
    assert not sweep.of(Failed)
    assert Counter(one.unit.number for one in sweep.arrived if isinstance(one.event, Done)) == Counter(range(6))


def test_a_lost_worker_is_replaced_and_its_loss_is_counted(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 1)
    sweep.run(units(1, 40), lambda: sweep.hands.kill(0) if len(sweep.of(Batch)) == 2 and 0 in sweep.crew.workers else None)
    first, second = sweep.crew.work()
    assert (first.images, first.lost, first.repeated) == (8, "killed", 32)
    assert (second.images, second.lost) == (32, "")
    assert "worker 0" in sweep.said[0] and "killed" in sweep.said[0]


def test_images_that_end_three_workers_are_the_candidates_failure_and_the_others_are_made(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, upset=lambda worker, unit, cell: Lost(why="SIGKILL") if unit.candidate.name == "c1" else None)
    owed = units(3, 30)
    sweep.run(owed)
    (failed,) = sweep.of(Failed)
    assert (failed.stage, failed.error, failed.message.count("SIGKILL")) == ("sample", "WorkerLost", 3)
    assert sweep.pictures == all_of([owed[0], owed[2]])


def test_a_stuck_worker_is_ended_after_the_limit_and_its_images_are_made_elsewhere(tmp_path: Any) -> None:
    stuck = list[int]()

    def upset(worker: int, unit: Unit, cell: Cell | None) -> Any:
        if cell is not None and cell.seed == 16 and not stuck:
            stuck.append(worker)
            return SILENCE
        return None

    sweep, owed = Sweep(tmp_path, 2, limit=60.0, upset=upset), units(2, 64)
    sweep.run(owed)
    assert sweep.hands.stopped == stuck
    assert sweep.pictures == all_of(owed)
    assert 60 < sweep.clock.now < 200


def test_a_driver_that_was_away_ends_no_worker_that_waited_for_it(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, limit=60.0)

    def away() -> None:
        sweep.clock.now += 300.0

    sweep.run(units(2, 64), away)
    assert sweep.hands.stopped == []


def test_without_a_limit_a_slow_worker_is_waited_for(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 1, seconds=5000.0)
    sweep.run(units(1, 8))
    assert len(sweep.of(Batch)) == 2


@pytest.mark.parametrize(("place", "value"), [
    ("device_name", "NVIDIA H100"), ("cpu", "another"), ("threads_per_operation", "torch's default"), ("cudnn", 90100),
    ("packages.torch", "2"), ("version of sweetspot", "9")])
def test_a_worker_whose_images_would_differ_is_refused_before_its_first_picture(tmp_path: Any, place: str, value: Any) -> None:
    packages = {"torch": value if "torch" in place else "1", "sweetspot": value if "sweetspot" in place else "0"}
    sweep = Sweep(tmp_path, 2, facts=lambda worker: {"environment": {
        **ENVIRONMENT, **({"packages": packages, place: value} if worker == 1 else {})}})
    sweep.run(units(2, 64))
    assert sweep.hands.stopped == [1]
    assert {worker for worker, _ in sweep.hands.given} == {0}
    (said,) = sweep.said
    assert "worker 1 (host stage" in said and f"{place} is {value!r}" in said


def test_workers_alike_differ_in_nothing(tmp_path: Any) -> None:
    assert difference(job(tmp_path), {"environment": {**ENVIRONMENT, "git_commit": "another", "cores": 96}}) == ""


def test_where_no_worker_is_like_the_run_it_is_said_why(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, facts=lambda worker: {"environment": {**ENVIRONMENT, "device_name": "NVIDIA T4"}})
    with pytest.raises(NoWorkerError, match="NVIDIA T4"):
        sweep.run(units(1, 8))


def test_where_no_worker_starts_it_is_said_why_and_none_is_started_for_ever(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 3, early=lambda worker: Lost(why="libcuda.so.1 is missing"))
    with pytest.raises(NoWorkerError, match=r"libcuda\.so\.1"):
        sweep.run(units(1, 8))
    assert sweep.hands.started == 3


def test_the_others_go_on_where_one_does_not_start(tmp_path: Any) -> None:
    sweep, owed = Sweep(tmp_path, 2, early=lambda worker: Lost(why="no memory") if worker == 0 else None), units(2, 30)
    sweep.run(owed)
    assert sweep.pictures == all_of(owed)
    assert "no memory" in sweep.said[0]


def test_a_unit_goes_to_another_worker_where_ones_files_are_others(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, upset=lambda worker, unit, cell: Unfit(why="a.safetensors differs") if worker == 0 else None)
    owed = units(2, 30)
    sweep.run(owed)
    assert sweep.pictures == all_of(owed)
    assert all("a.safetensors" in said and "worker 0" in said for said in sweep.said)


def test_a_candidate_whose_files_are_others_everywhere_fails_and_names_the_file(tmp_path: Any) -> None:
    sweep, owed = Sweep(tmp_path, 3, upset=lambda worker, unit, cell: Unfit(why="a.safetensors differs") if (
        unit.number == 1) else None), units(3, 30)
    sweep.run(owed)
    (failed,) = sweep.of(Failed)
    assert failed.stage == "materialise" and "a.safetensors" in failed.message
    assert sweep.pictures == all_of([owed[0], owed[2]])


def test_a_candidate_fails_whose_only_fitting_worker_is_lost_and_not_replaced(tmp_path: Any) -> None:
    def upset(worker: int, unit: Unit, cell: Cell | None) -> Any:
        return Unfit(why="a.safetensors differs") if worker == 0 else Lost(why="killed")

    sweep = Sweep(tmp_path, 2, upset=upset, early=lambda worker: Lost(why="no place") if worker > 1 else None)
    sweep.run(units(1, 30))
    assert sweep.of(Failed)


@pytest.mark.parametrize("event", [
    Refused(fit=Fit(candidate="c0", batch_size=4, fits=False, why="no room")), Overflowed(why="too large"),
    Failed(stage="sample", error="SamplingError", message="black")], ids=lambda event: type(event).__name__)
def test_what_ends_a_unit_comes_once_and_nothing_of_it_after(tmp_path: Any, event: Any) -> None:
    sweep = Sweep(tmp_path, 3, upset=lambda worker, unit, cell: event if (
        cell is not None and unit.number == 0 and cell.seed >= 24) else None)
    sweep.run(units(1, 400))
    assert [type(one.event) for one in sweep.arrived][-1] is type(event)
    assert len(sweep.of(type(event))) == 1
    assert not sweep.of(Done)


def kinds(name: str, first: int) -> list[Unit]:
    """The units of a candidate with two groups of prompts, without guidance and with it."""
    return [Unit(number=first + 2 * group + guided, candidate=Candidate(name=name, model="zoo:photo"), group=group, batch_size=4,
                 cells=tuple(Cell(prompt=f"p{group}", seed=seed, guidance=4.0 if guided else 1.0) for seed in range(40)))
            for group in (0, 1) for guided in (0, 1)]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("event", [
    Refused(fit=Fit(candidate="a", batch_size=4, fits=False, why="no room")), Overflowed(why="too large"), Lost(why="SIGKILL"),
    Failed(stage="sample", error="SamplingError", message="black"), Unfit(why="a.safetensors differs"),
    Failed(stage="materialise", error="OSError", message="a disk is gone")],
    ids=lambda event: getattr(event, "stage", type(event).__name__))
def test_every_unit_ends_once_whatever_ends_one_of_its_candidate(tmp_path: Any, event: Any, place: int) -> None:
    sweep = Sweep(tmp_path, 4, upset=lambda worker, unit, cell: event if unit.number == place else None)
    sweep.run([*kinds("a", 0), *kinds("b", 4)])
    ends = [(one.unit.number, type(one.event)) for one in sweep.arrived if not isinstance(one.event, Ready | Batch)]
    assert sorted(number for number, _ in ends) == [*range(8)]
    assert {end for number, end in ends if number > 3} == {Done}


@pytest.mark.parametrize("place", range(4))
def test_what_one_process_makes_of_a_candidate_before_it_fails_is_made_by_a_crew(tmp_path: Any, place: int) -> None:
    failed = Failed(stage="sample", error="SamplingError", message="black")
    sweep, owed = Sweep(tmp_path, 4, upset=lambda worker, unit, cell: failed if unit.number == place else None), kinds("a", 0)
    sweep.run(owed)
    assert {one.unit.number for one in sweep.arrived if isinstance(one.event, Done)} == {*range(place)}
    assert all_of(owed[:place]) <= sweep.pictures


def test_a_unit_that_is_owed_once_more_is_not_ended_by_a_failure_of_a_later_kind(tmp_path: Any) -> None:
    """As where memory was refused to images without guidance while those with it fail."""
    unguided, guided = kinds("a", 0)[:2]
    sweep = Sweep(tmp_path, 2, upset=lambda worker, unit, cell: Failed(stage="sample", error="E", message="black") if (
        unit.guided) else None)
    again = replace(unguided, number=9)
    sweep.run([guided, again])
    assert {one.unit.number: type(one.event) for one in sweep.arrived if not isinstance(one.event, Ready | Batch)} == {
        1: Failed, 9: Done}


def test_smaller_batches_can_be_owed_after_a_refusal(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, upset=lambda worker, unit, cell: Refused(fit=Fit(
        candidate="c0", batch_size=8, fits=False, why="no room")) if unit.batch_size > 4 else None)
    large = units(1, 64, batch_size=8)
    sweep.crew.owe(large)
    while not sweep.of(Refused):
        sweep.arrived += sweep.crew.arrivals(10.0)
    small = [replace(large[0], number=1, batch_size=4)]
    sweep.run(small)
    assert sweep.pictures == all_of(small)


def test_what_was_withdrawn_does_not_come(tmp_path: Any) -> None:
    sweep, owed = Sweep(tmp_path, 2), units(3, 64)
    sweep.crew.owe(owed)
    sweep.arrived += sweep.crew.arrivals(1.0)
    sweep.crew.withdraw(lambda unit: unit.number != 2, ["c0", "c1", "c2"])
    sweep.arrived.clear()
    sweep.run([])
    assert sweep.pictures == all_of(owed[2:])


def test_a_worker_that_sends_an_image_nobody_asked_for_is_ended(tmp_path: Any) -> None:
    wrong = units(1, 99)[0].cells[98]
    sweep = Sweep(tmp_path, 1)
    sweep.crew.owe(units(1, 8))
    sweep.crew.arrivals(0.0)
    sweep.hands._push(0.0, 0, Batch(pictures=(Picture(cell=wrong, image=b""),)))
    while sweep.crew.owed:
        sweep.arrived += sweep.crew.arrivals(100.0)
    assert sweep.hands.stopped == [0]
    assert sweep.pictures == all_of(units(1, 8))


def test_a_worker_that_leaves_images_out_is_ended_and_after_the_third_the_candidate_fails(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, upset=at("p", Done()))
    sweep.run(units(1, 8))
    (failed,) = sweep.of(Failed)
    assert "left out" in failed.message


def test_time_at_work_and_without_is_counted_apart(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, seconds=2.0)
    sweep.run(units(1, 40))
    sweep.clock.now += 5.0
    works = sweep.crew.work()
    assert sum(work.seconds_busy for work in works) == pytest.approx(20.0)
    assert all(work.seconds_busy + work.seconds_waiting == pytest.approx(sweep.clock.now) for work in works)


def test_a_worker_that_does_not_start_is_ended_after_the_time_that_the_sentence_names(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 2, limit=5.0, begin=10_000.0)
    with pytest.raises(NoWorkerError, match=f"worker 0 did not start: sent nothing for {START_SECONDS:g} s"):
        sweep.run(units(1, 8))
    assert sweep.clock.now == START_SECONDS


def test_why_a_worker_cannot_make_a_candidate_is_said_once_though_it_had_two_pieces(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 1, upset=lambda worker, unit, cell: Unfit(why="a.safetensors differs"))
    sweep.run(units(1, 200))
    assert len(sweep.hands.given) == 2
    assert len([line for line in sweep.said if "a.safetensors differs" in line]) == 1


def test_what_is_said_where_no_worker_is_left_is_harmless_in_a_terminal(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 1, early=lambda worker: Lost(why="\x1b[2Jgone"))
    with pytest.raises(NoWorkerError, match=r"\\x1b\[2Jgone"):
        sweep.run(units(1, 8))


class Heard:
    """What came of an errand."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def asked(self, *values: Any, fits: Callable[[Any], int] = lambda _: 1) -> Asked:
        return Asked(errand=Errand(does="", given=values), hear=self.events.append, fits=fits)


def test_an_errand_is_done_by_one_worker_once_all_others_have_ended_what_they_made(tmp_path: Any) -> None:
    sweep, heard = Sweep(tmp_path, 3), Heard()
    sweep.crew.owe(units(3, 40))
    while len(sweep.crew.workers) < 3:
        sweep.crew.arrivals(1.0)
    sweep.crew.withdraw(lambda unit: unit.number > 0, ["c0", "c1", "c2"])
    sweep.crew.ask(heard.asked("first", "last"))
    sweep.run([])
    given = [(worker, type(task)) for worker, task in sweep.hands.given]
    assert [kind for _, kind in given].count(Errand) == 1 and given[-1][1] is Errand
    assert [event.value for event in heard.events[:-1]] == ["first", "last"]
    assert heard.events[-1].facts["pid"] == given[-1][0]
    waited = sum(work.seconds_waiting for work in sweep.crew.work())
    sweep.clock.now += 1000.0
    assert sum(work.seconds_waiting for work in sweep.crew.work()) == waited


def test_an_errand_goes_to_the_worker_that_fits_best_and_to_none_that_does_not(tmp_path: Any) -> None:
    sweep, heard = Sweep(tmp_path, 3), Heard()
    sweep.crew.ask(heard.asked("value", fits=lambda facts: facts["pid"]))
    sweep.run([])
    assert [worker for worker, task in sweep.hands.given if isinstance(task, Errand)] == [2]
    sweep.crew.ask(heard.asked("value", fits=lambda _: 0))
    sweep.run([])
    assert heard.events[-1].error == NOBODY


def test_an_errand_of_a_lost_worker_is_done_whole_by_another_and_three_losses_end_it(tmp_path: Any) -> None:
    sweep, heard = Sweep(tmp_path, 2, upset=lambda worker, task, cell: None if worker else Lost(why="killed")), Heard()
    sweep.crew.ask(heard.asked("first", "last", fits=lambda facts: 2 - (facts["pid"] > 0)))
    sweep.run([])
    assert [type(event) for event in heard.events] == [Lost, Found, Found, About]
    bad, heard = Sweep(tmp_path, 1, upset=lambda worker, task, cell: Lost(why="killed")), Heard()
    bad.crew.ask(heard.asked("value"))
    bad.run([])
    assert [type(event) for event in heard.events] == [Lost, Lost, Lost, Failed]


def test_a_worker_that_is_silent_in_an_errand_is_ended_after_the_limit(tmp_path: Any) -> None:
    sweep, heard = Sweep(tmp_path, 2, limit=60.0, upset=lambda worker, task, cell: None if worker else SILENCE), Heard()
    sweep.crew.ask(heard.asked("value", fits=lambda facts: 2 - (facts["pid"] > 0)))
    sweep.run([])
    assert sweep.hands.stopped == [0]
    assert [type(event) for event in heard.events] == [Lost, Found, About]
    assert "sent nothing for 60 s" in heard.events[0].why


def test_workers_go_over_to_another_job_but_for_those_that_are_still_making_something(tmp_path: Any) -> None:
    sweep = Sweep(tmp_path, 3)
    sweep.crew.owe(units(1, 4))
    while len(sweep.crew.workers) < 3:
        sweep.crew.arrivals(1.0)
    busy = sweep.hands.given[0][0]
    crew = sweep.crew.next(job(tmp_path), limit=0.0, say=sweep.said.append)
    assert sweep.hands.stopped == [busy]
    sweep.crew, before = crew, sweep.hands.started
    crew.start()
    sweep.run(owed := units(4, 40))
    assert sweep.hands.started == before + 1
    assert sweep.pictures == all_of(owed)
