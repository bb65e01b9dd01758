"""What a candidate costs: seconds by phase and apart from an image, peak memory by probe, the size of its weights, energy, as
measured, with the reason where not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.records import BatchPoint, Reading
from harness.records.costs import DENOISER_WEIGHTS, MAKING, STORED, STORED_DENOISER, WRITTEN_DENOISER
from harness.records.values import BYTES, WEIGHTS
from reports import formatting as words
from reports.read.run import Run
from reports.statistics.order_statistics import Percentile, percentile
from reports.verdict.candidates import label

SIZES: Final = (BYTES.name, WEIGHTS.name)
"""The costs that are bytes."""
PEAK_READINGS: Final = ("nvml_process_peak_bytes", "over_idle_peak_bytes", "torch_reserved_peak_bytes", "process_rss_peak_bytes")
"""The readings that are of this process alone, the most complete first. What is in use on the whole GPU is not among them: it
holds the desktop and other programs."""

WITHIN_SECONDS: Final = 2e-5
"""A phase of which no round took longer was opened and closed at once: a pipeline that can only be called as a whole does
its work within another phase, and what it takes there is not known."""

_IN_A_STAGE: Final = ("switch", "begin", "text", "denoise")
_AT_THE_END: Final = ("decode", "post")
_LAST_STAGE: Final = 10**9

UNEVEN: Final = 1.2
"""Above this ratio of two median yardsticks the machine was not the same for both, and their latencies are not compared."""

FEWEST_ROUNDS: Final = 2
"""Timed rounds of each of two candidates without which nothing is said of which is faster."""

RETIME: Final = "run again with --retime, which times all together and samples nothing"
"""What to do where latencies cannot be compared."""

QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)

NO_SIZE: Final = "timed by an earlier version, which did not count it; --retime does"
"""Why a candidate whose memory was read lacks the size of its weights."""

FAILED: Final = "it failed"
"""Why a failed candidate lacks everything; what it said stands once, among the failures."""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Seconds per image of one phase: median, fastest and slowest of `rounds` rounds, or the reason it is absent.

    From fastest to slowest is the only interval shown: with n rounds it covers the true median with 1 - 2^(1-n)
    (94 % at 5 rounds), whatever the distribution. Percentiles of so few rounds would be inventions.
    """

    median: float | None
    fastest: float | None
    slowest: float | None
    rounds: int
    why: str = ""


def latency_percentiles(run: Run, candidate: str, phase: str = "total") -> tuple[Percentile, ...]:
    """p50, p90, p95 and p99 of the seconds per image of one phase; a candidate that was not timed has n = 0 in all."""
    record = run.latency.get(candidate)
    rounds = record.seconds.get(phase, ()) if record else ()
    return tuple(percentile(rounds, quantile) for quantile in QUANTILES)


def batch_throughput(points: Sequence[BatchPoint]) -> Mapping[int, float]:
    """Images per second by batch size, from the median of the timed batches of each size."""
    return {point.batch_size: point.batch_size / statistics.median(point.seconds) for point in points if point.seconds}


def seconds_per_image(run: Run, candidate: str, phase: str = "total") -> Seconds:
    """The timed rounds of one phase of a candidate, at the batch size its Latency record names."""
    record = run.latency.get(candidate)
    if record is None:
        return _seconds((), _why_untimed(run, candidate, "no timed rounds in this run"))
    rounds = record.seconds.get(phase, ())
    if rounds and phase != "total" and max(rounds) < WITHIN_SECONDS:
        return _seconds((), f"{phase} runs within another phase here")
    return _seconds(rounds, f"phase {phase} was not timed")


def seconds_apart(run: Run, candidate: str, what: str) -> Seconds:
    """What is timed apart from the phases of an image: "load", "first_switch", "switch", "step" (one denoising
    step), "export", "open", "refresh" (of an exported runtime)."""
    record = run.durations.get(candidate)
    if record is None:
        return _seconds((), _why_untimed(run, candidate, "not recorded in this run"))
    absent = {"load": "not loaded in the session that timed it",
              "switch": "it stayed resident: no other candidate was timed in between",
              "step": "steps were not timed one by one",
              "export": "its graph was there already, or it has none", "open": "nothing was opened for it",
              "refresh": "it executes the live weights themselves"}
    return _seconds(record.seconds.get(what, ()), absent.get(what, "not recorded in this run"))


def _seconds(rounds: Sequence[float], why: str) -> Seconds:
    if not rounds:
        return Seconds(median=None, fastest=None, slowest=None, rounds=0, why=why)
    return Seconds(median=statistics.median(rounds), fastest=min(rounds), slowest=max(rounds), rounds=len(rounds))


def _why_untimed(run: Run, candidate: str, otherwise: str) -> str:
    return FAILED if run.failure_of(candidate) else run.why_missing(candidate, "seconds_per_image") or otherwise


def energy(run: Run, candidate: str, name: str) -> Reading:
    """A reading of the candidate's Power record, such as "joules_per_image" or "mean_watts", or None with the reason."""
    record = run.power.get(candidate)
    for reading in record.readings if record else ():
        if reading.name == name:
            return reading
    why = "no such reading" if record else _why_untimed(run, candidate, "not recorded in this run")
    return Reading(name=name, unit="", value=None, why_missing=why)


def peak_memory(run: Run, candidate: str) -> Reading:
    """The reading of one image that gates and tables use: the first of PEAK_READINGS that has a value.

    A missing one is returned as a Reading whose value is None and whose `why_missing` says so.
    """
    record = run.memory.get(candidate)
    readings = record.readings if record else ()
    if (peak := peak_of(readings)) is not None:
        return peak
    absent = run.why_missing(candidate, "peak_bytes") or "no memory readings in this run"
    why = (FAILED if run.failure_of(candidate) else absent if record is None else
           "; ".join(dict.fromkeys(r.why_missing or "no value" for r in readings if r.name in PEAK_READINGS)))
    return Reading(name="peak memory", unit="bytes", value=None, why_missing=why or "no reading of a known kind")


def making_peak(run: Run, candidate: str) -> Reading:
    """The reading of `peak_memory` while the candidate was made: merged, quantized and brought to the device."""
    peak, record = peak_memory(run, candidate), run.memory.get(candidate)
    if peak.value is None:
        return peak
    readings = [reading for reading in (record.readings if record else ()) if reading.name == MAKING + peak.name]
    return readings[0] if readings else Reading(name=peak.name, unit="bytes", value=None, why_missing="not recorded in this run")


def weights_size(run: Run, candidate: str) -> Reading:
    """The bytes of the candidate's weights, all parts, as they are stored for sampling; or None with the reason."""
    return _stored(run, candidate, STORED)


def denoiser_size(run: Run, candidate: str) -> Reading:
    """The bytes of the weights of the candidate's denoiser alone; or None with the reason."""
    return _stored(run, candidate, STORED_DENOISER)


def bits_per_weight(run: Run, candidate: str) -> Reading:
    """The bits of the denoiser's weights in memory, over how many there are; or None with the reason."""
    size, count = denoiser_size(run, candidate), _stored(run, candidate, DENOISER_WEIGHTS)
    if size.value is None or not count.value:
        return replace(count, name="bits_per_weight", unit="bits", value=None, why_missing=count.why_missing or size.why_missing)
    return Reading(name="bits_per_weight", unit="bits", value=8 * size.value / count.value)


def size_on_disk(run: Run, candidate: str) -> Reading:
    """The bytes of the file that `sweetspot quantize` writes of the candidate's denoiser; or None with the reason."""
    return _stored(run, candidate, WRITTEN_DENOISER)


def _stored(run: Run, candidate: str, name: str) -> Reading:
    record = run.memory.get(candidate)
    why = (FAILED if run.failure_of(candidate) else NO_SIZE if record else
           run.why_missing(candidate, "peak_bytes") or "no memory readings in this run")
    readings = [reading for reading in (record.readings if record else ()) if reading.name == name]
    return readings[0] if readings else Reading(name=name, unit="bytes", value=None, why_missing=why)


def bytes_of(run: Run, candidate: str, value: str) -> Reading:
    """The reading behind a value in bytes: the weights' size or the peak memory."""
    return weights_size(run, candidate) if value == WEIGHTS.name else peak_memory(run, candidate)


def comparable_bytes(one: tuple[Run, str], other: tuple[Run, str], value: str) -> tuple[Reading, Reading]:
    """The readings of two candidates behind a value in bytes, by which they are compared: peak memory by the first of
    PEAK_READINGS that both have, since one counts more than another. Without such a reading, the best that each has."""
    for mine in readings_of(*one, value):
        for theirs in readings_of(*other, value):
            if mine.name == theirs.name:
                return mine, theirs
    return bytes_of(*one, value), bytes_of(*other, value)


def readings_of(run: Run, candidate: str, value: str) -> tuple[Reading, ...]:
    """All readings that may stand for a value in bytes, the best first."""
    if value == WEIGHTS.name:
        return (weights_size(run, candidate),)
    record = run.memory.get(candidate)
    readings = {r.name: r for r in (record.readings if record else ()) if r.value is not None}
    return tuple(readings[name] for name in PEAK_READINGS if name in readings)


def of_process(reading: Reading) -> bool:
    """Whether a reading is the resident set of the process, which holds whatever was loaded before."""
    return "rss" in reading.name.lower()


def peak_of(readings: Sequence[Reading]) -> Reading | None:
    """The first of PEAK_READINGS that has a value."""
    return next((r for name in PEAK_READINGS for r in readings if r.name == name and r.value is not None), None)


def footprint(run: Run, candidate: str) -> Reading:
    """The reading that may decide between candidates: the bytes of the weights if the run has them, else the device's peak.

    The resident set is not among them: it holds whatever the process loaded before, so its order follows the run's.
    """
    stored = weights_size(run, candidate)
    if stored.value is not None:
        return stored
    peak = peak_memory(run, candidate)
    if of_process(peak):
        return Reading(name=peak.name, unit="bytes", value=None, why_missing="only the process's resident set size was measured")
    return peak


def slowdown(run: Run, candidate: str, other: str) -> float:
    """How many times slower the machine was while `candidate` was timed than while `other` was, by their yardsticks.

    The ratio of the medians; 1 where it is within UNEVEN either way, or where one of the two has no yardstick.
    """
    mine, theirs = run.latency.get(candidate), run.latency.get(other)
    if mine is None or theirs is None or not mine.yardstick or not theirs.yardstick:
        return 1.0
    here, there = statistics.median(mine.yardstick), statistics.median(theirs.yardstick)
    if min(here, there) <= 0 or max(here, there) <= UNEVEN * min(here, there):
        return 1.0
    return here / there


def incomparable(run: Run, candidate: str, other: str) -> str:
    """Why the latencies of two candidates cannot be compared, or "" if they can (as far as is known)."""
    if timed_apart(run, candidate, other):
        return f"not comparable: {label(run, candidate)} and {label(run, other)} were not timed together; {RETIME}"
    ratio = slowdown(run, candidate, other)
    if ratio == 1.0:
        return ""
    slow = candidate if ratio > 1 else other
    return (f"not comparable: the machine was {max(ratio, 1 / ratio):.1f} times slower while {label(run, slow)} was timed; "
            f"{RETIME}")


def timed_apart(run: Run, candidate: str, other: str) -> bool:
    """Whether the rounds of two candidates did not alternate, so that nothing shows that the machine was the same for both. Of
    records of earlier versions this is not known."""
    mine, theirs = run.latency.get(candidate), run.latency.get(other)
    return mine is not None and theirs is not None and mine.timed_at != theirs.timed_at


def speed(run: Run, candidate: str, baseline: str) -> tuple[float | None, str]:
    """Ratio of the median seconds per image (candidate / baseline) and a word: "faster", "slower" or "no clear difference".

    Faster means that every round of the candidate beat every round of the baseline (see `pace`).
    The ratio is None, and the word "not measured", when one of the two was not timed or their batch sizes differ; or
    "not comparable: ...", when the machine was slower for one of them.
    """
    mine, theirs = seconds_per_image(run, candidate), seconds_per_image(run, baseline)
    if mine.median is None or theirs.median is None or mine.slowest is None or theirs.slowest is None:
        return None, "not measured"
    if run.latency[candidate].batch_size != run.latency[baseline].batch_size:
        return None, "not measured"
    if why := incomparable(run, candidate, baseline):
        return None, why
    return mine.median / theirs.median, pace(mine, theirs)


def pace(mine: Seconds, theirs: Seconds) -> str:
    """"faster" if every timed round of one beat every round of the other, "slower" for the reverse, else "no clear difference":
    noise until shown. One round of either shows nothing, for by chance alone it beats another in half of all cases."""
    if min(mine.rounds, theirs.rounds) < FEWEST_ROUNDS:
        return "no clear difference"
    if (mine.slowest or 0.0) < (theirs.fastest or 0.0):
        return "faster"
    return "slower" if (mine.fastest or 0.0) > (theirs.slowest or 0.0) else "no clear difference"


def phases(run: Run) -> tuple[str, ...]:
    """The phases any candidate was timed in, in the order of the pipeline, "total" left out."""
    timed = {phase for record in run.latency.values() for phase in record.seconds}
    return tuple(sorted(timed - {"total"}, key=_when))


def _when(phase: str) -> tuple[int, int, str]:
    """Where in the pipeline a phase is: the first stage, the later ones, decoding and post-steps, and what is not known."""
    stage, what = words.stage_and_phase(phase)
    at = _IN_A_STAGE.index(what) if what in _IN_A_STAGE else len(_IN_A_STAGE)
    if stage > 1:
        return stage, at, what
    if phase in _AT_THE_END:
        return _LAST_STAGE, _AT_THE_END.index(phase), what
    return (1, at, what) if what in _IN_A_STAGE else (_LAST_STAGE, len(_AT_THE_END), what)
