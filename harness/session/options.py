"""What a caller decides about a session: folders, device, what is made again, and how large a page may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.run.suite_run import Options

@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """`root` is where relative paths of a suite begin; `runs` holds a folder for each suite, `baselines` a file for each suite
    from which something was promoted.

    `fresh` samples the selected candidates again, `exact` samples at batch size 1, `verify` hashes every image that is reused,
    `cache` is the address of images shared with other runs, `live` writes an unfinished page while a run goes on, `page_budget`
    is in megabytes, and `command` is what the user typed.
    """

    root: Path
    runs: Path
    baselines: Path
    device: str = "cpu"
    fresh: bool = False
    exact: bool = False
    verify: bool = False
    cache: str = ""
    live: bool = False
    page_budget: float = 10.0
    command: tuple[str, ...] = ()

    def of_run(self) -> Options:
        """What a single run needs of them."""
        from harness.run.suite_run import Options

        return Options(root=self.root, runs=self.runs, device=self.device, fresh=self.fresh, verify=self.verify, cache=self.cache,
                       command=self.command)


def cache_problem(address: str) -> str:
    """What is wrong with the address of a shared cache: malformed, or a package that is not installed; empty where nothing is."""
    from harness.cache import CacheAddressError, open_cache

    try:
        open_cache(address, (8, 8))
    except (CacheAddressError, ModuleNotFoundError) as error:
        return f"shared cache: {error}"
    return ""
