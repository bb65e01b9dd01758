"""`python -m harness.zoo.training`: trains the zoo's networks again and replaces the stored weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.zoo.training.plan import STAGES, train


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and trains, with one progress bar for each stage."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    given = _parser().parse_args(arguments)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    with Progress(*columns, TimeElapsedColumn()) as progress:
        bars = {}

        def show(name: str, step: int, steps: int, loss: float) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=steps, loss=loss)
            progress.update(bars[name], completed=step, loss=loss)

        train(given.work, given.stage, given.device, given.threads, show)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.zoo.training",
        description="Draw the pictures, train the zoo's networks and replace the stored weights (an hour and a half on two "
        "CPU cores). Run the same command again to resume a stopped training.",
    )
    parser.add_argument("--work", type=Path, default=Path(".sweetspot/zoo-train"), help="folder of pictures and checkpoints")
    parser.add_argument("--stage", choices=STAGES, help="run only this stage; adapters need no other stage first")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads, shared among the processes (default: 2)")
    return parser


if __name__ == "__main__":
    main()
