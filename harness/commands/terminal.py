"""Terminal output of the subcommands: unbuffered lines, sizes in words, examples in help texts, a progress bar."""

from __future__ import annotations

import argparse
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harness.records.byte_sizes import size_in_words

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["ByteBar", "add_examples", "say", "size_in_words"]


def add_examples(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Shows command lines, given without the leading "sweetspot", at the end of the parser's help."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(("examples:", *(f"  sweetspot {line}" for line in lines)))


def say(text: str) -> None:
    """Prints a line without buffering. Prints nothing once the reader has closed the pipe: `| head` must not stop a merge
    halfway, nor make a finished one look failed."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ByteBar:
    """A rich bar on standard error that shows how many of `total` bytes are done; nothing if standard error is not a terminal."""

    def __init__(self, total: int, doing: str) -> None:
        self.total, self.doing = total, doing
        self.rich: RichProgress | None = None

    def __enter__(self) -> Self:
        if not sys.stderr.isatty():
            return self
        from rich import progress
        from rich.console import Console

        self.rich = progress.Progress(
            progress.TextColumn("{task.description}", markup=False), progress.BarColumn(), progress.DownloadColumn(),
            progress.TimeRemainingColumn(), progress.TextColumn("left"), console=Console(stderr=True), transient=True)
        self.task = self.rich.add_task(self.doing, total=self.total)
        self.rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.rich is not None:
            self.rich.stop()

    def advance(self, size: int) -> None:
        """Adds `size` bytes to the work done. May be called from any thread."""
        if self.rich is not None:
            self.rich.advance(self.task, size)
