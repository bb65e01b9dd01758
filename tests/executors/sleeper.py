"""A worker without models: its pictures are text that names candidate, cell and batch size, and its job says what goes wrong."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.declare import Candidate, Grid, Prompt, Suite
from harness.executors.contract import Batch, Event, Failed, Job, Overflowed, Picture, Ready, Refused, Unfit, Unit
from harness.executors.plan import batches_of
from harness.records import Cell, Fit

MAKER = "tests.executors.sleeper:Sleeper"
ENVIRONMENT = {"packages": {"torch": "1", "sweetspot": "0"}, "device_name": "CPU", "cpu": "painted", "threads_per_operation": 1}


class Sleeper:
    """The "acts" of the job's environment are instructions: "seconds" that a batch takes, "bytes" of a picture, "prepare"
    seconds, and by prompt id what happens before the batch with that prompt: see `_act`. "start" is the same before it says what
    it is, "other" replaces facts of its environment, "unfit" lists candidates whose files are others, "log" writes down what it
    does."""

    def __init__(self, job: Job) -> None:
        self.job, self.behave, self.folder = job, job.environment["acts"], Path(job.root)
        self._last: tuple[str, int] | None = None
        self._act(self.behave.get("start", ""), "start")

    def about(self) -> Mapping[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "device": self.job.device,
                "environment": {**ENVIRONMENT, **self.behave.get("other", {})}}

    def make(self, unit: Unit) -> Iterator[Event]:
        place = unit.candidate.name, unit.group
        if place != self._last:
            self._log("prepare", unit.candidate.name)
        self._last = place
        if unit.candidate.name in self.behave.get("unfit", ()):
            yield Unfit(why="model.safetensors is another file than the driver's")
            return
        yield Ready(seconds=float(self.behave.get("prepare", 0.0)))
        for cells in batches_of(unit):
            for cell in cells:
                ending = self._act(self.behave.get(cell.prompt, ""), cell.prompt, unit)
                if ending is not None:
                    yield ending
                    return
            time.sleep(self.behave.get("seconds", 0.0))
            if cells:
                yield Batch(pictures=tuple(Picture(cell=cell, image=self._image(unit, cell)) for cell in cells))

    def _image(self, unit: Unit, cell: Cell) -> Any:
        if self.behave.get(cell.prompt) == "not picklable":
            return lambda: None
        return painted(unit.candidate.name, cell, unit.batch_size).ljust(int(self.behave.get("bytes", 0)), b".")

    def _act(self, what: str, place: str, unit: Unit | None = None) -> Event | None:
        once = what.endswith(" once")
        if once and not self._first(place):
            return None
        match what.removesuffix(" once"):
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "wedge":
                time.sleep(1000)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "hold":
                ctypes.PyDLL(None).sleep(1000)  # within a library, which does not let other threads run
            case "exit":
                print("the driver of the card is too old", flush=True)
                os._exit(3)
            case "raise":
                raise RuntimeError("a bolt is loose")
            case "fail":
                return Failed(stage="sample", error="SamplingError", message="all black")
            case "overflow":
                return Overflowed(why="too large for fp16")
            case "refuse" if unit is not None and unit.batch_size > 1:
                return Refused(fit=Fit(candidate=unit.candidate.name, batch_size=unit.batch_size, fits=False, why="no room"))
        return None

    def _first(self, place: str) -> bool:
        try:
            (self.folder / f"done-{place}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _log(self, what: str, name: str) -> None:
        if self.behave.get("log"):
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps([what, os.getpid(), name]) + "\n")


def measured(worker: Sleeper, given: str, tell: Callable[[Any], None]) -> tuple[str, int, str]:
    """An errand: what was given, the process, and the device."""
    if given == "raise":
        raise RuntimeError("a bolt is loose")
    tell("begun")
    return given, os.getpid(), worker.job.device


def painted(candidate: str, cell: Cell, batch_size: int) -> bytes:
    """The picture of a cell."""
    return f"{candidate} {cell.prompt} {cell.seed} {cell.guidance:g} in {batch_size}".encode()


def job(folder: Path, **behave: Any) -> Job:
    """A job for sleepers, who do as `behave` says."""
    suite = Suite(name="asleep", candidates=(Candidate(name="a", model="zoo:photo"),), baseline="a", metrics=(),
                  grid=Grid(prompts=(Prompt(id="p", text="a star"),), seeds=(1,), guidance_scales=(4,)))
    return Job(suite=suite, suite_file="", root=str(folder), device="cpu", environment={**ENVIRONMENT, "acts": behave})


def units(candidates: int, cells: int, batch_size: int = 4, prompts: Sequence[str] = ("p",), first: int = 0) -> list[Unit]:
    """One unit for each of so many candidates, of so many cells, with the prompts by turns."""
    return [Unit(number=first + number, candidate=Candidate(name=f"c{number}", model="zoo:photo"), batch_size=batch_size,
                 cells=tuple(Cell(prompt=prompts[i % len(prompts)], seed=i, guidance=4.0) for i in range(cells)))
            for number in range(candidates)]


def main() -> None:
    """A driver in a process of its own, to be killed: prints its workers' processes. Its words are a folder and what happens."""
    from harness.executors.crew import Crew
    from harness.executors.local import LocalHands, places
    from harness.executors.staff import Staff
    from harness.executors.with_crew import WithCrew

    crew = Crew(LocalHands(places("local:2", "cpu"), MAKER), job(Path(sys.argv[1]), p=sys.argv[2], seconds=0.05), 2)
    run = WithCrew(Staff(), lambda say: crew, print, lambda seconds, work: None)
    for unit in units(2, 4000):
        run.hand(unit, lambda batch: None)
    while len(crew.workers) < 2:
        time.sleep(0.02)
    print(*[work.process for work in crew.work()], flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    main()
