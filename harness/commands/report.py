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
    add_examples(parser, "report runs/alpha_cfg", "report runs/alpha_cfg --page-budget 25", "report archive/alpha_cfg -o page")
    parser.add_argument("run", type=Path, help="the run folder, for example runs/alpha_cfg")
    parser.add_argument("--page-budget", type=megabytes, default=10.0, metavar="MB",
                        help="largest size of the page in megabytes; images are compressed, then left out, to meet it "
                             "(default: 10)")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER",
                        help="write the files into this folder instead, which is made if it is missing; for a run folder that "
                             "cannot be written to")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 written; 1 the folder is not a run, or cannot be written to. The files are written before anything is
    printed, so that a terminal that cannot show a character does not cost them."""
    from rich.console import Console

    from reports import judge, load_run, recommend, terminal_table, write_page
    from reports.page.summary import closing_lines

    try:
        read = load_run(given.run)
        recommendation = recommend(read)
        verdicts = judge(read, recommendation)
    except (OSError, ValueError) as error:
        print(f"sweetspot report: {printable(str(error))}", file=sys.stderr)
        return 1
    try:
        page = write_page(read, recommendation, verdicts, budget=given.page_budget, into=given.output)
    except OSError as error:
        where = read.folder if given.output is None else given.output
        print(printable(f"sweetspot report: {where} could not be written to ({error}); give another folder with -o FOLDER"),
              file=sys.stderr)
        return 1
    Console(highlight=False).print(terminal_table(read, recommendation, verdicts))
    print("\n".join(closing_lines(read, recommendation, verdicts, page)))
    return 0
