"""The pictures that a run was given, kept in its folder by their contents, so that the run can be read without the originals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from blake3 import blake3

from harness.declare.picture_uses import INPUTS, input_path
from harness.records import write_atomically
from harness.records.file_version import ChangedFileError


def keep_inputs(folder: Path, contents: Mapping[str, str], path_of: Callable[[str], Path]) -> None:
    """Copies the pictures into a run folder where they are not there yet. `contents` are their BLAKE3 by file as declared. Raises
    ChangedFileError for a file that is not what was hashed."""
    if contents and (folder / INPUTS).is_symlink():
        raise ChangedFileError(f"{folder / INPUTS} is a link; expected a folder of the run's own. Remove it")
    for file, content in contents.items():
        kept = folder / input_path(file, content)
        if kept.is_file() and blake3(kept.read_bytes()).hexdigest() == content:
            continue
        data = path_of(file).read_bytes()
        if blake3(data).hexdigest() != content:
            raise ChangedFileError(f"the picture {file!r} was changed since the run began. Run again once nothing writes to it")
        write_atomically(kept, data)
