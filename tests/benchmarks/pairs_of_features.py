"""Samples every pair of features of a candidate (tests/features.py) twice, in other batches: which pairs differ from themselves,
or do not differ from one of their features alone? Exit code 1 where one does. About an hour and a half on one core.

    python tests/benchmarks/pairs_of_features.py --part 1 --of 4
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch.compiler import set_stance

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.features import (
    FEATURES,
    Images,
    allowed,
    declarable_pairs,
    differing,
    images,
    write_files,
)

SAME: Final = ("tiles", "lent", "fit", "compiled", "temperature")
"""What changes no picture of this size on a processor, or cold ones alone."""


def main() -> None:
    """Prints a line for each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--of", type=int, default=1, help="how many parts the pairs are divided into, in a mixed order")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pairs = [*((name,) for name in FEATURES), *(pair for pair in declarable_pairs() if allowed(*pair))]
    random.Random(1).shuffle(pairs)
    alone: dict[str, Images] = {}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, set_stance("force_eager"):
        write_files(Path(folder))
        for names in pairs[given.part - 1::given.of]:
            faults = list(faults_of(names, Path(folder), alone))
            wrong += bool(faults)
            print(" + ".join(names), f"WRONG: {'; '.join(faults)}" if faults else "equal", flush=True)
            gc.collect()
    print(f"{wrong} wrong")
    sys.exit(wrong > 0)


def faults_of(names: tuple[str, ...], root: Path, alone: dict[str, Images]) -> Iterator[str]:
    """What is wrong with a candidate of these features; `alone` keeps the images of single ones."""
    try:
        first = images(names, root)
        if cells := differing(first, images(names, root, otherwise=True)):
            yield f"{len(cells)} of {len(first)} images differ in other batches"
        for name in names if len(names) > 1 else ():
            other = next(n for n in names if n != name)
            if name not in alone:
                alone[name] = images((name,), root)
            if other not in SAME and not differing(first, alone[name]):
                yield f"{other} changes nothing"
    except Exception as error:
        yield f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
