"""`sweetspot report`: writes the page, the Markdown file and the table of a run folder again, and prints the verdict."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.commands.arguments import megabytes
from harness.commands.terminal import add_examples
from harness.records.harmless_text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `report`."""
    add_examples(parser, "report runs/alpha_cfg", "report runs/alpha_cfg --page-budget 25")
    parser.add_argument("run", type=Path, help="the run folder, for example runs/alpha_cfg")
    parser.add_argument("--page-budget", type=megabytes, default=10.0, metavar="MB",
                        help="largest size of the page in megabytes; images are compressed, then left out, to meet it "
                             "(default: 10)")


def run(given: argparse.Namespace) -> int:
    """Runs `report`."""
    from rich.console import Console

    from reports import judge, load_run, recommend, terminal_table, write_page
    from reports.page.summary import closing_lines

    try:
        read = load_run(given.run)
    except (OSError, ValueError) as error:
        print(f"sweetspot report: {printable(str(error))}", file=sys.stderr)
        return 1
    recommendation = recommend(read)
    verdicts = judge(read, recommendation)
    Console(highlight=False).print(terminal_table(read, recommendation, verdicts))
    page = write_page(read, recommendation, verdicts, budget=given.page_budget)
    print("\n".join(closing_lines(read, recommendation, verdicts, page)))
    return 0
