"""What any kind of workers must be able to do besides images: errands, and one job after the other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness.executors.contract import About, Batch, Errand, Failed, Found
from harness.executors.crew import Crew
from harness.executors.errands import Asked
from tests.executors.sleeper import job, units


def done(crew: Crew, given: str) -> list[Any]:
    """What came of an errand."""
    heard: list[Any] = []
    crew.ask(Asked(errand=Errand(does="tests.executors.sleeper:measured", given=given), hear=heard.append))
    drained(crew)
    return heard


def drained(crew: Crew) -> int:
    """The number of images that arrive until nothing is owed."""
    images, until = 0, time.monotonic() + 120
    while crew.owed and time.monotonic() < until:
        images += sum(len(one.event.pictures) for one in crew.arrivals(1.0) if isinstance(one.event, Batch))
    assert not crew.owed
    return images


def errands_and_jobs(crew: Crew, folder: Path, device: str = "cpu") -> Crew:
    """Has a crew of one worker, which was not started, do errands and then another job, and looks at all that comes. Returns the
    crew of that job."""
    crew.start()
    began, result, about = done(crew, "this")
    assert (began.value, result.value, about.facts["pid"]) == ("begun", ("this", result.value[1], device), result.value[1])
    assert isinstance(about, About) and isinstance(result, Found)
    (failed,) = done(crew, "raise")
    assert isinstance(failed, Failed) and failed.message == "a bolt is loose"
    crew.owe(units(1, 12))
    assert drained(crew) == 12
    crew = crew.next(job(folder), limit=0.0, say=lambda _: None)
    crew.start()
    crew.owe(units(2, 12))
    assert drained(crew) == 24
    assert done(crew, "that")[1].value[1] == result.value[1]  # the same process
    return crew
