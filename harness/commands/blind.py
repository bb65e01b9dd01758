"""`sweetspot blind`: writes a page on which people rate images without knowing which candidate made them, and imports their
answers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.arguments import count, names
from harness.commands.terminal import add_examples, say, size_in_words
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from reports.read.blind_files import Session, Sheet
    from reports.read.run import Run

MAKING = ("prompts", "seeds", "guidance", "candidates", "raters", "seed", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `blind`."""
    add_examples(parser, "blind runs/alpha_cfg", "blind runs/alpha_cfg --preference --raters 5 -o rate.html",
                 "blind runs/alpha_cfg --take ann.json ben.json")
    parser.add_argument("run", type=Path, help="the run folder, for example runs/alpha_cfg")
    parser.add_argument("--take", type=Path, nargs="+", metavar="FILE", help="import the answer files that raters sent back")
    parser.add_argument("--prompts", type=count, metavar="N",
                        help="number of prompts shown, confirm prompts first (default: 8)")
    parser.add_argument("--seeds", type=count, metavar="N", help="seeds shown per prompt (default: 1)")
    parser.add_argument("--guidance", type=float, metavar="G", help="guidance scale shown (default: the recommended one)")
    parser.add_argument("--candidates", type=names, metavar="A,B",
                        help="candidates shown, separated by commas (default: the pick, its rivals and the candidates tied "
                             "with it)")
    parser.add_argument("--preference", action="store_true", help="show two images side by side instead of asking for scores")
    parser.add_argument("--raters", type=count, metavar="N", help="how many people you will ask (default: 3)")
    parser.add_argument("--seed", type=int, metavar="S",
                        help="random seed of the choice and the order, to repeat them (default: a new one each time)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default: RUN/blind/<session>.html)")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 done, 1 refused or failed and nothing changed, 2 the command line is wrong."""
    if given.take and (given.preference or any(getattr(given, name) is not None for name in MAKING)):
        print("sweetspot blind: --take imports answers and cannot be combined with other options", file=sys.stderr)
        return 2
    try:
        return _take(given.run, given.take) if given.take else _make(given)
    except (OSError, ValueError) as error:  # run folders, keys and sheets can be edited by hand
        print(f"sweetspot blind: {printable(str(error))}", file=sys.stderr)
        return 1


def _make(given: argparse.Namespace) -> int:
    from reports import load_run, recommend
    from reports.blind.page import Ask, write_blind

    asked = {name: value for name in MAKING[:-1] if (value := getattr(given, name)) is not None}
    loaded = load_run(given.run)
    page = write_blind(loaded, recommend(loaded), Ask(preference=given.preference, **asked), given.output)
    for line in page.notes:
        say(printable(line))
    say(printable(f"page: {page.page} ({size_in_words(page.page.stat().st_size)}); send this file alone"))
    say(printable(f"key:  {page.key}; leave it there: it says which candidate made which image"))
    say(printable(f"then: sweetspot blind {given.run} --take FILE..."))
    return 0


def _take(folder: Path, files: list[Path]) -> int:
    """Checks every file before the first is stored."""
    from reports import load_run
    from reports.read.blind_files import read_keys, read_sheet, sheet_path, write_sheet

    load_run(folder)  # refuses a folder that is not a run before anything is written into it
    keys, damaged = read_keys(folder)
    for line in damaged:
        print(f"sweetspot blind: {printable(line)}", file=sys.stderr)
    by_path: dict[Path, tuple[Sheet, Path]] = {}
    for file in files:
        sheet = read_sheet(file, keys)
        before = by_path.setdefault(sheet_path(folder, sheet), (sheet, file))
        if before[0] != sheet:
            raise ValueError(f"{before[1]} and {file} hold different answers of the same rater, {sheet.rater!r}; import only the "
                             "valid one")
    for sheet, _ in by_path.values():
        done = write_sheet(folder, sheet)
        outcome = {"new": "imported", "same": "already imported, nothing changed",
                   "replaced": "imported, replacing this rater's earlier answers"}[done]
        say(printable(f"{sheet.rater}: {len(sheet.answers)} of {len(keys[sheet.session].shows)} answers {outcome}"))
    _tell(load_run(folder), keys, {sheet.session for sheet, _ in by_path.values()})
    return 0


def _tell(loaded: Run, keys: dict[str, Session], sessions: set[str]) -> None:
    from reports.page.human_ratings import eyes_section

    for session in sorted(sessions):
        there = sum(1 for name, _ in loaded.eyes.answered if name == session)
        say(f"session {session}: {there} of {keys[session].raters} raters have answered")
    section = eyes_section(loaded)
    for line in section.agreement + section.warnings if section else ():
        say(printable(line))
    for row in section.rows if section else ():
        say(printable(f"{row['name']}: {row['mean']} {row['range']}, {row['counted']}"))
    for row in section.duels if section else ():
        say(printable(f"{row['name']}: won {row['share']} {row['range']} of its duels, {row['counted']}"))
