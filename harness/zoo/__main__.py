"""The zoo's own command: `python -m harness.zoo train`, `export DIR`, `sheet` and `measure`.

Used by whoever remakes or inspects the zoo; the suites reach its files through `harness.zoo.resolve`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and runs one of the four commands."""
    parser = argparse.ArgumentParser(prog="python -m harness.zoo", description="The embedded model family: train, export, show.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train everything again from nothing (an hour and a half on two CPU cores)")
    train.add_argument("--work", type=Path, default=Path(".sweetspot/zoo-train"), help="folder of pictures and checkpoints")
    train.add_argument("--stage", help="run only this stage; those of adapters need no other stage before")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    train.add_argument("--threads", type=int, default=2, help="CPU threads to share among the processes")
    export = commands.add_parser("export", help="write every file of the zoo into a folder")
    export.add_argument("folder", type=Path)
    sheet = commands.add_parser("sheet", help="draw the contact sheet of the documentation")
    sheet.add_argument("--out", type=Path, default=Path("docs/zoo.webp"))
    measure = commands.add_parser("measure", help="print the tables of the documentation (minutes)")
    measure.add_argument("--tables", nargs="*", help="only these tables")
    given = parser.parse_args(arguments)
    if given.command == "train":
        _train(given.work, given.stage, given.device, given.threads)
    elif given.command == "export":
        _export(given.folder)
    elif given.command == "sheet":
        from harness.zoo.sheet import draw_sheet

        draw_sheet(given.out)
    else:
        from harness.zoo.measure import print_tables

        print_tables(given.tables)


def _train(work: Path, stage: str | None, device: str, threads: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from harness.zoo.training.plan import train

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    with Progress(*columns, TimeElapsedColumn()) as progress:
        bars = {}

        def show(name: str, step: int, steps: int, loss: float) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=steps, loss=loss)
            progress.update(bars[name], completed=step, loss=loss)

        train(work, stage, device, threads, show)


def _export(folder: Path) -> None:
    from harness.zoo import NAMES, resolve

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
