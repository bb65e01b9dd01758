"""A worker made from a job: for a process that knows nothing of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.check import load_rows
from harness.declare import Candidate
from harness.declare.effective_grid import grid_of
from harness.executors.contract import Event, Job, Unfit, Unit
from harness.executors.libraries import load_libraries
from harness.executors.maker import Maker
from harness.executors.quiet import quiet_libraries
from harness.materialise import Workbench
from harness.probes import idle_before_use
from harness.probes.c_allocator import keep_freed_memory
from harness.probes.device import device_problem
from harness.probes.fits import cap_where_memory_spills
from harness.records import Weights
from harness.sampling import set_determinism, threads_for


class Served:
    """A Maker of a job, which computes with the numbers of threads that the keys say, and refuses units whose model files are
    others here. The process is its alone: it loads the libraries and the suite's own rows, and sets the flags of torch. `idle`
    are the bytes in use on its device before the process used it."""

    def __init__(self, job: Job) -> None:
        self.job, root = job, Path(job.root)
        if not root.is_dir():
            raise FileNotFoundError(f"the folder {root} does not exist here; models and suites must be reachable under the "
                                    "paths that they have in the run")
        self.idle = idle_before_use(job.device)
        if wrong := device_problem(job.device):
            raise ValueError(wrong)
        load_rows(job.suite, [*([(root / job.suite_file).parent] if job.suite_file else []), root])
        quiet_libraries()
        load_libraries(clip=False, own_process=True)
        set_determinism(job.device)
        keep_freed_memory()
        _set_threads(job.environment)
        cap_where_memory_spills(job.device)
        self.maker = Maker(grid=job.suite.grid, new_bench=lambda: Workbench.for_grid(
            job.suite.grid, device=job.device, root=root))

    def about(self) -> Mapping[str, Any]:
        """What this worker is."""
        return self.maker.about()

    def make(self, unit: Unit) -> Iterator[Event]:
        """Makes a unit's images, as pixels."""
        if (announced := unit.weights) is not None and (why := self._differing(unit, announced)):
            yield Unfit(why=why)
            return
        with threads_for(grid_of(self.job.suite, unit.candidate), self.job.device):
            yield from self.maker.make(unit)

    def _differing(self, unit: Unit, announced: Weights) -> str:
        if self.maker.stands(unit):
            return ""
        self.maker.take_format(unit)
        return self.differing(unit.candidate, announced)

    def differing(self, candidate: Candidate, announced: Weights) -> str:
        """Which of a candidate's files are not those that the driver announced, in words; empty if all are."""
        try:
            here = self.maker.bench.weights(candidate)
        except (OSError, ValueError) as error:
            return str(error)
        if here.identity == announced.identity:
            return ""
        others = sorted(name for name in here.inputs.keys() | announced.inputs.keys()
                        if here.inputs.get(name) != announced.inputs.get(name))
        return f"not the run's files: {', '.join(others)}" if others else "not the weights of the run, of equal files"


def _set_threads(environment: Mapping[str, Any]) -> None:
    """Lets operations use as many threads as the driver's do: they show in the last bits of large images. What starts a process
    may have limited them."""
    import torch

    if isinstance(threads := environment.get("torch_threads"), int) and threads > 0:
        torch.set_num_threads(threads)
