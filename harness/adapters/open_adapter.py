"""Opens an untrusted adapter of any kind: a safetensors file, a pickle, or a PEFT folder. The content decides which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.adapters.adapter_file import Stored, open_safetensors, short
from harness.adapters.live_plan import AdapterError
from harness.adapters.pickled import open_pickle
from harness.weights.content import GGUF, SAFETENSORS, content_of, misnamed, trouble_of
from harness.weights.folder import is_bare
from harness.weights.model import PARTS

PEFT_CONFIG: Final = "adapter_config.json"
_PEFT_FILES: Final = ("adapter_model.safetensors", "adapter_model.bin")


def open_stored(path: Path) -> Stored:
    """Opens a PEFT folder, a safetensors file or a pickle, whatever its suffix. Raises AdapterError for anything incomplete,
    damaged or unsafe."""
    if path.is_dir():
        return _open_folder(path)
    kind = kind_of(path)
    return replace(open_safetensors(path) if kind == SAFETENSORS else open_pickle(path), misnamed=misnamed(path, kind))


def refuse_without_settings(path: Path, stored: Stored) -> None:
    """Raises AdapterError for the tensors of a PEFT folder without the folder, whose settings hold the strength."""
    if stored.config is None and path.name in _PEFT_FILES and (path.parent / PEFT_CONFIG).is_file():
        raise AdapterError(f"{path}: its strength is in the {PEFT_CONFIG} beside it; give the folder {path.parent} instead")


def kind_of(path: Path) -> str:
    """SAFETENSORS or PICKLE, by the file's content. Raises AdapterError, naming what any other file is."""
    content = content_of(path)
    if wrong := trouble_of(content):
        raise AdapterError(f"{path}: {wrong}")
    if content.kind == GGUF:
        raise AdapterError(f"{path}: a GGUF file, which is read as a model alone; expected a safetensors file or a pickle. Give "
                           "the adapter as .safetensors")
    return content.kind


def _open_folder(path: Path) -> Stored:
    config_path = path / PEFT_CONFIG
    if not config_path.is_file():
        if (path / "model_index.json").is_file() or is_bare(path) or any((path / part).is_dir() for part in PARTS):
            raise AdapterError(f"{path}: this is the folder of a model, not an adapter; give it as a model")
        raise AdapterError(f"{path}: this is a folder without {PEFT_CONFIG}; give the adapter file in it")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{config_path}: not JSON ({short(error)}); its strength is unknown") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{config_path}: a {type(config).__name__}, expected an object")
    for name in _PEFT_FILES:
        if (path / name).is_file():
            inner = open_stored(path / name)
            return Stored(name=f"{path.name}/{name}", entries=inner.entries, metadata=inner.metadata, number=inner.number,
                          load=inner.load, extras=inner.extras, config=config)
    raise AdapterError(f"{path}: has {PEFT_CONFIG} but no adapter_model.safetensors; the folder is incomplete")
