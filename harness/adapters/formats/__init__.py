"""FORMATS: how the files of the various trainers name their tensors. Reading recognises a file by the row that understands
most of its keys, the earlier one where two do equally well; to add a format is a file with a row and a line here.
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
