"""RUNTIMES: by what a candidate's U-Net is executed. Declared by name in a Candidate; materialise applies the row."""

from __future__ import annotations

from typing import Final

RUNTIMES: Final[dict[str, str]] = {
    "eager": "PyTorch as it is, one kernel after another",
}
