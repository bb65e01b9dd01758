"""Which records of a journal count for the suite as it is declared now, and, of those that do not, why.
What a later record makes void, and what a measurement or a timing holds for, is harness/records/reusable.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar

from harness.declare import Candidate, Suite, grid_of
from harness.declare.effective_grid import sampling_block
from harness.declare.pairing import with_baseline
from harness.declare.picture_uses import PICTURES, parts_in_key
from harness.declare.prompt_groups import declared_key
from harness.declare.same_text import prompts_hash
from harness.records import (
    BatchCurve,
    Cell,
    Coverage,
    Defect,
    Durations,
    Failure,
    Finished,
    Fit,
    Intermediate,
    Latency,
    Look,
    Measurement,
    Memory,
    NoiseFloor,
    Power,
    Record,
    Sample,
    SessionStart,
    Timeline,
    Weights,
    sample_key,
    standing_looks,
)
from harness.records.events import METRIC_STAGE
from harness.records.images import PROMPTS
from harness.records.reusable import (
    Claim,
    LatestRecords,
    chunked_places,
    claim_of,
    is_floor_of,
    is_timed_alike,
    scored_in_part,
    smaller_batches,
)
from reports.read.interim_looks import asked, exits
from reports.read.peaks import to_run

Place: TypeAlias = tuple[str, Cell]
Timed = TypeVar("Timed", Latency, Memory, Timeline, Power, Durations, BatchCurve)

OTHER_SAMPLES: Final = "sampled with other settings or weights; run this candidate again"
OTHER_DECLARATION: Final = "the candidate was declared otherwise when it ran; run it again"
OTHER_SETTING: Final = "measured with another setting (for example another CLIP model)"
IN_PART: Final = "the beginning of the prompt alone was scored, by an earlier version. Run again"
OTHER_VERSION: Final = "measured by another version of the metric"
OTHER_REFERENCE: Final = "measured against an image that the baseline no longer has"
OTHER_BYTES: Final = "measured before an image was made again with other bytes; run this candidate again"
OTHER_TIMING: Final = "taken with other weights or settings; run this candidate again"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that is not there: `count` images of a candidate lack `value` ("image" when they were never made); 0 for
    a value that belongs to the candidate as a whole. `expected`: nothing that was asked for is lacking, because the value does
    not exist by definition, a gate decides how many may lack it, or nobody asked for it."""

    candidate: str
    value: str
    count: int
    why: str
    expected: bool = False


@dataclass(frozen=True, kw_only=True)
class CurrentRecords:
    """The records that count beside images and measurements, all of declared candidates. `changed` names for each input file that
    was changed between candidates those that ran before the change; `defects` says by the key of a sample why its image is
    unusable. `looks` are those of the present race; where there are any, the images that they asked for count and no others, and
    what they did not ask for is not a gap."""

    coverage: tuple[Coverage, ...]
    latency: Mapping[str, Latency]
    memory: Mapping[str, Memory]
    timeline: Mapping[str, Timeline]
    power: Mapping[str, Power]
    durations: Mapping[str, Durations]
    curves: Mapping[str, BatchCurve]
    fits: tuple[Fit, ...]
    floors: tuple[NoiseFloor, ...]
    defects: Mapping[str, str]
    failures: tuple[Failure, ...]
    weights: Mapping[str, Weights]
    finished: Mapping[str, Finished]
    changed: Mapping[str, tuple[str, ...]]
    looks: tuple[Look, ...] = ()
    made_of: Mapping[str, tuple[Intermediate, ...]] = field(default_factory=dict)
    """By the key of a sample, the pictures that its image was made of, in order."""
    written_in: Mapping[str, int] = field(default_factory=dict)
    """How many of the images that count were written in which environment, by its hash; empty text for those of versions that did
    not record it."""


@dataclass(frozen=True, kw_only=True)
class Standing(CurrentRecords):
    """The current records of a journal with the images and measurements that count, and the gaps that the others leave."""

    samples: Mapping[Place, Sample]
    measurements: tuple[Measurement, ...]
    gaps: tuple[Gap, ...]


def sift(records: Sequence[Record], suite: Suite, head: Mapping[str, Any], looks: Sequence[Look] | None = None) -> Standing:
    """The standing of a journal's records, given in order, under the suite and the settings of run.json. `looks` are those of a
    race under way; None takes what the journal has of the present race."""
    race = str(head.get("race", ""))
    if looks is None:
        looks = standing_looks((r for r in records if isinstance(r, Look)), race) if race else ()
    parts = asked(suite, looks) if looks else None
    declared = {c.name: c for c in suite.candidates}
    own = [r for r in records if r.candidate in declared]
    last = LatestRecords(own).records()
    weights = {r.candidate: r for r in last if isinstance(r, Weights)}
    refused = {name: OTHER_DECLARATION for name, w in weights.items()
               if w.declared != declared_key(declared[name], suite.grid.prompts)}
    changed = changed_files(own, {name: w for name, w in weights.items() if name not in refused})
    for file, names in changed.items():
        refused.update((name, f"{file} was changed since the candidate ran; run it again") for name in names)
    weights = {name: w for name, w in weights.items() if name not in refused}
    fits = [r for r in last if isinstance(r, Fit) and r.candidate in weights]
    chunked = {name: chunked_places((r for r in last if isinstance(r, Coverage) and r.candidate == name),
                                    prompts_hash(suite.grid.prompts)) for name in weights}
    made, contents = (head["sampling"], fits, chunked), head.get(PICTURES, {})
    samples = {place: sample for place, sample in _samples(own, suite, weights, made, contents).items()
               if parts is None or place[1] in parts.get(place[0], ())}
    keys = {sample.key for sample in samples.values()}
    failures = tuple(r for r in last if isinstance(r, Failure) and not _is_of_dropped_metric(r, suite))
    measurements, stale = _measurements(_measured(records), samples, suite, head)
    defects = {r.sample: r.why for r in own if isinstance(r, Defect) and r.sample in keys}
    stale = _failed_metrics(stale, failures, [s for s in samples.values() if s.key not in defects], (measurements, head))
    latency, untimed = _timed(last, Latency, weights, refused)
    memory, unprobed = _timed(last, Memory, weights, refused)
    uncovered = {r.candidate: refused[r.candidate] for r in last if isinstance(r, Coverage) and r.candidate in refused}
    costs = (("seconds_per_image", untimed), ("peak_bytes", unprobed), ("coverage", uncovered))
    gaps = (*_image_gaps(own, suite, (head, parts), (samples, refused, failures)), *stale, *_left_untimed(suite, looks, latency),
            *(Gap(candidate=c, value=value, count=0, why=why) for value, timed in costs for c, why in timed.items()))
    # What else was taken beside latency and memory has no gap of its own: it would repeat theirs for every candidate.
    return Standing(samples=samples, measurements=measurements, latency=latency, memory=to_run(memory), weights=weights,
                    gaps=gaps, looks=tuple(looks), changed=changed, failures=failures,
                    timeline=_timed(last, Timeline, weights, refused)[0], power=_timed(last, Power, weights, refused)[0],
                    durations=_timed(last, Durations, weights, refused)[0], curves=_timed(last, BatchCurve, weights, refused)[0],
                    fits=tuple(r for r in fits if is_timed_alike(r, weights[r.candidate])),
                    floors=tuple(r for r in last if isinstance(r, NoiseFloor) and r.candidate in weights
                                 and is_floor_of(r, weights[r.candidate].identity, suite.grid.images_per_batch)),
                    defects=defects, made_of=_made_of(records, keys), written_in=_written_in(records, samples.values()),
                    coverage=tuple(r for r in last if isinstance(r, Coverage) and r.candidate not in refused
                                   and (r.stage != PROMPTS or r.setting == prompts_hash(suite.grid.prompts))),
                    finished={r.candidate: r for r in last if isinstance(r, Finished) and r.candidate not in refused})


def _made_of(records: Iterable[Record], keys: set[str]) -> dict[str, tuple[Intermediate, ...]]:
    """The pictures that these images were made of, each as it was recorded last."""
    pictures: dict[str, dict[str, Intermediate]] = {}
    for record in records:
        if isinstance(record, Intermediate) and record.sample in keys:
            pictures.setdefault(record.sample, {})[record.name] = record
    return {key: tuple(named.values()) for key, named in pictures.items()}


def _written_in(records: Iterable[Record], samples: Iterable[Sample]) -> dict[str, int]:
    """How many of the samples were written in which environment. An image that another candidate adopts was written before."""
    environment, origin = "", dict[tuple[str, str], str]()
    for record in records:
        if isinstance(record, SessionStart):
            environment = record.environment
        elif isinstance(record, Sample):
            origin.setdefault((record.key, record.sha256), environment)
    return dict(Counter(origin[sample.key, sample.sha256] for sample in samples))


def changed_files(records: Sequence[Record], weights: Mapping[str, Weights]) -> dict[str, tuple[str, ...]]:
    """For each input file whose hash is not the same for all candidates: those with another hash than the newest has.

    Newest is the candidate the journal spoke of last (a failure aside, which may come before the files are read):
    weights that stayed the same are not announced again, so their own place in the journal does not tell.
    """
    spoken = {r.candidate: number for number, r in enumerate(records) if not isinstance(r, Failure)}
    newest: dict[str, str] = {}
    for name in sorted(weights, key=lambda n: spoken[n]):
        newest.update(weights[name].inputs)
    found = {file: tuple(n for n, w in weights.items() if w.inputs.get(file, digest) != digest)
             for file, digest in newest.items()}
    return {file: names for file, names in found.items() if names}


def _cells(suite: Suite, candidate: Candidate, chunked: frozenset[str],
           contents: Mapping[str, str]) -> Iterator[tuple[Cell, tuple[str, ...]]]:
    """Every cell of a candidate with what of its prompt determines the image: the texts, of which those at the places `chunked`
    are read in chunks, and the pictures, whose files have these contents."""
    grid = grid_of(suite, candidate)
    for p in grid.prompts:
        for seed in grid.seeds:
            for guidance in grid.guidance_scales:
                yield Cell(prompt=p.id, seed=seed, guidance=float(guidance)), parts_in_key(candidate, p, chunked, contents)


def _samples(records: Sequence[Record], suite: Suite, weights: Mapping[str, Weights],
             made: tuple[Mapping[str, Any], Sequence[Fit], Mapping[str, frozenset[str]]],
             contents: Mapping[str, str]) -> dict[Place, Sample]:
    """The sample of every declared cell whose key follows from the candidate's weights, the texts and the settings,
    wherever in the journal it stands. Where memory refused a batch, one of the halved batches counts as well."""
    block, fits, chunked = made
    by_key = {(r.candidate, r.cell, r.key): r for r in records if isinstance(r, Sample)}
    samples: dict[Place, Sample] = {}
    for candidate in (c for c in suite.candidates if c.name in weights):
        sizes = smaller_batches(suite.grid.images_per_batch, (fit for fit in fits if fit.candidate == candidate.name))
        sampling = sampling_block(block, suite, candidate)
        settings = [{**sampling, "batch_size": size} for size in sizes]
        for cell, texts in _cells(suite, candidate, chunked[candidate.name], contents):
            for setting in (sampling, *settings):
                key = sample_key(weights[candidate.name].of(cell.prompt), cell, texts, setting)
                if (sample := by_key.get((candidate.name, cell, key))) is not None:
                    samples[candidate.name, cell] = sample
                    break
    return samples


def _measured(records: Sequence[Record]) -> list[tuple[Measurement, bool]]:
    """The last measurement of each metric on each image, and whether that image, or the one it was compared with, has other
    bytes by now: then it was measured on something that is no longer there."""
    by_key: dict[str, Sample] = {}
    latest: dict[tuple[str, str, str], tuple[Measurement, Claim]] = {}
    for r in records:
        if isinstance(r, Sample):
            by_key[r.key] = r
        elif isinstance(r, Measurement):
            latest[r.candidate, r.sample, r.metric] = r, _claim(r, by_key)
    return [(m, claim != _claim(m, by_key)) for m, claim in latest.values()]


def _claim(measurement: Measurement, by_key: Mapping[str, Sample]) -> Claim:
    return claim_of(measurement.version, measurement.setting, (measurement.sample, measurement.reference), by_key)


def _measurements(measured: list[tuple[Measurement, bool]], samples: Mapping[Place, Sample], suite: Suite,
                  head: Mapping[str, Any]) -> tuple[tuple[Measurement, ...], list[Gap]]:
    """Measurements of current samples in the current setting and version, against the current image of the baseline;
    the others become gaps."""
    settings = head.get("metric_settings", {})
    versions = {m.get("metric"): m.get("version") for m in head.get("metrics", {}).values()}
    beside = _baseline_images(samples, suite)
    counted: list[Measurement] = []
    stale: Counter[tuple[str, str, str]] = Counter()
    for r, void in measured:
        sample = samples.get((r.candidate, r.cell))
        if sample is None or sample.key != r.sample:
            continue
        reference = beside(r.candidate, r.cell)
        why = (OTHER_BYTES if void else
               OTHER_SETTING if r.setting != settings.get(r.metric, "") else
               IN_PART if scored_in_part(r) else
               OTHER_VERSION if r.version != versions.get(r.metric, r.version) else
               OTHER_REFERENCE if r.reference and (reference is None or reference.key != r.reference) else "")
        if why:
            stale.update((r.candidate, value, why) for value in dict.fromkeys((*r.values, *r.missing)))
        else:
            counted.append(r)
    return tuple(counted), [Gap(candidate=c, value=v, count=n, why=why) for (c, v, why), n in stale.items()]


def _baseline_images(samples: Mapping[Place, Sample], suite: Suite) -> Callable[[str, Cell], Sample | None]:
    """What gives the baseline's image that stands beside a candidate's of a cell."""
    candidates = {c.name: c for c in suite.candidates}
    pair = cache(lambda name, guidance: with_baseline(suite, candidates.get(name), guidance).scale)

    def beside(name: str, cell: Cell) -> Sample | None:
        scale = pair(name, cell.guidance)
        return None if scale is None else samples.get((suite.baseline, replace(cell, guidance=scale)))

    return beside


def _is_of_dropped_metric(failure: Failure, suite: Suite) -> bool:
    """Whether a failure is of a metric that the suite no longer declares."""
    return failure.stage.startswith(METRIC_STAGE) and failure.stage.removeprefix(METRIC_STAGE) not in suite.metrics


def _failed_metrics(stale: list[Gap], failures: Sequence[Failure], samples: Sequence[Sample],
                    known: tuple[Sequence[Measurement], Mapping[str, Any]]) -> list[Gap]:
    """The gaps of measurements with those that a failed metric leaves: its images that have no value that counts, by each value
    of the metric. The failure is their reason, also where an earlier measurement of theirs counts no more."""
    measurements, head = known
    measured = {(m.sample, m.metric) for m in measurements}
    gaps = []
    for f in failures:
        metric = f.stage.removeprefix(METRIC_STAGE)
        values = [value for value, row in head.get("metrics", {}).items() if row.get("metric") == metric]
        count = sum(s.candidate == f.candidate and (s.key, metric) not in measured for s in samples)
        if f.stage != metric and count:
            why = f'failed at "{f.stage}" ({f.error}: {f.message})'
            gaps += [Gap(candidate=f.candidate, value=value, count=count, why=why) for value in values]
    replaced = {(gap.candidate, gap.value) for gap in gaps}
    return [*(gap for gap in stale if (gap.candidate, gap.value) not in replaced), *gaps]


def _timed(records: Sequence[Record], kind: type[Timed], weights: Mapping[str, Weights],
           refused: Mapping[str, str]) -> tuple[dict[str, Timed], dict[str, str]]:
    """The records of a kind whose setting is that of their candidate's weights, and for the others why they do not count."""
    timed = [r for r in records if isinstance(r, kind)]
    counted = {r.candidate: r for r in timed if is_timed_alike(r, weights.get(r.candidate))}
    return counted, {r.candidate: refused.get(r.candidate, OTHER_TIMING) for r in timed if r.candidate not in counted}


def _left_untimed(suite: Suite, looks: Sequence[Look], latency: Mapping[str, Latency]) -> list[Gap]:
    """The candidates that were not timed because they were out of the race by then."""
    return [Gap(candidate=name, value=value, count=0, expected=True,
                why=f"dropped at interim look {out.look}; only what stays to the end is timed")
            for value in ("seconds_per_image", "peak_bytes") for name, out in exits(suite, looks).items() if name not in latency]


def _image_gaps(records: Sequence[Record], suite: Suite, plan: tuple[Mapping[str, Any], Mapping[str, set[Cell]] | None],
                known: tuple[Mapping[Place, Sample], Mapping[str, str], tuple[Failure, ...]]) -> list[Gap]:
    """The declared cells without an image that counts, by candidate and reason. Where a race decides what is asked for, only
    those that it asked for; of a candidate that had no part in it all, for nobody said that they are not needed."""
    (head, parts), (samples, refused, failures) = plan, known
    sampled = {(r.candidate, r.cell) for r in records if isinstance(r, Sample)}
    stopped = {f.candidate: f"{f.stage}: {f.error}" for f in failures}
    reasons = {**refused, **stopped, **head.get("not_offered", {})}

    def why(candidate: Candidate, cell: Cell) -> str:
        if candidate.name in reasons:
            return str(reasons[candidate.name])
        if (candidate.name, cell) in sampled:
            return OTHER_SAMPLES
        if candidate.name in head.get("not_selected", ()):
            return "not selected for this run"
        unraced = suite.budget is not None and parts is None
        return f"not sampled yet{'; the adaptive sweep was not run' if unraced else ''}"

    counted = Counter((c.name, why(c, cell)) for c in suite.candidates for cell, _ in _cells(suite, c, frozenset(), {})
                      if (c.name, cell) not in samples and (parts is None or c.name not in parts or cell in parts[c.name]))
    return [Gap(candidate=name, value="image", count=n, why=reason) for (name, reason), n in counted.items()]
