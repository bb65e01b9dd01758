"""The candidate that was promoted last from a suite, as the baseline file in the run folder says it; its cells are a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.records.baseline_file import BASELINE_FILE, PLACE, Baseline, BaselineError, read_baseline


@dataclass(frozen=True, kw_only=True)
class Promoted(Baseline):
    """A baseline whose cells are also a `table`: prompt, seed, guidance and every value, NaN where it was not measured. With
    `why` nothing of it is used."""

    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    why: str = ""


def read_promoted(folder: Path) -> Promoted | None:
    """The baseline file of a run folder; None where there is none. What is damaged, or was refused when it was copied, comes
    back with the reason and nothing else."""
    file = folder / BASELINE_FILE
    if not file.exists():
        return None
    try:
        baseline = read_baseline(file, BASELINE_FILE)
    except BaselineError as error:
        return Promoted(why=str(error))
    if baseline.absent:
        absent = ", ".join(baseline.absent)
        return Promoted(why=f"{BASELINE_FILE} was written by an older version, without {absent}. Promote again")
    return Promoted(**vars(baseline), table=cells_table(baseline))


def cells_table(baseline: Baseline) -> pd.DataFrame:
    """The cells of a baseline as a table: prompt, seed, guidance and every value; NaN where it was not measured."""
    columns: dict[str, list[Any]] = {name: [row[at] for row in baseline.rows] for at, name in enumerate(baseline.columns)}
    kinds = {"prompt": "object", "seed": "int64"}
    names = [*PLACE, *(name for name in baseline.columns if name not in (*PLACE, "image"))]
    return pd.DataFrame({name: pd.Series(columns[name], dtype=kinds.get(name, "float64")) for name in names})
