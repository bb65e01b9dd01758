"""`sweetspot fetch`: fetches a CLIP model, or a safetensors file of the Hugging Face hub, into the local cache."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from harness.commands.terminal import add_examples, say, size_in_words
from harness.hub import FORM, address_of
from harness.records.harmless_text import printable

_OPENAI: Final = "Apache-2.0 (OpenAI: MIT)"
RECOMMENDED: Final = (
    ("ViT-B-32/openai", 605_143_284, _OPENAI, "the smallest: quick also on a processor"),
    ("ViT-L-14/openai", 1_710_000_000, _OPENAI, "finer patches: sees more detail"),
    ("ViT-H-14/laion2b_s32b_b79k", 3_940_000_000, "MIT", "the largest, trained on LAION-2B"),
)
"""Tag, bytes, licence of the weights, what it is good for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `fetch`."""
    add_examples(parser, "fetch clip", f"fetch clip {RECOMMENDED[0][0]}", "fetch hub:owner/name:model.safetensors",
                 "fetch hub:owner/name@revision:folder/model.safetensors")
    parser.add_argument("what", metavar="clip|hub:OWNER/NAME[@REVISION]:FILE", help="a CLIP model, or the address of a file")
    parser.add_argument("name", nargs="?", default="", metavar="ARCHITECTURE/TAG",
                        help="after clip: the weights by open_clip's name (without: some of them are listed)")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 fetched, already there or listed, 1 it could not be fetched, 2 the command line is wrong."""
    from harness.hub.fetching import FetchError

    try:
        if given.what == "clip":
            return _fetch_clip(given.name) if given.name else _list()
        address = address_of(given.what)
        if address is None or given.name:
            words = " ".join((given.what, given.name)).strip()
            return _refuse(f"{words!r}: expected 'clip', 'clip ARCHITECTURE/TAG' or {FORM}", 2)
        path = _fetch(address.repository, address.file, address.revision)
    except FetchError as error:
        return _refuse(str(error), 1)
    say(printable(path))
    return 0


def _list() -> int:
    for tag, size, licence, good_for in RECOMMENDED:
        say(f"{tag:<28}{size_in_words(size):>9}  {licence:<26}{good_for}")
    say(f"Fetch one with: sweetspot fetch clip {RECOMMENDED[0][0]}")
    return 0


def _fetch_clip(name: str) -> int:
    from harness.check.clip import clip_problems, name_problem
    from harness.metrics.clip_reference import parsed, repository_and_file

    given = parsed(name)
    if given is None or given.file or not given.tag:
        return _refuse(f"{name!r}: expected ARCHITECTURE/TAG, such as {RECOMMENDED[0][0]}", 2)
    if wrong := name_problem(given):
        return _refuse(wrong, 2)
    repository, file = repository_and_file(given)
    if not repository:
        return _refuse(f"open_clip names no repository of the hub for {name}. Take another: sweetspot fetch clip lists some", 2)
    _fetch(repository, file, "main")
    if wrong := next(clip_problems(name, Path.cwd()), ""):
        return _refuse(wrong, 1)
    say(f"Use it with: clip={name!r}")
    return 0


def _fetch(repository: str, file: str, revision: str) -> str:
    from harness.hub.fetching import fetch

    at = fetch(repository, file, revision, announce=lambda size, cache: say(printable(
        f"fetching {file} of {repository} ({'size unknown' if size is None else size_in_words(size)}) to {cache}")))
    return str(at.path)


def _refuse(why: str, code: int) -> int:
    print(f"sweetspot fetch: {printable(why)}", file=sys.stderr)
    return code
