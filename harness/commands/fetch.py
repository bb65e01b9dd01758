"""`sweetspot fetch`: fetches a CLIP model, or files and whole models of the Hugging Face hub, into the local cache."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from harness.commands.terminal import add_examples, say, size_in_words
from harness.hub import FORM, Address, HubError, address_of
from harness.hub.availability import announcing
from harness.records.harmless_text import printable

_OPENAI: Final = "Apache-2.0"
RECOMMENDED: Final = (
    ("ViT-B-32/openai", 605_143_284, _OPENAI, "the smallest: quick also on a processor"),
    ("ViT-L-14/openai", 1_710_000_000, _OPENAI, "finer patches: sees more detail"),
    ("ViT-H-14/laion2b_s32b_b79k", 3_940_000_000, "MIT", "the largest, trained on LAION-2B"),
)
"""Tag, bytes, licence that the page of the weights on the hub states, what it is good for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `fetch`."""
    add_examples(parser, "fetch clip", f"fetch clip {RECOMMENDED[0][0]}", "fetch hub:owner/name:model.safetensors",
                 "fetch hub:owner/name@revision hub:owner/other:folder/ --list")
    parser.add_argument("what", nargs="+", metavar=f"clip|{FORM}",
                        help="'clip', and after it open_clip's name for the weights, ARCHITECTURE/TAG (without: some of them are "
                             "listed); or addresses of files, of folders that end in a slash, or of whole models")
    parser.add_argument("--list", action="store_true", help="list what would be fetched, with sizes, and fetch nothing")
    parser.add_argument("--configs", action="store_true", help="of folders and whole models, fetch configs and tokenizers alone")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 fetched, already there or listed, 1 it could not be fetched, 2 the command line is wrong."""
    from harness.hub.fetching import fetch_newest

    first, *others = given.what
    try:
        if first == "clip" and len(others) < 2 and not (given.list or given.configs):
            return _fetch_clip(others[0]) if others else _list()
        listed = [address_of(text) for text in given.what]
        if not all(listed):
            words = " ".join(given.what)
            return _refuse(f"{words!r}: expected 'clip', 'clip ARCHITECTURE/TAG' or {FORM}", 2)
        needed = {address: not given.configs for address in listed if address is not None}
        places = fetch_newest(needed, announcing(say), listing_only=given.list)
    except HubError as error:
        return _refuse(str(error), 1)
    for at in places:
        say(printable(at.path))
    return 0


def _list() -> int:
    for tag, size, licence, good_for in RECOMMENDED:
        say(f"{tag:<28}{size_in_words(size):>9}  {licence:<12}{good_for}")
    say(f"Fetch one with: sweetspot fetch clip {RECOMMENDED[0][0]}")
    return 0


def _fetch_clip(name: str) -> int:
    from harness.check.clip import clip_problems, name_problem
    from harness.hub.fetching import fetch_newest
    from harness.metrics.clip_reference import parsed, repository_and_file

    given = parsed(name)
    if given is None or given.file or not given.tag:
        return _refuse(f"{name!r}: expected ARCHITECTURE/TAG, such as {RECOMMENDED[0][0]}", 2)
    if wrong := name_problem(given):
        return _refuse(wrong, 2)
    repository, file = repository_and_file(given)
    if not repository:
        return _refuse(f"open_clip names no repository of the hub for {name}. Take another: sweetspot fetch clip lists some", 2)
    fetch_newest({Address(repository=repository, file=file): True}, announcing(say))
    if wrong := next(clip_problems(name, Path.cwd()), ""):
        return _refuse(wrong, 1)
    say(f"Use it with: clip={name!r}")
    return 0


def _refuse(why: str, code: int) -> int:
    print(f"sweetspot fetch: {printable(why)}", file=sys.stderr)
    return code
