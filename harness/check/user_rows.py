"""Imports the user's rows that a declaration names. Only for declarations that the user wrote, never for those in a model file or
a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.declare import Candidate, Ensemble, Fused, Merge, Relay, Search, Suite
from harness.declare.component_runtimes import runtimes_in
from harness.declare.mixed import modes_in
from harness.declare.rows import RowError, Rows
from harness.merge import MERGE_METHODS
from harness.metrics import METRICS
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES


def load_rows(declared: object, folders: Sequence[Path]) -> None:
    """Imports every dotted name of a suite or a model, from Python's path or from `folders`. If an import fails, `why_not` of the
    table gives the reason to the checks."""
    with suppress(RecursionError):  # merges nested too deep; the checks say so
        for table, name in _named(declared):
            if isinstance(name, str) and ":" in name:
                with suppress(RowError):
                    table.load(name, folders)


def _named(declared: object) -> Iterator[tuple[Rows[Any], object]]:
    """Yields (table, name) of every named row. The fields may hold any object."""
    if isinstance(declared, Suite):
        for candidate in declared.candidates if isinstance(declared.candidates, tuple) else ():
            yield from _named(candidate)
        yield from ((METRICS, name) for name in (declared.metrics if isinstance(declared.metrics, tuple) else ()))
        if isinstance(declared.search, Search):
            yield from _named(declared.search.merge)
    elif isinstance(declared, Candidate):
        yield from ((QUANTIZATION_MODES, mode) for mode in modes_in(declared.quantization))
        yield from ((RUNTIMES, runtime) for runtime in runtimes_in(declared.runtime))
        yield from _named(declared.model)
    elif isinstance(declared, Fused):
        yield from _named(declared.model)
    elif isinstance(declared, Relay | Ensemble):
        for model in declared.models if isinstance(declared.models, tuple) else ():
            yield from _named(model)
    elif isinstance(declared, Merge):
        yield MERGE_METHODS, declared.method
        more = declared.more if isinstance(declared.more, tuple) else ()
        take = declared.take.values() if isinstance(declared.take, dict) else ()
        for model in (declared.a, declared.b, declared.c, *more, *take):
            yield from _named(model)
