"""A candidate's denoiser in its declared runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from harness.declare import Candidate
from harness.declare.mixed import of_denoiser, spelled
from harness.materialise.compiled_copies import CompiledCopies
from harness.materialise.exported import Exported, Size
from harness.materialise.library import MaterialiseError
from harness.materialise.live_model import Frame
from harness.quantize.declared import made_on_host
from harness.runtimes import RUNTIMES
from harness.runtimes.graph_cache import Graphs, graph_folder
from harness.samplers import FLOW_FAMILIES
from harness.weights import Pipeline, with_part


@dataclass(frozen=True, kw_only=True)
class Executing:
    """The denoisers in runtimes other than eager: what was compiled for them, and the graphs that were exported."""

    device: str
    copies: CompiledCopies = field(default_factory=CompiledCopies)
    graphs: Graphs = field(default_factory=lambda: Graphs(folder=graph_folder()))

    def executed(self, candidate: Candidate, frame: Frame, pipeline: Pipeline, number: int,
                 size: Size | None = None) -> tuple[Pipeline, Callable[[], None]]:
        """The pipeline with its denoiser in the declared runtime, and what must be called each time before it is used. What was
        compiled for the frame's own parameters is kept: it stays valid when they change, and adapters on the layers only add
        compilations. So is what was compiled for a quantized copy, and for the frame of another number format. `number` tells the
        models apart that are live together, `size` is that of the latents, if it is known."""
        row = RUNTIMES[candidate.runtime]
        if candidate.runtime == "eager":
            return pipeline, lambda: None
        if row.exported:
            return self._exported(candidate, frame, pipeline, size)
        assert row.apply is not None
        refresh: Callable[[], None] = lambda: None  # noqa: E731
        copied = pipeline.denoiser is not frame.pipeline.denoiser
        mode = of_denoiser(candidate.quantization)
        if copied and not row.private and made_on_host(mode):
            name = " ".join([candidate.runtime, spelled(mode), *([f"of model {number}"] if number > 1 else [])])
            executed, refresh = self.copies.compiled(pipeline.denoiser, name, row.apply)
        elif copied:
            executed = row.apply(pipeline.denoiser)
        elif row.private:
            executed = row.apply(copy.deepcopy(pipeline.denoiser))
        else:
            if candidate.runtime not in frame.executed:
                frame.executed[candidate.runtime] = row.apply(pipeline.denoiser)
            executed = frame.executed[candidate.runtime]
        return with_part(pipeline, frame.denoiser, executed), refresh

    def begin(self, frame: Frame) -> None:
        """Lets the graphs of a frame count their comparisons with eager from now on, for the candidate that is prepared."""
        for executed in frame.executed.values():
            if isinstance(executed, Exported):
                executed.begin()

    def _exported(self, candidate: Candidate, frame: Frame, pipeline: Pipeline,
                  size: Size | None) -> tuple[Pipeline, Callable[[], None]]:
        """The pipeline with the frame's graph in the place of the U-Net. It computes with the weights of the candidate that was
        entered last, and raises if these are not the live ones."""
        exported = frame.executed.get(candidate.runtime)
        if exported is None:
            exported = frame.executed[candidate.runtime] = Exported(
                name=candidate.runtime, row=RUNTIMES[candidate.runtime], frame=frame, graphs=self.graphs, device=self.device)
        exported.enter(candidate.name, size)
        return (replace(with_part(pipeline, frame.denoiser, exported), computes_in=pipeline.dtype),
                lambda: exported.enter(candidate.name, size))


def exported_of(candidate: Candidate, frame: Frame) -> Exported | None:
    """What executes the graph of a candidate's denoiser; None in a runtime that takes the module itself."""
    executed = frame.executed.get(candidate.runtime)
    return executed if isinstance(executed, Exported) else None


def in_the_weights(candidate: Candidate) -> bool:
    """Whether adapters are written into the weights, and none acts on the layers: a graph has no layers to act on."""
    return RUNTIMES[candidate.runtime].exported


def refuse_what_graphs_lack(candidate: Candidate, family: str, hypernetworks: Sequence[str]) -> None:
    """Raises MaterialiseError for what an exported graph cannot take: a transformer, a hypernetwork, a number format."""
    row = RUNTIMES[candidate.runtime]
    if not row.exported:
        return
    if family in FLOW_FAMILIES:
        raise MaterialiseError(f"runtime {candidate.runtime!r} executes U-Nets, and models of the family {family} have a "
                               "transformer; use the runtime 'eager' or 'compiled'")
    if hypernetworks:
        raise MaterialiseError(f"adapter {hypernetworks[0]!r} is a hypernetwork, which the graph of runtime "
                               f"{candidate.runtime!r} does not take; use the runtime 'eager'")
    mode = of_denoiser(candidate.quantization)
    if row.quantizations is not None and str(mode) not in row.quantizations:
        raise MaterialiseError(f"runtime {candidate.runtime!r} does not execute {str(mode)!r}, only "
                               f"{', '.join(sorted(row.quantizations))}")
