"""On which machine and device the costs of a run with workers were measured, as run.json keeps it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from harness.records.harmless_text import printable
from harness.records.sound_values import first_misfit

MEASURED_ON: Final = "measured_on"
"""In run.json: one entry for each timing of a session with workers, oldest first."""
LONGEST: Final = 20
"""Entries that are kept, the last ones."""


@dataclass(frozen=True, kw_only=True)
class MeasuredOn:
    """Where timings of one time were taken. `timed_at` is as in their Latency, `model` and `uuid` are those of the device; `by`
    is "worker", or "run" for the process of the run itself."""

    timed_at: str
    by: str
    host: str
    process: int
    device: str
    model: str
    uuid: str = ""

    @property
    def name(self) -> str:
        """In words: "host gpu-7, process 4711, cuda:0 (NVIDIA H100)". Names may be anybody's."""
        return printable(f"host {self.host}, process {self.process}, {self.device} ({self.model})")

    @classmethod
    def here(cls, timed_at: str, environment: Mapping[str, Any]) -> MeasuredOn:
        """This process, in its environment."""
        return cls(timed_at=timed_at, by="run", host=socket.gethostname(), process=os.getpid(), **_device(environment))

    @classmethod
    def worker(cls, timed_at: str, facts: Mapping[str, Any]) -> MeasuredOn:
        """A worker, by what it says it is."""
        return cls(timed_at=timed_at, by="worker", host=str(facts.get("host", "")), process=int(facts.get("pid", 0)),
                   **_device(facts["environment"]))


def with_measured(head: Mapping[str, Any], place: MeasuredOn) -> list[dict[str, Any]]:
    """The entries of run.json with one more."""
    entries = head.get(MEASURED_ON)
    return [*(dict(entry) for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, Mapping)),
            asdict(place)][-LONGEST:]


def measured_on(head: Mapping[str, Any]) -> tuple[MeasuredOn, ...]:
    """Where timings were taken, oldest first. An entry that no session can have written is left out."""
    entries = head.get(MEASURED_ON)
    places = [_place(entry) for entry in (entries[-LONGEST:] if isinstance(entries, list) else ())]
    return tuple(place for place in places if place is not None)


def _device(environment: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(environment.get(fact, "")) for name, fact in (
        ("device", "device"), ("model", "device_name"), ("uuid", "device_uuid"))}


def _place(entry: Any) -> MeasuredOn | None:
    try:
        place = MeasuredOn(**entry)
    except TypeError:
        return None
    return None if first_misfit(place, MEASURED_ON) else place
