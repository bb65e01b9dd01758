"""The `sweetspot` command. Each subcommand is a module that declares its arguments and runs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final, NoReturn

from harness.commands.parser import Parser
from harness.session.own_packages import keep_own_packages
from harness.version import __version__

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "try": ("harness.commands.try_", "from some model files to a verdict and a page, in the time that you give"),
    "init": ("harness.commands.init", "write the suite for some model files, without running it"),
    "fetch": ("harness.commands.fetch", "fetch a CLIP model, or a model of the Hugging Face hub, into the local cache"),
    "inspect": ("harness.commands.inspect", "describe model files: family, parts, dtypes, problems"),
    "adapter": ("harness.commands.adapter", "merge, extract, resize and convert adapters"),
    "merge": ("harness.commands.merge", "merge models into a file, or preview a merge"),
    "quantize": ("harness.commands.quantize", "write a candidate's denoiser in its number format: GGUF, scaled fp8, 16 bits"),
    "sensitivity": ("harness.commands.sensitivity", "say which layers cost most in few bits, and mix modes within a budget"),
    "plan": ("harness.commands.plan", "say what a suite needs of a device's memory, before anything is loaded"),
    "work": ("harness.commands.work", "make images of a suite for a shared cache, beside other processes and machines"),
    "replay": ("harness.commands.replay", "make a merged file again from its header and compare the two"),
    "promote": ("harness.commands.promote", "write a candidate that passed its gates as a model file, with its evidence"),
    "verify": ("harness.commands.verify", "check whether a model file is one that was promoted"),
    "rollback": ("harness.commands.rollback", "make an earlier version of a promoted model current again"),
    "clean": ("harness.commands.clean", "say what lies on the disk and who needs it, and remove what nothing needs"),
    "images": ("harness.commands.images", "export the images of a candidate with what made them, for other tools and sites"),
    "history": ("harness.commands.history", "list the versions of a promoted model"),
    "blind": ("harness.commands.blind", "write a page for blind rating by people, and import their answers"),
    "calibrate": ("harness.commands.calibrate", "measure a suite's noise and print the margins that its gates need"),
    "report": ("harness.commands.report", "write the page, Markdown and table of a run folder again"),
    "compare": ("harness.commands.compare", "compare two runs: what changed, and by how much"),
    "trend": ("harness.commands.trend", "plot the values of a suite over the commits of its runs and baselines"),
}
"""{subcommand: (module with `add_arguments(parser)` and `run(given)`, one line of help)}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 failed (standard error says why), 2 the command line is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(
        prog="sweetspot", description="Tools around a benchmark of merged diffusion models. The benchmark itself runs with: "
                                      "pytest suites/ --benchmark")
    parser.add_argument("--version", action="version", version=f"sweetspot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    # Only the module of the given subcommand is imported: `inspect` must not wait for the imports of `report`.
    asked = next((word for word in words if not word.startswith("-")), "")
    for name, (module, help_line) in COMMANDS.items():
        command = commands.add_parser(name, help=help_line, description=help_line, allow_abbrev=False)
        if name == asked:
            import_module(module).add_arguments(command)
    if not words:
        parser.print_help()
        return 2
    given = parser.parse_args(words)
    if wrong := keep_own_packages():
        print(f"sweetspot: {wrong}", file=sys.stderr)
        return 1
    code: int = import_module(COMMANDS[given.command][0]).run(given)
    return code


def command() -> NoReturn:
    """The installed command: runs `main` and exits at once. Unloading torch would take 0.4 s, and the system frees everything
    anyway; all files are written by then."""
    from harness.executors.quiet import own_warnings

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows and some locales lack a star
            stream.reconfigure(errors="replace")
    try:
        with own_warnings():
            code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; no file was changed", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # such as `| head`, which wants no more; as a command that the signal ends
        code = 141
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the reader closed the pipe
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    command()
