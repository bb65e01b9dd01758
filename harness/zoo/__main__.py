"""`python -m harness.zoo export FOLDER`: every file of the zoo, for use in other programs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from harness.zoo import NAMES, resolve


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and writes the files."""
    parser = argparse.ArgumentParser(prog="python -m harness.zoo", description="The built-in model family.")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write every stored file of the zoo into a folder")
    export.add_argument("folder", type=Path, help="the folder to write to; made if missing")
    _export(parser.parse_args(arguments).folder)


def _export(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        source = resolve(name)
        target = folder / source.name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
        print(f"{name:26} {target}")


if __name__ == "__main__":
    main()
