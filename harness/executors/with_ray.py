"""Workers as actors of Ray, on this machine or on the nodes of a cluster: one for each GPU, or for each core."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from harness.executors.contract import SAMPLE, About, Batch, Done, Event, Failed, Free, Job, Lost, Task
from harness.executors.doing import events_of, worker_of
from harness.executors.local import CORES, MAKER, PlacesError
from harness.executors.local_worker import SENT_AHEAD, as_files
from harness.probes.fits import free_memory
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.executors.contract import Worker

PLACING_SECONDS: Final = 60.0
"""How long the cluster may take to start the process of a worker. It loads no models in that time."""
_SETTINGS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere unless the user says so
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would upload the working directory, models and all
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # what asks for no GPU sees none
    "RAY_TQDM_PATCH_PRINT": "0",  # Python's print stays Python's
}
STARTS: Final = 2
"""How often the start of a cluster of this machine's own is tried: Ray gives its processes 30 s, which a busy machine exceeds."""
PLACED, ABOUT, TASK = "placed", "about", "task"
"""What an actor can be given to do."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What "ray[:ADDRESS][,N]" asks for: a cluster, "" for the one that this process is part of or a new one on this machine,
    and a number of workers, 0 for as many as there is room for."""

    address: str = ""
    count: int = 0

    @classmethod
    def of(cls, word: str) -> Asked:
        """Reads "ray", "ray:4", "ray:head:6379" and "ray:auto,4". Raises PlacesError."""
        kind, _, rest = word.partition(":")
        address, comma, number = ("", "", rest) if rest.isdigit() else rest.partition(",")
        if kind != "ray" or ((comma or number) and not (number.isascii() and number.isdigit() and int(number))):
            raise PlacesError(f"--workers {word!r}: expected ray, ray:N, ray:ADDRESS or ray:ADDRESS,N, as ray:head:6379,8")
        if address.startswith(("ray://", "//")):
            raise PlacesError(f"--workers {word!r}: the Ray Client (ray://) is not supported; start the run on a node of the "
                              "cluster, as with `ray job submit`, and take --workers ray:auto")
        return cls(address=address, count=int(number or 0))


@dataclass(kw_only=True)
class _Tasks:
    """An actor, and what it was given, in order: each is a kind and what Ray calls its result."""

    actor: Any
    given: deque[tuple[str, Any]]
    since: float
    """When it was asked for."""


class RayHands:
    """Carries units to Ray's actors (see contract.Hands). `count` is the number of workers that were asked for or have room."""

    def __init__(self, word: str, device: str, maker: str = MAKER) -> None:
        """Connects to the cluster, or starts one on this machine. Raises PlacesError if it cannot be reached or started, or has
        no place for a single worker."""
        asked = Asked.of(word)
        self._maker, self._gpu = maker, device.startswith("cuda")
        self._ray, self._own = _connected(word, asked, self._gpu)
        self._workers: dict[int, _Tasks] = {}
        self._early: list[tuple[int, Lost]] = []
        self._next = 0
        try:
            # No node joins a cluster of this process's own: what it lacks now it will lack.
            self.count = asked.count if asked.count and not self._own else min(self._room(word), asked.count or sys.maxsize)
        except BaseException:
            self.close()
            raise

    def start(self, job: Job, count: int) -> list[int]:
        """See contract.Hands."""
        numbers = list(range(self._next, self._next + count))
        self._next += count
        actor = self._ray.remote(max_restarts=0, max_task_retries=0, num_cpus=1, num_gpus=1 if self._gpu else 0)(Actor)
        for number in numbers:
            try:
                one = actor.remote()
                given = deque([(PLACED, one.placed.remote()), (ABOUT, one.begin.remote(self._maker, self._own_job(job)))])
            except Exception as error:  # a job that cannot be sent, or a cluster that is gone
                self._early.append((number, Lost(why=f"{type(error).__name__}: {error}")))
            else:
                self._workers[number] = _Tasks(actor=one, given=given, since=time.monotonic())
        return numbers

    def give(self, worker: int, task: Task | Job | Free) -> None:
        """See contract.Hands."""
        if (tasks := self._workers.get(worker)) is None:
            return
        if isinstance(task, Job):
            tasks.given.append((ABOUT, tasks.actor.begin.remote(self._maker, self._own_job(task))))
        elif isinstance(task, Free):
            tasks.actor.free.remote()
        else:
            make = tasks.actor.make.options(num_returns="streaming", _generator_backpressure_num_objects=SENT_AHEAD)
            tasks.given.append((TASK, make.remote(task)))

    def _own_job(self, job: Job) -> Job:
        return replace(job, device="cuda:0" if self._gpu else job.device)

    def arrivals(self, timeout: float) -> list[tuple[int, About | Event | Done | Lost]]:
        """See contract.Hands."""
        until = time.monotonic() + timeout
        while True:
            came: list[tuple[int, Any]] = [*self._early]
            self._early = []
            waiting = {tasks.given[0][1]: number for number, tasks in self._workers.items() if tasks.given}
            patience = max(0.0, min([until, *self._deadlines()]) - time.monotonic())
            if waiting and not came:
                self._ray.wait([*waiting], num_returns=1, timeout=patience)
                ready, _ = self._ray.wait([*waiting], num_returns=len(waiting), timeout=0)
                for one in ready:
                    came += self._taken(waiting[one])
            elif not came:
                time.sleep(patience)
            came += self._not_placed()
            if came or time.monotonic() >= until:
                return came

    def stop(self, worker: int) -> None:
        """See contract.Hands."""
        if tasks := self._workers.pop(worker, None):
            with suppress(Exception):  # it may be gone already, in more ways than one
                self._ray.kill(tasks.actor, no_restart=True)

    def close(self) -> None:
        """See contract.Hands. A cluster that this process started ends with it."""
        for worker in [*self._workers]:
            self.stop(worker)
        if self._own:
            self._ray.shutdown()

    def _taken(self, number: int) -> list[tuple[int, Any]]:
        """The next result of a worker, which is there; of a unit whose results are all taken, nothing."""
        tasks = self._workers[number]
        kind, result = tasks.given[0]
        try:
            if kind == TASK:
                try:
                    return [(number, self._ray.get(next(result)))]
                except StopIteration:
                    tasks.given.popleft()
                    return []
            tasks.given.popleft()
            value = self._ray.get(result)
        except Exception as error:  # the worker or its node is gone, or its code fails before it can make an event of it
            cause = getattr(error, "cause", None) or error
            self.stop(number)
            return [(number, Lost(why=f"{type(cause).__name__}: {_first_line(cause)}"))]
        return [(number, value)] if kind == ABOUT else []

    def _deadlines(self) -> list[float]:
        """Until when workers must have a place that have none yet."""
        return [tasks.since + PLACING_SECONDS for tasks in self._workers.values() if tasks.given and tasks.given[0][0] == PLACED]

    def _not_placed(self) -> list[tuple[int, Lost]]:
        """Gives up workers for which the cluster has had no place for too long."""
        now = time.monotonic()
        late = [number for number, tasks in self._workers.items()
                if tasks.given and tasks.given[0][0] == PLACED and tasks.since + PLACING_SECONDS <= now]
        lost = [(number, Lost(why=f"found no place within {PLACING_SECONDS:g} s: {self._needs()}")) for number in late]
        for number in late:
            self.stop(number)
        return lost

    def _needs(self) -> str:
        total, free = self._ray.cluster_resources(), self._ray.available_resources()
        kinds = ("CPU", "GPU") if self._gpu else ("CPU",)
        return (f"each worker needs {' and '.join(f'1 {kind}' for kind in kinds)}; the cluster has "
                f"{' and '.join(f'{total.get(kind, 0):g} {kind}, of which {free.get(kind, 0):g} free' for kind in kinds)}")

    def _room(self, word: str) -> int:
        """For how many workers the cluster has room in all, whether free now or not."""
        kind = "GPU" if self._gpu else "CPU"
        room = int(min(self._ray.cluster_resources().get(one, 0) for one in {kind, "CPU"}))
        if not room:
            if self._own:
                raise PlacesError(f"--workers {word}: {self._needs()}. Ray was started on this machine alone; give the address "
                                  "of a cluster that has them, as --workers ray:auto")
            counted = f"{word},8" if ":" in word else f"{word}:8"
            raise PlacesError(f"--workers {word}: {self._needs()}. Where nodes are started on demand, say how many workers you "
                              f"want, as --workers {counted}")
        return room


class Actor:
    """What runs on a node: a worker, whose pictures leave as PNG files."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._device = "cpu"

    def placed(self) -> bool:
        """Answers as soon as the process exists."""
        return True

    def begin(self, maker: str, job: Job) -> About:
        """Makes the worker, which has one core on a CPU, as Ray counts it. Returns what it is."""
        os.environ[CORES] = "1"
        self.free()
        self._worker, self._device = worker_of(maker, job), job.device
        return About(facts=dict(self._worker.about()), job=job.number)

    def free(self) -> None:
        """Lets go of the worker and its models."""
        self._worker = None
        free_memory(self._device)

    def make(self, task: Task) -> Iterator[Event | Done]:
        """All that comes of a task, and Done where nothing else ended it."""
        assert self._worker is not None
        yield from sent(self._worker, task)


def sent(worker: Worker, task: Task) -> Iterator[Event | Done]:
    """All that comes of a task, with pictures as files, which are encoded while the next ones are made. Everything else is sent
    at once: what a lost worker was doing is known by it."""
    waiting: deque[Future[Event | Done]] = deque()
    with ThreadPoolExecutor(max_workers=1) as encoder:
        try:
            for event in events_of(worker, task):
                waiting.append(encoder.submit(_encoded, event))
                while waiting and (not isinstance(event, Batch) or len(waiting) > SENT_AHEAD or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except Exception as error:  # what cannot be encoded ends the unit, as what cannot be made
            yield Failed.of(SAMPLE, error)


def _encoded(event: Event | Done) -> Event | Done:
    return as_files(event) if isinstance(event, Batch) else event


def _connected(word: str, asked: Asked, gpu: bool) -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether the cluster is one of this process's own, which ends with it. One of its own has
    room on a CPU for as many workers as were asked for."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise PlacesError(f"--workers {word}: Ray is not installed ({error}); `pip install 'sweetspot[ray]'`, or take "
                          "local:N") from error
    if ray.is_initialized():
        return ray, False
    # Within a job of a cluster the variable names it.
    address = asked.address or os.environ.get("RAY_ADDRESS", "")
    own: Any = {} if gpu or not asked.count else {"num_cpus": asked.count}
    quiet: Any = {"log_to_driver": False, "configure_logging": False}
    errors: list[str] = []
    for _ in range(1 if address else STARTS):
        try:
            with _without_known_warnings():
                if address:
                    ray.init(address=address, **quiet)
                else:
                    ray.init(include_dashboard=False, **own, **quiet)
        except Exception as error:  # many kinds: no cluster, another version of Ray, a start that took too long
            errors.append(f"{type(error).__name__}: {_first_line(error)}")
        else:
            return ray, not address
    what = f"the cluster at {address!r} cannot be reached" if address else "Ray did not start on this machine"
    raise PlacesError(f"--workers {word}: {what}: {errors[-1]}")


@contextmanager
def _without_known_warnings() -> Iterator[None]:
    """Ray warns of what is as it should be here: that it does not take SIGTERM from the run, as it is started from a thread, and
    that strangers cannot use its cluster."""
    loggers = [logging.getLogger(f"ray._private.{name}") for name in ("worker", "authentication.authentication_token_setup")]

    def unknown(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(("SIGTERM handler is not set", "Token authentication is enabled"))

    for logger in loggers:
        logger.addFilter(unknown)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(unknown)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0] if lines else "no message")
