"""The names of devices: which are valid, and which this machine has."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"cpu|cuda(:[0-9]{1,3})?")
EXPECTED: Final = "cpu, cuda or cuda:N"


def device_problem(device: object) -> str:
    """Why a device cannot be used: not a device name, or not on this machine; empty if it can."""
    if not isinstance(device, str) or not _NAME.fullmatch(device):
        return f"unknown device {device!r}; expected {EXPECTED}"
    if device == "cpu":
        return ""
    import torch

    count, number = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
    if number < count:
        return ""
    return f"device {device}: torch {torch.__version__} sees {count} CUDA devices here; leave the device out to run on the CPU"
