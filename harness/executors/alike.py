"""Whether a worker makes the same pixels as the run that it works for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.executors.contract import Job
from harness.probes.environment import deciding_pixels
from harness.records.harmless_text import printable
from harness.runtimes import packages_of


def difference(job: Job, facts: Mapping[str, Any]) -> str:
    """In what a worker differs from the run so that its images could differ, in words; empty if in nothing. `facts` are those of
    `Worker.about`."""
    if job.asking:
        return ""
    packages = sorted({package for candidate in job.suite.candidates for package in packages_of(candidate.runtime)})
    of_worker = facts.get("environment")
    if not isinstance(of_worker, Mapping):
        return "it does not say what it is"
    ours, theirs = ({**deciding_pixels(one, packages), "version of sweetspot": _version(one)}
                    for one in (job.environment, of_worker))
    return differing(theirs, ours, "in the run it is")


def differing(here: Mapping[str, Any], there: Mapping[str, Any], elsewhere: str) -> str:
    """The facts that differ, nested ones under names as "packages.torch", with both values; empty if none does. `elsewhere` is
    the phrase before the value `there`. Names and values may be anybody's."""
    ours, theirs = _flat(here), _flat(there)
    names = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    return "; ".join(f"{printable(name)} is {_shown(ours.get(name))}, {elsewhere} {_shown(theirs.get(name))}" for name in names)


def name_of(worker: int, facts: Mapping[str, Any]) -> str:
    """A worker in messages: "worker 3 (host gpu-7, process 4711)"."""
    return f"worker {worker} ({place_of(facts)})"


def place_of(facts: Mapping[str, Any]) -> str:
    """Where a worker is: "host gpu-7, process 4711"."""
    return printable(f"host {facts.get('host', 'unknown')}, process {facts.get('pid', 'unknown')}")


def _version(facts: Mapping[str, Any]) -> object:
    packages = facts.get("packages")
    return packages.get("sweetspot") if isinstance(packages, Mapping) else None


def _flat(facts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested facts under names as "packages.torch"; lists and plain values as they are."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat


def _shown(value: object) -> str:
    return "not known" if value is None else printable(repr(value))
