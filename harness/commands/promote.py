"""`sweetspot promote`: writes a candidate that passed its suite's gates as a model file with a record, and makes it the suite's
baseline."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from harness.commands.downloads import add_download, available
from harness.commands.terminal import add_examples, say, size_in_words
from harness.records.harmless_text import printable

_POLICIES = ("inconclusive=fail", "inconclusive=pass")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `promote`."""
    add_examples(parser, "promote alpha=0.4 --run runs/my_merge --as photo-anime")
    parser.add_argument("candidate", help="the candidate's name in its suite")
    parser.add_argument("--run", type=Path, required=True, help="the run folder, for example runs/alpha_cfg")
    parser.add_argument("--as", dest="name", required=True, metavar="NAME", help="the model's name in the models folder")
    add_models(parser)
    parser.add_argument("--policy", choices=_POLICIES, default=_POLICIES[0],
                        help="whether an inconclusive gate prevents the promotion (default: inconclusive=fail, it does)")
    parser.add_argument("--copy-to", type=Path, metavar="FILE",
                        help="also write the weights to this file, for example photo-anime.safetensors; a file with other bytes "
                             "is never replaced")
    parser.add_argument("--suite", type=Path, metavar="FILE", help="the suite file (default: the one named in run.json)")
    add_download(parser)


def add_models(parser: argparse.ArgumentParser) -> None:
    """The options that say where promoted models are."""
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="DIR",
                        help="the folder of promoted models (default: models)")
    parser.add_argument("--objects", type=Path, metavar="DIR",
                        help="the folder of weights, named by their hash (default: objects in the models folder)")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 promoted, 1 refused or failed, with nothing published, 2 the command line is wrong."""
    from harness.promotion import Models, gather, in_words, promote

    # As in a run: a user can do nothing about what torchao, diffusers and transformers log about each other's versions.
    for variable in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(variable, "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        models = Models(given.models, given.objects)
        models.folder(given.name)
        evidence = gather(given.run, given.candidate)
        available(evidence.suite, allow_download=given.allow_download)
        done = promote(evidence, given.name, models, policy=given.policy, suite_file=given.suite,
                       copy_to=given.copy_to)
    except Exception as error:  # run folders and records can be edited by hand
        print(f"sweetspot promote: {printable(in_words(error))}", file=sys.stderr)
        return 1
    for line in done.notes:
        say(printable(line))
    version = done.version
    say(f"promoted candidate {printable(repr(version.candidate))} of suite {printable(version.suite)} as {version.name} version "
        f"{version.number}")
    say(printable(f"weights:  {done.weights} ({size_in_words(done.weights.stat().st_size)})"))
    if given.copy_to is not None:
        say(printable(f"copy:     {given.copy_to}"))
    say(printable(f"record:   {models.folder(version.name) / 'records'}/{version.number:04d}.json"))
    say(printable(f"baseline: {done.baseline}"))
    return 0
