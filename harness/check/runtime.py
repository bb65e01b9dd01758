"""What a candidate asks of a runtime that executes an exported graph, and that the graph cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.check.phrases import unknown
from harness.declare import Candidate, Ensemble, Relay, Stage
from harness.declare.component_runtimes import EAGER, denoiser_runtime, runtimes_beside
from harness.declare.mixed import COMPONENTS, DENOISERS, beside_denoiser, of_denoiser, spelled
from harness.runtimes import RUNTIMES


def runtime_problems(candidate: Candidate) -> Iterator[str]:
    """One phrase per problem that shows in the declaration; those of opened files are found by `Workbench.inspect`."""
    if isinstance(candidate.runtime, Mapping):
        yield from _by_component(candidate, candidate.runtime)
    runtime = denoiser_runtime(candidate.runtime)
    row = RUNTIMES.find(runtime)
    if row is None or not row.exported:
        return
    graph = f"the graph of runtime {runtime!r}"
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
            yield (f"runtime {runtime!r} does not execute {asked!r}, only "
                   f"{' and '.join(sorted(row.quantizations))}; use the runtime 'eager', or another number format")


def _by_component(candidate: Candidate, runtimes: Mapping[str, Any]) -> Iterator[str]:
    if not runtimes:
        yield "runtime is a mapping that names no component; give it one, such as {'unet': 'onnxruntime'}, or remove it"
    yield from unknown("component in runtime", runtimes, COMPONENTS)
    if len(named := [component for component in runtimes if component in DENOISERS]) > 1:
        yield f"runtime names the denoiser {len(named)} times, as {' and '.join(map(repr, named))}; name it once"
    beside, quantized = runtimes_beside(runtimes), beside_denoiser(candidate.quantization)
    for component, runtime in beside.items():
        row = RUNTIMES.find(runtime)
        if row is None or component not in COMPONENTS:
            continue
        if not row.executes(component):
            able = [EAGER, *(name for name, other in RUNTIMES.items() if other.executes(component))]
            yield f"runtime {runtime!r} does not execute {component}; expected one of {', '.join(map(repr, able))}"
        elif component in quantized:
            yield (f"runtime {runtime!r} executes {component} in fp32, and quantization makes it "
                   f"{spelled(quantized[component])!r}; use the runtime 'eager' for {component}, or do not quantize it")
    if beside and isinstance(candidate.model, Relay | Ensemble):
        yield (f"runtime names {', '.join(map(repr, beside))} of a {type(candidate.model).__name__.lower()}, whose models share "
               f"such components; name the denoiser alone, or leave them in {EAGER!r}")
    if candidate.aesthetic is not None and any(component.startswith("text_encoder") for component in beside):
        yield ("an aesthetic gradient trains the text encoder, which a graph cannot; use the runtime 'eager' for it, or remove "
               "aesthetic")
