"""What a candidate asks of a runtime that executes an exported graph, and that the graph cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from harness.declare import Candidate, Stage
from harness.declare.mixed import of_denoiser
from harness.runtimes import RUNTIMES


def runtime_problems(candidate: Candidate) -> Iterator[str]:
    """One phrase per problem that shows in the declaration; those of opened files are found by `Workbench.inspect`."""
    row = RUNTIMES.find(candidate.runtime)
    if row is None or not row.exported:
        return
    graph = f"the graph of runtime {candidate.runtime!r}"
    stages: tuple[Candidate | Stage, ...] = (candidate, *candidate.stages)
    for stage in stages:
        if stage.controls:
            yield (f"control {stage.controls[0].path!r} is given, which {graph} does not take; use the runtime 'eager', or "
                   "remove controls")
        if stage.references:
            yield (f"reference {stage.references[0].path!r} is given, which {graph} does not take; use the runtime 'eager', or "
                   "remove references")
    for asked in dict.fromkeys(filter(None, (str(of_denoiser(candidate.quantization)), candidate.precision))):
        if row.quantizations is not None and asked not in row.quantizations:
            yield (f"runtime {candidate.runtime!r} does not execute {asked!r}, only "
                   f"{' and '.join(sorted(row.quantizations))}; use the runtime 'eager', or another number format")
