"""Names of files and folders that some file system cannot hold: a run folder may be copied to any."""

from __future__ import annotations

import re
from typing import Final

_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


def unusable_on_windows(name: str) -> str:
    """Why Windows cannot hold a file or folder of that name, in words; empty if it can. Its devices are reserved with any
    extension, and a dot or a blank at the end is dropped."""
    if _DEVICE.fullmatch(name):
        return "is the name of a device on Windows"
    return "ends in a dot or a blank, which Windows drops" if name.endswith((".", " ")) else ""
