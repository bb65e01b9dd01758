"""`sweetspot promote`: a candidate that passed its suite's gates becomes a file with a record, and its suite's baseline."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from harness.commands.terminal import say, size_in_words
from harness.records.text import printable

_POLICIES = ("inconclusive=fail", "inconclusive=pass")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `promote`."""
    parser.add_argument("candidate", help="the candidate's name in its suite")
    parser.add_argument("--run", type=Path, required=True, help="the run folder, for example runs/alpha_cfg")
    parser.add_argument("--as", dest="name", required=True, metavar="NAME", help="what the model is called in the models folder")
    add_models(parser)
    parser.add_argument("--policy", choices=_POLICIES, default=_POLICIES[0],
                        help="whether a gate that the data cannot decide stands in the way (it does)")
    parser.add_argument("--suite", type=Path, metavar="FILE", help="the suite file, where it is not the one run.json names")


def add_models(parser: argparse.ArgumentParser) -> None:
    """The flags that say where promoted models are."""
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="DIR", help="the models folder (models)")
    parser.add_argument("--objects", type=Path, metavar="DIR", help="where weights are by their hash (DIR/objects)")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 promoted, 1 refused or failed and nothing published, 2 the command line is wrong."""
    from harness.promotion import Models, gather, in_words, promote

    # As in a run: what torchao, diffusers and transformers say of each other's versions is nothing that a user can act on.
    for variable in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(variable, "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        models = Models(given.models, given.objects)
        models.folder(given.name)
        done = promote(gather(given.run, given.candidate), given.name, models, policy=given.policy, suite_file=given.suite)
    except Exception as error:  # run folders and records can be edited by hand
        print(f"sweetspot promote: {printable(in_words(error))}", file=sys.stderr)
        return 1
    for line in done.said:
        say(printable(line))
    version = done.version
    say(f"promoted candidate {printable(repr(version.candidate))} of suite {printable(version.suite)} as {version.name} version "
        f"{version.number}")
    say(printable(f"weights:  {done.weights} ({size_in_words(done.weights.stat().st_size)})"))
    say(printable(f"record:   {models.folder(version.name) / 'records'}/{version.number:04d}.json"))
    say(printable(f"baseline: {done.baseline}"))
    return 0
