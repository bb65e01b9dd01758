"""`sweetspot sensitivity`: what each layer of a denoiser costs alone in few bits, and the Mixed for a budget of bits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.commands.downloads import add_download
from harness.commands.sensitivity_text import layer_lines, mixed_text, result_of, verdict_lines
from harness.commands.suite_file import sound_suite
from harness.commands.terminal import add_examples, say
from harness.declare import Suite
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.run.progress import Bar
    from harness.sensitivity import Gauging, Measured, Subject

DRAWS: Final = 3
"""Recipes by chance that a recipe is compared with."""
PROMPTS: Final = 2
"""Select prompts that layers are measured on by default."""
OTHER: Final = "int8_weight_only"
RECIPE: Final = "the recipe"
BY_CHANCE: Final = "by chance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `sensitivity`."""
    add_examples(parser, "sensitivity suites/bits.py --candidate photo --mode int4_weight_only --out layers.json",
                 "sensitivity suites/bits.py --candidate photo --mode int4_weight_only --other int8_weight_only --bits 6")
    parser.add_argument("suite", type=Path, metavar="SUITE_FILE", help="a file with a SUITE, for example suites/quantization.py")
    parser.add_argument("--candidate", required=True, metavar="NAME", help="the candidate's name in the suite")
    parser.add_argument("--mode", required=True, metavar="MODE", help="the mode that each layer is measured in")
    parser.add_argument("--other", default=None, metavar="MODE",
                        help=f"with --bits, the mode of the other layers; fp32 leaves them as they are (default: {OTHER})")
    parser.add_argument("--bits", type=float, default=None, metavar="B",
                        help="also print the Mixed of both modes with at most this many bits per weight in the mean, scales "
                             "included, chosen on select prompts and judged on confirm prompts")
    parser.add_argument("--pictures", action="store_true",
                        help="measure the error of whole pictures instead of single forwards: many times slower")
    parser.add_argument("--prompts", type=int, default=None, metavar="N",
                        help=f"how many of the select prompts layers are measured on (default: {PROMPTS})")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE",
                        help="a JSON file for the result; it is written layer by layer, and the same command, run again, "
                             "resumes from it")
    parser.add_argument("--device", default="cpu", metavar="cpu|cuda|cuda:N", help="where to measure (default: cpu)")
    add_download(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 measured, 1 it failed, 2 the command line or the suite is wrong, 130 stopped."""
    from harness.executors.libraries import load_libraries
    from harness.executors.quiet import quiet_libraries

    quiet_libraries()
    try:
        suite = _suite(given)
        load_libraries(clip=False, own_process=True)
        from harness.sensitivity import BudgetError, subject_of

        subject = subject_of(suite, given.candidate, given.device, Path.cwd())
        gauging = _gauging(subject, given)
    except (ValueError, OSError) as error:
        return _failed(error, 2)
    try:
        _measure(subject, gauging, given)
    except BudgetError as error:
        return _failed(error, 2)
    except (ValueError, OSError, RuntimeError) as error:
        return _failed(error, 1)
    except KeyboardInterrupt:
        goes_on = "the layers that were measured are lost; with --out FILE they are kept" if given.out is None else (
            f"the layers that were measured are in {given.out}; run the same command again to resume")
        print(f"sweetspot sensitivity: stopped; {printable(goes_on)}", file=sys.stderr)
        return 130
    return 0


def _failed(error: Exception, code: int) -> int:
    print("\n".join(printable(line) for line in f"sweetspot sensitivity: {error}".splitlines()), file=sys.stderr)
    return code


def _suite(given: argparse.Namespace) -> Suite:
    """The file's SUITE. Raises ValueError for a suite that cannot run, and for options that no suite fits."""
    from harness.probes.device import device_problem

    if wrong := device_problem(given.device):
        raise ValueError(wrong)
    if given.out is not None and given.out.is_dir():
        raise ValueError(f"--out {given.out}: a folder; give the path of a file")
    suite = sound_suite(given.suite, allow_download=given.allow_download)
    _refuse_modes(given)
    return suite


def _refuse_modes(given: argparse.Namespace) -> None:
    """Raises ValueError for modes that do not quantize single layers on this device, and for a budget without two modes."""
    from harness.quantize import MADE_ON_HOST, QUANTIZATION_MODES

    if given.bits is None and given.other is not None:
        raise ValueError(f"--other {given.other}: a second mode is for a budget; add --bits, such as --bits 6")
    for option, mode in zip(("--mode", "--other"), _modes(given), strict=False):
        if reason := QUANTIZATION_MODES.why_not(mode):
            raise ValueError(f"{option} {mode}: {reason}")
        if mode not in MADE_ON_HOST and not (option == "--other" and mode == "fp32"):
            raise ValueError(f"{option} {mode}: not a mode of single layers; expected one of {', '.join(MADE_ON_HOST)}"
                             + (", or fp32" if option == "--other" else ""))
        if reason := QUANTIZATION_MODES[mode].why_not(given.device):
            raise ValueError(f"{option} {mode} on {given.device}: {reason}")
    if len({*_modes(given)}) < len(_modes(given)):
        raise ValueError(f"--mode and --other are both {given.mode}; a budget of bits needs two modes. Give another "
                         f"--other, such as --other {'fp32' if given.mode == OTHER else OTHER}")


def _modes(given: argparse.Namespace) -> tuple[str, ...]:
    return (given.mode,) if given.bits is None else (given.mode, given.other or OTHER)


def _gauging(subject: Subject, given: argparse.Namespace) -> Gauging:
    """What is measured, on which prompts. Raises ValueError for splits that lack them."""
    from harness.sensitivity import PICTURES, PROBE, Gauging

    select = subject.prompts("select")
    if given.prompts is not None and not 1 <= given.prompts <= len(select):
        raise ValueError(f"--prompts {given.prompts}: expected 1 to the number of select prompts, {len(select)}")
    if given.bits is not None and not subject.prompts("confirm"):
        raise ValueError("no prompt is in the split 'confirm', and a recipe is judged on prompts that it was not chosen on. "
                         "Declare some with Prompt(..., split=\"confirm\"), or measure without --bits")
    return Gauging(kind=PICTURES if given.pictures else PROBE, prompts=select[:given.prompts or PROMPTS])


def _measure(subject: Subject, gauging: Gauging, given: argparse.Namespace) -> None:
    from harness.run.progress import Bar
    from harness.sensitivity import measured

    bar = Bar(0, unit="steps")
    bar.start()
    try:
        found = measured(subject, _modes(given), gauging, given.out, bar, bits=given.bits)
        bar.stop()
        for line in layer_lines(found, gauging, given.mode):
            say(printable(line))
        recipe = {} if given.bits is None else _recipe(subject, found, given, bar)
    finally:
        bar.stop()
    if given.out is not None:
        found.file.save({**result_of(found, gauging), **recipe})
        say(printable(f"result: {given.out}"))


def _recipe(subject: Subject, found: Measured, given: argparse.Namespace, bar: Bar) -> dict[str, object]:
    """Prints the Mixed of the budget and what it is worth; as data."""
    from harness.declare import plain
    from harness.sensitivity import chosen, drawn, judged, mixed_of, uniform

    choices = {RECIPE: chosen(found.layers, given.bits),
               **{f"{BY_CHANCE} {seed}": drawn(found.layers, given.bits, seed) for seed in range(1, DRAWS + 1)}}
    modes = {name: mixed_of(choice) for name, choice in choices.items()}
    ends = [mode for mode in _modes(given) if mode != "fp32"]
    say("")
    say(f"{choices[RECIPE].bits:.2f} bits per weight in the mean, scales included, within --bits {given.bits:g}:")
    for line in mixed_text(modes[RECIPE], subject.candidate.quantization):
        say(printable(line))
    bar.expect(1 + len(modes) + len(ends))
    bar.start()
    results = judged(subject, {**modes, **{mode: mode for mode in ends}}, subject.prompts("confirm"), bar)
    bar.stop()
    bits = {name: choice.bits for name, choice in choices.items()} | {mode: uniform(found.layers, mode).bits for mode in ends}
    for line in verdict_lines(results, bits, RECIPE, BY_CHANCE):
        say(printable(line))
    return {"recipe": plain(modes[RECIPE]), "bits": bits, "psnr_db": {name: dict(of.decibels) for name, of in results.items()}}
