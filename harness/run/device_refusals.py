"""Number formats, runtimes and savers that a device does not offer, or that several processes cannot use for one suite."""

from __future__ import annotations

from collections.abc import Iterable

from harness.declare import Candidate
from harness.declare.candidate import NOT_QUANTIZED
from harness.declare.component_runtimes import runtimes_in
from harness.declare.listing import first_of
from harness.declare.mixed import modes_in, of_denoiser
from harness.quantize import QUANTIZATION_MODES
from harness.quantize.declared import made_on_host
from harness.runtimes import RUNTIMES
from harness.savers import SAVERS


def refusal(candidate: Candidate, device: str) -> str:
    """Why this device does not offer what the candidate asks for ("fp16" on a CPU), or an empty string."""
    formats = modes_in(candidate.quantization) if candidate.quantization != NOT_QUANTIZED else (
        candidate.precision or NOT_QUANTIZED,)
    asked = (*((mode, QUANTIZATION_MODES[mode].why_not(device)) for mode in formats), _arithmetic(candidate, device),
             *((runtime, RUNTIMES[runtime].why_not(device)) for runtime in runtimes_in(candidate.runtime)),
             *((f"saver {name!r}", SAVERS[name].lacks(device)) for name in candidate.savers))
    return next((f"{name} is not offered on {device}: {reason}" for name, reason in asked if reason), "")


def _arithmetic(candidate: Candidate, device: str) -> tuple[str, str]:
    """The precision that an integer mode is to compute in, and why the device does not offer it."""
    mode, precision = of_denoiser(candidate.quantization), candidate.precision
    if not made_on_host(mode) or precision in ("", NOT_QUANTIZED):
        return "", ""
    on_cpu = f"there, {mode} computes in fp32; leave precision out" if device == "cpu" else ""
    return f"{mode} in {precision}", on_cpu or QUANTIZATION_MODES[precision].why_not(device)


def alone_problems(suite: str, candidates: Iterable[Candidate], *, workers: str, cache: str) -> list[str]:
    """That candidates of a suite whose images must all be of one process are to be made by `workers`, or shared in a `cache`."""
    given = [option for option, value in (("--workers", workers), ("--shared-cache", cache)) if value]
    timed = {c.name: name for c in candidates for name in runtimes_in(c.runtime) if (
        row := RUNTIMES.find(name)) is not None and row.by_timing}
    if not (given and timed):
        return []
    return [f"suite {suite!r}, {first_of(list(timed))}: runtime {next(iter(timed.values()))!r} chooses its kernels by timing, so "
            f"images of several processes differ in their last bits. Run the suite without {' and '.join(given)}, or take "
            "another runtime"]
