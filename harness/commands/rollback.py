"""`sweetspot rollback`: makes an earlier version of a promoted model the current one again, after verifying its weights."""

from __future__ import annotations

import argparse
import sys

from harness.commands.promote import add_models
from harness.commands.terminal import add_examples, say
from harness.records.harmless_text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `rollback`."""
    add_examples(parser, "rollback photo-anime", "rollback photo-anime --to 3")
    parser.add_argument("name", help="the name of the promoted model")
    parser.add_argument("--to", type=_number, default=0, metavar="N",
                        help="the version to go back to (default: the one that was current before this one)")
    add_models(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 done, 1 refused or failed and nothing changed, 2 the command line is wrong."""
    from harness.promotion import Models, in_words, rollback

    try:
        version, done, mine = rollback(given.name, given.to, Models(given.models, given.objects))
    except Exception as error:  # run folders and records can be edited by hand
        print(f"sweetspot rollback: {printable(in_words(error))}", file=sys.stderr)
        return 1
    say(printable(f"{version.name} is at version {version.number} again: candidate {version.candidate!r} of suite "
                  f"{version.suite!r}, blake3 {version.weights} (record {done.number:04d})"))
    if not mine:
        say(printable(f"note: the baseline of suite {version.suite!r} belongs to another model and was not changed"))
    return 0


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10 ** 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a version number; expected a positive integer")
    return int(text)
