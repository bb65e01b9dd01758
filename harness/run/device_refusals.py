"""Number formats and runtimes that a device does not offer."""

from __future__ import annotations

from harness.declare import Candidate
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES


def refusal(candidate: Candidate, device: str) -> str:
    """Why this device does not offer what the candidate asks for ("fp16" on a CPU), or an empty string."""
    number_format = candidate.number_format or candidate.quantization
    asked = ((number_format, QUANTIZATION_MODES[number_format].why_not(device)),
             (candidate.runtime, RUNTIMES[candidate.runtime].why_not(device)))
    return next((f"{name} is not offered on {device}: {reason}" for name, reason in asked if reason), "")
