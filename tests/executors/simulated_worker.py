"""A worker whose process has a GPU, which is simulated; that of its driver has none."""

from __future__ import annotations

from contextlib import ExitStack

import torch

from harness.executors.contract import Job
from harness.executors.served import Served
from tests.rehearsal.driver import with_driver

MAKER = "tests.executors.simulated_worker:Simulated"
_PROCESS = ExitStack()


class Simulated(Served):
    """The GPU is there from its first job to the end of the process."""

    def __init__(self, job: Job) -> None:
        if not torch.cuda.is_available():
            _PROCESS.enter_context(with_driver())
        super().__init__(job)
