"""`sweetspot verify`: checks whether a model file is, bit for bit, one that was promoted, and says which."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.promote import add_models
from harness.commands.terminal import add_examples, say
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.promotion.record_files import Version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `verify`."""
    add_examples(parser, "verify photo-anime", "verify downloads/model.safetensors")
    parser.add_argument("file", type=Path,
                        help="a model file, or the name of a promoted model (checks its current weights)")
    add_models(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 the file was promoted, 1 it was not or cannot be read, 2 the command line is wrong."""
    from harness.promotion import Models, current_version, in_words, verify

    try:
        models = Models(given.models, given.objects)
        expected = None if given.file.exists() else current_version(str(given.file), models)
        file = given.file if expected is None else models.object(expected.weights)
        verification = verify(file, models, expected)
        for version in verification.versions:
            _print(version, models.current(version.name))
    except Exception as error:  # run folders and records can be edited by hand
        print(f"sweetspot verify: {printable(in_words(error))}", file=sys.stderr)
        return 1
    for line in verification.lines:
        print(f"sweetspot verify: {printable(line)}", file=sys.stderr)
    if verification.sound:
        say(printable(f"{file}: verified, blake3 {verification.versions[0].weights}"))
    return 0 if verification.sound else 1


def _print(version: Version, current: int) -> None:
    verdicts = version.data["verdicts"]
    counts = Counter(str(verdict.get("status")) for verdict in verdicts)
    standing = "current" if version.number == current else f"not current, that is version {current}"
    say(printable(f"{version.name} version {version.number} ({standing}): candidate {version.candidate!r} of suite "
                  f"{version.suite!r}, promoted {version.date}; gates: "
                  f"{', '.join(f'{count} {status}' for status, count in counts.items())}"))
