"""A candidate's live model without values: the modules that its memory is counted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from harness.declare import Candidate, short_hash
from harness.declare.component_runtimes import denoiser_runtime, runtimes_beside, spelled_runtime
from harness.declare.mixed import beside_denoiser, of_denoiser, spelled
from harness.materialise.library import MaterialiseError, frame_of
from harness.materialise.live_inpainting import live_inpaint
from harness.materialise.live_model import Frame
from harness.materialise.live_references import encoder_of
from harness.materialise.live_savers import changed
from harness.materialise.number_format import computing_of, homes_of
from harness.materialise.quantized_parts import computing_beside
from harness.quantize import LIVE_DTYPES, QUANTIZATION_MODES, QuantizeError, QuantizeReport, live_in, stored_bytes
from harness.quantize.declared import made_on_host, make_on_host, only_casts
from harness.runtimes import RUNTIMES
from harness.samplers import is_pipeline
from harness.weights import Pipeline, shape_pipeline

if TYPE_CHECKING:
    import torch

    from harness.materialise.workbench import Workbench


COMPILED: Final = "compiled"
"""The runtime of torch.compile."""
CONTROLS: Final = "control networks"
IMAGE_PROMPTS: Final = "image prompts"
IMAGE_ENCODERS: Final = "image encoders"
"""Their names among the weights of components. A projection counts with the encoder, with which it is lent to a device."""
Beside: TypeAlias = Mapping[tuple[str, str], int]
"""Bytes of what lies beside a model, by one of the names above and what tells it apart: two with one key share their weights."""


@dataclass(frozen=True, kw_only=True)
class ShapeModel:
    """A pipeline on the meta device, as the candidate runs it: merged, adapted and quantized, in its number format. `weights` are
    the bytes of each component, `copies` those of what lies beside it on the device, by component and purpose, and `beside`
    those of control networks, image prompts and image encoders. `others` are further models of a relay or an ensemble, which are
    live too, and `together` is how many predict at one step."""

    pipeline: Pipeline
    weights: Mapping[str, int]
    copies: Mapping[str, int]
    beside: Beside = field(default_factory=dict)
    others: tuple[ShapeModel, ...] = ()
    savers: tuple[str, ...] = ()
    together: int = 1
    compiled: bool = False
    """Whether its denoiser is compiled, which is sampled one batch at a time."""

    @property
    def key(self) -> str:
        """Equal for models whose every part has the same config and size."""
        configs = {part: str(module.config) for part, module in sorted(self.pipeline.parts.items())}
        several = [[other.key for other in self.others], self.together] if self.others else []
        return short_hash([self.pipeline.family, configs, dict(self.weights), dict(self.copies), *several,
                           *sorted((part, size) for (part, _), size in self.beside.items()),
                           *(str(control.network.config) for control in self.pipeline.controls),
                           *self.savers,
                           *(["inpaint"] if self.pipeline.inpaint is not None else [])])


def shape_key(candidate: Candidate, bench: Workbench) -> tuple[object, ...]:
    """What decides a candidate's memory: those with equal keys take the same."""
    candidate = bench.in_its_format(candidate)
    bases = [frame_of(single.model) for single in bench.singles(candidate)]
    turns = [(leg.first, len(leg.singles)) for leg in bench.legs(candidate)] if len(bases) > 1 else []
    return (*((bench.library.path(base.path), base.config, base.ema, base.base) for base in bases), *turns,
            spelled(candidate.quantization), candidate.precision, spelled_runtime(candidate.runtime), candidate.savers,
            candidate.step_cache,
            tuple((adapter.path, adapter.start, adapter.end) for adapter in candidate.adapters),
            tuple(control.path for control in candidate.controls if control.weight), candidate.inpaint is not None,
            tuple((reference.path, encoder_of(reference), reference.picture, repr(reference.blocks))
                  for reference in candidate.references if reference.weight))


def shape_model(candidate: Candidate, bench: Workbench) -> ShapeModel:
    """The candidate's models without values, for the workbench's device, with everything resident that no measure for short
    memory sends away. Raises the errors of `Workbench.inspect`, and MaterialiseError for a mode that needs values."""
    bench.inspect_alone(candidate)
    if is_pipeline(name := bench.family(candidate)):
        raise MaterialiseError(f"the memory of {name} is not predicted: it makes its images in one call of diffusers")
    candidate = bench.in_its_format(candidate)
    legs = bench.legs(candidate)
    first, *others = (_shape_model(single, bench, sum(single.model == one.model for leg in legs for one, _ in leg.singles))
                      for single in bench.singles(candidate))
    return replace(first, others=tuple(others), together=max(len(leg.singles) for leg in legs))


def _shape_model(candidate: Candidate, bench: Workbench, phases: int) -> ShapeModel:
    """One model of a candidate in its format, which predicts in as many phases."""
    base, mode = frame_of(candidate.model), of_denoiser(candidate.quantization)
    on_host = made_on_host(mode) and bench.device != "cpu"
    live = str(mode) if only_casts(mode) else "fp32"
    file = bench.library.open(base)
    pipeline = shape_pipeline(file, bench.library.path(base.configs) if base.configs else None,
                              homes_of(file, bench.device, live, quantized=on_host))
    cast = QuantizeReport(quantized=(), kept=()) if on_host else live_in(pipeline.denoiser, LIVE_DTYPES[live])
    Frame(pipeline=pipeline, live={}, cast=cast).work(bench.working(candidate))
    references = bench.references_without_values(candidate, pipeline)
    copies: dict[str, int] = {}
    denoiser = "unet" if "unet" in pipeline.parts else "transformer"
    for component, other in beside_denoiser(candidate.quantization).items():
        if bench.device == "cpu" or component == "vae":  # on a GPU, text encoders stay on the host
            copies[f"{component} of which a quantized copy is made"] = stored_bytes(pipeline.parts[component])
        make_on_host(pipeline.parts[component], other, computing_beside(pipeline.parts[component]))
    if not only_casts(mode):
        if not on_host:
            copies[f"{denoiser} of which quantized copies are made"] = stored_bytes(pipeline.denoiser)
        try:
            if made_on_host(mode):
                make_on_host(pipeline.denoiser, mode, computing_of(candidate))
            else:
                QUANTIZATION_MODES[str(mode)].apply(pipeline.denoiser)
        except QuantizeError:
            raise
        except Exception as error:  # a mode of the user's own may need values
            raise MaterialiseError(f"the memory of quantization {str(mode)!r} cannot be planned, as it does not work on tensors "
                                   f"without values ({type(error).__name__}: {error})") from error
    own = stored_bytes(pipeline.denoiser)
    weights = {part: stored_bytes(module) for part, module in pipeline.parts.items()}
    if candidate.savers or candidate.step_cache is not None:
        pipeline, unshared = _saved(candidate, pipeline)
        copies |= {f"{denoiser} of savers": max(phases, 1) * unshared} if unshared else {}
    runtime = RUNTIMES[denoiser_runtime(candidate.runtime)]
    further = max(phases - 1, 0) if not only_casts(mode) else phases if runtime.private else 0
    if runtime.exported and runtime.copies:
        copies[f"{denoiser} of the runtime"] = own
    copies |= {f"{component} of the runtime": weights[component]
               for component, name in runtimes_beside(candidate.runtime).items() if RUNTIMES[name].copies}
    if further:
        copies[f"{denoiser} of other phases or the runtime"] = further * own
    controls = bench.controls_without_values(candidate, pipeline)
    inpaint = None if candidate.inpaint is None else live_inpaint(candidate.inpaint, bench.steps, bench.library)
    running = [control for control in candidate.controls if control.weight != 0]
    beside = {(CONTROLS, repr((declared.path, candidate.model))): stored_bytes(control.network)
              for declared, control in zip(running, controls, strict=True)}
    for reference in references:
        net, encoder = reference.files
        beside[IMAGE_PROMPTS, net] = sum(tensor.nbytes for tensor in (*reference.keys, *reference.values))
        projection, module = reference.modules()
        beside |= {(IMAGE_ENCODERS, encoder): stored_bytes(module), (IMAGE_ENCODERS, net): stored_bytes(projection)}
    return ShapeModel(pipeline=replace(pipeline, controls=controls, references=references, inpaint=inpaint), copies=copies,
                      weights=weights, beside=beside, savers=(*candidate.savers, repr(candidate.step_cache)),
                      compiled=denoiser_runtime(candidate.runtime) == COMPILED)


def _saved(candidate: Candidate, pipeline: Pipeline) -> tuple[Pipeline, int]:
    """The pipeline with the candidate's savers, and the bytes of the weights that its copies do not share."""
    saved, _ = changed(candidate, pipeline)
    shared = {tensor.untyped_storage()._cdata for module in pipeline.parts.values() for tensor in _tensors(module)}
    own = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for module in saved.parts.values()
           for tensor in _tensors(module)}
    return saved, sum(size for place, size in own.items() if place not in shared)


def _tensors(module: Any) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()
