"""`sweetspot init`: writes the suite that a practised user would write for some files, and runs nothing."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Final

from harness.check import problems
from harness.check.expected_time import duration
from harness.commands.arguments import positive_minutes
from harness.commands.downloads import add_download, available
from harness.commands.terminal import add_examples, say
from harness.declare import AestheticGradient, Checkpoint, Suite
from harness.declare.load_suite import load_suite
from harness.declare.ways_out import as_options
from harness.first_suite.clip_files import choose
from harness.first_suite.extent import Extent, extents, fitting
from harness.first_suite.given_files import UnfitFileError, described, left_out, look
from harness.first_suite.prompts import Prompts, prompts_for
from harness.first_suite.questions import Options, name_of, question
from harness.first_suite.writing import FirstSuite, existing, shape_for, write
from harness.hub import HubError
from harness.probes.device import name_problem
from harness.records.harmless_text import printable

UNMEASURED_MINUTES: Final = 2.0
"""Minutes that are enough for built-in models, whatever the machine; with fewer their pace is measured like any other's."""
Pace = Callable[[Suite, Path], float]
"""Seconds per image of a suite in a file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `init`."""
    add_examples(parser, "init a.safetensors b.safetensors",
                 "init model.safetensors --lora style.safetensors --to suites/style.py")
    add_file_arguments(parser)


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that a first suite is made of."""
    parser.set_defaults(spread="file")
    parser.add_argument("file", nargs="+", metavar="FILE", help="one or two models, or models of one training; adapters too")
    parser.add_argument("--lora", action="append", default=[], metavar="FILE",
                        help="a LoRA or another adapter; a pattern, or several, for the files of one training")
    parser.add_argument("--quantize", action="store_true", help="ask how few bits the one model can do with")
    parser.add_argument("--prompts", default="", metavar="FILE", help="your prompts: .txt, .csv, .jsonl, .toml, pictures or a "
                                                                      "folder of them (default: built-in ones)")
    parser.add_argument("--syntax", default="", metavar="NAME", help="the syntax of your prompts, as in read_prompts")
    parser.add_argument("--adapter-folder", default="", metavar="FOLDER",
                        help="where the files are of LoRAs and embeddings that prompts name")
    parser.add_argument("--minutes", type=positive_minutes, default=20.0, help="how long it may take, about (default: 20)")
    parser.add_argument("--clip", default="", metavar="ARCHITECTURE:FILE", help="the CLIP model that scores the images (default: "
                        "the built-in one for built-in models, else one found in models/ or a cache of Hugging Face)")
    parser.add_argument("--download-clip", action="store_true", help="fetch a CLIP model (605 MB) if none is found")
    parser.add_argument("--config", default="", metavar="FOLDER",
                        help="diffusers configs, for models of unusual sizes, SD3 and Flux")
    parser.add_argument("--device", default="", metavar="cpu|cuda|cuda:N", help="where it runs (default: cuda if there is one)")
    parser.add_argument("--size", type=int, default=None, metavar="PIXELS", help="width and height (default: the family's own)")
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: 20 to 28, by family)")
    parser.add_argument("--last", type=int, default=None, metavar="N", help="the step or epoch of the one file without a number")
    add_download(parser)
    parser.add_argument("--to", type=Path, default=None, metavar="FILE",
                        help="where to write it, which also names the suite (default: suites/NAME.py)")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 written, 2 the files do not fit, or the file was edited."""
    if wrong := name_problem(device_of(given)):  # the suite may run on another machine, which has that device
        return refuse("init", ValueError(f"--device: {wrong}"))
    try:
        path, _ = draft(given, ["sweetspot", "init", *words_of(given)])
    except (UnfitFileError, OSError) as error:
        return refuse("init", error)
    say(printable(f"Check it with: pytest {path}"))
    say(printable(f"Run it with:   pytest {path} --benchmark --device {device_of(given)}"))
    return 0


def refuse(command: str, error: Exception) -> int:
    """Prints why nothing was done."""
    print("\n".join(printable(line) for line in f"sweetspot {command}: {error}".splitlines()), file=sys.stderr)
    return 2


def device_of(given: argparse.Namespace) -> str:
    """The device that was given, or a GPU if the driver knows one, or the CPU. torch is not asked: its import takes seconds."""
    if given.device:
        return str(given.device)
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        return "cuda" if nvml.nvmlDeviceGetCount() else "cpu"
    except Exception:  # no driver, no binding, or a driver that fails: whatever it raises
        return "cpu"


def draft(given: argparse.Namespace, command: Sequence[str], pace: Pace | None = None, seconds: float = 0.0) -> tuple[Path, bool]:
    """Looks at the files and writes the suite, as large as the seconds allow at the pace, or of medium size without one. Returns
    its path, and whether it was there already as the same command wrote it. Raises UnfitFileError."""
    device = device_of(given)
    _provide(given)
    models, adapters = look(given.file, given.lora)
    for line in described(models, adapters):
        say(printable(line))
    for line in left_out(models, adapters):
        say(printable(line))
    asked = question(models, adapters, Options(quantize=given.quantize, device=device, config=given.config, last=given.last,
                                               steps=given.steps))
    say(f"{asked.asks}")
    path = given.to or Path("suites") / f"{asked.name}.py"
    if path.suffix != ".py":
        raise UnfitFileError(f"--to {path}: expected a .py file")
    if given.to is not None:
        # Its run folder has the suite's name: two files of the same models must not share one.
        asked = replace(asked, name=name_of([path.name]))
    files = [*(model.path for model in models), *(adapter.path for adapter in adapters)]
    matching = [file for file in files if file not in (*given.file, *given.lora)]
    if existing(path, command, matching):
        say(printable(f"{path} is there already, as this command wrote it"))
        return path, True
    if path.exists():
        say(printable(f"{path} was written by another command, for other prompts, files or options, and is replaced; to keep "
                      "both, give another file with --to"))
    first = models[0]
    clip = choose(given.clip, first.built_in, given.download_clip, lambda line: say(printable(line)))
    whole = prompts_for(given.prompts, first.built_in, syntax=given.syntax, beside=path.parent)
    listed = extents(asked, whole, first.family, not given.prompts and not first.built_in, tiny=first.built_in)
    prompts_of = {one.count: prompts_for(given.prompts, first.built_in, one.count, given.syntax, path.parent) if one.count
                  else whole for one in listed}

    def suite_of(extent: Extent) -> FirstSuite:
        return FirstSuite(question=asked, prompts=prompts_of[extent.count], extent=extent, family=first.family, clip=clip,
                          shape=shape_for(first, device, given.size, given.steps), minutes=given.minutes, command=command,
                          adapter_folder=given.adapter_folder, matching=matching)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.name
        write(file, suite_of(listed[-1]))
        tried = _sound(file)
        chosen, per_image = listed[0 if first.built_in else min(1, len(listed) - 1)], None
        if pace is not None and (not first.built_in or given.minutes < UNMEASURED_MINUTES):
            per_image = pace(tried, file)
            chosen = fitting(listed, asked, prompts_of, per_image, seconds)
        write(file, suite_of(chosen))
        _sound(file)
    write(path, suite_of(chosen))
    _announce(path, suite_of(chosen), prompts_of[chosen.count], per_image)
    return path, False


def _provide(given: argparse.Namespace) -> None:
    """Fetches what is allowed of the hub. Raises UnfitFileError."""
    models = [Checkpoint(path=path, config=given.config or None) for path in (*given.file, *given.lora)]
    try:
        available([*models, AestheticGradient(path="", clip=given.clip)], allow_download=given.allow_download)
    except HubError as error:
        raise UnfitFileError(str(error)) from None


def _announce(path: Path, suite: FirstSuite, prompts: Prompts, per_image: float | None) -> None:
    extent, asked = suite.extent, suite.question
    images = extent.images(asked, prompts)
    how_long = "" if per_image is None else f", about {duration(1.3 * images * per_image)}"
    first = f"{images:,} images{how_long}"
    if extent.first:
        first = f"first {first}; then as many as decide it, within {suite.minutes:g} min"
    say(f"  {asked.count(extent.values)} candidates, CFG {', '.join(f'{scale:g}' for scale in extent.scales)}, {prompts.says}")
    say(f"  {first}")
    say(printable(f"  written to {path}, which is yours to edit"))


def _sound(file: Path) -> Suite:
    """The suite in the file. Raises UnfitFileError with all its problems."""
    suite = load_suite(file)
    if wrong := problems(suite, Path.cwd()):
        raise UnfitFileError("\n".join(map(as_options, wrong)))
    assert isinstance(suite, Suite)  # anything else is a problem
    return suite


def words_of(given: argparse.Namespace) -> list[str]:
    """The command line, as far as it decides the suite."""
    words = list(given.file)
    for name in ("lora", "prompts", "syntax", "minutes", "clip", "config", "adapter_folder", "device", "size", "steps", "last",
                 "quantize"):
        value = getattr(given, name)
        for one in value if isinstance(value, list) else [value]:
            if one or (one == 0 and one is not False):
                words.append(f"--{name.replace('_', '-')}")
                words += [] if one is True else [f"{one:g}" if isinstance(one, float) else str(one)]
    return words
