"""Records of what a candidate costs: seconds, memory over time and at its peak, energy, batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

STORED: Final = "stored_weights_bytes"
STORED_DENOISER: Final = "stored_denoiser_bytes"
"""Readings of a Memory record: bytes of the live weights of all parts, and of the denoiser alone, as they are stored: a quantized
weight counts as its codes and scales. Records of earlier versions lack them."""
DENOISER_WEIGHTS: Final = "denoiser_weights"
WRITTEN_DENOISER: Final = "written_denoiser_bytes"
"""Readings of a Memory record: how many weights the denoiser has, and the bytes of the file that `sweetspot quantize` writes of
it, without its header, or why it writes none. Records of earlier versions lack them."""
MAKING: Final = "making_"
"""Begins the names of the readings of a Memory record that were taken while the candidate was made. The others are of one image,
to run. Records of earlier versions have no such readings, because they took both in one."""
PHASES: Final = ("total", "text", "denoise", "decode")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds per image at `batch_size`, by phase, one entry per timed round (warm-up rounds are not in it).

    `setting` is the hash of everything that was timed; the record is valid while it equals the setting of the candidate's
    Weights. `yardstick` holds the seconds of one fixed small computation before each round: if it differs between two
    candidates, the machine was busy and their latencies cannot be compared. `stopped` says why the rounds ended.

    `timed_at` is the time in UTC at which the rounds began: equal for all that were timed together, and only they are compared.
    `environment` holds the facts of the environment that can change a latency. Both are empty in records of earlier versions.
    """

    candidate: str
    batch_size: int
    warmup_rounds: int
    seconds: Mapping[str, tuple[float, ...]]
    guidance: float
    setting: str = ""
    yardstick: tuple[float, ...] = ()
    stopped: str = ""
    timed_at: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One figure of a probe: a number, or None and the reason it could not be measured. Missing is never zero."""

    name: str
    unit: str
    value: float | None
    why_missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory of one candidate while it sampled at batch 1 and while it was made (MAKING), by probe, and its weights
    (STORED), in bytes; `setting` as in Latency."""

    candidate: str
    readings: tuple[Reading, ...]
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One pass through a phase ("switch", "text", "denoise", "decode"), on the clock of its timeline."""

    phase: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a timeline: bytes in use at times since its start. `why_ended` says why it ended early, if it did."""

    name: str
    at_seconds: tuple[float, ...]
    used_bytes: tuple[int, ...]
    why_ended: str = ""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Memory over time while a candidate was loaded and made one untimed image, with the phases marked.

    `samples_per_second` is the rate of the `samples` samples before they were thinned; `notes` holds remarks for the reader.
    """

    candidate: str
    series: tuple[Series, ...]
    spans: tuple[Span, ...]
    samples: int
    samples_per_second: float | None
    longest_gap_seconds: float
    notes: tuple[str, ...] = ()
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Power:
    """Energy, clocks and temperature over the timed images of a candidate, and in words what throttled the clocks
    (`limits`; if the driver does not say, `why_no_limits`)."""

    candidate: str
    images: int
    readings: tuple[Reading, ...]
    limits: tuple[str, ...] = ()
    why_no_limits: str = ""
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Durations:
    """Seconds of what is timed besides an image's phases: "load", "first_switch" (which may merge and read files),
    "switch", "step" (every denoising step); of an exported runtime "export" (once for each architecture and size), "open" and
    "refresh" (each time that it was given the weights)."""

    candidate: str
    seconds: Mapping[str, tuple[float, ...]]
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchPoint:
    """Seconds of each timed batch of `batch_size` images, and the memory readings of one untimed batch before them."""

    batch_size: int
    seconds: tuple[float, ...]
    readings: tuple[Reading, ...]


@dataclass(frozen=True, kw_only=True)
class BatchCurve:
    """Throughput and peak memory by batch size; `stopped` says why the largest batch size is the last."""

    candidate: str
    points: tuple[BatchPoint, ...]
    stopped: str
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Whether a batch fits into the device's memory (or under `cap_bytes`). If not: the bytes requested, free and in total,
    as far as the allocator reported them; `why` is its first sentence."""

    candidate: str
    batch_size: int
    fits: bool
    cap_bytes: int | None = None
    asked_bytes: int | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    why: str = ""
    setting: str = ""
