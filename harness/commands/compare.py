"""`sweetspot compare`: two run folders side by side, on the terminal, as Markdown and as a page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.terminal import add_examples, say
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from reports.compare.runs import Compared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `compare`."""
    add_examples(parser, "compare runs-main/alpha_cfg runs/alpha_cfg -o compare.html",
                 "compare runs-main/alpha_cfg runs/alpha_cfg --fail-on-worse objective --markdown comment.md")
    parser.add_argument("a", type=Path, metavar="RUN_A", help="the reference run, for example runs-main/alpha_cfg")
    parser.add_argument("b", type=Path, metavar="RUN_B", help="the run to compare with it, for example runs/alpha_cfg")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the comparison as one offline HTML page")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the comparison as Markdown of at most 60 kB")
    parser.add_argument("--fail-on-worse", action="append", default=[], metavar="VALUE",
                        help="exit with 1 if B is worse than A in any cell of this value (for example objective), if the pick "
                             "of B is worse than that of A, or if the value cannot be compared; may be repeated")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 compared; 1 a folder cannot be read, nothing can be compared, a file cannot be written, or a value of
    --fail-on-worse does not pass; 2 the command line is wrong."""
    from rich.console import Console

    from harness.records import write_atomically
    from reports.compare.runs import compare
    from reports.compare.views import markdown, page, terminal
    from reports.read.run import load_run

    try:
        of = compare(load_run(given.a), load_run(given.b))
        files = {file: text for file, text in ((given.output, page), (given.markdown, markdown)) if file is not None}
        for file, text in files.items():
            write_atomically(file, text(of).encode(errors="replace"))
        Console(highlight=False).print(terminal(of))
        for file in files:
            say(printable(f"wrote {file}"))
    except (OSError, ValueError) as error:
        print(f"sweetspot compare: {printable(str(error))}", file=sys.stderr)
        return 1
    wrong = [f"{value}: {why}" for value in given.fail_on_worse if (why := _worse(of, value))]
    for line in wrong:
        print(f"sweetspot compare: {printable(line)}", file=sys.stderr)
    return 1 if wrong or not of.comparable else 0


def _worse(of: Compared, value: str) -> str:
    """Why a value does not pass, or an empty string. A value that was not measured does not pass, nor do picks that were not
    compared in it."""
    counted, picks = of.counted(value), of.picks.of(value)
    if worse := counted.get("worse", 0):
        return f"B is worse than A in {worse} of {sum(counted.values())} cells"
    if picks is not None and picks.word == "worse":
        return f"the pick of B, {of.picks.after}, is worse than that of A, {of.picks.before}"
    absent = sum(row.word == "not measured" for row in of.moved if row.value == value and row.candidate not in of.not_offered)
    if (not counted and picks is None) or absent:
        values = sorted({row.value for row in of.moved})
        why = of.refused.get(value) or of.refused.get("") or (
            f"no pair of images in {absent} of {sum(counted.values())} cells" if counted else
            f"no such value; there are {', '.join(values) or 'none'}")
        return f"not compared, so it does not pass: {why}"
    if of.verdicts[0].pick is not None and (picks is None or picks.word == "not measured"):
        why = of.picks.why or (picks.difference.why if picks is not None else "")
        return f"the picks were not compared, so it does not pass: {why}"
    return ""
