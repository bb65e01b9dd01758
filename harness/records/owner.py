"""The process that holds something, written down so that others can recognise it and tell whether it is still there."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.records.regular_files import read_regular

LARGEST_OWNER: Final = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that holds something. `boot` is the kernel's id of its boot, the same in all containers of a machine; `space` is
    that of its process ids, which differs between them; `start` is the process's start in clock ticks after boot, so that a
    reused process id is not mistaken for the old process."""

    host: str
    boot: str
    pid: int
    start: str
    token: str
    space: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def text(self) -> str:
        """As a file has it."""
        return json.dumps(vars(self))


def myself() -> Owner:
    """This process as an owner, with a new token."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        return Owner(host=socket.gethostname(), boot=boot.read_text(encoding="ascii").strip(), pid=os.getpid(),
                     start=started(os.getpid()), token=secrets.token_hex(8), space=_space())
    return Owner(host=socket.gethostname(), boot="", pid=os.getpid(), start="", token=secrets.token_hex(8))


def started(pid: int) -> str:
    """The start of a process in clock ticks after boot, as the kernel prints it; empty if there is no such process."""
    with suppress(OSError, IndexError):
        # The second field is the program's name and may hold blanks and brackets; the 22nd of all is the start.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return ""


def ended(owner: Owner, here: Owner) -> bool:
    """Whether an owner has certainly ended: `here` would see its process, and does not."""
    same = owner.boot and owner.space and (owner.boot, owner.space, owner.host) == (here.boot, here.space, here.host)
    return bool(same) and started(owner.pid) != owner.start


def owner_in(text: bytes) -> Owner:
    """The owner in a file's content. Raises KeyError, TypeError, ValueError or RecursionError for anything else."""
    data: Any = json.loads(text)
    return Owner(host=str(data["host"]), boot=str(data["boot"]), pid=int(data["pid"]), start=str(data["start"]),
                 token=str(data["token"]), space=str(data.get("space", "")))


def read_owner(path: Path) -> Owner | None:
    """The owner that a file records; None if the file is missing or records no valid owner."""
    for _ in range(3):  # a network file system may show the moment between two contents
        try:
            return owner_in(read_regular(path, LARGEST_OWNER))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            time.sleep(0.01)
    return None


def _space() -> str:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""
