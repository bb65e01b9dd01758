"""FORMATS: how training tools name the tensors in their files. A file has the format that parses most of its keys; in a
tie, the earlier row wins. A new format is a file with a row, and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.adapters.formats import cloneofsimo, diffusers_legacy, dotted, kohya, onetrainer, xlabs
from harness.adapters.formats.keys import Format, Key

FORMATS: Final[Mapping[str, Format]] = {
    "kohya": kohya.KOHYA,
    "onetrainer": onetrainer.FORMAT,
    "lycoris": kohya.WRAPPED,
    "diffusers-2023": diffusers_legacy.FORMAT,
    "omi": dotted.OMI,
    "diffusers": dotted.DIFFUSERS,
    "peft": dotted.PEFT,
    "comfyui": dotted.COMFY,
    "xlabs": xlabs.FORMAT,
    "bare": dotted.BARE,
    "cloneofsimo": cloneofsimo.FORMAT,
    "cloneofsimo-list": cloneofsimo.LIST,
}

__all__ = ["FORMATS", "Format", "Key"]
