"""What the planted candidates cost beyond latency and memory: as a machine without a GPU records it, and as one with a GPU."""

from __future__ import annotations

from dataclasses import replace

from harness.records import (
    BatchCurve,
    BatchPoint,
    Durations,
    Fit,
    Latency,
    Memory,
    Power,
    Reading,
    Record,
    Series,
    Span,
    Timeline,
)
from harness.records.costs import MAKING
from reports.read.run import Run

GIB = 2**30
SPANS = (Span(phase="switch", start_seconds=0.0, end_seconds=0.02), Span(phase="text", start_seconds=0.02, end_seconds=0.03),
         Span(phase="step", start_seconds=0.03, end_seconds=0.05), Span(phase="denoise", start_seconds=0.03, end_seconds=0.09),
         Span(phase="decode", start_seconds=0.09, end_seconds=0.12))
NO_GPU = "device cpu is not an NVIDIA GPU"
SWITCHES = (0.011, 0.013, 0.012, 0.014)


def without_gpu(name: str, setting: str) -> list[Record]:
    """A timeline of the resident set, no energy, durations and a batch curve."""
    power = tuple(Reading(name=name, unit=unit, value=None, why_missing=NO_GPU)
                  for name, unit in (("joules_per_image", "J"), ("mean_watts", "W")))
    return [Durations(candidate=name, setting=setting, seconds={
                "first_switch": (0.25,), "switch": SWITCHES, "step": (0.009, 0.010, 0.011), "load": (0.5,)}),
            Power(candidate=name, images=0, readings=power, why_no_limits=NO_GPU, setting=setting),
            timeline(name, setting, {"process_rss": 8 * 10**8}),
            BatchCurve(candidate=name, setting=setting, stopped="the limit of 4 images per batch was reached", points=tuple(
                point(size, "process_rss_peak_bytes") for size in (1, 2, 4)))]


def timeline(name: str, setting: str, lines: dict[str, int]) -> Timeline:
    """A timeline of five samples; every line rises by a tenth while it denoises."""
    at = (0.0, 0.025, 0.06, 0.08, 0.12)
    series = tuple(Series(name=n, at_seconds=at, used_bytes=(b, b, b + b // 10, b + b // 10, b)) for n, b in lines.items())
    return Timeline(candidate=name, series=series, spans=SPANS, samples=31, samples_per_second=250.0, longest_gap_seconds=0.0071,
                    setting=setting)


def point(size: int, reading: str) -> BatchPoint:
    """Three batches: twice as many images take 1.6 times as long."""
    taken = 0.18 * 1.6 ** (size.bit_length() - 1)
    return BatchPoint(batch_size=size, seconds=(taken, taken * 1.01, taken * 1.3), readings=(
        Reading(name=reading, unit="bytes", value=float(GIB + size * GIB // 2)),))


def on_gpu(run: Run, rounds: int = 29) -> Run:
    """The run as a GPU would have recorded it: VRAM by the driver, energy, `rounds` rounds, and a refused batch of 8."""
    names = [c.name for c in run.suite.candidates]
    return replace(
        run, latency={n: _latency(n, rounds) for n in names}, memory={n: _memory(n) for n in names},
        power={n: _power(n) for n in names},
        timeline={n: timeline(n, "", {"device_used": 6 * GIB, "process_used": 5 * GIB, "process_rss": 2 * GIB}) for n in names},
        curves={n: BatchCurve(candidate=n, stopped="a batch of 8 does not fit: CUDA out of memory.", points=tuple(
            point(size, "nvml_process_peak_bytes") for size in (1, 2, 4))) for n in names[:2]},
        fits=tuple(Fit(candidate=n, batch_size=8, fits=False, asked_bytes=31 * GIB // 10, why="CUDA out of memory.")
                   for n in names[:2]))


def _latency(name: str, rounds: int) -> Latency:
    total = tuple(2.0 + 0.01 * i for i in range(rounds))
    parts = {phase: tuple(share * t for t in total) for phase, share in (("text", 0.1), ("denoise", 0.7), ("decode", 0.2))}
    return Latency(candidate=name, batch_size=1, warmup_rounds=1, seconds={"total": total, **parts}, guidance=3.0,
                   yardstick=(0.01,) * rounds, stopped=f"{rounds} rounds, as many as requested")


def _memory(name: str) -> Memory:
    sizes = {"nvml_device_peak_bytes": 6.6, "nvml_process_peak_bytes": 5.5, "torch_allocated_peak_bytes": 4.0,
             "torch_reserved_peak_bytes": 4.5, "process_rss_peak_bytes": 2.2, "over_idle_peak_bytes": 6.0,
             "driver_reserved_bytes": 0.5, MAKING + "nvml_process_peak_bytes": 5.75}
    return Memory(candidate=name, readings=tuple(Reading(name=n, unit="bytes", value=v * GIB) for n, v in sizes.items()))


def _power(name: str) -> Power:
    figures = (("energy_joules", "J", 5800.0), ("joules_per_image", "J", 200.4), ("mean_watts", "W", 89.6),
               ("sm_clock_start", "MHz", 1980.0), ("sm_clock_lowest", "MHz", 1755.0), ("temperature_end", "celsius", 61.0))
    return Power(candidate=name, images=29, limits=("power cap: the software limit of the board's power",),
                 readings=tuple(Reading(name=n, unit=u, value=v) for n, u, v in figures))
