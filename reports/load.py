"""A run folder as one tidy table and the records around it. Everything in reports starts from `load_run`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from harness.declare import Candidate, Objective, Suite, restore
from harness.records import (
    Coverage,
    Failure,
    Finished,
    Journal,
    Latency,
    Measurement,
    Memory,
    Record,
    Sample,
    Weights,
)

RUN_FORMAT: Final = 1
BASE_COLUMNS: Final = ("candidate", "prompt", "text", "split", "seed", "guidance", "sample", "path")
Place: TypeAlias = tuple[str, str, int, float]
DERIVED: Final[dict[str, dict[str, Any]]] = {
    "objective": {"metric": "derived", "unit": "points", "better": "higher", "version": 1,
                  "definition": "the value the suite maximises minus its penalties, per image"},
    "palette_left": {"metric": "derived", "unit": "share of images", "better": "lower", "version": 1,
                     "definition": "1 when an image's dominant colour is not the most common one of its candidate and "
                                   "prompt over all seeds and guidance scales, else 0"},
}


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that is not there: `count` images of a candidate lack `value` ("image" when they were never made)."""

    candidate: str
    value: str
    count: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run as read: `images` has one row per image (candidate, axis columns, prompt, text, split, seed, guidance,
    path, every value, labels, clusters, palette_left, objective); absent values are NaN and `missing` says why."""

    folder: Path
    suite: Suite
    images: pd.DataFrame
    coverage: tuple[Coverage, ...]
    latency: Mapping[str, Latency]
    memory: Mapping[str, Memory]
    failures: tuple[Failure, ...]
    weights: Mapping[str, Weights]
    finished: Mapping[str, Finished]
    missing: tuple[Gap, ...]
    damaged: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Any]]
    environment: Mapping[str, Any]
    head: Mapping[str, Any]

    def better(self, value: str) -> str:
        """Direction of a value: "higher", "lower", "nearer", or "" when the run does not say."""
        return str(self.metrics.get(value, {}).get("better", ""))

    def candidate(self, name: str) -> Candidate:
        """The declared candidate of that name; raises KeyError with the known names."""
        for candidate in self.suite.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(f"suite {self.suite.name}: no candidate {name!r}; it has {[c.name for c in self.suite.candidates]}")

    def failure_of(self, name: str) -> str:
        """What stopped a candidate, in words, or "" if nothing did."""
        said = [f"failed at \"{f.stage}\" ({f.error}: {f.message})" for f in self.failures if f.candidate == name]
        return "; ".join(said)


def load_run(folder: Path) -> Run:
    """Reads `run.json` and `journal.jsonl`. Raises FileNotFoundError or ValueError when the folder is not a run."""
    head = _head(folder)
    suite: Suite = restore(head["suite"])
    records, damaged = Journal(folder / "journal.jsonl").read()
    records = _standing(records)
    samples = _samples(records, suite)
    measurements, stale = _measurements(records, samples, suite.baseline)
    images = _table(suite, samples, measurements)
    metrics = {**{str(k): dict(v) for k, v in head.get("metrics", {}).items()}, **DERIVED}
    images = _with_derived(images, suite.objective)
    failures = tuple(r for r in records if isinstance(r, Failure))
    missing = (*_gaps(images, suite, measurements, head, failures), *stale)
    return Run(folder=folder, suite=suite, images=images, failures=failures, missing=missing, damaged=tuple(damaged),
               coverage=tuple(r for r in records if isinstance(r, Coverage)),
               latency={r.candidate: r for r in records if isinstance(r, Latency)},
               memory={r.candidate: r for r in records if isinstance(r, Memory)},
               weights={r.candidate: r for r in records if isinstance(r, Weights)},
               finished={r.candidate: r for r in records if isinstance(r, Finished)},
               metrics=metrics, environment=head.get("environment", {}), head=head)


def by_cell(table: pd.DataFrame) -> dict[tuple[str, float], pd.DataFrame]:
    """The rows of every (candidate, guidance) of a table of images, in the order of first appearance."""
    groups: Any = table.groupby(["candidate", "guidance"], sort=False)
    return {(str(candidate), float(guidance)): rows for (candidate, guidance), rows in groups}


def _head(folder: Path) -> dict[str, Any]:
    file = folder / "run.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no run.json")
    head: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if head.get("format") != RUN_FORMAT:
        raise ValueError(f"{file}: run format {head.get('format')!r} was written by another version of Sweetspot; "
                         f"this one reads format {RUN_FORMAT}")
    return head


def _standing(records: list[Record]) -> list[Record]:
    """The records that still count, in order, later ones of the same subject in place of earlier ones.

    When a candidate's weights change, a new identity is announced: what was recorded of the old one is void. A Failure
    is void when a Finished, or a new identity, of its candidate follows.
    """
    held: dict[tuple[Any, ...], Record] = {}
    identities: dict[str, str] = {}
    for r in records:
        void: tuple[type[Any], ...] = ()
        if isinstance(r, Weights):
            changed = identities.get(r.candidate, r.identity) != r.identity
            void = (Sample, Coverage, Latency, Memory, Finished, Failure) if changed else (Failure,)
            identities[r.candidate] = r.identity
        elif isinstance(r, Finished):
            void = (Failure,)
        if void:
            held = {k: v for k, v in held.items() if not (v.candidate == r.candidate and isinstance(v, void))}
        subject = _subject(r)
        held.pop(subject, None)
        held[subject] = r
    return list(held.values())


def _subject(r: Record) -> tuple[Any, ...]:
    """What a record is about: a later record about the same replaces it."""
    match r:
        case Sample():
            return ("sample", r.candidate, r.cell)
        case Measurement():
            return ("measurement", r.candidate, r.sample, r.metric)
        case Coverage():
            return ("coverage", r.candidate, r.stage, r.component)
        case Failure():
            return ("failure", r.candidate, r.stage)
        case _:
            return (type(r).__name__, r.candidate)


def _samples(records: list[Record], suite: Suite) -> dict[Place, Sample]:
    """The samples by (candidate, prompt, seed, guidance) that lie in the suite, which may have been narrowed since."""
    names = {c.name for c in suite.candidates}
    cells = {(p.id, s, float(g)) for p in suite.grid.prompts for s in suite.grid.seeds
             for g in suite.grid.guidance_scales}
    found = {(r.candidate, r.cell.prompt, r.cell.seed, float(r.cell.guidance)): r for r in records if isinstance(r, Sample)}
    return {place: r for place, r in found.items() if place[0] in names and place[1:] in cells}


def _measurements(records: list[Record], samples: Mapping[Place, Sample], baseline: str) -> tuple[list[Measurement], list[Gap]]:
    """Measurements of current samples; one that compares with an image the baseline no longer has becomes a gap."""
    current = {(s.candidate, s.key): place for place, s in samples.items()}
    kept: list[Measurement] = []
    stale: Counter[tuple[str, str]] = Counter()
    for r in records:
        if not isinstance(r, Measurement) or (r.candidate, r.sample) not in current:
            continue
        reference = samples.get((baseline, *current[r.candidate, r.sample][1:]))
        if r.reference and (reference is None or reference.key != r.reference):
            stale.update((r.candidate, value) for value in r.values)
        else:
            kept.append(r)
    why = "measured against an image that the baseline no longer has"
    return kept, [Gap(candidate=c, value=v, count=n, why=why) for (c, v), n in stale.items()]


def _table(suite: Suite, samples: Mapping[Place, Sample], measurements: list[Measurement]) -> pd.DataFrame:
    prompts = {p.id: p for p in suite.grid.prompts}
    candidates = {c.name: c for c in suite.candidates}
    measured: dict[tuple[str, str], dict[str, Any]] = {}
    for m in measurements:
        row = measured.setdefault((m.candidate, m.sample), {})
        row.update({k: float(v) for k, v in m.values.items()} | dict(m.labels) | dict(m.details))
    rows = []
    for (name, prompt, seed, guidance), s in samples.items():
        base = {"candidate": name, "prompt": prompt, "text": prompts[prompt].text, "split": prompts[prompt].split,
                "seed": seed, "guidance": guidance, "sample": s.key, "path": s.path}
        rows.append({**candidates[name].axes, **measured.get((name, s.key), {}), **base})
    axes = sorted({axis for c in suite.candidates for axis in c.axes} - set(BASE_COLUMNS))
    table = pd.DataFrame(rows, columns=None if rows else list(BASE_COLUMNS))
    order = [*BASE_COLUMNS, *axes, *(c for c in table.columns if c not in BASE_COLUMNS and c not in axes)]
    table = table.reindex(columns=order)
    rank = {c.name: i for i, c in enumerate(suite.candidates)}
    place = {p.id: i for i, p in enumerate(suite.grid.prompts)}
    keys = pd.DataFrame({"c": table["candidate"].map(rank), "p": table["prompt"].map(place),
                         "s": table["seed"], "g": table["guidance"]})
    return table.loc[keys.sort_values(["c", "p", "s", "g"]).index].reset_index(drop=True)


def _with_derived(table: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """Adds palette_left and objective (see DERIVED). A tie for the most common colour goes to the first by name."""
    table = table.copy()
    table["palette_left"] = np.nan
    if "dominant" in table.columns:
        for _, rows in table.dropna(subset=["dominant"]).groupby(["candidate", "prompt"]):
            counts = Counter(rows["dominant"].tolist())
            usual = min(counts, key=lambda colour: (-counts[colour], str(colour)))
            table.loc[rows.index, "palette_left"] = (rows["dominant"] != usual).astype(float)
    score = _column(table, objective.maximise)
    for p in objective.penalties:
        score = score - p.weight * (_column(table, p.metric) - p.allowance).clip(lower=0)
    table["objective"] = score
    return table


def _column(table: pd.DataFrame, name: str) -> pd.Series[float]:
    if name not in table.columns:
        return pd.Series(np.nan, index=table.index, dtype=float)
    return table[name].astype(float)


def _gaps(table: pd.DataFrame, suite: Suite, measurements: list[Measurement],
          head: Mapping[str, Any], failures: tuple[Failure, ...]) -> tuple[Gap, ...]:
    counted: Counter[tuple[str, str, str]] = Counter()
    for m in measurements:
        counted.update((m.candidate, value, why) for value, why in m.missing.items())
    grid = suite.grid
    planned = len(grid.prompts) * len(grid.seeds) * len(grid.guidance_scales)
    stopped = {f.candidate: f"{f.stage}: {f.error}" for f in failures}
    for c in suite.candidates:
        rows = table[table["candidate"] == c.name]
        if absent := planned - len(rows):
            why = ("not selected for this run" if c.name in head.get("not_selected", ())
                   else head.get("not_offered", {}).get(c.name) or stopped.get(c.name, "not sampled yet"))
            counted[(c.name, "image", why)] += absent
        unmeasured = rows["objective"].isna().sum()
        if unmeasured:
            names = [suite.objective.maximise, *(p.metric for p in suite.objective.penalties)]
            lacking = [n for n in dict.fromkeys(names) if n not in rows.columns or rows[n].isna().any()]
            counted[(c.name, "objective", f"no {', '.join(lacking)}")] += int(unmeasured)
    return tuple(Gap(candidate=c, value=v, count=n, why=w) for (c, v, w), n in counted.items())
