"""Number formats, runtimes and savers that a device does not offer."""

from __future__ import annotations

from harness.declare import Candidate
from harness.declare.candidate import NOT_QUANTIZED
from harness.quantize import MADE_ON_HOST, QUANTIZATION_MODES
from harness.runtimes import RUNTIMES
from harness.savers import SAVERS


def refusal(candidate: Candidate, device: str) -> str:
    """Why this device does not offer what the candidate asks for ("fp16" on a CPU), or an empty string."""
    number_format = candidate.number_format or candidate.quantization
    asked = ((number_format, QUANTIZATION_MODES[number_format].why_not(device)), _arithmetic(candidate, device),
             (candidate.runtime, RUNTIMES[candidate.runtime].why_not(device)),
             *((f"saver {name!r}", SAVERS[name].lacks(device)) for name in candidate.savers))
    return next((f"{name} is not offered on {device}: {reason}" for name, reason in asked if reason), "")


def _arithmetic(candidate: Candidate, device: str) -> tuple[str, str]:
    """The precision that an integer mode is to compute in, and why the device does not offer it."""
    mode, precision = candidate.quantization, candidate.precision
    if mode not in MADE_ON_HOST or precision in ("", NOT_QUANTIZED):
        return "", ""
    on_cpu = f"there, {mode} computes in fp32; leave precision out" if device == "cpu" else ""
    return f"{mode} in {precision}", on_cpu or QUANTIZATION_MODES[precision].why_not(device)
