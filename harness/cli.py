"""The `sweetspot` command: what is done without pytest. Each subcommand is a module that declares its arguments and runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

from harness import __version__

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "inspect": ("harness.commands.inspect", "say what model files are: family, parts, dtypes, and what is wrong with them"),
    "adapter": ("harness.commands.adapter", "combine, extract, resize and convert adapters"),
    "merge": ("harness.commands.merge", "merge models into a file, or show what a merge would be"),
    "replay": ("harness.commands.replay", "make a merged file again from the recipe in its header, and compare"),
    "report": ("harness.cli", "re-make page, Markdown and table of a run folder"),
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `report`, which is kept here because the doors alone import reports."""
    parser.add_argument("run", type=Path, help="the folder that holds run.json, for example runs/alpha_cfg")


def run(given: argparse.Namespace) -> int:
    """Runs `report`."""
    return _report(given.run)


def _report(folder: Path) -> int:
    from rich.console import Console

    from reports import judge, load_run, recommend, terminal_table, write_page

    try:
        run = load_run(folder)
    except (OSError, ValueError) as error:
        print(f"sweetspot report: {error}", file=sys.stderr)
        return 1
    recommendation = recommend(run)
    Console(highlight=False).print(terminal_table(run, recommendation, judge(run, recommendation)))
    print(f"page: {write_page(folder)}")
    return 0


if __name__ == "__main__":
    command()
