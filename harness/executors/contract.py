"""What a run hands to those who make its images, and what comes back: jobs, units of work, events, workers and transports."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from harness.declare import Candidate, Suite
from harness.records import Cell, Coverage, Fit, Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Image: TypeAlias = "NDArray[np.uint8] | bytes"
"""The pixels, uint8 (height, width, 3), or a PNG file."""

MATERIALISE: Final = "materialise"
SAMPLE: Final = "sample"
"""The two stages of a candidate in which a worker can fail, as the journal names them."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker receives before its first unit, and again for another suite. `suite` is as declared, with its batch size
    resolved, `root` and `suite_file` are what paths and a suite's own rows are resolved by, and `environment` is the run's. One
    that decides pixels differently is refused."""

    suite: Suite
    suite_file: str
    root: str
    device: str
    environment: Mapping[str, Any]
    number: int = 0
    """Of the jobs that a worker receives one after the other."""
    asking: bool = False
    """Whether workers are asked what they are, before it is known what the run's environment is; none is refused."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Images of one candidate that are made alike.

    `number` is the order in which one process would make them, lowest first. `group` is that of the prompts that bring the same
    adapters. `cells` are in the order of sampling, all of one kind, with guidance or without; none asks for the coverage alone.
    A unit may be handed out in pieces, each with some of the cells; they are cut between two batches, which hold `batches` cells
    each; without them, every `batch_size` cells. `weights` are those that the driver announced: others in the worker are a
    refusal. `in_bf16` says why the candidate does not run in fp16, if it does not, and `in_common` which of its stages other
    candidates have too. With `floor`, cells are sampled one at a time, and memory that is refused is a failure."""

    number: int
    candidate: Candidate
    group: int = 0
    cells: tuple[Cell, ...] = ()
    batch_size: int = 1
    batches: tuple[int, ...] = ()
    weights: Weights | None = None
    in_bf16: str = ""
    in_common: tuple[bool, ...] = ()
    floor: bool = False

    @property
    def guided(self) -> bool:
        """Whether the cells have guidance, and so need a negative branch."""
        return any(cell.guidance != 1 for cell in self.cells)

    @property
    def place(self) -> tuple[int, bool, bool]:
        """Where it is among its candidate's units, in the order in which one process makes them."""
        return self.group, self.floor, self.guided


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Something besides images that one worker does while all others idle. `does` is a function by its module and name, as
    "module:name". It takes the worker, what is `given`, and what it can call with something on the way; it returns the result."""

    does: str
    given: Any = None


@dataclass(frozen=True, kw_only=True)
class Free:
    """Asks a worker to free its models. It answers nothing, and makes no unit until it receives another job."""


Task: TypeAlias = Unit | Errand


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """The image of a cell as it is sampled, before any post-steps. `why` says why it is unusable, if it is. `stages` are the
    pictures of the earlier stages, by name."""

    cell: Cell
    image: Image
    why: str = ""
    stages: Mapping[str, Image] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The candidate is materialised, which took so many `seconds`; 0 if it already was. `coverage` is that of its tensors."""

    coverage: tuple[Coverage, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """A batch without its repetitions."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Memory for a batch of this size was refused; a smaller one may fit. Ends a unit."""

    fit: Fit


@dataclass(frozen=True, kw_only=True)
class Overflowed:
    """The candidate left float16's range, and may be made once more in bfloat16. Ends a unit."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The candidate fails in this stage. With `fit`, it is because memory was refused. Ends a unit."""

    stage: str
    error: str
    message: str
    fit: Fit | None = None

    @classmethod
    def of(cls, stage: str, error: BaseException, fit: Fit | None = None) -> Failed:
        """The failure that an exception is."""
        where = traceback.extract_tb(error.__traceback__)
        place = f", raised at {Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
        return cls(stage=stage, error=type(error).__name__, message=str(error) or f"no message{place}", fit=fit)


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """This worker's files are not those that the driver announced; another worker may make the unit, which this one ends."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an errand says on the way, and at last its result."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class Done:
    """All that was asked of a worker with one unit, a piece of it, or an errand, has arrived."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A worker is gone, with what it had not sent: killed, its node lost, or ended because it took too long."""

    why: str


Event: TypeAlias = Ready | Batch | Refused | Overflowed | Failed | Unfit | Found
"""Of `Worker.make`, in this order: one Ready, unless materialising fails; then batches; then nothing more, or one of the four
that end a unit. Of an errand: what it finds, then nothing more, or Failed."""
ENDINGS: Final = (Refused, Overflowed, Failed, Unfit)
"""What ends a unit in place of Done."""


class Worker(Protocol):
    """Makes images. In this process, in another one and on another machine it is the same implementation."""

    def about(self) -> Mapping[str, Any]:
        """What the worker is: "host", "pid", "device", and "environment" as a run records it."""

    def make(self, unit: Unit) -> Iterator[Event]:
        """Makes a unit's images. An exception becomes a Failed; only an interruption is raised. The candidate of the last unit
        stays materialised, so that a second piece of it costs nothing."""


class Hands(Protocol):
    """Carries units to workers elsewhere, and events back. A worker is known by its number, from 0; a number is used once."""

    def start(self, job: Job, count: int) -> Sequence[int]:
        """Starts so many workers. Returns their numbers at once; the first arrival of each is what it is (`About`), or Lost."""

    def give(self, worker: int, task: Task | Job | Free) -> None:
        """Hands something to do to a worker, behind what it already has. To a job it answers what it is (`About`)."""

    def arrivals(self, timeout: float) -> Sequence[tuple[int, About | Event | Done | Lost]]:
        """What arrived since the last call; waits up to `timeout` seconds if it is nothing."""

    def stop(self, worker: int) -> None:
        """Ends a worker at once, whatever it is doing."""

    def close(self) -> None:
        """Ends all workers."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a worker is: the facts of `Worker.about`. `refusal` says why it cannot take part, if it cannot, and `job` is the
    number of the job to which this is the answer."""

    facts: Mapping[str, Any]
    refusal: str = ""
    job: int = 0
