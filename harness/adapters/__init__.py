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
from harness.adapters.read import inspect_keys, plan_adapter, read_file, read_keys, recognise

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


def inspect_adapter(path: Path) -> str:
    """The name of the file's format, from its header alone; raises AdapterError for all that shows without the model:
    no such file, other kinds of files and of adapters, unknown keys, missing halves."""
    file = read_keys(Path(path))
    name = recognise(file, ADAPTER_FORMATS)
    inspect_keys(file, name, ADAPTER_FORMATS[name])
    return name


__all__ = ["ADAPTER_FORMATS", "STATUSES", "AdapterError", "AdapterFormat", "AdapterPlan", "Factors", "attach", "detach",
           "inspect_adapter", "read_adapter", "set_weight"]
