"""A stage of one candidate: an exception in it becomes a Failure in the journal, and the run continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from harness.executors.contract import Failed
from harness.executors.crew import NoWorkerError
from harness.executors.overflow import Fp16OverflowError
from harness.records import Failure
from harness.run_folder.ledger import Ledger


class WorkerFailureError(Exception):
    """The failure of a candidate that a worker reports."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Runs stages and writes their failures to a ledger. `begin` is called with the candidate and the stage that begins."""

    ledger: Ledger
    begin: Callable[[str, str], None]

    @contextmanager
    def stage(self, name: str, stage: str, failures: list[Failure]) -> Iterator[None]:
        """An exception inside becomes a Failure of the candidate `name`, in `failures` and in the journal; only an interruption
        goes through, an overflow after which the candidate is made once more, and that there is no worker to make any."""
        self.begin(name, stage)
        try:
            yield
        except (Fp16OverflowError, NoWorkerError):
            raise
        except Exception as error:
            failed = error.failed if isinstance(error, WorkerFailureError) else Failed.of(stage, error)
            failure = Failure(candidate=name, stage=failed.stage, error=failed.error, message=failed.message)
            failures.append(failure)
            # On a full disk the record cannot be written either; the item still fails, with the reason.
            with suppress(OSError):
                self.ledger.add([failure])
