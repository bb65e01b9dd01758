"""`sweetspot try`: from some files to a verdict and a page: writes their suite, as large as the time allows, and runs it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from harness.commands.init import add_file_arguments, device_of, draft, refuse, words_of
from harness.commands.terminal import add_examples, say
from harness.declare import Suite
from harness.first_suite.given_files import UnfitFileError
from harness.first_suite.pace import seconds_per_image
from harness.probes.device import device_problem
from harness.records.harmless_text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `try`."""
    add_examples(parser, "try a.safetensors b.safetensors", "try model.safetensors --lora style.safetensors --minutes 10",
                 "try model.safetensors --lora 'out/style-*.safetensors' --prompts prompts.txt",
                 "try model.safetensors --quantize")
    add_file_arguments(parser)
    parser.add_argument("--runs-dir", default="runs", metavar="DIR", help="where the run folder goes (default: runs)")


def run(given: argparse.Namespace) -> int:
    """Exit codes: those of `pytest suites/ --benchmark`; 2 also if the files do not fit, or the suite's file was edited."""
    started = time.monotonic()
    device = device_of(given)

    def pace(suite: Suite, file: Path) -> float:
        return seconds_per_image(suite, file, Path(given.runs_dir), device, lambda line: say(printable(line)))

    if wrong := device_problem(device):
        return refuse("try", ValueError(f"--device: {wrong}"))
    try:
        path, _ = draft(given, ["sweetspot", "try", *words_of(given)], pace, 60 * given.minutes - (time.monotonic() - started))
    except (UnfitFileError, OSError) as error:
        return refuse("try", error)
    # For some seconds there is nothing else to see, in a log for ten.
    say("  loading pytest, torch and diffusers to run it ...")
    sys.stdout.flush()
    import pytest

    return int(pytest.main([str(path), "--benchmark", "--device", device, "--runs-dir", given.runs_dir,
                            *(["--allow-download"] if given.allow_download else []), "-q", "--no-header"]))
