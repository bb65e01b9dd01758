"""Who makes which cells: nothing is lost, nothing is made twice, and candidates stay where they are until workers would idle."""

import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from harness.executors.contract import Unit
from harness.executors.plan import Plan, batches_of
from tests.executors.sleeper import units


def with_workers(count: int, owed: list[Unit], at_once: int = 8) -> Plan:
    plan = Plan(at_once)
    for worker in range(count):
        plan.join(worker)
    plan.owe(owed)
    return plan


def taken(plan: Plan, worker: int) -> Unit:
    unit = plan.take(worker)
    assert unit is not None
    return unit


def finish(plan: Plan, worker: int, unit: Unit) -> bool:
    plan.arrived(worker, unit.cells)
    return plan.ended(worker)


def test_the_lowest_number_is_made_first() -> None:
    plan = with_workers(3, units(4, 40)[::-1])
    assert [taken(plan, worker).number for worker in range(3)] == [0, 1, 2]


def test_a_candidate_stays_with_its_worker_while_there_are_others() -> None:
    plan = with_workers(2, units(4, 400))
    made = defaultdict(set)
    for _ in range(12):
        for worker in (1, 0):
            unit = taken(plan, worker)
            made[unit.candidate.name].add(worker)
            finish(plan, worker, unit)
    assert made == {"c0": {1}, "c1": {0}}


def test_pieces_are_cut_between_two_batches() -> None:
    unit = replace(units(1, 10)[0], batches=(4, 1, 4, 1))
    plan = with_workers(1, [unit], at_once=2)
    pieces = [plan.take(0), plan.take(0)]
    assert [(piece.batches, len(piece.cells)) for piece in pieces if piece] == [((4, 1), 5), ((4, 1), 5)]


def test_the_rest_of_the_last_candidate_is_shared_among_idle_workers() -> None:
    plan = with_workers(3, units(1, 80), at_once=4)
    assert {taken(plan, worker).candidate.name for worker in range(3)} == {"c0"}


def test_a_worker_with_something_in_hand_does_not_begin_another_ones_candidate() -> None:
    plan = with_workers(2, [*units(1, 4), *units(2, 80, first=1)[1:]])
    for worker in range(2):
        taken(plan, worker)
    assert plan.take(0) is None
    assert taken(plan, 1).candidate.name == "c1"


def test_no_candidate_is_shared_that_would_be_done_before_another_worker_is_ready() -> None:
    plan = Plan(worth=lambda batches, workers: batches > 20)
    plan.join(0)
    plan.join(1)
    plan.owe(units(1, 80))
    taken(plan, 0)
    assert plan.take(1) is None


def test_a_worker_begins_with_the_candidate_that_it_has() -> None:
    plan = with_workers(2, units(2, 4))
    for worker in (1, 0):
        finish(plan, worker, taken(plan, worker))
    plan.owe(units(2, 8, first=10))
    assert [taken(plan, worker).candidate.name for worker in (0, 1)] == ["c1", "c0"]


def test_what_a_lost_worker_did_not_bring_is_the_first_that_is_made_again() -> None:
    plan = with_workers(2, units(1, 64))
    piece = taken(plan, 0)
    plan.arrived(0, piece.cells[:8])
    assert plan.lost(0) == (None, [])
    assert taken(plan, 1).cells[0] == piece.cells[8]


def test_a_unit_is_at_fault_that_ends_three_workers_at_one_batch() -> None:
    plan, blamed = with_workers(4, units(1, 64)), None
    for worker in range(3):
        assert blamed is None
        piece = taken(plan, worker)
        plan.arrived(worker, piece.cells[:4] if worker == 0 else [])
        blamed, _ = plan.lost(worker)
    assert blamed is not None and blamed.number == 0


def test_no_unit_is_at_fault_that_loses_workers_at_different_batches() -> None:
    plan = with_workers(7, units(1, 64))
    for worker in range(6):
        plan.arrived(worker, taken(plan, worker).cells[:4])
        assert plan.lost(worker)[0] is None


def test_a_unit_is_complete_when_its_last_piece_ends_whoever_makes_it() -> None:
    plan = with_workers(2, units(1, 8))
    pieces = [taken(plan, worker) for worker in range(2)]
    assert [finish(plan, worker, piece) for worker, piece in enumerate(pieces)] == [False, True]


def test_a_worker_lost_after_its_last_image_leaves_nothing_owed() -> None:
    plan = with_workers(2, units(1, 4))
    plan.arrived(0, taken(plan, 0).cells)
    _, complete = plan.lost(0)
    assert [unit.number for unit in complete] == [0]
    assert not plan.owed


def test_a_unit_without_cells_is_one_piece_and_is_made_again_when_its_worker_is_lost() -> None:
    plan = with_workers(2, [replace(units(1, 1)[0], cells=())])
    assert taken(plan, 0).cells == ()
    assert plan.lost(0) == (None, [])
    assert taken(plan, 1).cells == ()
    assert plan.ended(1)
    assert not plan.owed


def test_the_cells_of_a_noise_floor_are_one_piece_in_batches_of_one() -> None:
    plan = with_workers(8, [replace(units(1, 4)[0], floor=True)])
    assert taken(plan, 0).batches == (1, 1, 1, 1)


def test_what_is_withdrawn_is_not_handed_out_and_not_missed() -> None:
    plan = with_workers(2, units(2, 64))
    piece = taken(plan, 0)
    plan.withdraw(lambda unit: unit.number == 0, plan.candidates)
    assert taken(plan, 1).number == 1
    plan.arrived(0, piece.cells)
    assert not plan.ended(0)
    assert plan.lost(0) == (None, [])


def test_a_worker_is_not_given_again_what_it_cannot_make() -> None:
    plan = with_workers(2, units(2, 64))
    taken(plan, 0)
    assert not plan.bar(0)
    assert taken(plan, 0).number == 1
    assert taken(plan, 1).number == 0
    assert plan.bar(1)


def test_a_cell_that_nobody_asked_for_is_an_error() -> None:
    plan = with_workers(1, units(1, 4))
    taken(plan, 0)
    with pytest.raises(KeyError):
        plan.arrived(0, [units(1, 9)[0].cells[8]])


def test_a_number_can_be_owed_once() -> None:
    plan = with_workers(1, units(1, 4))
    with pytest.raises(ValueError, match="c0"):
        plan.owe(units(1, 4))


@pytest.mark.parametrize("seed", range(60))
def test_however_workers_come_and_go_each_cell_arrives_once_and_each_unit_ends_once(seed: int) -> None:
    """Workers take, bring a batch, end, and are lost in random order; a unit may be withdrawn on the way."""
    draw = random.Random(seed)
    owed = [replace(unit, group=group, number=2 * unit.number + group, cells=unit.cells[:draw.randint(0, 60)])
            for unit in units(draw.randint(1, 6), 60, draw.choice([1, 3, 8])) for group in range(2)]
    plan, hands = with_workers(draw.randint(1, 5), owed, draw.choice([1, 3, 8])), dict[int, list[Unit]]()
    expected = Counter((unit.number, cell) for unit in owed for cell in unit.cells)
    arrived, ends, newest = Counter[object](), Counter[int](), 100
    gone = draw.choice([unit.number for unit in owed]) if draw.random() < 0.3 else -1
    for _ in range(100_000):
        if not plan.owed:
            break
        worker = draw.choice([*plan.workers])
        pieces = hands.setdefault(worker, [])
        if len(pieces) < 2 and (unit := plan.take(worker)) is not None:
            pieces.append(unit)
        elif pieces and draw.random() < 0.9:
            current = plan.current(worker)
            wanted = current is not None and not current.withdrawn
            todo = [cells for cells in batches_of(pieces[0]) if cells]
            if todo:
                plan.arrived(worker, todo[0])
                arrived.update((pieces[0].number, cell) for cell in todo[0] if wanted)
                pieces[0] = replace(pieces[0], cells=pieces[0].cells[len(todo[0]):], batches=pieces[0].batches[1:])
            if not pieces[0].cells:
                ended = pieces.pop(0)
                ends.update([ended.number] if plan.ended(worker) else [])
        elif draw.random() < 0.1:
            _, complete = plan.lost(worker)  # by chance at one batch twice: nothing is withdrawn for it here
            ends.update(unit.number for unit in complete)
            plan.join(newest)
            newest += 1
        if gone >= 0 and draw.random() < 0.05:
            plan.withdraw(lambda unit: unit.number == gone, plan.candidates)
    assert not plan.owed
    assert {place: count for place, count in arrived.items() if place[0] != gone} == {  # type: ignore[index]
        place: count for place, count in expected.items() if place[0] != gone}
    assert all(count == 1 for count in ends.values())
    assert ends.keys() >= {unit.number for unit in owed} - {gone}
