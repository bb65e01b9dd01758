"""`sweetspot trend`: every value of one suite over the commits of its runs and promoted baselines, as a page and a CSV file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.commands.terminal import add_examples, say
from harness.records.harmless_text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `trend`."""
    add_examples(parser, "trend runs-before/my_merge runs/my_merge models/baselines/my_merge.json -o trend.html")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH",
                        help="run folders and baseline files of one suite: runs/alpha_cfg models/baselines/alpha_cfg.json")
    parser.add_argument("-o", "--output", type=Path, default=Path("trend.html"), metavar="FILE",
                        help="the page; the table is written next to it as .csv (default: trend.html)")
    parser.add_argument("--guidance", type=float, metavar="CFG",
                        help="the guidance scale shown (default: that of the latest pick)")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 written; 1 a path is neither a run nor a baseline, the paths belong to two suites, or a file cannot be
    written; 2 the command line is wrong."""
    from rich.console import Console

    from harness.records import write_atomically
    from reports.trend.series import read_trend
    from reports.trend.views import csv, page, terminal

    table = given.output.with_suffix(".csv")
    try:
        if table == given.output:
            raise ValueError(f"-o {given.output}: the table would have the same name; give the page a name in .html")  # noqa: TRY301
        of = read_trend(given.paths, given.guidance)
        write_atomically(given.output, page(of).encode(errors="replace"))
        write_atomically(table, csv(of).encode(errors="replace"))
    except (OSError, ValueError) as error:
        print(f"sweetspot trend: {printable(str(error))}", file=sys.stderr)
        return 1
    Console(highlight=False).print(terminal(of))
    say(printable(f"page:  {given.output}"))
    say(printable(f"table: {table}"))
    return 0
