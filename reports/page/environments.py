"""The environments in which what a page shows was made: images and timings can be of earlier sessions than the last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.declare import short_hash
from reports import formatting as words
from reports.read.run import Run

SUMMARY = ("torch", "diffusers", "sweetspot")


def environments(run: Run) -> list[dict[str, Any]]:
    """One entry for each environment of this run, the last session's first: what was made in it, its main facts in a line, and
    all of it as JSON."""
    listed = run.head.get("earlier_environments")
    earlier = [one for one in (listed if isinstance(listed, list) else []) if isinstance(one, Mapping)]
    by_hash = {short_hash(one): one for one in (run.environment, *reversed(earlier))}
    images = dict(run.written_in)
    unknown = images.pop("", 0)
    if unknown and len(by_hash) == 1:  # all sessions of an earlier version took place in one environment
        images[next(iter(by_hash))] = images.get(next(iter(by_hash)), 0) + unknown
        unknown = 0
    timings = dict.fromkeys(by_hash, 0)
    for latency in run.latency.values():
        home = next((digest for digest, one in by_hash.items()
                     if latency.environment and _taken_in(latency.environment, one)), None)
        if home is None and len(by_hash) == 1:
            home = next(iter(by_hash))
        timings[home or ""] = timings.get(home or "", 0) + 1
    rows = [_row(one, images.pop(digest, 0), timings[digest], last=number == 0)
            for number, (digest, one) in enumerate(by_hash.items())]
    unknown += sum(images.values())
    if unknown or timings.get("", 0):
        rows.append({"title": "Not on record, one of those above", "made": _made(unknown, timings.get("", 0)), "json": ""})
    return rows


def _row(environment: Mapping[str, Any], images: int, timings: int, *, last: bool) -> dict[str, Any]:
    packages = environment.get("packages")
    versions = packages if isinstance(packages, Mapping) else {}
    place = environment.get("device_name") if environment.get("device_name") not in (None, "CPU") else environment.get("cpu")
    facts = [str(place or "a device not on record"), *(f"{name} {versions[name]}" for name in SUMMARY if name in versions)]
    return {"title": words.visible(("Last session: " if last else "Earlier session: ") + ", ".join(facts)),
            "made": _made(images, timings), "json": json.dumps(environment, indent=1, ensure_ascii=True, default=str)}


def _made(images: int, timings: int) -> str:
    return f"{words.plural(images, 'image')} and {words.plural(timings, 'timing')} of this page"


def _taken_in(facts: Mapping[str, Any], environment: Mapping[str, Any]) -> bool:
    """Whether a timing with these facts can have been taken in an environment."""
    packages = environment.get("packages")
    versions = packages if isinstance(packages, Mapping) else {}
    for name, fact in facts.items():
        if name == "packages" and isinstance(fact, Mapping):
            if any(versions.get(package) != version for package, version in fact.items()):
                return False
        elif (versions.get(name) if name == "sweetspot" else environment.get(name)) != fact:
            return False
    return True
