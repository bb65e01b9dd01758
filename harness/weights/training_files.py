"""Which training a file was saved by, and after how many steps or epochs: from its header, otherwise from its name as the
trainers write it. No tensor is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.weights.safetensors_header import ModelFileError, read_header

_GENERIC: Final = ("pytorch_lora_weights", "adapter_model", "model", "diffusion_pytorch_model")
"""What trainers call the file in a folder whose name has the number."""
_STAMP: Final = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
_NAMES: Final = tuple(map(re.compile, (
    rf"(?P<name>.*?)(?:{_STAMP})?-save-(?P<step>\d{{1,12}})-(?P<epoch>\d{{1,12}})-\d{{1,12}}",  # OneTrainer
    r"(?P<name>.*?)[-_]?(?:global_?)?step[-_=]?(?P<step>\d{1,12})",  # kohya, DiffSynth, diffusion-pipe
    r"(?P<name>.*?)[-_]?epoch[-_=]?(?P<epoch>\d{1,12})",  # diffusion-pipe, DiffSynth
    r"(?P<name>(?:.*[-_])?checkpoint)-(?P<step>\d{1,12})",  # diffusers, SimpleTuner
    r"(?P<name>.+)_(?P<step>\d{9})",  # AI-Toolkit
    r"(?P<name>.+)-(?P<epoch>\d{6})",  # kohya
)))


@dataclass(frozen=True, kw_only=True)
class SavedAt:
    """When in its training a file was saved; None where nothing says it. `session` identifies the training, `output` is the
    name it was given; empty if the header has none. `stem` is the file's name without its number, `numbered` whether it has
    one."""

    path: str
    step: int | None
    epoch: int | None
    session: str
    output: str
    stem: str
    numbered: bool


def saved_at(path: str) -> SavedAt:
    """What header and name of a file, or of the tensors in a trainer's folder, say of its training. The header counts before
    the name; one that cannot be read says nothing."""
    header = _header(Path(path))
    name, by_name = _by_name(Path(path))
    training = _training_info(header.get("training_info", ""))
    step = _first(_number(header.get("ss_steps")), training.get("step"), by_name.get("step"))
    epoch = _first(_number(header.get("ss_epoch")), training.get("epoch"), by_name.get("epoch"))
    return SavedAt(path=path, step=step, epoch=epoch, session=header.get("ss_session_id", ""),
                   output=header.get("ss_output_name", ""), stem=name, numbered=bool(by_name))


def _header(path: Path) -> Mapping[str, str]:
    if path.is_dir():
        path = next((path / f"{name}.safetensors" for name in _GENERIC if (path / f"{name}.safetensors").is_file()), path)
    try:
        return read_header(path)[1]
    except (ModelFileError, OSError):
        return {}


def _by_name(path: Path) -> tuple[str, dict[str, int]]:
    """The name without its number, and the numbers. A file with a generic name is called by its folder."""
    stem = path.name if path.is_dir() else path.stem
    folder = path.parent
    if stem in _GENERIC:
        stem, folder = path.parent.name, path.parent.parent
    for pattern in _NAMES:
        if match := pattern.fullmatch(stem):
            numbers = {key: int(text) for key, text in match.groupdict().items() if key != "name" and text is not None}
            return str(folder / match["name"]), numbers
    return str(folder / stem), {}


def _training_info(text: str) -> dict[str, int]:
    """AI-Toolkit's {"step": 500, "epoch": 4}."""
    try:
        data = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {key: number for key in ("step", "epoch") if (number := _number(data.get(key))) is not None}


def _number(value: object) -> int | None:
    """A whole number as a header has it: digits, or a number of JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 10 ** 12 else None
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value, re.ASCII) else None


def _first(*numbers: int | None) -> int | None:
    return next((number for number in numbers if number is not None), None)
