"""Workers in processes of their own, which make nothing but text: how they start, are fed, end, and what is said of it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.executors import local
from harness.executors.contract import Batch, Done, Failed, Ready, Unit
from harness.executors.crew import Arrival, Crew, NoWorkerError
from harness.executors.local import LocalHands, PlacesError, places
from harness.executors.workers import workers_problem
from harness.records import Cell
from tests.executors.errand import errands_and_jobs
from tests.executors.sleeper import MAKER, job, painted, units

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="local workers need Linux or macOS")


class Sweep:
    """A crew of processes, and what came of it."""

    def __init__(self, folder: Path, count: int = 2, limit: float = 0.0, **behave: Any) -> None:
        self.folder, self.said, self.arrived = folder, list[str](), list[Arrival]()
        self.crew = Crew(LocalHands(places(f"local:{count}", "cpu"), MAKER), job(folder, **behave), count, limit=limit,
                         say=self.said.append)
        self.crew.start()

    def run(self, owed: list[Unit], slow: float = 0.0) -> None:
        self.crew.owe(owed)
        until = time.monotonic() + 60
        while self.crew.owed:
            assert time.monotonic() < until, "the sweep hangs"
            self.arrived += self.crew.arrivals(1.0)
            time.sleep(slow)

    def of(self, kind: type) -> list[Any]:
        return [one.event for one in self.arrived if isinstance(one.event, kind)]

    @property
    def pictures(self) -> Counter[bytes]:
        return Counter(bytes(picture.image) for batch in self.of(Batch) for picture in batch.pictures)

    @property
    def processes(self) -> list[int]:
        return [work.process for work in self.crew.work()]


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Any]:
    """Makes sweeps, which are closed after the test."""
    made: list[Sweep] = []

    def make(*words: Any, **behave: Any) -> Sweep:
        made.append(Sweep(tmp_path, *words, **behave))
        return made[-1]

    yield make
    for sweep in made:
        sweep.crew.close()


def all_of(owed: list[Unit]) -> Counter[bytes]:
    return Counter(painted(unit.candidate.name, cell, unit.batch_size) for unit in owed for cell in unit.cells)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(processes: list[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, processes))


def test_two_processes_make_what_is_owed_once(sweeps: Any) -> None:
    sweep, owed = sweeps(seconds=0.001), units(5, 30)
    sweep.run(owed)
    assert sweep.pictures == all_of(owed)
    assert len(sweep.of(Done)) == len(sweep.of(Ready)) == 5


def test_a_candidate_is_prepared_by_one_worker_while_there_are_others(sweeps: Any, tmp_path: Path) -> None:
    sweep = sweeps(seconds=0.002, log=True)
    sweep.run(units(8, 100))
    prepared = Counter(json.loads(line)[2] for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert sum(prepared.values()) <= 10  # the last ones may be shared


def test_a_worker_killed_while_it_samples_loses_nothing(sweeps: Any, tmp_path: Path) -> None:
    owed = units(3, 40, prompts=("p", "q", "r"))
    sweep = sweeps(2, q="kill once")
    sweep.run(owed)
    assert sweep.pictures == all_of(owed)
    assert "SIGKILL" in sweep.said[0]
    assert sum(work.repeated for work in sweep.crew.work()) > 0


def test_an_image_that_kills_every_worker_is_its_candidates_failure(sweeps: Any) -> None:
    owed = [*units(1, 20), *units(2, 20, prompts=("q", "p"), first=5)[1:], *units(3, 20, first=9)[2:]]
    sweep = sweeps(2, q="kill")
    sweep.run(owed)
    (failed,) = sweep.of(Failed)
    assert failed.message.count("SIGKILL") == 3
    assert sweep.pictures == all_of([owed[0], owed[2]])


@pytest.mark.parametrize("stuck", ["wedge once", "stop once"])
def test_a_stuck_worker_is_ended_and_its_images_are_made_by_another(sweeps: Any, stuck: str) -> None:
    owed = units(2, 20, prompts=("p", "q"))
    sweep = sweeps(2, 1.0, q=stuck)
    first = sweep.processes
    sweep.run(owed)
    assert sweep.pictures == all_of(owed)
    assert "1 s" in sweep.said[0]
    assert not any(map(alive, first))


def test_a_slow_driver_loses_nothing_and_no_worker(sweeps: Any) -> None:
    owed = units(2, 100)
    sweep = sweeps(2, 0.2, bytes=200_000)
    sweep.run(owed, slow=0.05)
    assert sum(sweep.pictures.values()) == 200
    assert sweep.said == []


def test_a_worker_waits_for_a_driver_that_takes_nothing(sweeps: Any, tmp_path: Path) -> None:
    """Otherwise a driver's memory would hold all that its workers make."""
    sweep = sweeps(1, bytes=2_000_000, log=True)
    sweep.crew.owe(units(50, 4, batch_size=1))
    while not sweep.of(Batch):
        sweep.arrived += sweep.crew.arrivals(1.0)
    time.sleep(1.0)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) < 12


def test_an_event_of_fifty_megabytes_arrives_whole(sweeps: Any) -> None:
    sweep = sweeps(1, bytes=50_000_000)
    sweep.run(units(1, 1))
    (picture,) = sweep.of(Batch)[0].pictures
    assert len(picture.image) == 50_000_000


def test_where_workers_die_at_their_start_it_is_said_at_once_and_with_their_last_words(sweeps: Any) -> None:
    sweep = sweeps(2, start="exit")
    with pytest.raises(NoWorkerError, match=r"status 3.*the driver of the card is too old"):
        sweep.run(units(1, 4))


def test_where_workers_raise_at_their_start_the_error_is_named(sweeps: Any) -> None:
    sweep = sweeps(2, start="raise")
    with pytest.raises(NoWorkerError, match="RuntimeError: a bolt is loose"):
        sweep.run(units(1, 4))


def test_an_exception_in_a_worker_is_a_failure_and_the_worker_goes_on(sweeps: Any) -> None:
    owed = [*units(1, 8, prompts=("q",)), *units(2, 8, first=1)[1:]]
    sweep = sweeps(1, q="raise")
    sweep.run(owed)
    (failed,) = sweep.of(Failed)
    assert (failed.error, failed.message) == ("RuntimeError", "a bolt is loose")
    assert sweep.pictures == all_of(owed[1:])
    assert len(sweep.processes) == 1


def test_a_picture_that_cannot_be_sent_is_a_failure_and_the_worker_goes_on(sweeps: Any) -> None:
    owed = [*units(1, 8, prompts=("q",)), *units(2, 8, first=1)[1:]]
    sweep = sweeps(1, q="not picklable")
    sweep.run(owed)
    assert len(sweep.of(Failed)) == 1
    assert sweep.pictures == all_of(owed[1:])


def test_a_job_that_cannot_be_sent_is_said(tmp_path: Path) -> None:
    crew = Crew(LocalHands(places("local:1", "cpu"), MAKER), job(tmp_path, start=lambda: None), 1)
    crew.start()
    crew.owe(units(1, 4))
    with pytest.raises(NoWorkerError, match="pickle"):
        crew.arrivals(1.0)
    crew.close()


def test_closing_leaves_no_process(sweeps: Any) -> None:
    sweep = sweeps(2, q="wedge")
    sweep.crew.owe(units(2, 8, prompts=("q",)))
    while len(sweep.crew.workers) < 2:
        sweep.crew.arrivals(1.0)
    sweep.crew.close()
    assert not any(map(alive, sweep.processes))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("state", ["", "wedge", "stop", "hold"])
def test_the_workers_of_a_driver_that_is_killed_end_with_it(tmp_path: Path, state: str) -> None:
    driver = subprocess.Popen([sys.executable, "-m", "tests.executors.sleeper", str(tmp_path), state], stdout=subprocess.PIPE,
                              text=True, cwd=Path(__file__).parents[2])
    assert driver.stdout is not None
    ready, _, _ = select.select([driver.stdout], [], [], 60)
    assert ready, "the driver says nothing"
    workers = [int(word) for word in driver.stdout.readline().split()]
    assert len(workers) == 2 and all(map(alive, workers))
    time.sleep(0.3)  # by then they are at work, stuck or stopped
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert gone_within(workers, 10.0)


def test_an_interrupt_is_the_drivers_alone(sweeps: Any) -> None:
    """A terminal sends it to the group in the foreground, a scheduler to every process."""
    sweep, owed = sweeps(2, seconds=0.01), units(2, 40)
    sweep.crew.owe(owed)
    while len(sweep.crew.workers) < 2:
        sweep.arrived += sweep.crew.arrivals(1.0)
    for process in sweep.processes:
        assert os.getpgid(process) != os.getpgid(0)
        os.kill(process, signal.SIGINT)
    sweep.run([])
    assert sweep.pictures == all_of(owed)
    assert sweep.said == []


def test_the_users_main_module_is_not_run_again(tmp_path: Path) -> None:
    """A script without `if __name__ == "__main__"` would start workers that start workers."""
    script = tmp_path / "mine.py"
    script.write_text("""
import sys
from pathlib import Path
from harness.executors.contract import Batch
from harness.executors.crew import Crew
from harness.executors.local import LocalHands, places
from tests.executors.sleeper import MAKER, job, units
with open("runs.txt", "a") as file:
    file.write("run\\n")
crew = Crew(LocalHands(places("local:2", "cpu"), MAKER), job(Path(".")), 2)
crew.start()
crew.owe(units(2, 8))
while crew.owed:
    crew.arrivals(1.0)
crew.close()
""")
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, timeout=60,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs.txt").read_text() == "run\n"


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_cores", lambda: 8)
    assert [place.variables for place in places("local:3", "cpu")] == [{"PYTHON_CPU_COUNT": "2"}] * 3


def test_each_process_on_gpus_has_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "visible_gpus", lambda: ("0", "GPU-8f", "3"))
    assert [place.variables["CUDA_VISIBLE_DEVICES"] for place in places("local:cuda", "cuda")] == ["0", "GPU-8f", "3"]
    assert [place.variables["CUDA_VISIBLE_DEVICES"] for place in places("local:2", "cuda")] == ["0", "GPU-8f"]
    assert {place.device for place in places("local:cuda", "cuda")} == {"cuda:0"}


@pytest.mark.parametrize(("asked", "device", "named"), [
    ("local:cuda", "cpu", "--device cuda"), ("local:cuda", "cuda", "no CUDA device"),
    ("local:2", "cuda", "no CUDA device"), ("local:0", "cpu", "local:N"),
    ("local", "cpu", "local:N"), ("local:two", "cpu", "local:N"), ("local:-1", "cpu", "local:N"), ("locals:2", "cpu", "local:N")])
def test_what_cannot_be_had_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, asked: str, device: str, named: str,
                                                       ) -> None:
    monkeypatch.setattr(local, "visible_gpus", lambda: ())
    with pytest.raises(PlacesError, match=named):
        places(asked, device)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "visible_gpus", lambda: ("0", "1"))
    with pytest.raises(PlacesError, match="at most local:2"):
        places("local:3", "cuda")


@pytest.mark.parametrize("asked", ["local:1", "local:cuda", "ray", "ray:2"])
def test_workers_beside_one_gpu_that_is_named_are_refused_with_what_chooses_it(asked: str) -> None:
    assert "CUDA_VISIBLE_DEVICES=2" in workers_problem(asked, "cuda:2")


class Unkillable:
    """A process that waits for a disk without interruption."""

    def __init__(self, process: Any) -> None:
        self.process, self.pid = process, process.pid

    def wait(self, seconds: float | None = None) -> int:
        assert seconds is not None
        raise subprocess.TimeoutExpired("worker", seconds)

    def kill(self) -> None:
        pass


@pytest.mark.parametrize("stopped", [True, False])
def test_a_process_that_a_kill_does_not_end_is_named_and_not_waited_for(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool) -> None:
    monkeypatch.setattr(local, "CLOSING_SECONDS", 0.1)
    monkeypatch.setattr(local, "KILLED_SECONDS", 0.1)
    said = list[str]()
    hands = LocalHands(places("local:1", "cpu"), MAKER, said.append)
    hands.start(job(tmp_path), 1)
    stuck = Unkillable(hands._processes[0]._process)
    monkeypatch.setattr(hands._processes[0], "_process", stuck)
    if stopped:
        hands.stop(0)
    hands.close()
    stuck.process.kill()
    stuck.process.wait()
    assert len(said) == 1 and str(stuck.pid) in said[0]


def test_an_image_in_a_message_is_its_cells(sweeps: Any) -> None:
    sweep = sweeps(1)
    sweep.run(units(1, 4))
    (batch,) = sweep.of(Batch)
    assert [picture.cell for picture in batch.pictures] == [Cell(prompt="p", seed=seed, guidance=4.0) for seed in range(4)]


def test_a_process_does_errands_and_goes_over_to_another_job(tmp_path: Path) -> None:
    crew = Crew(LocalHands(places("local:1", "cpu"), MAKER), job(tmp_path), 1)
    crew = errands_and_jobs(crew, tmp_path)
    crew.close()
    assert not any(alive(work.process) for work in crew.work())
