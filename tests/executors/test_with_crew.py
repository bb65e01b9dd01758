"""Units handed to a crew in a thread of its own: what is said of workers reaches the thread that waits."""

import threading
from collections.abc import Callable
from pathlib import Path

from harness.executors.contract import Lost
from harness.executors.crew import Crew
from harness.executors.staff import Staff
from harness.executors.with_crew import WithCrew
from tests.executors.acted import ActedHands, Clock
from tests.executors.sleeper import job, units


def test_what_is_said_of_a_worker_while_nobody_waits_for_images_is_not_lost(tmp_path: Path) -> None:
    said, noted, clock = list[str](), threading.Event(), Clock()

    def new_crew(say: Callable[[str], None]) -> Crew:
        def note(text: str) -> None:
            say(text)
            noted.set()

        hands = ActedHands(clock, upset=lambda worker, unit, cell: None if worker else Lost(why="killed"))
        return Crew(hands, job(tmp_path), 1, say=note, clock=clock)

    run = WithCrew(Staff(), new_crew, said.append, lambda seconds, work: None)
    run.hand(units(1, 8)[0], lambda batch: None)
    assert noted.wait(60)
    run.end()
    assert len(said) == 1 and "killed" in said[0]
