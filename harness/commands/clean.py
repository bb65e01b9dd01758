"""`sweetspot clean`: says what lies on the disk and who needs it, and removes what nothing needs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cleaning.caches import folder_of
from harness.commands.terminal import add_examples, say, size_in_words
from harness.declare.nearest import did_you_mean
from harness.records.harmless_text import printable
from harness.session.options import cache_problem

if TYPE_CHECKING:
    from harness.cleaning.part import Part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `clean`."""
    add_examples(parser, "clean", "clean --yes", "clean --runs-dir /data/runs --models /srv/models")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--dry-run", action="store_true", help="only say what would be removed (the default)")
    asked.add_argument("--yes", action="store_true", help="remove it")
    parser.add_argument("--runs-dir", type=Path, metavar="DIR", help="the folder of runs (default: runs)")
    parser.add_argument("--models", type=Path, metavar="DIR",
                        help="the folder of promoted models (default: models)")
    parser.add_argument("--shared-cache", default="", metavar="ADDRESS",
                        help="also say how large this shared cache is; nothing is removed from it")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 said, or all removed that nothing needs; 1 something was left for a reason that a note or standard error
    gives; 2 the command line is wrong."""
    from harness.cleaning.caches import clean_caches, survey_caches
    from harness.cleaning.models import clean_models, read_records, survey_models
    from harness.cleaning.part import Removed
    from harness.cleaning.run_images import clean_run, survey_run
    from harness.promotion import Models

    if missing := _missing(given):
        print(printable(f"sweetspot clean: {missing}"), file=sys.stderr)
        return 2
    models = Models(given.models or Path("models"))
    try:
        records = read_records(models)
        folders = run_folders(given.runs_dir or Path("runs"))
        surveys = [survey_run(folder, records.images) for folder in folders]
        surveys += [survey_models(models, records), (survey_caches(given.shared_cache), [])]
    except (OSError, ValueError) as error:
        print(f"sweetspot clean: {printable(str(error))}", file=sys.stderr)
        return 1
    parts = [part for group, _ in surveys for part in group]
    _print_table(parts)
    notes = [note for _, group in surveys for note in group]
    if given.shared_cache and folder_of(given.shared_cache) is None:
        say("note: only a shared cache in a folder is measured; a server says itself how large it is")
    for note in notes:
        say(printable(f"note: {note}"))
    superfluous = [part for part in parts if not part.needed_by]
    if not superfluous:
        say("nothing else to remove" if notes else "nothing to remove")
        return 1 if notes and given.yes else 0
    if not given.yes:
        say(f"not needed: {_amount(superfluous)}; nothing was removed. To remove it: sweetspot clean --yes")
        return 0
    done = sum((clean_run(folder, records.images) for folder in folders), Removed()) + clean_models(models)
    if not done.problems:
        done += clean_caches()
    say(f"removed {done.files} files, {size_in_words(done.size)}")
    for problem in done.problems:
        print(f"sweetspot clean: {printable(problem)}", file=sys.stderr)
    return 1 if done.problems else 0


def _missing(given: argparse.Namespace) -> str:
    """Which folder that was given is not there; empty if all are. Those that are meant where nothing is given need not be."""
    if wrong := cache_problem(given.shared_cache):
        return wrong.replace("shared cache", "--shared-cache", 1)
    for option, folder in (("--runs-dir", given.runs_dir), ("--models", given.models),
                           ("--shared-cache", folder_of(given.shared_cache))):
        if folder is not None and not folder.is_dir():
            beside = [one.name for one in folder.parent.iterdir() if one.is_dir()] if folder.parent.is_dir() else []
            near = did_you_mean(folder.name, beside, list_known=False)
            return f"{option}: there is no folder {str(folder)!r}; {near or f'expected one below {Path.cwd()}'}"
    return ""


def run_folders(root: Path) -> list[Path]:
    """The run folders in a folder of runs."""
    return sorted(folder for folder in root.iterdir() if (folder / "run.json").is_file()) if root.is_dir() else []


def _amount(parts: list[Part]) -> str:
    return f"{sum(part.files for part in parts)} files, {size_in_words(sum(part.size for part in parts))}"


def _print_table(parts: list[Part]) -> None:
    rows = [("place", "what", "files", "size", "needed by")]
    rows += [(printable(str(part.place)), part.what, str(part.files), size_in_words(part.size),
              printable(part.needed_by or f"nobody: {part.why}")) for part in parts]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        say(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}")
