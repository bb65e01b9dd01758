"""Which images a candidate was asked for, and which of them have no value: a mean over the images that survived would not be one
over what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from harness.declare import grid_of
from harness.records.values import FAILURE_RATE
from reports.read.interim_looks import asked
from reports.read.run import Run

Place: TypeAlias = tuple[str, int, float]
"""(prompt, seed, guidance)."""


@dataclass(frozen=True, kw_only=True)
class Lack:
    """`count` of the `of` images that were asked for have no value; `why` says so in words, and is empty where none lacks it.
    `excused` are unusable images that a gate on the failure rate decides about."""

    count: int = 0
    of: int = 0
    why: str = ""
    excused: int = 0


def asked_places(run: Run, name: str, prompts: Collection[str] | None = None, guidance: float | None = None) -> set[Place]:
    """The cells that a candidate was asked for: those of the looks of a race, else its whole grid. Only of `prompts` and at
    `guidance`, where these are given."""
    grid, raced = grid_of(run.suite, run.declared(name)), asked(run.suite, run.looks).get(name)
    places = ((c.prompt, c.seed, float(c.guidance)) for c in raced) if raced else (
        (p.id, seed, float(g)) for p in grid.prompts for seed in grid.seeds for g in grid.guidance_scales)
    return {place for place in places
            if (prompts is None or place[0] in prompts) and (guidance is None or place[2] == float(guidance))}


def lacking(run: Run, name: str, value: str, places: Iterable[Place]) -> Lack:
    """Which of the places have no value of a candidate. Where the value does not exist by definition nothing is lacking; nor of
    people's ratings, which are of the images that people were shown."""
    wanted = set(places)
    if not wanted or run.row(value).origin == "people" or value not in run.images.columns:
        return Lack(of=len(wanted))
    rows = run.images[run.images["candidate"] == name]
    there = zip(rows["prompt"], rows["seed"], rows["guidance"], rows["sample"], rows[value].notna(), strict=True)
    found = {(prompt, int(seed), float(guidance)): (sample, measured) for prompt, seed, guidance, sample, measured in there}
    decided_by_gate = any(gate.value == FAILURE_RATE.name for gate in run.suite.gates)
    reasons: Counter[str] = Counter()
    excused = 0
    for place in wanted:
        sample, measured = found.get(place, ("", False))
        if measured or (sample, value) in run.undefined:
            continue
        if sample in run.defects and decided_by_gate:
            excused += 1
            continue
        reasons[_why(run, name, value, str(sample))] += 1
    count = sum(reasons.values())
    causes = "; ".join(f"{number} {why}" if len(reasons) > 1 else why for why, number in reasons.most_common())
    return Lack(count=count, of=len(wanted), excused=excused,
                why=f"{count} of {len(wanted)} images that were asked for have no {value} ({causes})" if count else "")


def _why(run: Run, name: str, value: str, sample: str) -> str:
    if not sample:
        return run.failure_of(name) or run.why_missing(name, "image") or "no image"
    return run.defects.get(sample) or run.why_missing(name, value) or run.failure_of(name) or "no value"
