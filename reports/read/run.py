"""A run folder as one tidy table and the records around it. Everything in reports starts from `load_run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from harness.declare import DESIRABILITY, Candidate, Objective, Suite, grid_of
from harness.declare.candidate_names import hint
from harness.declare.effective_grid import whole_grid
from harness.declare.pairing import with_baseline
from harness.declare.picture_uses import OF_MAPS, beside_maps
from harness.declare.prompt_texts import shown_text
from harness.declare.same_text import SAME_TEXT, effective_prompts, first_of_text
from harness.records import (
    Cell,
    Journal,
    Look,
    Measurement,
    Sample,
    ValueSpec,
)
from harness.records.images import EMBEDDING
from harness.records.values import AGREEMENT, FAILURE_RATE, OBJECTIVE, derivation, spec_of, values_from
from reports.read.agreement import agreement
from reports.read.current_records import CurrentRecords, Gap, Standing, sift
from reports.read.objective import parts_of, range_of, with_objective
from reports.read.promoted_values import Promoted, read_promoted
from reports.read.ratings import Eyes, with_ratings
from reports.read.roles import axis_of, axis_values, controls
from reports.read.run_json import read_head
from reports.read.value_rows import rows_of

__all__ = ["Gap", "Run", "by_cell", "load_run"]

BASE_COLUMNS: Final = ("candidate", "prompt", "text", "split", "seed", "guidance", "sample", "path", SAME_TEXT)
LARGEST_SCORE: Final = 1e100

@dataclass(frozen=True, kw_only=True)
class Run(CurrentRecords):
    """One run as read: `images` has one row per image (candidate, axis columns, prompt, text, split, seed, guidance,
    path, the first prompt of the same text, every value, labels, clusters, palette_left, objective); absent values are NaN and
    `missing` says why. `values` are the rows of what the images may have, by name.
    Only records that still count are here, and only those of declared candidates; see CurrentRecords."""

    folder: Path
    suite: Suite
    images: pd.DataFrame
    missing: tuple[Gap, ...]
    damaged: tuple[str, ...]
    values: Mapping[str, ValueSpec]
    environment: Mapping[str, Any]
    head: Mapping[str, Any]
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of every image that counts, by its path."""
    undefined: frozenset[tuple[str, str]] = frozenset()
    """By the key of a sample and the name of a value: where the value does not exist by definition (see ValueSpec)."""
    eyes: Eyes = field(default_factory=Eyes)
    promoted: Promoted | None = None

    def values_for(self, place: str) -> list[ValueSpec]:
        """The rows of the values that are shown at one of the PLACES (see ValueSpec), the objective and the headlines first. In
        the figures these are also those that the objective and the gates are about."""
        objective = self.suite.objective
        asked = {*parts_of(objective), *(c.metric for c in objective.constraints), *(gate.value for gate in self.suite.gates)}
        rows = [row for row in self.values.values() if place in row.shown or (place == "figure" and row.name in asked)]
        return sorted(rows, key=lambda row: (row.name != "objective", "headline" not in row.shown))

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores that are compared beside the objective: values of metrics that are headlines, more being better."""
        return tuple(row.name for row in self.values_for("headline") if row.origin == "metric" and row.better == "higher")

    @cached_property
    def axis(self) -> str | None:
        """The numeric axis that the candidates sweep."""
        return axis_of(self.suite)

    @cached_property
    def axis_values(self) -> Mapping[str, float]:
        """The values on the axis of the candidates that it tells apart."""
        return axis_values(self.suite)

    @cached_property
    def roles(self) -> Mapping[str, str]:
        """The controls among the candidates, and their roles."""
        return controls(self.suite)

    @cached_property
    def _candidates(self) -> Mapping[str, Candidate]:
        return {candidate.name: candidate for candidate in reversed(self.suite.candidates)}

    @property
    def numeric_values(self) -> list[str]:
        """The values of the run that are numbers and have a column in `images`, in the order of `values`."""
        return [value for value in self.values if value in self.images.columns and self.images[value].dtype.kind in "fiu"]

    def row(self, value: str) -> ValueSpec:
        """What is known of a value: its row of `values`, else of RUN_VALUES, else that of an unknown value."""
        return spec_of(self.values, value)

    def versions_behind(self, value: str) -> list[int | str]:
        """The versions that decide a value: its own, and of a derived value those of the metric it is derived from, and from the
        second on that of the derivation."""
        row = self.row(value)
        behind = [spec.version for spec in self.values.values()
                  if row.origin == "derived" and spec.origin == "metric" and spec.metric == row.metric]
        if behind and row.version != 1:
            behind.append(derivation(row.version))
        return list(dict.fromkeys(behind or [row.version]))

    def candidate(self, name: str) -> Candidate:
        """The declared candidate of that name; raises KeyError with the known names."""
        if (candidate := self._candidates.get(name)) is not None:
            return candidate
        raise KeyError(f"suite {self.suite.name}: no candidate {name!r}; "
                       f"{hint(name, [c.name for c in self.suite.candidates])}")

    def declared(self, name: str) -> Candidate | None:
        """The declared candidate of that name, or None."""
        return self._candidates.get(name)

    def why_missing(self, name: str, value: str) -> str:
        """Why a candidate lacks a value, in the words of its first gap, or "" if there is none."""
        return next((g.why for g in self.missing if g.candidate == name and g.value == value), "")

    def failure_of(self, name: str) -> str:
        """What stopped a candidate, in words, or "" if nothing did."""
        reasons = [f"failed at \"{f.stage}\" ({f.error}: {f.message})" for f in self.failures if f.candidate == name]
        return "; ".join(reasons)


def load_run(folder: Path, looks: Sequence[Look] | None = None, also: Sequence[Candidate] = ()) -> Run:
    """Reads `run.json` and `journal.jsonl`. Raises FileNotFoundError or ValueError when the folder is not a run. A race under
    way gives its `looks` so far: what they asked for is read, and nothing else; `also` are candidates that it only tries."""
    head, suite = read_head(folder)
    suite = replace(suite, candidates=(*suite.candidates, *also)) if also else suite
    records, damaged = Journal(folder / "journal.jsonl").read()
    standing = sift(records, suite, head, looks)
    rated, eyes = with_ratings(folder, _table(suite, standing.samples, standing.measurements), standing.samples)
    images = with_derived(rated, suite.objective)
    measured = rows_of(head)
    values = {**measured, **_derived(suite.objective, measured), **eyes.values}
    undefined = _undefined(images, suite, standing.measurements, values)
    missing = (*standing.gaps, *_gaps(images, suite, standing, undefined), *eyes.gaps)
    damaged = [*damaged, *eyes.damaged]
    current = {field.name: getattr(standing, field.name) for field in fields(CurrentRecords)}
    return Run(**current, folder=folder, suite=suite, images=images, missing=missing, damaged=tuple(damaged), values=values,
               environment=head.get("environment", {}), head=head, eyes=eyes, undefined=undefined, promoted=read_promoted(folder),
               digests={s.path: s.sha256 for s in standing.samples.values()})


def by_cell(table: pd.DataFrame) -> dict[tuple[str, float], pd.DataFrame]:
    """The rows of every (candidate, guidance) of a table of images, in the order of first appearance."""
    groups: Any = table.groupby(["candidate", "guidance"], sort=False)
    return {(str(candidate), float(guidance)): rows for (candidate, guidance), rows in groups}


def _table(suite: Suite, samples: Mapping[tuple[str, Cell], Sample], measurements: Sequence[Measurement]) -> pd.DataFrame:
    prompts = {p.id: p for p in suite.grid.prompts}
    grid = whole_grid(suite)
    firsts = {float(scale): first_of_text(effective_prompts(grid, scale)) for scale in grid.guidance_scales}
    candidates = {c.name: c for c in suite.candidates}
    measured: dict[tuple[str, str], dict[str, Any]] = {}
    # A column holds numbers or words, whatever a journal calls them: where a name is both, only the numbers are taken.
    numbers = {name for m in measurements for name in m.values} | {axis for c in suite.candidates for axis in c.axes}
    columns = dict.fromkeys(BASE_COLUMNS)
    for m in _in_order(suite, measurements):
        columns |= dict.fromkeys([*m.labels, *m.details, *m.values])
        row = measured.setdefault((m.candidate, m.sample), {})
        row.update((name, item) for name, item in {**m.labels, **m.details}.items() if name not in numbers)
        row.update((name, float(value)) for name, value in m.values.items())
    rows = []
    for (name, cell), s in samples.items():
        base = {"candidate": name, "prompt": cell.prompt, "text": shown_text(prompts[cell.prompt]),
                "split": prompts[cell.prompt].split, "seed": cell.seed, "guidance": cell.guidance, "sample": s.key,
                "path": s.path, SAME_TEXT: firsts[float(cell.guidance)][cell.prompt]}
        rows.append({**measured.get((name, s.key), {}), **candidates[name].axes, **base})
    axes = sorted({axis for c in suite.candidates for axis in c.axes} - set(BASE_COLUMNS))
    table = pd.DataFrame(rows, columns=None if rows else list(BASE_COLUMNS))
    order = [*BASE_COLUMNS, *axes, *(c for c in columns if c in table.columns and c not in BASE_COLUMNS and c not in axes)]
    table = table.reindex(columns=order)
    rank = {c.name: i for i, c in enumerate(suite.candidates)}
    place = {p.id: i for i, p in enumerate(suite.grid.prompts)}
    keys = pd.DataFrame({"c": table["candidate"].map(rank), "p": table["prompt"].map(place),
                         "s": table["seed"], "g": table["guidance"]})
    return table.loc[keys.sort_values(["c", "p", "s", "g"]).index].reset_index(drop=True)


def _in_order(suite: Suite, measurements: Sequence[Measurement]) -> list[Measurement]:
    """Measurements in the order of the suite's metrics: which one came first is chance, with several workers or a cache."""
    rank = {metric: place for place, metric in enumerate(suite.metrics)}
    return sorted(measurements, key=lambda m: (rank.get(m.metric, len(rank)), m.metric, m.candidate, m.sample))


def with_derived(table: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """Adds palette_left, likeness_agreement where embeddings are on record, and objective (see RUN_VALUES)."""
    table = table.copy()
    table["palette_left"] = np.nan
    if "dominant" in table.columns:
        known = table.dropna(subset=["dominant"])
        table.loc[known.index, "palette_left"] = known.groupby(["candidate", "prompt"])["dominant"].transform(_left_usual)
    if EMBEDDING in table.columns:
        table[AGREEMENT.name] = agreement(table)
    with_values = with_objective(table, objective)
    # No sum of squares may overflow: such a score comes of no picture, and counts as none.
    return with_values.assign(objective=with_values["objective"].where(with_values["objective"].abs() < LARGEST_SCORE))


def _left_usual(colours: pd.Series[str]) -> pd.Series[float]:
    """For each image 1 where its colour is not the most common one, else 0. Where k colours are equally common, each of them is
    the usual one with a chance of 1 in k, so that no side of a tie is favoured: their images have 1 - 1/k."""
    counts = colours.value_counts()
    usual = counts.index[counts == counts.max()]
    return pd.Series(np.where(colours.isin(usual), 1 - 1 / len(usual), 1.0), index=colours.index)


def _derived(objective: Objective, measured: Mapping[str, ValueSpec]) -> dict[str, ValueSpec]:
    """The derived values that a suite has; that of the objective knows its range."""
    derived = {name: spec for name, spec in values_from("derived").items()
               if (name != DESIRABILITY or objective.maximise == DESIRABILITY)
               and (name != AGREEMENT.name or any(row.metric == AGREEMENT.metric for row in measured.values()))}
    low, high = range_of(objective, {**derived, **measured})
    return {**derived, OBJECTIVE.name: replace(OBJECTIVE, low=low, high=high)}


def _undefined(table: pd.DataFrame, suite: Suite, measurements: Sequence[Measurement],
               values: Mapping[str, ValueSpec]) -> frozenset[tuple[str, str]]:
    """By sample and value where a value does not exist by definition, and the objective that lacks no other part."""
    unpaired, beside = _unpaired(suite), beside_maps(suite)
    undefined = {(m.sample, value) for m in measurements for value, why in m.missing.items()
                 if why and (why == spec_of(values, value).undefined
                             or (value in OF_MAPS and m.candidate in beside)
                             or (spec_of(values, value).paired and (m.candidate, m.cell.guidance) in unpaired))}
    undefined |= {(sample, AGREEMENT.name) for sample in _alone(table)["sample"]}
    undefined |= {(sample, AGREEMENT.name) for sample, value in undefined if value == AGREEMENT.metric}
    if any(part in {value for _, value in undefined} for part in parts_of(suite.objective)):
        for sample, lacking in _unscored(table, suite.objective):
            if lacking and all((sample, part) in undefined for part in lacking):
                undefined.add((sample, "objective"))
    return frozenset(undefined)


def _alone(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of images of a reference that have no other to agree with."""
    if AGREEMENT.name not in table.columns:
        return table.iloc[:0]
    return table[table[AGREEMENT.name].isna() & table[EMBEDDING].notna()]


def _unpaired(suite: Suite) -> set[tuple[str, float]]:
    """The candidates and guidance scales whose images the baseline has no counterpart of."""
    return {(c.name, float(scale)) for c in suite.candidates for scale in grid_of(suite, c).guidance_scales
            if with_baseline(suite, c, scale).scale is None}


def _unscored(table: pd.DataFrame, objective: Objective) -> Iterator[tuple[str, list[str]]]:
    """The samples that have no objective, each with the parts that it lacks."""
    rows = table[table["objective"].isna()]
    absent = {part: rows[part].isna().tolist() if part in rows.columns else [True] * len(rows) for part in parts_of(objective)}
    for at, sample in enumerate(rows["sample"]):
        yield str(sample), [part for part, lacks in absent.items() if lacks[at]]


def _gaps(table: pd.DataFrame, suite: Suite, standing: Standing, undefined: Collection[tuple[str, str]]) -> list[Gap]:
    """Values that a metric said it could not give, and objectives that lack one of theirs. Expected are those that do not exist
    by definition, and those of unusable images where a gate decides how many there may be."""
    counted_by_gate = standing.defects if any(gate.value == FAILURE_RATE.name for gate in suite.gates) else {}
    counted: Counter[tuple[str, str, str, bool]] = Counter()
    for m in standing.measurements:
        for value, why in m.missing.items():
            counted[m.candidate, value, why, m.sample in counted_by_gate or (m.sample, value) in undefined] += 1
    counted.update((str(name), AGREEMENT.name, AGREEMENT.undefined, True) for name in _alone(table)["candidate"])
    for c in suite.candidates:
        rows = table[table["candidate"] == c.name]
        unscored = rows[rows["objective"].isna()]
        if unscored.empty:
            continue
        lacking = [n for n in parts_of(suite.objective) if n not in rows.columns or rows[n].isna().any()]
        why = f"no {', '.join(lacking)}" if lacking else "too large for a score"
        counted.update((c.name, "objective", why, sample in counted_by_gate or (sample, "objective") in undefined)
                       for sample in unscored["sample"])
    return [Gap(candidate=c, value=v, count=n, why=w, expected=e) for (c, v, w, e), n in counted.items()]
