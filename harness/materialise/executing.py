"""A candidate's components in their declared runtimes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from harness.declare import Candidate
from harness.declare.component_runtimes import EAGER, denoiser_runtime, runtime_of, runtimes_beside
from harness.declare.mixed import of_denoiser, spelled
from harness.declare.models import DENOISER
from harness.materialise.compiled_copies import CompiledCopies
from harness.materialise.exported import Exported, Size
from harness.materialise.exported_text import ExportedText
from harness.materialise.exported_vae import Decoding, Encoding, ExportedVae
from harness.materialise.library import MaterialiseError
from harness.materialise.live_graph import LiveGraph
from harness.materialise.live_model import Frame
from harness.quantize.declared import made_on_host
from harness.runtimes import RUNTIMES
from harness.runtimes.graph_cache import Graphs, graph_folder
from harness.runtimes.text_entry import text_entry
from harness.runtimes.vae_entry import DECODER, ENCODER
from harness.samplers import called_by_diffusers
from harness.text.tokens import positions_of
from harness.weights import Pipeline, with_part

VAE: Final = "vae"


@dataclass(frozen=True, kw_only=True)
class Executing:
    """The components in runtimes other than eager: what was compiled for them, and the graphs that were exported."""

    device: str
    copies: CompiledCopies = field(default_factory=CompiledCopies)
    graphs: Graphs = field(default_factory=lambda: Graphs(folder=graph_folder()))

    def executed(self, candidate: Candidate, frame: Frame, pipeline: Pipeline, number: int, size: Size | None = None, *,
                 encodes: bool = False) -> tuple[Pipeline, Callable[[], None]]:
        """The pipeline with its components in the declared runtimes, and what must be called each time before it is used.
        `number` tells the models apart that are live together, `size` is that of the latents, if it is known, and `encodes` says
        that pictures of that size are encoded."""
        run, refresh = self._denoiser(candidate, frame, pipeline, number, size)
        refreshing = [refresh]
        for component in runtimes_beside(candidate.runtime):
            run, more = (self._vae(candidate, frame, run, size, encodes=encodes) if component == VAE else
                         self._text(candidate, frame, run, component))
            refreshing.append(more)

        def refresh_all() -> None:
            for one in refreshing:
                one()

        return run, refresh_all

    def _denoiser(self, candidate: Candidate, frame: Frame, pipeline: Pipeline, number: int,
                  size: Size | None) -> tuple[Pipeline, Callable[[], None]]:
        """As `executed`, of the denoiser alone. What was compiled for the frame's own parameters is kept: it stays valid when
        they change, and adapters on the layers only add compilations. So is what was compiled for a quantized copy, and for the
        frame of another number format."""
        runtime = denoiser_runtime(candidate.runtime)
        row = RUNTIMES[runtime]
        if runtime == EAGER:
            return pipeline, lambda: None
        if row.exported:
            return self._exported(candidate, frame, pipeline, size)
        assert row.apply is not None
        refresh: Callable[[], None] = lambda: None  # noqa: E731
        copied = pipeline.denoiser is not frame.pipeline.denoiser
        mode = of_denoiser(candidate.quantization)
        if copied and not row.private and made_on_host(mode):
            name = " ".join([runtime, spelled(mode), *([f"of model {number}"] if number > 1 else [])])
            executed, refresh = self.copies.compiled(pipeline.denoiser, name, row.apply)
        elif copied:
            executed = row.apply(pipeline.denoiser)
        elif row.private:
            executed = row.apply(copy.deepcopy(pipeline.denoiser))
        else:
            if runtime not in frame.executed:
                frame.executed[runtime] = row.apply(pipeline.denoiser)
            executed = frame.executed[runtime]
        return with_part(pipeline, frame.denoiser, executed), refresh

    def begin(self, frame: Frame) -> None:
        """Lets the graphs of a frame count their comparisons with eager from now on, for the candidate that is prepared."""
        for executed in frame.executed.values():
            for graph in _graphs(executed):
                graph.begin()

    def _exported(self, candidate: Candidate, frame: Frame, pipeline: Pipeline,
                  size: Size | None) -> tuple[Pipeline, Callable[[], None]]:
        """The pipeline with the frame's graph in the place of the U-Net. It computes with the weights of the candidate that was
        entered last, and raises if these are not the live ones."""
        runtime = denoiser_runtime(candidate.runtime)
        exported = frame.executed.get(runtime)
        if exported is None:
            exported = frame.executed[runtime] = Exported(**self._of(runtime, frame))
        exported.enter(candidate.name, size)
        return (replace(with_part(pipeline, frame.denoiser, exported), computes_in=pipeline.dtype),
                lambda: exported.enter(candidate.name, size))

    def _vae(self, candidate: Candidate, frame: Frame, pipeline: Pipeline, size: Size | None, *,
             encodes: bool) -> tuple[Pipeline, Callable[[], None]]:
        """As `_exported`, of the VAE."""
        runtime = runtime_of(candidate.runtime, VAE)
        vae = frame.executed.get(place := beside_place(runtime, VAE))
        if vae is None:
            of = self._of(runtime, frame) | {"component": VAE}
            vae = frame.executed[place] = ExportedVae(decoding=Decoding(entry=DECODER, **of),
                                                      encoding=Encoding(entry=ENCODER, **of))
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        pixels = (size[0] * factor, size[1] * factor) if size is not None and encodes else None
        vae.enter(candidate.name, size, pixels)
        return with_part(pipeline, VAE, vae), lambda: vae.enter(candidate.name, size, pixels)

    def _text(self, candidate: Candidate, frame: Frame, pipeline: Pipeline,
              component: str) -> tuple[Pipeline, Callable[[], None]]:
        """As `_exported`, of a text encoder."""
        runtime = runtime_of(candidate.runtime, component)
        encoder = next(one for one in pipeline.encoders if one.component == component)
        text = frame.executed.get(place := beside_place(runtime, component))
        if text is None:
            entry = text_entry(normed=encoder.layer == "last", pooled=encoder.pooled)
            text = frame.executed[place] = ExportedText(encoder=encoder, entry=entry, component=component,
                                                        **self._of(runtime, frame))
        tokens = (positions_of(encoder),)
        text.enter(candidate.name, tokens)
        encoders = tuple(replace(one, executed=text) if one.component == component else one for one in pipeline.encoders)
        return replace(pipeline, encoders=encoders), lambda: text.enter(candidate.name, tokens)

    def _of(self, runtime: str, frame: Frame) -> dict[str, Any]:
        return {"name": runtime, "row": RUNTIMES[runtime], "frame": frame, "graphs": self.graphs, "device": self.device}


def beside_place(runtime: str, component: str) -> str:
    """Where a frame keeps a component beside the denoiser as a runtime executes it."""
    return f"{runtime} on {component}"


def _graphs(executed: Any) -> tuple[LiveGraph, ...]:
    return (executed,) if isinstance(executed, LiveGraph) else executed.graphs if isinstance(executed, ExportedVae) else ()


def graphs_of(candidate: Candidate, frame: Frame) -> tuple[LiveGraph, ...]:
    """The graphs of a candidate's components, the denoiser's first; empty for runtimes that take the modules themselves."""
    places = [denoiser_runtime(candidate.runtime),
              *(beside_place(name, component) for component, name in runtimes_beside(candidate.runtime).items())]
    return tuple(graph for place in places for graph in _graphs(frame.executed.get(place)))


def executing(pipeline: Pipeline) -> tuple[Any, ...]:
    """What executes a pipeline's components; a graph says as `copied_bytes` what of weights it holds beside the live ones."""
    vae = [pipeline.vae] if "vae" in pipeline.parts else []
    return (pipeline.denoiser, *vae, *(encoder.executed for encoder in pipeline.encoders if encoder.executed is not None))


def runtimes_of_texts(candidate: Candidate) -> dict[str, str]:
    """What executes the text encoders that do not run in eager."""
    return {part: name for part, name in runtimes_beside(candidate.runtime).items() if part.startswith("text_encoder")}


def in_the_weights(candidate: Candidate, component: str) -> bool:
    """Whether adapters are written into the weights of a component, and none acts on its layers: a graph has no layers to act on.
    Those of a denoiser's graph are written into all components."""
    return any(RUNTIMES[runtime_of(candidate.runtime, one)].exported for one in (DENOISER, component))


def refuse_what_graphs_lack(candidate: Candidate, family: str, hypernetworks: Sequence[str]) -> None:
    """Raises MaterialiseError for what an exported graph cannot take: a transformer, a hypernetwork, a number format."""
    if called_by_diffusers(family) and (beside := runtimes_beside(candidate.runtime)):
        raise MaterialiseError(f"runtime names {', '.join(map(repr, beside))}, and models of the family {family} are sampled by "
                               "their own pipeline, whose parts run in 'eager'; name the denoiser alone")
    runtime = denoiser_runtime(candidate.runtime)
    row = RUNTIMES[runtime]
    if not row.exported:
        return
    if called_by_diffusers(family):
        raise MaterialiseError(f"runtime {runtime!r} executes U-Nets, and models of the family {family} have a "
                               "transformer; use the runtime 'eager' or 'compiled'")
    if hypernetworks:
        raise MaterialiseError(f"adapter {hypernetworks[0]!r} is a hypernetwork, which the graph of runtime "
                               f"{runtime!r} does not take; use the runtime 'eager'")
    mode = of_denoiser(candidate.quantization)
    if row.quantizations is not None and str(mode) not in row.quantizations:
        raise MaterialiseError(f"runtime {runtime!r} does not execute {str(mode)!r}, only "
                               f"{', '.join(sorted(row.quantizations))}")


def refuse_unknown_components(candidate: Candidate, components: Collection[str]) -> None:
    """Raises MaterialiseError for components in a declared runtime that the model does not have."""
    for component in candidate.runtime if isinstance(candidate.runtime, Mapping) else ():
        if component not in (DENOISER, *components):
            raise MaterialiseError(f"runtime names {component!r}, which the model does not have; expected one of "
                                   f"{', '.join(map(repr, sorted(components)))}")
