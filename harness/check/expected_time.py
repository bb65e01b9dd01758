"""How long a suite will take, from what earlier runs on this machine took for an image; never a guess."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from harness.declare import Suite, plain
from harness.declare.models import references
from harness.probes.environment import processor
from harness.records import Finished, Journal
from harness.records.json_lines import from_line
from harness.records.regular_files import LARGEST_RUN_JSON, read_regular

MOST_RUNS: Final = 200
_LARGEST_JOURNAL: Final = 64 << 20
_SIZED: Final = ("sampler", "steps", "width", "height")
_ELSE: Final = ("schedule", "guidance_start", "guidance_end", "stages", "controls", "references", "inpaint", "post")
"""What else than sampler, steps, size and guidance decides how long an image takes."""

Way: TypeAlias = str
"""How images are sampled, as far as it decides how long they take."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds per image of an earlier run, with reading, merging and measuring, over so many images."""

    seconds_per_image: float
    images: int
    run: str


def pace(suite: Suite, runs: Path, device: str) -> Pace | None:
    """The mean pace of a suite's images by the latest runs below `runs` on this machine's `device` that sampled a model of the
    suite in the same ways; None if no run sampled in one of these ways."""
    needed = _images_by_way(plain(suite))
    known: dict[Way, Pace] = {}
    for folder, head in _alike(suite, runs, device):
        for way, of_run in _paces(folder, head["suite"]).items():
            known.setdefault(way, of_run)
        if needed.keys() <= known.keys():
            used = [known[way] for way in needed]
            seconds = sum(count * known[way].seconds_per_image for way, count in needed.items())
            return Pace(seconds_per_image=seconds / max(1, sum(needed.values())), images=sum(one.images for one in used),
                        run=" and ".join(dict.fromkeys(one.run for one in used)))
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
        how = " was sampled in these ways" if any(True for _ in _alike(suite, runs, device)) else ""
        return f"how long they take is not known yet: no run of these models on this machine's {device}{how}"
    return (f"about {duration(images * known.seconds_per_image)} on {device} at {known.seconds_per_image:.2g} s an image, "
            f"as in {known.run}")


def _read(file: Path) -> Mapping[str, Any]:
    try:
        head = json.loads(read_regular(file, LARGEST_RUN_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


def _alike(suite: Suite, runs: Path, device: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The latest runs on this machine's device that sampled a model of the suite: folder and content of run.json."""
    try:
        heads = sorted(runs.glob("*/run.json"), key=lambda file: file.stat().st_mtime, reverse=True)[:MOST_RUNS]
    except OSError:
        return
    yield from ((file.parent, head) for file in heads if _is_alike(suite, head := _read(file), device))


def _is_alike(suite: Suite, head: Mapping[str, Any], device: str) -> bool:
    machine, declared = head.get("environment"), head.get("suite")
    if not isinstance(machine, dict) or not isinstance(declared, dict):
        return False
    here = (device, processor(), os.cpu_count())
    if (machine.get("device"), machine.get("cpu"), machine.get("cores")) != here:
        return False
    models = {reference for candidate in suite.candidates for reference in references(candidate.model)}
    text = json.dumps(declared.get("candidates"))
    return any(json.dumps(model) in text for model in models)


def _ways(declared: Mapping[str, Any]) -> list[tuple[str, Way, int]]:
    """Name, way and number of images of each candidate of a suite as plain data. A damaged one has none."""
    grid, candidates = declared.get("grid"), declared.get("candidates")
    if not isinstance(grid, dict) or not isinstance(candidates, list):
        return []
    ways = []
    for one in (one for one in candidates if isinstance(one, dict)):
        own = {**_given(grid.get("sampling")), **_given(one.get("sampling"))}
        scales = _listed(own.get("guidance") or grid.get("guidance_scales"))
        way = [own.get(name, grid.get(name)) for name in _SIZED] + [own.get(name, one.get(name)) for name in _ELSE]
        # Without guidance the denoiser runs half as often.
        shares = sum(scale == 1 for scale in scales) / max(1, len(scales))
        images = len(scales) * len(_listed(grid.get("prompts"))) * len(_listed(grid.get("seeds")))
        ways.append((str(one.get("name")), json.dumps([*way, round(shares, 2)]), images))
    return ways


def _given(sampling: object) -> dict[str, Any]:
    return {name: value for name, value in sampling.items() if value is not None} if isinstance(sampling, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _images_by_way(declared: Mapping[str, Any]) -> Counter[Way]:
    counts: Counter[Way] = Counter()
    for _, way, images in _ways(declared):
        counts[way] += images
    return counts


def _paces(folder: Path, declared: Mapping[str, Any]) -> dict[Way, Pace]:
    """The pace of each way in which a run sampled, by its finished candidates, those alone that were sampled."""
    ways = {name: way for name, way, _ in _ways(declared)}
    only = next(iter(ways.values())) if len(set(ways.values())) == 1 else None
    images: Counter[Way] = Counter()
    seconds: defaultdict[Way, float] = defaultdict(float)
    journal = Journal(folder / "journal.jsonl")
    try:
        if journal.path.stat().st_size > _LARGEST_JOURNAL:
            return {}
        for line in journal.lines():
            if b'"finished"' not in line[:200]:
                continue
            record = from_line(line.decode(errors="replace"))
            if isinstance(record, Finished) and record.sampled > 0 and 0 < record.seconds < float("inf") and (
                    way := ways.get(record.candidate, only)):
                images[way] += record.sampled
                seconds[way] += record.seconds
    except (OSError, ValueError):
        return {}
    return {way: Pace(seconds_per_image=seconds[way] / count, images=count, run=folder.name) for way, count in images.items()}
