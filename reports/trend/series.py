"""One suite over time: what each run, and each promoted baseline, says of every value, in the order of their dates. Where two
points were not measured alike, no line joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from harness.declare import Prompt, plain, short_hash
from harness.declare.component_runtimes import Runtimes
from harness.declare.effective_grid import whole_grid
from harness.declare.same_text import SAME_TEXT, first_of_text, is_unguided
from harness.records import ValueSpec
from harness.records.baseline_file import PLACE, Baseline, read_baseline
from harness.records.values import costs
from reports import formatting as words
from reports.comparable import (
    costs_otherwise,
    executed_otherwise,
    last_bits,
    measured_in,
    other_pictures,
    sampled_as,
    sampled_otherwise,
)
from reports.gates import judge
from reports.gates.decision import headline
from reports.read.beside import rows_at, scale_at
from reports.read.lacking import Place, asked_places, lacking
from reports.read.objective import depends_on_prompt
from reports.read.promoted_values import cells_table
from reports.read.prompts import pictures_of, prompts_of
from reports.read.run import Run, load_run
from reports.read.value_rows import row_of
from reports.statistics.intervals import Estimate, cluster_mean
from reports.verdict.costs import SIZES, bytes_of, seconds_per_image
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend

PICK: Final = "the pick"
BASELINE: Final = "the baseline"
PROMOTED: Final = "promoted"
COSTS: Final = costs()
UNKNOWN: Final = None
"""What a baseline file does not say; it equals nothing, for nobody can tell whether it changed."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run, or one baseline file. `estimates` are by series and value; by series, `who` is the candidate, `at` the guidance
    and `asked` the (prompt, seed) that it was asked for there: a race asks for more where a choice is close.

    `environment`, `sampling`, `prompts` (text and negative by identifier), `pictures` (contents by identifier and name) and
    `metric` (by value: version and setting) decide which points are joined (see reports.read.comparable); prompts and metric are
    UNKNOWN where the file does not say.
    """

    source: str
    kind: str
    suite: str
    date: datetime
    commit: str
    dirty: bool
    device: str
    guidance: float | None
    sentence: str
    who: Mapping[str, str]
    at: Mapping[str, float | None]
    asked: Mapping[str, frozenset[tuple[str, int]]]
    estimates: Mapping[tuple[str, str], Estimate]
    environment: Mapping[str, Any]
    sampling: Mapping[str, Any]
    prompts: Mapping[str, tuple[str, str]] | None
    pictures: Mapping[str, Mapping[str, str]]
    metric: Mapping[str, Any]
    places: tuple[frozenset[int], frozenset[float]]
    pooled: frozenset[str]
    readings: Mapping[tuple[str, str], str] = field(default_factory=dict)
    sampled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By series the sampling block of the candidate, which may say itself how it is sampled."""
    runtimes: Mapping[str, Runtimes] = field(default_factory=dict)
    """By series what executes the candidate, where that is known."""


@dataclass(frozen=True, kw_only=True)
class Trend:
    """All points by date. `series` are the lines there are, `values` the values, `guidance` that of all lines but the pick's."""

    suite: str
    points: tuple[Point, ...]
    series: tuple[str, ...]
    values: tuple[str, ...]
    guidance: float | None
    rows: Mapping[str, ValueSpec]

    def row(self, value: str) -> ValueSpec:
        """What is known of a value: by the latest run that has it, else by its name alone."""
        return row_of(self.rows, value)

    @property
    def headlines(self) -> tuple[ValueSpec, ...]:
        """The rows of the values in the table of points: those that its runs show as headlines, costs last."""
        return tuple(row for value in self.values if "headline" in (row := self.row(value)).shown)

    def changed(self, at: int, value: str = "", since: int | None = None) -> list[str]:
        """What breaks a line between a point and the one before (or `since`): "sampling", "prompts", "pictures", "seeds", and of
        a value its "metric" or, where it is counted over all images of a prompt, the "guidance scales"; a word with "not on
        record" where one of the two does not say. Of a cost, what of machine and sampling is not the same."""
        before = at - 1 if since is None else since
        if before < 0:
            return []
        a, b = self.points[before], self.points[at]
        if value in COSTS:
            differing = costs_otherwise((a.environment, a.sampling), (b.environment, b.sampling))
            return [*([differing] if differing else []), *_other_readings(a, b, value)]
        pairs: dict[str, tuple[Any, Any]] = {"prompts": (a.prompts, b.prompts), "seeds": (a.places[0], b.places[0])}
        if value:
            pairs["metric"] = (_metric(a, b, value), _metric(b, a, value))
        if value in a.pooled | b.pooled:
            pairs["guidance scales"] = (a.places[1], b.places[1])
        differing = sampled_otherwise(a.sampling, b.sampling)
        return [*([f"sampling: {differing}"] if differing else []),
                *(["pictures"] if other_pictures(a.pictures, b.pictures) else []),
                *(f"{name} not on record" if UNKNOWN in pair else name for name, pair in pairs.items()
                  if UNKNOWN in pair or pair[0] != pair[1])]

    def changed_in(self, series: str, at: int, value: str, since: int) -> list[str]:
        """As `changed`, and what breaks the line of one series alone: that of the pick or the baseline is of another candidate or
        guidance, or an adaptive sweep asked for other images."""
        changes, one, two = self.changed(at, value, since), self.points[since], self.points[at]
        blocks = [p.sampled.get(series, p.sampling) for p in (one, two)]
        own = costs_otherwise(({}, blocks[0]), ({}, blocks[1])) if value in COSTS else sampled_otherwise(*blocks)
        if own and not any(own in change for change in changes):
            changes.append(f"sampling: {own}")
        runtimes = [p.runtimes[series] for p in (one, two) if series in p.runtimes]
        if value in COSTS and (packages := executed_otherwise(one.environment, two.environment, runtimes)):
            changes.append(packages)
        pairs = [("candidate", one.who.get(series), two.who.get(series))]
        if value not in COSTS:
            scales = [f"{p.at[series]:g}" if p.at.get(series) is not None else None for p in (one, two)]
            pairs.append(("guidance", scales[0], scales[1]))
            if one.asked.get(series) != two.asked.get(series) and not {"prompts", "seeds"} & {*changes}:
                changes.append("images asked for")
        return changes + [f"{what} {words.visible(a)} and {words.visible(b)}" for what, a, b in pairs if a and b and a != b]

    def noted(self, at: int, since: int | None = None) -> list[str]:
        """What changed since the point before and breaks no line of a value: the device and the batch size, which change the last
        bits of images, and the machine, which the costs alone depend on."""
        before = at - 1 if since is None else since
        if before < 0:
            return []
        a, b = self.points[before], self.points[at]
        device = [] if a.device == b.device else [f"device {a.device} and {b.device}"]
        return [*device, *filter(None, [last_bits(a.sampling, b.sampling)])]

    def segments(self, series: str, value: str) -> list[list[int]]:
        """The indices of the points of a line, cut wherever what must be alike is not."""
        there = [i for i, p in enumerate(self.points) if (e := p.estimates.get((series, value))) and e.mean is not None]
        runs: list[list[int]] = []
        for i in there:
            if runs and not self.changed_in(series, i, value, runs[-1][-1]):
                runs[-1].append(i)
            else:
                runs.append([i])
        return runs


def read_trend(paths: Sequence[Path], guidance: float | None = None) -> Trend:
    """The trend of run folders and baseline files. `guidance` is by default that of the latest pick. Raises ValueError or
    OSError, naming the file, for what is neither, for two suites, and where there is nothing."""
    if not paths:
        raise ValueError("nothing to show: give run folders, such as runs/alpha_cfg, or baseline files")
    runs = {path: load_run(path) for path in paths if path.is_dir()}
    files = {path: _read_baseline(path) for path in paths if not path.is_dir()}
    names = {run.suite.name: path for path, run in runs.items()} | {file.suite: path for path, file in files.items()}
    if len(names) > 1:
        listed = ", ".join(f"{name!r} ({path})" for name, path in names.items())
        raise ValueError(f"a trend is of one suite, and these are of {len(names)}: {listed}")
    verdicts = {path: recommend(run) for path, run in runs.items()}
    if guidance is None:
        dated = sorted(runs, key=lambda p: _date(str(runs[p].head.get("started", "")), p))
        guidance = next((verdicts[p].guidance for p in reversed(dated) if verdicts[p].guidance is not None), None)
    points = [_of_run(run, path, (verdicts[path], guidance)) for path, run in runs.items()]
    rows = {name: spec for run in runs.values() for name, spec in run.values.items()}
    points += [_of_file(data, (path, guidance), rows) for path, data in files.items()]
    points.sort(key=lambda p: (p.date, p.kind != "run", p.source))
    series = list(dict.fromkeys(s for p in reversed(points) for s in p.who))
    first = [s for s in (PICK, BASELINE, PROMOTED) if s in series]
    order = [*first, *(s for s in series if s not in first)]
    present = {v for p in points for (_, v), e in p.estimates.items() if e.mean is not None}
    values = [v for v in dict.fromkeys(v for p in points for _, v in p.estimates) if v in present]
    values.sort(key=lambda v: (v != "objective", v in COSTS))
    return Trend(suite=next(iter(names)), points=tuple(points), series=tuple(order), values=tuple(values), guidance=guidance,
                 rows=rows)


def _of_run(run: Run, path: Path, told: tuple[Recommendation, float | None]) -> Point:
    rec, guidance = told
    estimates: dict[tuple[str, str], Estimate] = {}
    who: dict[str, str] = {}
    at: dict[str, float | None] = {}
    readings: dict[tuple[str, str], str] = {}
    sampled: dict[str, Mapping[str, Any]] = {}
    asked: dict[str, frozenset[tuple[str, int]]] = {}
    wanted = [(PICK, rec.pick, rec.guidance), (BASELINE, run.suite.baseline, guidance),
              *((_series_of(c.name), c.name, guidance) for c in run.suite.candidates)]
    values = run.numeric_values
    for series, name, scale in wanted:
        if name is None:
            continue
        own = None if scale is None else scale_at(run, name, scale)
        who[series], at[series], sampled[series] = name, scale if own is None else own, sampled_as(run, name)
        rows = rows_at(run, scale, run.images[run.images["candidate"] == name])
        places = asked_places(run, name, guidance=scale if own is None else own)
        asked[series] = frozenset((prompt, seed) for prompt, seed, _ in places)
        estimates |= {(series, v): _whole_mean(run, name, rows, (v, places)) for v in values}
        estimates |= {(series, cost): e for cost, e in _costs(run, name).items()}
        readings |= {(series, cost): r.name for cost in SIZES if (r := bytes_of(run, name, cost)).value is not None}
    environment = run.environment
    settings = run.head.get("metric_settings", {})
    metric: dict[str, Any] = {value: [run.versions_behind(value), settings.get(spec.metric, ""),
                                      measured_in(run, value).reference if spec.paired else ""]
                              for value, spec in run.values.items()}
    metric["objective"] = _objective(run, metric)
    return Point(
        source=str(path), kind="run", suite=run.suite.name, date=_date(str(run.head.get("started", "")), path),
        commit=str(environment.get("git_commit") or ""), dirty=bool(environment.get("git_dirty")), device=_device(environment),
        guidance=rec.guidance, sentence=headline(run, rec, judge(run, rec)).sentence, who=who, at=at, asked=asked,
        estimates=estimates, readings=readings, sampled=sampled, metric=metric,
        runtimes={series: run.candidate(name).runtime for series, name in who.items()},
        environment=environment, sampling=run.head["sampling"],
        prompts=prompts_of(run), pictures=pictures_of(run),
        places=(frozenset(run.suite.grid.seeds), frozenset(map(float, whole_grid(run.suite).guidance_scales))),
        pooled=frozenset(value for value in values if depends_on_prompt(value, run.suite.objective, run.values)))


def _series_of(name: str) -> str:
    """The series of a candidate: its name, or a longer one where another series has that name."""
    return f"candidate {name}" if name.removeprefix("candidate ") in (PICK, BASELINE, PROMOTED) else name


def _objective(run: Run, metric: Mapping[str, Any]) -> Any:
    """What decides the objective: its declaration and the metrics of its parts."""
    o = run.suite.objective
    parts = [o.maximise, *(p.metric for p in o.penalties), *(d.metric for d in o.desirabilities)]
    return [short_hash(plain(o)), *(metric.get(part) for part in parts)]


def _of_file(of: Baseline, place: tuple[Path, float | None], known: Mapping[str, ValueSpec]) -> Point:
    """The point of a baseline file, at a guidance. What it does not say is UNKNOWN; the rows of its values are those of the
    runs."""
    path, guidance = place
    table, environment = cells_table(of), of.environment
    rows = table if guidance is None else table[table["guidance"] == guidance]
    firsts = {unguided: first_of_text(Prompt(id=name, text=text, negative="" if unguided else negative,
                                             pictures=of.pictures.get(name, {}))
                                      for name, (text, negative) in of.prompts.items()) for unguided in (True, False)}
    rows = rows.assign(**{SAME_TEXT: [firsts[is_unguided([at])].get(name, name)
                                      for name, at in zip(rows["prompt"], rows["guidance"], strict=True)]})
    estimates = {(PROMOTED, v): _mean(rows, row_of(known, v), f"nothing at CFG {guidance}")
                 for v in table.columns if v not in PLACE}
    return Point(
        source=str(path), kind="baseline", suite=of.suite, date=_date(of.run_started, path),
        commit=str(environment.get("git_commit") or ""), dirty=bool(environment.get("git_dirty")), device=_device(environment),
        guidance=guidance, sentence=f"{of.name} version {of.version} was promoted from this run.", who={PROMOTED: of.candidate},
        at={PROMOTED: guidance}, estimates=estimates,
        asked={PROMOTED: frozenset((str(prompt), int(seed)) for prompt, seed in zip(rows["prompt"], rows["seed"], strict=True))},
        environment=environment,
        sampling=of.sampling, sampled={PROMOTED: of.sampled_as or of.sampling},
        prompts=UNKNOWN if "prompts" in of.absent else of.prompts, pictures=of.pictures,
        metric={"": [dict(of.metrics), UNKNOWN if "metric_settings" in of.absent else dict(of.settings),
                     dict(of.reference)]},
        places=(frozenset(map(int, table["seed"])), frozenset(map(float, table["guidance"]))),
        pooled=frozenset((*(name for name, row in known.items() if row.pooled), "objective")))


def _other_readings(a: Point, b: Point, value: str) -> list[str]:
    """The two readings behind a size, where a line of both points has not the same one in both."""
    pairs = [(a.readings[place], b.readings[place]) for place in a.readings.keys() & b.readings.keys() if place[1] == value]
    return sorted({f"reading {words.reading(one)} and {words.reading(other)}" for one, other in pairs if one != other})


def _metric(point: Point, other: Point, value: str) -> Any:
    """Version and setting of a value's metric at `point`, as far as it can be held against `other`. A baseline file knows its
    metrics and not which value is of which: of two files all are compared, of a file and a run nothing is known."""
    if point.kind != other.kind:
        return UNKNOWN
    return point.metric.get(value if point.kind == "run" else "")


def _read_baseline(path: Path) -> Baseline:
    if not path.exists():
        raise FileNotFoundError(f"{path} is neither a run folder nor a baseline file: it does not exist")
    return read_baseline(path)


def _mean(rows: pd.DataFrame, value: ValueSpec, why: str) -> Estimate:
    mean = cluster_mean(rows, value)
    return replace(mean, why=why or mean.why) if mean.mean is None else mean


def _whole_mean(run: Run, name: str, rows: pd.DataFrame, of: tuple[str, set[Place]]) -> Estimate:
    """The mean of a value over all images that a candidate was asked for; none where some of them lack it."""
    value, places = of
    if why := lacking(run, name, value, places).why:
        return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=why)
    return _mean(rows, run.row(value), run.why_missing(name, value) or run.why_missing(name, "image"))


def _costs(run: Run, name: str) -> dict[str, Estimate]:
    s = seconds_per_image(run, name)
    sizes = {value: bytes_of(run, name, value) for value in SIZES}
    several = s.rounds > 1  # the range of one round has no width and says nothing of its spread
    return {"seconds_per_image": Estimate(mean=s.median, low=s.fastest if several else None, high=s.slowest if several else None,
                                          prompts=0, pairs=s.rounds, why=s.why),
            **{value: Estimate(mean=size.value, low=None, high=None, prompts=0, pairs=0, why=size.why_missing)
               for value, size in sizes.items()}}


def _device(environment: Mapping[str, Any]) -> str:
    return str(environment.get("device_name") or environment.get("device") or "not stated")


def _date(text: str, path: Path) -> datetime:
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{path} does not say when its run started ({text!r}), so it has no place in a trend") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
