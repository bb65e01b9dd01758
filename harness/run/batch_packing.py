"""The order in which candidates are sampled, and the keys of their images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.declare import Candidate, Suite, plain, short_hash
from harness.records import Cell


def in_order(suite: Suite) -> tuple[Candidate, ...]:
    """The candidates in the cheapest order: the baseline first, because the others are compared with it; then grouped by files,
    merge recipe, adapters and quantization, each in the order in which the suite first names it."""
    seen: dict[str, int] = {}

    def place(candidate: Candidate) -> list[int]:
        model = plain(candidate.model)
        steps = [_frame(model), short_hash(model), short_hash(candidate.adapters), candidate.number_format]
        return [seen.setdefault(f"{depth} {step}", len(seen)) for depth, step in enumerate(steps)]

    places = {candidate.name: place(candidate) for candidate in suite.candidates}
    return tuple(sorted(suite.candidates, key=lambda c: (c.name != suite.baseline, places[c.name])))


def _frame(model: Any) -> str:
    """The file that gives a model its architecture: the leftmost in its recipe."""
    while isinstance(model, dict):
        model = model.get("a", model.get("model", model.get("path")))
    return str(model)


class GridKeys:
    """The keys of all cells of a grid, equal to those of records.sample_key, at a tenth of the cost: the part of cells and
    texts is serialised once for all identities."""

    def __init__(self, cells: Sequence[Cell], texts: Mapping[str, tuple[str, ...]], setting: Mapping[str, Any]) -> None:
        """`texts` are those of `sample_key` by prompt id, `setting` the sampling block of run.json."""
        ends = {prompt: ",".join(map(_json, (*pair, sorted(setting.items())))) for prompt, pair in texts.items()}
        self._cells = tuple(cells)
        self._ends = [f",{c.noise_seed},{_json(float(c.guidance))},{ends[c.prompt]}]".encode() for c in cells]
        self._known: dict[str, dict[Cell, str]] = {}

    def of(self, identity: str) -> dict[Cell, str]:
        """Key by cell, in the grid's order, for weights of `identity`."""
        if identity not in self._known:
            start = hashlib.sha256(f"[{_json(identity)}".encode())
            keys = {}
            for cell, end in zip(self._cells, self._ends, strict=True):
                digest = start.copy()
                digest.update(end)
                keys[cell] = digest.hexdigest()[:16]
            self._known[identity] = keys
        return self._known[identity]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
