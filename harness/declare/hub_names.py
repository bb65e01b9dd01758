"""What addresses of the Hugging Face hub say by themselves: the name of their file, and that of a CLIP model."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

CLIP_FILE: Final = "open_clip_model.safetensors"
"""The weights in a repository of open_clip."""
_WHOLE: Final = re.compile(r"(?:[^:]+:)?hub:[^:]+")


def of_clip(reference: str) -> str:
    """The reference to a CLIP model, with the file of the weights where an address of the hub names a repository alone."""
    return f"{reference}:{CLIP_FILE}" if _WHOLE.fullmatch(reference) else reference


def file_name(reference: str) -> str:
    """The name of the file that a path or an address of the hub is of: of an address without a file that of its repository."""
    if not reference.startswith("hub:"):
        return PurePath(reference).name
    repository, _, file = reference.removeprefix("hub:").partition(":")
    return PurePath(file or repository.partition("@")[0]).name
