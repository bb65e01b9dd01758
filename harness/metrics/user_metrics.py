"""The wrapper of a user's metric: the metric gets copies of the images, and its scores are checked."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from harness.declare.rows import error_text
from harness.metrics.contract import ImageScore, ImageSet, Metric
from harness.records import ValueSpec

ROUNDING: Final = 1e-6
"""Share of its range by which a value may exceed it, because of float32 rounding. Such a value is clipped to the range."""


class MetricError(ValueError):
    """A user's metric failed. The message names the metric and the error."""


class ScoreCountError(MetricError):
    """A metric returned more or fewer scores than it was given images, so no single image is at fault."""


def adopt_metric(name: str, row: Metric) -> Metric:
    """The row with a wrapped `measure`: any error in it becomes a MetricError that names the metric. Raises ValueError for an
    invalid row."""
    if problems := list(_problems(row)):
        raise ValueError("; ".join(problems))

    def measure(image_set: ImageSet) -> list[ImageScore]:
        references = image_set.references
        # Copies: other metrics read the same arrays, possibly at the same time.
        own = replace(image_set, images=image_set.images.copy(), references=None if references is None else references.copy())
        try:
            scores = row.measure(own)
        except (Exception, SystemExit) as error:
            raise MetricError(f"metric {name!r} raised {error_text(error)}") from error
        if not isinstance(scores, list | tuple) or len(scores) != len(image_set.images):
            given = f"{len(scores)} scores" if isinstance(scores, list | tuple) else f"a {type(scores).__name__}"
            raise ScoreCountError(f"metric {name!r} returned {given} for {len(image_set.images)} images; expected a list with "
                                  "one ImageScore for each image")
        return [_checked(name, row, score) for score in scores]

    return replace(row, measure=measure)


def _problems(row: Metric) -> Iterator[str]:
    if not callable(row.measure):
        yield f"measure is {row.measure!r}; expected a function"
    if row.version < 1:
        yield f"version is {row.version!r}; expected a positive integer"
    if not row.values or not all(isinstance(spec, ValueSpec) for spec in row.values):
        yield f"values is {row.values!r}; expected at least one ValueSpec(...)"
        return
    for name, count in Counter(spec.name for spec in row.values).items():
        if not name.isidentifier():
            yield f"the value name {name!r} is invalid; expected only letters, digits and '_'"
        if count > 1:
            yield f"the value {name!r} is given {count} times"
    yield from (f"the value {spec.name!r} has no title, unit or definition" for spec in row.values
                if not (spec.title and spec.unit and spec.definition))


def _checked(name: str, row: Metric, score: object) -> ImageScore:
    """The score with plain Python numbers. Raises MetricError for an invalid score."""
    if not isinstance(score, ImageScore):
        raise MetricError(f"metric {name!r} returned a {type(score).__name__} for an image; expected an ImageScore")
    expected, given = {spec.name for spec in row.values}, Counter([*score.values, *score.missing])
    if absent := sorted(expected - given.keys()):
        raise MetricError(f"metric {name!r} gave no {absent[0]!r}; expected a number in values, or the reason in missing")
    if wrong := sorted(value for value, count in given.items() if count > 1 or value not in expected):
        raise MetricError(f"metric {name!r} gave {wrong[0]!r} " + ("both in values and in missing" if wrong[0] in expected else
                                                                "without a ValueSpec for it"))
    if not all(isinstance(why, str) and why for why in score.missing.values()):
        raise MetricError(f"metric {name!r} gave no reason for a missing value; expected a sentence")
    try:
        json.dumps([dict(score.labels), dict(score.details)], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MetricError(f"metric {name!r} gave labels or details that are not JSON ({error})") from error
    numbers = {spec.name: _number(name, spec, score.values) for spec in row.values if spec.name in score.values}
    return replace(score, values=numbers)


def _number(name: str, spec: ValueSpec, values: Mapping[str, float]) -> float:
    try:
        number = float(values[spec.name])
    except (TypeError, ValueError) as error:
        raise MetricError(f"metric {name!r} gave {spec.name} = {values[spec.name]!r}; expected a number") from error
    if not math.isfinite(number):
        raise MetricError(f"metric {name!r} gave {spec.name} = {number}; expected a finite number, or the reason in missing")
    low, high = -math.inf if spec.low is None else spec.low, math.inf if spec.high is None else spec.high
    allowed = ROUNDING * (high - low if math.isfinite(high - low) else max(1.0, abs(number)))
    if not low - allowed <= number <= high + allowed:
        raise MetricError(f"metric {name!r} gave {spec.name} = {number:g}, outside of its range from {low:g} to {high:g}")
    return min(max(number, low), high)
