"""`sweetspot quantize`: writes the denoiser of a suite's candidate in its number format, for other tools to load."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.downloads import add_download
from harness.commands.suite_file import sound_suite
from harness.commands.terminal import add_examples, say, size_in_words
from harness.declare.candidate_names import hint
from harness.declare.mixed import of_denoiser
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.declare import Candidate
    from harness.materialise.quantized_file import WrittenFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `quantize`."""
    add_examples(parser, "quantize suites/bits.py --candidate q5 --out photo-Q5_0.gguf")
    parser.add_argument("suite", type=Path, metavar="SUITE_FILE", help="a file with a SUITE, for example suites/quantization.py")
    parser.add_argument("--candidate", required=True, metavar="NAME", help="the candidate's name in the suite")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE",
                        help="the file to write: .gguf for the gguf modes, .safetensors for fp8_scaled, fp32, bf16 and fp16; an "
                             "existing one is kept as .bak1")
    parser.add_argument("--title", help="title in the header (default: the file's name)")
    add_download(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 written, 1 refused or failed, with nothing written, 2 the command line or the suite is wrong."""
    try:
        candidate = _candidate(given)
    except (ValueError, OSError) as error:
        print("\n".join(printable(line) for line in f"sweetspot quantize: {error}".splitlines()), file=sys.stderr)
        return 2
    try:
        written = _write(candidate, given.out, given.out.stem if given.title is None else given.title)
    except (ValueError, OSError) as error:
        print(f"sweetspot quantize: {printable(str(error))}", file=sys.stderr)
        return 1
    formats = ", ".join(f"{count} {kind}" for kind, count in written.formats.items())
    bits = f"{8 * written.size / written.weights:.2f} bits per weight"
    say(printable(f"wrote {written.path} ({size_in_words(written.size)}, {bits}): the denoiser of candidate {candidate.name!r}, "
                  f"{formats} tensors, read back bit for bit"))
    if written.backup is not None:
        say(printable(f"the file that was there is kept as {written.backup}"))
    return 0


def _candidate(given: argparse.Namespace) -> Candidate:
    """The candidate of the file's SUITE, with all adapters that prompts bring. Raises ValueError for a suite that cannot run and
    an unknown name."""
    suite = sound_suite(given.suite, allow_download=given.allow_download)
    named = [candidate for candidate in suite.candidates if candidate.name == given.candidate]
    if not named:
        raise ValueError(f"suite {suite.name!r} has no candidate {given.candidate!r}; "
                         f"{hint(given.candidate, [c.name for c in suite.candidates])}")
    brought = (adapter for prompt in suite.grid.prompts for adapter in prompt.adapters)
    return replace(named[0], adapters=(*named[0].adapters, *brought))


def _write(candidate: Candidate, out: Path, title: str) -> WrittenFile:
    from harness.executors.libraries import load_libraries
    from harness.executors.quiet import quiet_libraries
    from harness.materialise import Workbench
    from harness.materialise.library import MaterialiseError
    from harness.materialise.quantized_file import suffix_for, write_quantized
    from harness.quantize.declared import only_casts

    bench = Workbench(device="cpu", root=Path.cwd())
    in_format = bench.in_its_format(candidate)
    if out.suffix != (suffix := suffix_for(in_format)):
        raise MaterialiseError(f"{out}: candidate {candidate.name!r} is written as {suffix}; choose a path that ends so")
    if out.is_dir():
        raise MaterialiseError(f"{out} is a folder; give the path of the file to write")
    quiet_libraries()
    load_libraries(clip=False, own_process=True)
    cast = only_casts(of_denoiser(in_format.quantization))  # of the float32 values, as some formats do not run on a CPU
    weights = replace(_weights_alone(candidate), quantization="fp32" if cast else candidate.quantization)
    live = bench.prepare(weights).pipeline
    return write_quantized(in_format, live, bench.library, out, title)


def _weights_alone(candidate: Candidate) -> Candidate:
    """The candidate without what acts beside its weights, or in some of the steps alone. A model that reads masks is not opened
    without an inpainting."""
    inpaint = None if candidate.inpaint is None else replace(candidate.inpaint, strength=1)
    return replace(candidate, precision="", runtime="eager", controls=(), references=(), inpaint=inpaint, post=(), savers=(),
                   step_cache=None)
