"""How long a suite will take, from what earlier runs on this machine took for an image; never a guess."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.declare import Suite, plain
from harness.declare.models import references
from harness.probes.environment import processor
from harness.records import Finished, Journal
from harness.records.json_lines import from_line
from harness.records.regular_files import LARGEST_RUN_JSON, read_regular

MOST_RUNS: Final = 200
_LARGEST_JOURNAL: Final = 64 << 20
_SAME: Final = ("sampler", "steps", "width", "height")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds per image of an earlier run, with reading, merging and measuring, over so many images."""

    seconds_per_image: float
    images: int
    run: str


def pace(suite: Suite, runs: Path, device: str) -> Pace | None:
    """The pace of the latest run below `runs` on this machine's `device` that sampled a model of the suite in the same size and
    steps; None if there is none."""
    try:
        heads = sorted(runs.glob("*/run.json"), key=lambda file: file.stat().st_mtime, reverse=True)[:MOST_RUNS]
    except OSError:
        return None
    for file in heads:
        if _is_alike(suite, _read(file), device) and (found := _pace(file.parent)):
            return found
    return None


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def expected(suite: Suite, images: int, runs: Path, device: str) -> str:
    """How long so many images take, in words."""
    known = pace(suite, runs, device)
    if known is None:
        return f"how long they take is not known yet: no run of these models on this machine's {device}"
    return (f"about {duration(images * known.seconds_per_image)} on {device} at {known.seconds_per_image:.2g} s an image, "
            f"as in {known.run}")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        head = json.loads(read_regular(file, LARGEST_RUN_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


def _is_alike(suite: Suite, head: Mapping[str, Any], device: str) -> bool:
    machine, declared = head.get("environment"), head.get("suite")
    if not isinstance(machine, dict) or not isinstance(declared, dict) or not isinstance(grid := declared.get("grid"), dict):
        return False
    here = (device, processor(), os.cpu_count())
    if (machine.get("device"), machine.get("cpu"), machine.get("cores")) != here:
        return False
    if any(grid.get(name) != getattr(suite.grid, name) for name in _SAME):
        return False
    candidates = declared.get("candidates")
    if _ways(plain(suite)["candidates"]) != _ways(candidates):
        return False
    models = {reference for candidate in suite.candidates for model in candidate.models
              for reference in references(model)}
    text = json.dumps(candidates)
    return any(json.dumps(model) in text for model in models)


def _ways(candidates: object) -> set[str]:
    """The different ways in which candidates, as plain data, are sampled otherwise than their grid says."""
    return {json.dumps(one.get("sampling"), sort_keys=True) for one in candidates if isinstance(one, dict)
            } if isinstance(candidates, list) else set()


def _pace(folder: Path) -> Pace | None:
    """The pace of a run's finished candidates, those alone that were sampled."""
    images, seconds = 0, 0.0
    journal = Journal(folder / "journal.jsonl")
    try:
        if journal.path.stat().st_size > _LARGEST_JOURNAL:
            return None
        for line in journal.lines():
            if b'"finished"' not in line[:200]:
                continue
            record = from_line(line.decode(errors="replace"))
            if isinstance(record, Finished) and record.sampled > 0 and 0 < record.seconds < float("inf"):
                images, seconds = images + record.sampled, seconds + record.seconds
    except (OSError, ValueError):
        return None
    return Pace(seconds_per_image=seconds / images, images=images, run=folder.name) if images else None
