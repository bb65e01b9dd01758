"""An errand that one worker of a crew does, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from harness.executors.contract import About, Errand, Failed, Found, Lost

Heard: TypeAlias = Found | Lost | Failed | About
"""What it finds; that its worker was lost, after which all of it is done again; at last its failure, or what the worker is that
did it."""


@dataclass(kw_only=True, eq=False)
class Asked:
    """`fits` says by its facts how well a worker can do the errand, 0 for not at all, and `hear` is called with what comes of it,
    on the thread of the crew."""

    errand: Errand
    hear: Callable[[Heard], None]
    fits: Callable[[Mapping[str, Any]], int] = lambda _: 1
    worker: int | None = None
    """The one that does it now."""
    deaths: list[str] = field(default_factory=list)
    """Why the workers ended that did it before."""
