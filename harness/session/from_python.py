"""Runs a suite from Python: does what `pytest suites/ --benchmark` does, and returns the result as an object."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.check import load_rows, problems
from harness.declare import Suite
from harness.declare.load_suite import loaded_suite
from harness.executors.quiet import own_warnings
from harness.executors.workers import run_device_problem, workers_problem
from harness.records.harmless_text import printable_lines
from harness.run.progress import Bar, Silent
from harness.session.options import SessionOptions, cache_problem, download_problem, timeout_problem
from harness.session.own_packages import keep_own_packages
from harness.session.session import Session

if TYPE_CHECKING:
    from reports.analysis import AnalysedRun


class DeclarationError(ValueError):
    """A suite cannot be run. `problems` has one sentence for each problem."""

    def __init__(self, said: list[str]) -> None:
        super().__init__("\n".join(said))
        self.problems = tuple(said)


def run_suite(  # noqa: PLR0913 - the options of the command line, by the same names
        suite: Suite | str | Path, *, device: str = "cpu", runs_dir: str | Path = "runs", fresh: bool = False,
        exact: bool = False, verify: bool = False, retime: bool = False, shared_cache: str = "",
        baselines: str | Path = "models/baselines", live: bool = False, page_budget: float = 10.0, workers: str = "",
        worker_timeout: float = 0.0, allow_download: bool = False, progress: bool = True) -> AnalysedRun:
    """Runs a suite, or the SUITE of a file, and returns the run with its recommendation, verdicts and tables.

    Candidates, race, costs, gates and page are the same as with `pytest suites/ --benchmark`, in the same run folder, and results
    of an earlier run there are reused. A failed candidate does not stop the others: see `failures`, `complete` and `unfinished`
    of the result. Files of the Hugging Face hub are fetched with `allow_download` alone. Relative paths are resolved below the
    working directory. Raises DeclarationError with all problems of the
    declaration, ValueError for an invalid device, cache address or word for workers, RunFolderError for an unusable run folder,
    and NoWorkerError if there is nobody to make images.
    """
    if wrong := keep_own_packages():
        raise ImportError(wrong)
    root = Path.cwd()
    options = SessionOptions(root=root, runs=root / runs_dir, baselines=root / baselines, device=device, fresh=fresh, exact=exact,
                             verify=verify, retime=retime, cache=shared_cache, live=live, page_budget=page_budget,
                             workers=workers, worker_timeout=worker_timeout, allow_download=allow_download,
                             command=("run_suite",))
    if wrong := (run_device_problem(device, workers) or cache_problem(shared_cache) or workers_problem(workers, device)
                 or timeout_problem(worker_timeout, workers) or download_problem(allow_download)):
        raise ValueError(wrong)
    declared = _declared(suite) if isinstance(suite, str | Path) else suite
    load_rows(declared, [*([Path(suite).parent] if isinstance(suite, str | Path) else []), root])
    display = Bar(0) if progress else Silent()
    session = Session(options, display, lambda line: print(printable_lines(line), file=sys.stderr, flush=True)
                      if progress else None)
    of = session.add(declared, str(suite) if isinstance(suite, str | Path) else "")
    if of is not None and allow_download:
        of.fetch()
    if of is None or of.problems:
        raise DeclarationError(problems(declared, root) if of is None else of.problems)
    try:
        display.start()
        with own_warnings():
            return of.go()
    finally:
        display.stop()
        session.close()


def _declared(file: str | Path) -> object:
    """The SUITE of a file. Raises DeclarationError for a file that holds further suites, which would not be run."""
    loaded = loaded_suite(Path(file))
    if loaded.others:
        raise DeclarationError([f"{Path(file).name}: besides SUITE, {loaded.others}, which nothing runs; give each suite a file "
                                "of its own"])
    return loaded.declared
