"""The `sweetspot` command: what is done without pytest. Each subcommand is a module that declares its arguments and runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final, NoReturn

from harness.version import __version__

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "inspect": ("harness.commands.inspect", "say what model files are: family, parts, dtypes, and what is wrong with them"),
    "adapter": ("harness.commands.adapter", "combine, extract, resize and convert adapters"),
    "merge": ("harness.commands.merge", "merge models into a file, or show what a merge would be"),
    "replay": ("harness.commands.replay", "make a merged file again from the recipe in its header, and compare"),
    "promote": ("harness.commands.promote", "make a measured candidate a file with a record of why, and its suite's baseline"),
    "verify": ("harness.commands.verify", "say whether a model file is one that was promoted, and which"),
    "rollback": ("harness.commands.rollback", "make an earlier version of a promoted model the current one again"),
    "history": ("harness.commands.history", "list the versions of a promoted model"),
    "blind": ("harness.commands.blind", "let people rate pictures without knowing what made them, and take the ratings in"),
    "calibrate": ("harness.commands.calibrate", "sample a suite's baseline twice, and say which margins its gates need"),
    "report": ("harness.commands.report", "re-make page, Markdown and table of a run folder"),
    "compare": ("harness.commands.compare", "two run folders side by side: what changed, and by how much each value moved"),
    "trend": ("harness.commands.trend", "every value of a suite over the commits of its runs and baselines"),
}
"""{subcommand: (module with `add_arguments(parser)` and `run(given)`, one line of help)}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the thing asked for failed (said on standard error), 2 the command line is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="sweetspot", description="Which merge to ship, with evidence. Benchmarks run with: pytest suites/ --benchmark")
    parser.add_argument("--version", action="version", version=f"sweetspot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    # Only the module that is asked for is imported: `inspect` must not wait for what `report` needs.
    asked = next((word for word in words if not word.startswith("-")), "")
    for name, (module, help_line) in COMMANDS.items():
        command = commands.add_parser(name, help=help_line, description=help_line)
        if name == asked:
            import_module(module).add_arguments(command)
    given = parser.parse_args(words)
    code: int = import_module(COMMANDS[given.command][0]).run(given)
    return code


def command() -> NoReturn:
    """What the installed command runs: `main`, and out. Taking torch apart takes 0.4 s, and the system frees all of it
    anyway; what was written is written by then."""
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; no file was changed", file=sys.stderr)
        code = 130
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone away
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    command()
