"""The parts of a promotion record that come from the run: verdicts, figures and cells, in the record's format."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final

from harness.promotion.gather import Evidence
from harness.promotion.record_files import finite_or_none
from harness.records.baseline_file import TO_RUN
from harness.records.values import BYTES

if TYPE_CHECKING:
    from reports.gates import Verdict

VERDICT_FIELDS: Final = ("gate", "candidate", "status", "observed", "low", "high", "limit", "reason")
"""The fields of a verdict that a record holds; other fields of Verdict are not part of the format."""


def verdict_part(verdict: Verdict) -> dict[str, Any]:
    """One verdict as a record holds it."""
    return {name: _finite(getattr(verdict, name)) for name in VERDICT_FIELDS}


def figures_part(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """{value: mean and interval} over the candidate's images at the recommended guidance, then what it costs."""
    from reports.verdict.costs import SIZES, bytes_of, seconds_per_image
    from reports.verdict.means import means

    run, name = evidence.run, evidence.candidate
    figures = {value: _figure(run.row(value).unit, (mean.mean, mean.low, mean.high),
                              (mean.prompts, mean.pairs), mean.why)
               for value, mean in means(run, name, evidence.recommendation.guidance).items()}
    timed = seconds_per_image(run, name)
    figures["seconds_per_image"] = _figure("s, median and range of the rounds", (timed.median, timed.fastest, timed.slowest),
                                           (0, timed.rounds), timed.why)
    record = run.latency.get(name)
    if record is not None and record.yardstick:
        middle = median(record.yardstick)
        figures["yardstick_seconds"] = _figure("s, median", (middle, middle, middle), (0, len(record.yardstick)))
    for value in SIZES:
        reading = bytes_of(run, name, value)
        if (size := reading.value) is not None:
            unit = TO_RUN if value == BYTES.name else "bytes"
            figures[value] = _figure(f"{unit}, {reading.name}", (size, size, size), (0, 1))
    return figures


def cells_part(evidence: Evidence) -> dict[str, Any]:
    """The candidate's values image by image: columns and rows; null for a value that was not measured."""
    images = evidence.run.images
    rows = images[images["candidate"] == evidence.candidate].to_dict("records")
    values = sorted(evidence.run.numeric_values) if rows else []
    return {"columns": ["prompt", "seed", "guidance", "image", *values],
            "rows": [[str(row["prompt"]), int(row["seed"]), float(row["guidance"]), str(row["sample"]),
                      *(finite_or_none(float(row[value])) for value in values)] for row in rows]}


def _figure(unit: str, interval: tuple[float | None, ...], sizes: tuple[int, int], why: str = "") -> dict[str, Any]:
    """One figure: its mean, low and high, and the number of prompts and images (or rounds) behind it."""
    mean, low, high = map(_finite, interval)
    prompts, images = sizes
    return {"unit": unit, "mean": mean, "low": low, "high": high, "prompts": prompts, "images": images, "why": why}


def _finite(value: Any) -> Any:
    """The value, or None for NaN and infinity. Anything but a float is unchanged, so that a count stays an integer."""
    return finite_or_none(value) if isinstance(value, float) else value
