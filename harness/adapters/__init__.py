"""ADAPTER_FORMATS: adapter file to exact factors per module, and those onto live modules.

The harness reads and attaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.adapters import kohya, peft
from harness.adapters.attach import attach, detach, set_weight
from harness.adapters.contract import STATUSES, AdapterError, AdapterFormat, AdapterPlan, Factors
from harness.adapters.read import plan_adapter, read_file, recognise

if TYPE_CHECKING:
    import torch

ADAPTER_FORMATS: Final[dict[str, AdapterFormat]] = {"kohya": kohya.FORMAT, "peft": peft.FORMAT}


def read_adapter(path: Path, modules: Mapping[str, torch.nn.Module]) -> AdapterPlan:
    """The plan of a .safetensors adapter for these components ("unet", "text_encoder", "text_encoder_2").

    Raises AdapterError for pickles, unsupported formats, unknown keys, wrong shapes and doubled targets.
    """
    file = read_file(Path(path))
    name = recognise(file, ADAPTER_FORMATS)
    return plan_adapter(file, name, ADAPTER_FORMATS[name], modules)


__all__ = ["ADAPTER_FORMATS", "STATUSES", "AdapterError", "AdapterFormat", "AdapterPlan", "Factors", "attach", "detach",
           "read_adapter", "set_weight"]
