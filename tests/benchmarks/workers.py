"""What several workers gain and cost: images a second against one process, the seam, transport, a large sweep, and kills.

    python tests/benchmarks/workers.py
    python tests/benchmarks/workers.py --workers local:cuda --model sd15 --dtype bf16 --folder DIR
    python tests/benchmarks/workers.py --only simulated transport kills

sampled:   the candidates of an alpha sweep through one process (as many batches at once as cores) and through --workers, by
           turns, both up to PNG files in this process. Only workers that are ready and candidates that are new count.
seam:      the processor's time of a unit's way through contract and executor, as a share of sampling an image.
transport: seconds a picture from a worker's process to this one, of 8 kB and of 1 MB.
simulated: 100,000 cells on a clock that jumps, to which the driver's own processor time is added; its memory meanwhile.
slept:     the same with real processes that sleep instead of sampling.
kills:     processes killed at random moments, and the pictures compared with those of none killed.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from harness.executors.contract import Batch, Picture, Ready, Unit, Worker
from harness.executors.crew import Crew
from harness.executors.in_process import InProcess
from harness.executors.local import LocalHands, places
from tests.benchmarks.sweep import SIZES, Case, case_of
from tests.executors.acted import ActedHands, Clock
from tests.executors.sleeper import MAKER, job, units

CELLS: Final = 100_000
BATCH: Final = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="local:2")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--model", choices=tuple(SIZES), default="zoo", help="sd15 and sdxl have random weights")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--folder", type=Path, help="for random parents; those that are there are used again")
    given = parser.parse_args()
    given.device = "cuda" if given.workers == "local:cuda" else "cpu"
    given.size = given.steps = None
    figures: dict[str, Any] = {"workers": given.workers, "model": given.model, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as temporary:
        given.folder = given.folder or Path(temporary)
        given.folder.mkdir(parents=True, exist_ok=True)
        for part in given.only:
            figures[part] = PARTS[part](given)
            print(f"{part}: {json.dumps(figures[part])}", flush=True)
    print(json.dumps(figures))


def drained(crew: Crew, timeout: float = 600.0) -> Iterator[Any]:
    """The arrivals of all that is owed."""
    while crew.owed:
        yield from crew.arrivals(timeout)


def sampled(given: argparse.Namespace) -> dict[str, Any]:
    """Images a second of both contenders, by turns, and the share of an image's time that the seam takes."""
    case = case_of(given, given.folder)
    numbers = iter(range(10 ** 9))
    here = places(given.workers, given.device)
    maker, of_run = in_one_process(case)
    crew = Crew(LocalHands(here), of_run, len(here), say=lambda line: print(line, file=sys.stderr))
    crew.start()

    def owed(alphas: Sequence[float]) -> list[Unit]:
        return [unit for alpha in alphas for unit in of_candidate(case, alpha, numbers)]

    def one(alphas: Sequence[float]) -> None:
        for unit in owed(alphas):
            ends = [event for event in InProcess(worker=maker).run(unit, encode) if not isinstance(event, Ready)]
            assert not ends, ends

    def several(alphas: Sequence[float]) -> None:
        crew.owe(owed(alphas))
        for arrival in drained(crew):
            assert not hasattr(arrival.event, "message"), arrival.event

    crew.owe(owed([0.0] * 1))
    while len(crew.workers) < len(here):
        crew.arrivals(1.0)
    several([0.01 * (number + 1) for number in range(2 * len(here))])
    one([0.0])
    taken: dict[str, list[float]] = {"one process": [], given.workers: []}
    for turn in range(given.rounds):
        alphas = [0.1 + 0.8 * (turn * len(here) + number) / (given.rounds * len(here)) for number in range(len(here))]
        for name, contender in (("one process", one), (given.workers, several)):
            taken[name].append(seconds(lambda run=contender, of=alphas: run(of)))
    count = len(case.cells) * len(here)
    crew.close()
    ratios = np.array(taken["one process"]) / np.array(taken[given.workers])
    seam = seam_seconds()
    return {"images_per_second": {name: round(count / float(np.median(took)), 2) for name, took in taken.items()},
            "ratio": round(float(np.median(ratios)), 3), "ratios": ratios.round(3).tolist(), "images_a_turn": count,
            "seam_microseconds_per_image": round(seam * 1e6, 1),
            "seam_share": round(seam * count / float(np.median(taken["one process"])), 5)}


def in_one_process(case: Case) -> tuple[Worker, Any]:
    """What a run samples with in its own process, and the job that tells workers the same."""
    from harness import Suite
    from harness.executors.contract import Job
    from harness.executors.served import Served
    from harness.probes.environment import environment
    from harness.sampling import threads_per_operation

    first = case.candidate(0.0)
    suite = Suite(name="workers", candidates=(first,), baseline=first.name, grid=case.grid, metrics=("exposure",))
    facts = {"suite": suite, "suite_file": "", "root": str(case.root), "device": case.device}
    worker = Served(Job(**facts, environment={}))
    known = environment(case.device) | {"threads_per_operation": threads_per_operation(case.grid, case.device)}
    return worker, Job(**facts, environment=known)


def of_candidate(case: Case, alpha: float, numbers: Iterator[int]) -> list[Unit]:
    """The units of one alpha: its cells without guidance, and those with."""
    cells = [cell for batch in case.batches for cell in dict.fromkeys(batch)]
    parts = [tuple(cell for cell in cells if (cell.guidance != 1) is guided) for guided in (False, True)]
    return [Unit(number=next(numbers), candidate=case.candidate(alpha), cells=part, batch_size=case.grid.images_per_batch)
            for part in parts if part]


def encode(batch: Batch) -> None:
    from harness.executors.local_worker import as_files

    as_files(batch)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Free:
    """A worker whose images cost nothing."""

    def about(self) -> dict[str, Any]:
        return {}

    def make(self, unit: Unit) -> Iterator[Any]:
        yield Ready()
        for start in range(0, len(unit.cells), unit.batch_size):
            yield Batch(pictures=tuple(Picture(cell=cell, image=b"") for cell in unit.cells[start:start + unit.batch_size]))

    def release(self) -> None:
        """It has nothing."""


def seam_seconds() -> float:
    """Processor seconds an image of its way through contract and executor: what there is besides sampling and writing."""
    owed, before = units(20, 1600, batch_size=16), time.process_time()
    for unit in owed:
        for _ in InProcess(worker=Free()).run(unit, lambda batch: None):
            pass
    return (time.process_time() - before) / sum(len(unit.cells) for unit in owed)


def transport(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds a picture from one worker to this process, and this process's own share of them."""
    figures = {}
    for name, size, count in (("8 kB", 8_000, 4000), ("1 MB", 1_000_000, 200)):
        with crew_of(given.folder, 1, bytes=size) as crew:
            crew.owe(units(1, 8, batch_size=BATCH))
            for _ in drained(crew):
                pass
            own = time.process_time()
            crew.owe(units(1, count, batch_size=BATCH, first=1))
            took = seconds(lambda of=crew: [None for _ in drained(of)])
            figures[name] = {"milliseconds": round(took / count * 1e3, 3),
                             "milliseconds_of_driver": round((time.process_time() - own) / count * 1e3, 3)}
    return figures


class crew_of:  # noqa: N801 - it is used as a function
    """A crew of processes that sleep, all of them ready."""

    def __init__(self, folder: Path, count: int, **behave: Any) -> None:
        self._crew = Crew(LocalHands(places(f"local:{count}", "cpu"), MAKER), job(folder, **behave), count)
        self._count = count

    def __enter__(self) -> Crew:
        self._crew.start()
        while len(self._crew.workers) < self._count:
            self._crew.arrivals(1.0)
        return self._crew

    def __exit__(self, *_: object) -> None:
        self._crew.close()


def simulated(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Efficiency with the driver's processor time added to the clock: what workers would wait for it."""
    return [simulation(given, count) for count in (1, 8, 64)]


def simulation(given: argparse.Namespace, count: int) -> dict[str, Any]:
    clock = Clock()
    hands = ActedHands(clock, seconds=1.0, prepare=4.0)
    crew = Crew(hands, job(given.folder), count, clock=clock)
    before, images, memory = time.process_time(), 0, []
    crew.start()
    crew.owe(units(CANDIDATES, given.cells // CANDIDATES, batch_size=BATCH))
    crew.arrivals(0.0)
    restart = time.process_time() - before
    while crew.owed:
        spent = time.process_time()
        for arrival in crew.arrivals(1e6):
            images += len(arrival.event.pictures) if isinstance(arrival.event, Batch) else 0
        clock.now += time.process_time() - spent
        hands.given.clear()
        if images >= given.cells * (len(memory) + 1) // 10:
            memory.append(rss())
    ideal = (given.cells / BATCH * 1.0 + CANDIDATES * 4.0) / count
    return {"workers": count, "images": images, "efficiency": round(ideal / clock.now, 4), "seconds_to_the_first_unit":
            round(restart, 3), "driver_microseconds_per_image": round((time.process_time() - before) / images * 1e6, 1),
            "megabytes_grown_from_a_tenth_to_the_end": round(memory[-1] - memory[0], 1)}


CANDIDATES: Final = 100


def rss() -> float:
    """Megabytes of this process now."""
    status = Path("/proc/self/statm")
    pages = int(status.read_text().split()[1]) if status.exists() else 0
    return pages * resource.getpagesize() / 1e6


def slept(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Processes that sleep a tenth of a second for a batch, 20 seconds each; with 64 of them it is 100,000 cells."""
    figures = []
    for count in (1, 8, 64):
        cells = given.cells * count // 64 // CANDIDATES * CANDIDATES
        with crew_of(given.folder, count, seconds=0.1) as crew:
            crew.owe(units(CANDIDATES, cells // CANDIDATES, batch_size=BATCH))
            took = seconds(lambda of=crew: [None for _ in drained(of)])
        batches = CANDIDATES * -(-cells // CANDIDATES // BATCH)
        figures.append({"workers": count, "images": cells, "efficiency": round(batches * 0.1 / count / took, 4)})
    return figures


def kills(given: argparse.Namespace) -> dict[str, Any]:
    """As many random kills as asked for, each after some progress since the last one."""
    draw, owed, killed = random.Random(9), units(20, min(16_000, given.cells) // 20, batch_size=BATCH), 0
    arrived: Counter[tuple[int, bytes]] = Counter()
    ends: Counter[int] = Counter()
    due = 64
    with crew_of(given.folder, 4, seconds=0.004) as crew:
        crew.owe(owed)
        for arrival in drained(crew):
            if isinstance(arrival.event, Batch):
                arrived.update((arrival.unit.number, bytes(picture.image)) for picture in arrival.event.pictures)
            elif not isinstance(arrival.event, Ready):
                ends[arrival.unit.number] += 1
            if killed < given.kills and arrived.total() >= due and crew.workers:
                victim = draw.choice(crew.workers)
                os.kill(next(work.process for work in crew.work() if work.worker == victim), signal.SIGKILL)
                killed, due = killed + 1, arrived.total() + draw.randint(150, 300)
        repeated = sum(work.repeated for work in crew.work())
    expected = Counter((unit.number, f"{unit.candidate.name} {c.prompt} {c.seed} {c.guidance:g} in {BATCH}".encode())
                       for unit in owed for c in unit.cells)
    return {"kills": killed, "as_unbroken": arrived == expected and ends == Counter(unit.number for unit in owed),
            "images": expected.total(), "made_again": repeated}


PARTS: Final[dict[str, Callable[[argparse.Namespace], Any]]] = {
    "sampled": sampled, "transport": transport, "simulated": simulated, "slept": slept, "kills": kills}

if __name__ == "__main__":
    main()
