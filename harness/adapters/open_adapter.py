"""Opens an untrusted adapter of any kind: a .safetensors file, a pickle, or a PEFT folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from harness.adapters.adapter_file import Stored, open_safetensors, short
from harness.adapters.live_plan import AdapterError
from harness.adapters.pickled import SUFFIXES, open_pickle

PEFT_CONFIG: Final = "adapter_config.json"


def open_stored(path: Path) -> Stored:
    """Opens a .safetensors file, a PEFT folder, or a pickle. Raises AdapterError for anything incomplete, damaged or
    unsafe."""
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise AdapterError(f"{path}: no such file; check the name")
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    if path.suffix in SUFFIXES:
        return open_pickle(path)
    if path.suffix == ".png":
        raise AdapterError(f"{path}: an image, which may contain a textual inversion; save the embedding as .safetensors")
    raise AdapterError(f"{path}: adapters are read from .safetensors, {', '.join(SUFFIXES)} and PEFT folders; convert it first")


def _open_folder(path: Path) -> Stored:
    config_path = path / PEFT_CONFIG
    if not config_path.is_file():
        raise AdapterError(f"{path}: this is a folder without {PEFT_CONFIG}; give the adapter file in it")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{config_path}: not JSON ({short(error)}); its strength is unknown") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{config_path}: a {type(config).__name__}, expected an object")
    for name in ("adapter_model.safetensors", "adapter_model.bin"):
        if (path / name).is_file():
            inner = open_stored(path / name)
            return Stored(name=f"{path.name}/{name}", entries=inner.entries, metadata=inner.metadata, number=inner.number,
                          load=inner.load, extras=inner.extras, config=config)
    raise AdapterError(f"{path}: has {PEFT_CONFIG} but no adapter_model.safetensors; the folder is incomplete")
