"""`sweetspot images`: exports images of a run as PNG files that other tools and sites can read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.commands.promote import add_models
from harness.commands.terminal import add_examples, say
from harness.records.harmless_text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `images`."""
    add_examples(parser, "images runs/alpha_cfg --to pictures", "images runs/alpha_cfg --candidate alpha=0.4 --to pictures")
    parser.add_argument("run", type=Path, help="the run folder, for example runs/alpha_cfg")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--pick", action="store_true", help="the images of the recommended pick at its guidance (the default)")
    chosen.add_argument("--candidate", metavar="NAME", help="all images of this candidate")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to write them; made if it is missing")
    add_models(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 all images are in the folder, 1 refused or failed, 2 the command line is wrong."""
    from harness.promotion import Models, in_words
    from harness.promotion.exported_pictures import export_pictures
    from harness.promotion.picture_of_image import NOISE

    try:
        done = export_pictures(given.run, given.candidate, given.to, Models(given.models, given.objects))
    except Exception as error:  # run folders and records can be edited by hand
        print(f"sweetspot images: {printable(in_words(error))}", file=sys.stderr)
        return 1
    there = f", {len(done.unchanged)} were there already" if done.unchanged else ""
    at = "" if done.guidance is None else f" at CFG {done.guidance:g}"
    say(printable(f"{len(done.written)} pictures of candidate {done.candidate!r}{at} written to {given.to}{there}"))
    for note in done.notes:
        say(printable(f"note: {note}"))
    say(f"note: their noise was {NOISE}")
    return 0
