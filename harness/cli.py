"""The `sweetspot` command: what is done without pytest. Each subcommand is a function that returns the exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the thing asked for failed (said on standard error), 2 the command line is wrong."""
    parser = argparse.ArgumentParser(
        prog="sweetspot", description="Which merge to ship, with evidence. Benchmarks run with: pytest suites/ --benchmark")
    parser.add_argument("--version", action="version", version=f"sweetspot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="re-make page, Markdown and table of a run folder")
    report.add_argument("run", type=Path, help="the folder that holds run.json, for example runs/alpha_cfg")
    given = parser.parse_args(arguments)
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
    sys.exit(main())
