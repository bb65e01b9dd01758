"""Whether the files that a declaration names can be opened as what it says they are, as far as their first bytes and the headers
of safetensors files show. Pickles are read by the run alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from harness.hub import HubError, in_cache, parsed
from harness.records.file_version import FileVersion, files_of, version_of
from harness.weights.content import GGUF, PICKLE, content_of, trouble_of

MODEL, ADAPTER, CLIP, CONTROL, REFERENCE = "model", "adapter", "clip", "control", "reference"
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


def file_problem(kind: str, path: Path) -> str:
    """Why the file or folder at `path` is not of this kind, as the run would say it; "" for one that may be."""
    try:
        if not path.exists():
            return trouble_of(content_of(path))
        return _problem(kind, path, tuple((file, version_of(file)) for file in files_of(path)))
    except OSError as error:
        return f"could not be read ({error.strerror}). Check the file and its permissions"


def hub_problems(reference: str, *, weights: bool = True) -> Iterator[str]:
    """A phrase if an address of the hub is malformed, or if its files are not in the cache; without `weights` only configs and
    tokenizers are needed."""
    try:
        in_cache(parsed(reference), weights=weights)
    except (HubError, OSError) as error:
        yield str(error)


@lru_cache(maxsize=1024)
def _problem(kind: str, path: Path, files: tuple[tuple[Path, FileVersion], ...]) -> str:
    # A sweep names the same two files in every candidate.
    if path.is_dir() and kind in (MODEL, ADAPTER, CONTROL):
        return "" if any(file.suffix in _PICKLES for file, _ in files) else _of_header(kind, path)
    content = content_of(path)
    if wrong := trouble_of(content):
        return wrong
    if content.kind == GGUF and kind not in (MODEL, CONTROL):
        return "a GGUF file, which is read as a model alone. Give the file as .safetensors"
    if content.kind == PICKLE:
        return "a pickle; only safetensors files are read here, because others can run code. Convert it" if kind == CLIP else ""
    return _of_header(kind, path)


def _of_header(kind: str, path: Path) -> str:
    from harness.adapters import AdapterError, recognise_file
    from harness.control.reading import read_control
    from harness.reference.reading import read_image_prompt
    from harness.weights.safetensors_header import ModelFileError
    from harness.weights.structural import open_any

    try:
        if kind == MODEL:
            open_any(path)
        elif kind == ADAPTER:
            recognise_file(path)
        elif kind == CONTROL:
            read_control(path)
        elif kind == REFERENCE:
            read_image_prompt(path)
    except (ModelFileError, AdapterError) as error:
        return str(error).removeprefix(f"{path}: ")
    return ""
