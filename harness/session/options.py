"""The options of a session: folders, device, what is sampled again, and the size of a page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.run.suite_run import Options

@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """Relative paths of a suite are resolved below `root`. `runs` holds a folder for each suite, `baselines` a file for each
    suite with a promotion.

    `fresh` samples the selected candidates again, `exact` samples at batch size 1, `verify` hashes every image that is
    reused, `retime` times candidates again that the journal has timings of, `cache` is the address of images shared with
    other runs, `workers` says who makes the images, as the option of that name (empty: this process), a worker that sends
    nothing for `worker_timeout` seconds is ended (0: never), `live` writes an unfinished page during the run, `page_budget`
    is in megabytes, with `own_process` the process is for the session alone, with `allow_download` files of the Hugging Face
    hub are fetched that its cache does not have, and `command` is the user's command line.
    """

    root: Path
    runs: Path
    baselines: Path
    device: str = "cpu"
    fresh: bool = False
    exact: bool = False
    verify: bool = False
    retime: bool = False
    cache: str = ""
    workers: str = ""
    worker_timeout: float = 0.0
    live: bool = False
    page_budget: float = 10.0
    own_process: bool = False
    allow_download: bool = False
    command: tuple[str, ...] = ()

    def of_run(self) -> Options:
        """The options of a single run."""
        from harness.run.suite_run import Options

        return Options(root=self.root, runs=self.runs, device=self.device, fresh=self.fresh, verify=self.verify,
                       retime=self.retime, cache=self.cache, own_process=self.own_process, workers=self.workers,
                       worker_timeout=self.worker_timeout, command=self.command)


def cache_problem(address: str) -> str:
    """Why the address of a shared cache cannot be used: malformed, or a package is not installed; empty if it can."""
    from harness.cache import CacheAddressError, open_cache

    try:
        open_cache(address, (8, 8))
    except (CacheAddressError, ModuleNotFoundError) as error:
        return f"shared cache: {error}"
    return ""


def timeout_problem(limit: object, workers: str) -> str:
    """Why the time limit of workers cannot be used: it is not a number of seconds, or there are no workers; empty if it can. 0 is
    no limit."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit < math.inf:
        return f"worker timeout {limit!r}: expected seconds, such as 600, or 0 for no limit"
    if limit and not workers:
        return "a worker timeout without workers: this process makes the images itself, and has no limit. Say who else makes " \
               "them, as local:2, or leave the timeout out"
    return ""


def download_problem(allowed: bool) -> str:
    """Why files of the hub cannot be fetched though that is allowed; empty if they can, or are not to be."""
    from harness.hub import HubError
    from harness.hub.fetching import refuse_offline

    try:
        refuse_offline() if allowed else None
    except HubError as error:
        return str(error)
    return ""
