"""The names of devices: which are valid, and which this machine has."""

from __future__ import annotations

import re
from typing import Final

from harness.probes.memory import idle_before_use

_NAME: Final = re.compile(r"cpu|cuda(:[0-9]{1,3})?")
EXPECTED: Final = "cpu, cuda or cuda:N"
_ON_CPU: Final = "leave the device out to run on the CPU"
_LONGEST: Final = 300


def name_problem(device: object) -> str:
    """Why something is not the name of a device; empty if it is."""
    known = isinstance(device, str) and _NAME.fullmatch(device)
    return "" if known else f"unknown device {device!r}; expected {EXPECTED}"


def device_problem(device: object) -> str:
    """Why a device cannot be used: not a device name, or not on this machine; empty if it can."""
    if wrong := name_problem(device):
        return wrong
    if device == "cpu" or not isinstance(device, str):
        return ""
    import torch

    if not torch.version.cuda and not torch.version.hip:
        return (f"device {device}: torch {torch.__version__} was installed without CUDA. Install a build with it "
                f"(https://pytorch.org/get-started/locally), or {_ON_CPU}")
    count, number = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
    if number >= count:
        return f"device {device}: torch {torch.__version__} sees {count} CUDA devices here; {_ON_CPU}"
    idle_before_use(device)  # the trial leaves a context, which would count as others' use
    return _trial(device)


def _trial(device: str) -> str:
    """What goes wrong when one kernel runs there: the driver can be older than torch's CUDA, and the GPU unknown to this torch;
    both show only in use."""
    import torch

    try:
        (torch.ones(2, device=device) + 1).sum().item()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return (f"device {device}: torch {torch.__version__}, built for CUDA {torch.version.cuda}, cannot use it "
                f"({reason[:_LONGEST]}). Install a driver and a torch that fit together and this GPU, or {_ON_CPU}")
    return ""
