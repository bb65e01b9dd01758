"""What workers in other processes and on other machines did in the sessions of a run, as run.json keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from harness.records.sound_values import first_misfit

WORKERS: Final = "workers"
"""In run.json: one entry for each session with workers, oldest first."""
LONGEST: Final = 20
"""Sessions that are kept, the last ones."""
MOST: Final = 4096


@dataclass(frozen=True, kw_only=True)
class WorkerWork:
    """What one worker did. `seconds_busy` are those with a unit in its hands, `seconds_waiting` those without, `repeated` the
    images that it was given, whether begun or not, and that others made; `lost` says why it ended early, if it did."""

    worker: int
    host: str
    process: int
    device: str
    images: int
    seconds_busy: float
    seconds_waiting: float
    repeated: int = 0
    lost: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerSession:
    """The workers of one session. `asked` is the option's word, as "local:4", `started` when the session began, in UTC, and
    `seconds` how long images were owed by the workers, their start included."""

    asked: str
    started: str
    seconds: float
    workers: tuple[WorkerWork, ...]

    @property
    def images(self) -> int:
        """Images that arrived from all workers."""
        return sum(worker.images for worker in self.workers)

    @property
    def share_busy(self) -> float | None:
        """The share of the workers' time in which they had something to make, from 0 to 1; None before any time has passed."""
        busy, waiting = (sum(getattr(worker, name) for worker in self.workers) for name in ("seconds_busy", "seconds_waiting"))
        return busy / (busy + waiting) if busy + waiting else None


def with_session(head: Mapping[str, Any], session: WorkerSession) -> list[dict[str, Any]]:
    """The entries of run.json with that of a session, which replaces what it noted before."""
    entries = head.get(WORKERS)
    kept = [entry for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, Mapping) and entry.get("started") != session.started]
    return [*map(dict, kept), asdict(session)][-LONGEST:]


def worker_sessions(head: Mapping[str, Any]) -> tuple[WorkerSession, ...]:
    """The sessions with workers, oldest first. An entry that no session can have written is left out."""
    entries = head.get(WORKERS)
    sessions = [_session(entry) for entry in (entries[-LONGEST:] if isinstance(entries, list) else ())]
    return tuple(session for session in sessions if session is not None)


def _session(entry: Any) -> WorkerSession | None:
    try:
        session = WorkerSession(**{**entry, "workers": tuple(WorkerWork(**worker) for worker in entry["workers"][:MOST])})
    except (TypeError, KeyError):
        return None
    negative = any(value < 0 for worker in session.workers for value in vars(worker).values() if type(value) in (int, float))
    return None if first_misfit(session, WORKERS) or negative or session.seconds < 0 else session
