"""The candidate that was promoted last from a suite, as its baseline file says it, read with suspicion: anybody can edit it.
load.py reads it with the run; gates/against.py decides what of it may be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd
from blake3 import blake3

FILE: Final = "baseline.json"
"""Where a run folder holds the baseline file that its gates are judged by."""
FORMAT: Final = 1
PLACE: Final = ("prompt", "seed", "guidance")
_LARGEST: Final = 64_000_000
_AGAIN: Final = "Restore the file from git, or promote again"


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """What a baseline file holds: which version of which name, and its values cell by cell (`table`: prompt, seed, guidance and
    every value, NaN where it was not measured). `prompts` gives text and negative by id; `metrics` and `settings` are the
    versions and settings it was measured with, `reference` the candidate that paired values were taken against, `figures` what
    it cost. With `why` nothing of it is used."""

    name: str = ""
    version: int = 0
    candidate: str = ""
    suite: str = ""
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    prompts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


def read_promoted(folder: Path) -> Promoted | None:
    """The baseline file of a run folder; None where there is none. What is damaged, or was refused when it was taken over, comes
    back with the reason and nothing else."""
    file = folder / FILE
    if not file.exists():
        return None
    try:
        if not file.is_file() or file.stat().st_size > _LARGEST:
            raise ValueError("no regular file, or too large for one")  # noqa: TRY301  one message for all
        data = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(data, dict) and isinstance(refused := data.get("refused"), str):
            return Promoted(why=refused)
        if data.get("digest") != digest_of(data):
            return Promoted(why=f"{FILE} was changed after it was written: its digest is not that of its content. {_AGAIN}")
        if data["format"] != FORMAT:
            return Promoted(why=f"{FILE} has format {data['format']!r}; this version reads {FORMAT}. Promote again")
        return _read(data)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        return Promoted(why=f"{FILE} is not what a promotion writes ({type(error).__name__}: {error}). {_AGAIN}")


def digest_of(data: Mapping[str, Any]) -> str:
    """BLAKE3 of the content, its own digest left out, whatever its spaces and order of keys: as promotion signs its files, whose
    code reports do not import."""
    kept = {key: value for key, value in data.items() if key != "digest"}
    return blake3(json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def _read(data: Mapping[str, Any]) -> Promoted:
    absent = [key for key in ("prompts", "metric_settings", "reference", "figures") if key not in data]
    if absent:
        return Promoted(why=f"{FILE} was written by an older version, without {', '.join(absent)}. Promote again")
    prompts = {str(name): (str(text), str(negative)) for name, (text, negative) in data["prompts"].items()}
    parts = {"metrics": "metrics", "metric_settings": "settings", "sampling": "sampling", "environment": "environment",
             "reference": "reference", "figures": "figures"}
    mappings: dict[str, Mapping[str, Any]] = {ours: {**data[theirs]} for theirs, ours in parts.items()}
    return Promoted(name=str(data["name"]), version=int(data["version"]), candidate=str(data["candidate"]), prompts=prompts,
                    suite=str(data["suite"]["name"]), table=_table(data["cells"]), **mappings)  # type: ignore[arg-type]


def _table(cells: Mapping[str, Any]) -> pd.DataFrame:
    """The cells as a table. Raises ValueError or TypeError where a place is no place, is there twice, or a value no number."""
    columns, rows = cells["columns"], cells["rows"]
    if len(set(columns)) != len(columns) or any(len(row) != len(columns) for row in rows):
        raise ValueError("its cells have other columns than they say")
    table = pd.DataFrame({name: [row[at] for row in rows] for at, name in enumerate(columns)})
    found = pd.DataFrame({"prompt": table["prompt"].astype(str), "seed": table["seed"].astype("int64"),
                          "guidance": table["guidance"].astype(float)})
    if found.duplicated().any():
        raise ValueError("a cell is in it twice")
    values = [name for name in columns if name not in (*PLACE, "image")]
    return found.join(table[values].astype(float))
