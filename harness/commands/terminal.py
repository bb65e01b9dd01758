"""How the subcommands show things on a terminal: lines at once, sizes in words, one line of progress."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import Self

_EVERY_SECONDS = 0.1


def say(text: str) -> None:
    """Prints a line at once. Where whoever read the lines has gone away, nothing any more: `| head` must not stop a merge
    half-way, nor make a finished one look failed."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def size_in_words(size: int) -> str:
    """Bytes as a reader says them: "2.13 GB"."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10 ** power:
            return f"{size / 10 ** power:.2f} {unit}"
    return f"{size} bytes"


class Bar:
    """One line on standard error that shows how far something is; nothing where that is no terminal."""

    def __init__(self, total: int, doing: str) -> None:
        self.total, self.doing, self.done = max(total, 1), doing, 0
        self.started = self.shown = time.monotonic()
        self.lock = threading.Lock()
        self.on_terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.on_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def advance(self, size: int) -> None:
        """`size` more bytes are done; may be called from any thread."""
        with self.lock:
            self.done += size
            now = time.monotonic()
            if not self.on_terminal or now - self.shown < _EVERY_SECONDS:
                return
            self.shown = now
            share = min(self.done / self.total, 1.0)
            left = (now - self.started) * (1 - share) / share if share else 0.0
            bar = "█" * int(share * 30)
            sys.stderr.write(f"\r{self.doing} {bar:30} {share:4.0%} of {size_in_words(self.total)}, {left:.0f} s left ")
            sys.stderr.flush()
