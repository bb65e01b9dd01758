"""Turns a candidate into a live pipeline on a device: merge, adapters, quantization, runtime, in that order."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters import AdapterPlan, Reading, live_plan
from harness.adapters.kinds import is_additive
from harness.control.maps import map_identity
from harness.declare import Adapter, Candidate, Checkpoint, Ensemble, Fused, Grid, Merge, Model, Relay, Search, plain, short_hash
from harness.declare.candidate import NOT_QUANTIZED
from harness.declare.component_runtimes import denoiser_runtime, runtime_of, runtimes_beside, runtimes_in
from harness.declare.effective_grid import grid_of, stage_grids
from harness.declare.mixed import of_denoiser, spelled
from harness.declare.models import models_of
from harness.declare.prompt_groups import PromptGroup, groups_of
from harness.declare.stage_candidates import as_run, steps_run
from harness.declare.stages import stage_name
from harness.materialise.adapter_copies import copies_problem
from harness.materialise.adapter_expressions import Places, as_stored, weights_of, with_adapter
from harness.materialise.content_identity import components_used, references_of, weights_of_candidate
from harness.materialise.denoiser_kind import foreign_prediction, kind_of_result, refuse_foreign_kind
from harness.materialise.equal_candidates import equality_problems, problems_of_contents
from harness.materialise.equal_weights import changes_nothing, same_component
from harness.materialise.executing import (
    Executing,
    graphs_of,
    in_the_weights,
    refuse_unknown_components,
    refuse_what_graphs_lack,
    runtimes_of_texts,
)
from harness.materialise.idle_blocks import idle_blocks
from harness.materialise.library import Library, MaterialiseError, frame_of, name_of, shapes_of
from harness.materialise.live_controls import ControlNets
from harness.materialise.live_inpainting import inspect_inpaint, live_inpaint, refuse_mask_readers
from harness.materialise.live_model import Frame, Working
from harness.materialise.live_references import ReferenceNets, identity_of
from harness.materialise.live_savers import refuse_savers, with_savers
from harness.materialise.live_stages import (
    PIXELS,
    LiveStage,
    asks_for_latents,
    handed_over,
    live_stages,
    refuse_other_latents,
    vae_config,
)
from harness.materialise.number_format import homes_of, in_its_format
from harness.materialise.own_options import OwnOptions
from harness.materialise.phases import Branch, Leg, Phase, legs_of, live_singles, spans_of
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.quantized_parts import QuantizedPart, quantized, quantized_texts, refuse_idle_parts, refuse_unknown
from harness.materialise.recipe_plan import PartPlan, RecipePlan
from harness.materialise.shared_latents import refuse_misfits
from harness.materialise.similarity_ranges import surveyed
from harness.materialise.text_treatment import said_of, treatment_of
from harness.materialise.wider_format import Overflow, WiderFormats, in_wider_format
from harness.merge import Expression, Source, Target, finite, sources, write_live
from harness.post import PostProcess, process_of
from harness.probes.fits import free_memory
from harness.quantize import LIVE_DTYPES, QuantizeReport, live_in
from harness.quantize.declared import made_on_host, only_casts, problems
from harness.records import Coverage, Weights
from harness.records.file_version import FileVersions
from harness.reference.live import LiveReference
from harness.runtimes import RUNTIMES
from harness.samplers import called_by_diffusers
from harness.text import Treatment
from harness.weights import (
    ModelFile,
    Pipeline,
    TextEncoder,
    build_pipeline,
    reading_with,
    shape_pipeline,
    with_part,
)
from harness.weights.header_claims import folder_markers
from harness.weights.norm_scales import weight_key
from harness.weights.pipeline import LiveControl, latent_shape, reads_mask
from harness.weights.placing import Slot, lend_layers, slots, tile
from harness.weights.upload import Uploads

if TYPE_CHECKING:
    import torch

REFINER: Final = "sdxl_refiner"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A candidate ready to sample: the coverage of every tensor, and the phases of its first stage, of which the first is live.
    Most candidates have one phase; adapters that start or end between the steps add more. `stages` are those after the first."""

    phases: tuple[Phase, ...]
    coverage: tuple[Coverage, ...]
    stages: tuple[LiveStage, ...] = ()
    post: PostProcess | None = None
    candidate: Candidate | None = None
    """The candidate in its number format."""

    @property
    def every_phase(self) -> tuple[Phase, ...]:
        """The phases of all stages, in order."""
        return (*self.phases, *(phase for stage in self.stages for phase in stage.phases))

    @property
    def pipeline(self) -> Pipeline:
        """The live pipeline of the first phase."""
        return self.phases[0].enter()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Candidates that share one live pipeline: one architecture in one number format. `quantized` says that its denoiser is not
    run, but holds on the host the weights of which quantized copies are made. `slot` tells models of one architecture apart that
    are live together. `completed` says that what the file lacks is that of the folder `config`. `base` is how the file was first
    named."""

    path: Path
    config: Path | None
    completed: bool
    ema: bool
    mode: str
    quantized: bool
    slot: int = 0
    base: Checkpoint = field(compare=False)


class Workbench:
    """Opens model files once, keeps one live pipeline per architecture and number format (on a GPU only the last), and prepares
    candidates.

    The next alpha is computed into the parameters that are already on the device, and only where it changes them. Parents stay on
    the host, and pass through the device tensor by tensor.
    """

    def __init__(self, *, device: str, root: Path, steps: int = 1, versions: FileVersions | None = None,
                 low_memory: Collection[str] = (), clip_skip: int | None = None) -> None:
        """`steps` is the number of denoising steps, of which the start and end of adapters are shares, and `clip_skip` that of
        Sampling, both of candidates that do not say. `versions` are those that an earlier workbench noted, whose results belong
        together with those of this one. `low_memory` is that of a grid."""
        self.device, self.library, self.steps, self._clip_skip = device, Library(root, versions), steps, clip_skip
        self.wider = WiderFormats()
        self.has_device = True
        """Whether what the device offers can be asked here. A workbench of a machine without it only reads files."""
        self.low_memory = frozenset(low_memory)
        self._plans: dict[str, RecipePlan] = {}
        self._tensors: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
        self._layered: dict[tuple[str, str], AdapterPlan] = {}
        self._limits: dict[str, tuple[float, float]] = {}
        self._idle: dict[str, tuple[str, ...]] = {}
        self._damaged: dict[tuple[str, str], frozenset[str]] = {}
        self._opened: dict[str, ModelFile] = {}
        self._frames: dict[_Place, Frame] = {}
        self._loading: dict[_Place, float] = {}
        self._executing = Executing(device=device)
        self._uploads = Uploads()
        self._nets = ControlNets(library=self.library, lends=self._lends_layers)
        self._image_prompts = ReferenceNets(library=self.library)
        self._own = OwnOptions(self.library)
        self._vaes: dict[tuple[str, ...], bool] = {}
        self._grid: Grid | None = None
        self._masked: set[tuple[str, str, str]] = set()
        self._shapes: dict[tuple[str, str | None, bool, str | None], Pipeline] = {}

    @classmethod
    def for_grid(cls, grid: Grid, *, device: str, root: Path, versions: FileVersions | None = None,
                 wider: WiderFormats | None = None) -> Workbench:
        """A workbench for the candidates of a suite with this grid; `versions` as above, and `wider` are the candidates that an
        earlier workbench knew to overflow."""
        bench = cls(device=device, root=root, steps=grid.steps, versions=versions, low_memory=grid.low_memory,
                    clip_skip=None if grid.sampling is None else grid.sampling.clip_skip)
        bench.wider = bench.wider if wider is None else wider
        bench.take_grid(grid)
        return bench

    def take_grid(self, grid: Grid) -> None:
        """Takes the grid whose batch size is known, in place of one that asked for what fits."""
        self._grid = grid

    def inspect(self, candidate: Candidate) -> None:
        """Reads headers and plans the merge without reading a weight. Raises the errors that `prepare` would raise.

        Raises ModelFileError for a damaged or unknown file, MaterialiseError for keys that prevent the merge and for models that
        cannot share their latents, AdapterError for a file that is not an adapter of a known format, and ChangedFileError for one
        that changed since it was first opened.
        """
        for group in self.groups(candidate):
            self._refuse_words(group)
            self.inspect_alone(group.candidate)
            own = self.stages(self.in_its_format(group.candidate))
            refuse_savers(group.candidate, own, self._shape, self.device, self._grid)

    def groups(self, candidate: Candidate) -> tuple[PromptGroup, ...]:
        """The candidate with the adapters that the prompts of the grid bring; most grids have one group."""
        return groups_of(candidate, self._grid.prompts) if self._grid is not None and self._grid.prompts else (
            PromptGroup(candidate=candidate, adapters=(), prompts=()),)

    def _refuse_words(self, group: PromptGroup) -> None:
        """Raises MaterialiseError for adapters of single prompts that add words to a text encoder."""
        for adapter in group.adapters:
            if self._reading(adapter, group.candidate.model).embeddings:
                raise MaterialiseError(f"adapter {adapter.path!r}, which prompt {group.prompts[0]!r} brings, adds "
                                       "words to the text encoder, which reads all prompts alike. Give it to the candidates, or "
                                       "give all prompts its tag with the same weight")

    def inspect_alone(self, candidate: Candidate) -> None:
        """As `inspect`, without the adapters that prompts bring."""
        self.library.refuse_changed(references_of(candidate))
        if isinstance(candidate.quantization, Mapping):
            refuse_unknown(candidate, self._shape(frame_of(models_of(candidate.model)[0])).parts)
        if isinstance(candidate.runtime, Mapping):
            refuse_unknown_components(candidate, self._shape(frame_of(models_of(candidate.model)[0])).parts)
        candidate = self.in_its_format(candidate)
        for asked in (candidate.quantization, candidate.precision or NOT_QUANTIZED):
            for problem in problems(asked, self.device) if self.has_device else ():
                raise MaterialiseError(problem)
        for runtime in runtimes_in(candidate.runtime) if self.has_device else ():
            if reason := RUNTIMES[runtime].why_not(self.device):
                raise MaterialiseError(f"runtime {runtime!r} on {self.device}: {reason}")
        self._inspect_stages(candidate)
        self.legs(candidate)
        for number, model in enumerate(models_of(candidate.model)):
            self._inspect_one(replace(candidate, model=model))
            if self.library.open(frame_of(model)).family == REFINER and not (number and isinstance(candidate.model, Relay)):
                raise MaterialiseError(f"{frame_of(model).path} is the refiner of Stable Diffusion XL, which goes on with the "
                                       "latents of another model; give it as the later model of a relay: "
                                       "model=Relay(models=('base', 'refiner'), at=(0.8,))")
        if isinstance(candidate.model, Relay | Ensemble):
            shapes = {f"model {number} ({frame_of(model).path})": self._shape(frame_of(model))
                      for number, model in enumerate(candidate.model.models, 1)}
            refuse_misfits(shapes, kind=type(candidate.model).__name__.lower(),
                           shared_texts=isinstance(candidate.model, Ensemble) and candidate.model.texts == "first")

    def _shape(self, base: Checkpoint) -> Pipeline:
        """The pipeline of a model file without values."""
        place = (base.path, base.config, base.ema, base.base)
        if place not in self._shapes:
            self._shapes[place] = shape_pipeline(self.library.open(base), self._configs(base))
        return self._shapes[place]

    def _configs(self, base: Checkpoint) -> Path | None:
        return self.library.path(base.configs) if base.configs else None

    def _inspect_one(self, candidate: Candidate) -> None:
        """As `inspect`, for one model."""
        plan = self._plan(candidate.model)
        base = frame_of(candidate.model)
        refuse_foreign_kind(plan)
        refuse_mask_readers(candidate, reads_mask(self._shape(base)))
        refuse_idle_parts(candidate, self._shape(base).parts)
        if candidate.controls:
            grid = None if self._grid is None else grid_of(self._grid, candidate)
            self._nets.inspect(candidate, self._shape(base), None if grid is None else (grid.width, grid.height))
        if candidate.references:
            self._image_prompts.inspect(candidate, self._shape(base))
        if (inpaint := candidate.inpaint) is not None and (inpaint.picture, inpaint.mask, base.path) not in self._masked:
            inspect_inpaint(inpaint, self._shape(base), () if self._grid is None else self._grid.prompts, self.library)
            self._masked.add((inpaint.picture, inpaint.mask, base.path))
        spans = self.spans(candidate)
        if called_by_diffusers(self.family(candidate)) and (len(spans) > 1 or candidate.emphasis or candidate.aesthetic):
            raise MaterialiseError(f"models of the family {self.family(candidate)} are sampled by their own pipeline, which "
                                   "takes no emphasis, no aesthetic gradient and no adapters for some of the steps")
        if self._shape(base).own is not None:
            self._own.inspect(candidate, self._shape(base), None if self._grid is None else grid_of(self._grid, candidate))
        refuse_what_graphs_lack(candidate, self.family(candidate), [
            adapter.path for adapter in candidate.adapters if self.library.hypernetwork(adapter.path)])
        for adapter in candidate.adapters:
            reading = self._reading(adapter, candidate.model)
            self._weights(adapter, candidate.model)
            if reading.embeddings and not reading.changes and (adapter.weight != 1 or adapter.blocks is not None):
                raise MaterialiseError(f"adapter {adapter.path!r} is a textual inversion, which has no weight; remove weight "
                                       "and blocks, and emphasise its word in the prompt instead")
            if reading.embeddings and called_by_diffusers(self.family(candidate)):
                raise MaterialiseError(f"adapter {adapter.path!r} is a textual inversion, which is not supported yet for models "
                                       f"of the family {self.family(candidate)}")
            if reading.format == "hypernetwork" and adapter.blocks is not None:
                raise MaterialiseError(f"adapter {adapter.path!r} is a hypernetwork, which has one weight for all blocks; remove "
                                       "blocks")
        if problem := copies_problem(candidate, self.library):
            raise MaterialiseError(problem)
        self._treatment(candidate, ())

    def stages(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The stages of a candidate as candidates of their own, each with the number of steps that it runs."""
        return as_run(candidate, self.steps)

    def _inspect_stages(self, candidate: Candidate) -> None:
        """As `inspect`, for the stages after the first."""
        stages = self.stages(candidate)
        for number, stage in enumerate(stages[1:], 1):
            try:
                self.inspect_alone(stage)
            except ValueError as error:
                raise MaterialiseError(f"{stage_name(number)}: {error}") from error
        if len(stages) > 1 and (flow := next((family for family in map(self.family, stages) if called_by_diffusers(family)), "")):
            raise MaterialiseError(f"models of the family {flow} are sampled by their own pipeline, which cannot begin from the "
                                   "picture of a stage before; take Stable Diffusion 1, 2 or XL for every stage, or one stage")
        for number, declared in enumerate(candidate.stages, 1):
            if asks_for_latents(declared) and not self._same_vae(stages, number):
                refuse_other_latents(number, declared)

    def handed_over(self, candidate: Candidate, grids: Sequence[Grid]) -> tuple[str, ...]:
        """How each later stage of an inspected candidate is handed what it begins from, "latents" or "pixels"; `grids` are those
        of all stages."""
        own = self.stages(candidate)

        def same(number: int) -> bool:
            configs = [vae_config(self._shape(frame_of(self.legs(own[at])[0].decoding.model))) for at in (number - 1, number)]
            return configs[0] == configs[1] and self._same_vae(own, number)

        return handed_over(candidate, grids, same)

    def _same_vae(self, stages: Sequence[Candidate], number: int) -> bool:
        """Whether the VAEs of a stage and of the one before it hold the same tensors."""
        pair = [self.legs(stage)[0].decoding for stage in stages[number - 1:number + 1]]
        if any(component == "vae" for one in pair for adapter in one.adapters
               for component, _ in self._reading(adapter, one.model).changes):
            return False
        key = tuple(repr(one.model) for one in pair)
        if key not in self._vaes:
            self._vaes[key] = same_component(self._plan(pair[0].model), self._plan(pair[1].model), "vae")
        return self._vaes[key]

    def equalities(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """By name, what is wrong with candidates that have the weights of an earlier one, or of their own model A."""
        known = [self._if_known(candidate) for candidate in candidates]
        problems = self._idle_stages(known) | equality_problems(known, self._plan, self.library, self._limits)
        return problems | problems_of_contents(known, self.library, problems)

    def idle_blocks(self, search: Search) -> tuple[str, ...]:
        """The blocks of an inspected search whose weight changes no tensor of the merge."""
        if (key := repr(search)) not in self._idle:  # whose plans are not kept: there is one for each block
            self._idle[key] = idle_blocks(search, lambda merge: plan_recipe(merge, self.library), self._limits)
        return self._idle[key]

    def _idle_stages(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """By name, the candidates with a later stage whose merge changes nothing."""
        idle = {}
        for candidate in candidates:
            for number, stage in enumerate(candidate.stages, 1):
                if not isinstance(stage.model, Merge | Fused):
                    continue
                with suppress(ValueError, OSError):  # which is said of the candidate itself
                    if why := changes_nothing(self._plan(stage.model), limits=self._limits):
                        idle[candidate.name] = f"candidate {candidate.name!r}: {stage_name(number)}: {why}"
        return idle

    def encoded_by(self, candidate: Candidate) -> tuple[tuple[TextEncoder, ...], tuple[Treatment, ...]]:
        """What decides which prompts fit: the text encoders of an inspected candidate, without values, and the treatment of each
        of its phases without what only changes values."""
        base = frame_of(candidate.model)
        encoders = self._shape(base).encoders
        plain_candidate = replace(candidate, aesthetic=None)
        return encoders, tuple(self._treatment(plain_candidate, [self._reading(a, candidate.model) for a in adapters])
                               for _, adapters in self.spans(candidate))

    def cut_in_part(self, candidate: Candidate, grid: Grid, text: str) -> bool:
        """Whether one of several text encoders of a candidate that its own pipeline samples cuts off a text that another reads
        whole. What none reads whole is refused."""
        return self._own.in_part(self._shape(frame_of(candidate.model)), grid, text)

    def weights(self, candidate: Candidate) -> Weights:
        """The candidate's identity by content: the BLAKE3 of every input file, and one identity over all of them; where prompts
        bring adapters of their own, the identity for each prompt too."""
        weights = self._weights_of_groups(candidate)
        if self.may_widen(candidate) and self.wider.recognise(candidate, weights.identity):
            return self._weights_of_groups(candidate)
        return weights

    def _weights_of_groups(self, candidate: Candidate) -> Weights:
        groups = self.groups(self.in_its_format(candidate))
        each = [weights_of_candidate(group.candidate, self.library) for group in groups]
        if len(each) == 1:
            return each[0]
        inputs = {file: digest for weights in each for file, digest in weights.inputs.items()}
        return replace(each[0], inputs=inputs, identity=short_hash(["by prompt", sorted({w.identity for w in each})]), by_prompt={
            prompt: weights.identity for group, weights in zip(groups, each, strict=True) for prompt in group.prompts})

    def in_its_format(self, candidate: Candidate) -> Candidate:
        """The candidate with the number format that it has on this device as its quantization."""
        in_format = in_its_format(candidate, self.family(candidate), self.device)
        wider = in_wider_format(candidate, in_format, self.device) if candidate in self.wider else None
        return in_format if wider is None else wider

    def may_widen(self, candidate: Candidate) -> bool:
        """Whether the candidate runs in fp16 without asking for it, and could run in bf16."""
        in_format = in_its_format(candidate, self.family(candidate), self.device)
        executed = RUNTIMES[denoiser_runtime(candidate.runtime)].quantizations
        wider = None if candidate in self.wider else in_wider_format(candidate, in_format, self.device)
        return wider is not None and (executed is None or of_denoiser(wider.quantization) in executed)

    def widen(self, candidate: Candidate, why: str) -> None:
        """Lets a candidate that may widen run in bf16 from now on."""
        self.wider.note(candidate, Overflow(in_fp16=self.weights(candidate).identity, why=why))

    def spans(self, candidate: Candidate) -> list[tuple[int, tuple[Adapter, ...]]]:
        """The candidate's adapters by the steps in which they are active, of the number of steps that it is sampled with."""
        return spans_of(candidate.adapters, self._steps_of(candidate))

    def legs(self, candidate: Candidate) -> list[Leg]:
        """Which of the candidate's models and adapters are active in which of the steps that it is sampled with."""
        return legs_of(candidate, self._steps_of(candidate), self._declared_steps(candidate))

    def singles(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The candidate with each of its models that is needed; most candidates have one."""
        return live_singles(candidate, self.legs(candidate))

    def readers(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """Those of `singles` whose text encoders read the prompts."""
        reading = self.legs(candidate)[0].reading
        return self.singles(candidate) if reading is None else (replace(candidate, model=reading.model),)

    def _steps_of(self, candidate: Candidate) -> int:
        """The steps that are run. Stages after the first have them in their `sampling`."""
        count = self._declared_steps(candidate)
        return count if candidate.inpaint is None else steps_run(candidate.inpaint.strength, count)

    def _declared_steps(self, candidate: Candidate) -> int:
        own = None if candidate.sampling is None else candidate.sampling.steps
        return self.steps if own is None else own

    def _treatment(self, candidate: Candidate, readings: Sequence[Reading]) -> Treatment:
        own = None if candidate.sampling is None else candidate.sampling.clip_skip
        return treatment_of(candidate, self.library, readings, self._clip_skip if own is None else own)

    def _if_known(self, candidate: Candidate) -> Candidate:
        """The candidate in its number format, or as declared where its model cannot be opened, which is said elsewhere."""
        try:
            return self.in_its_format(candidate)
        except (ValueError, OSError):
            return candidate

    def zero_snr(self, candidate: Candidate) -> bool:
        """Whether the candidate's model was trained to begin at pure noise, as its file or its folder says."""
        base = frame_of(candidate.model)
        model = self.library.open(base)
        configs = self._configs(base)
        scheduler = None if configs is None else configs / "scheduler" / "scheduler_config.json"
        of_folder = model.folder_markers if scheduler is None else folder_markers(scheduler, model.family)
        return "ztsnr" in (*model.markers, *of_folder)

    def family(self, candidate: Candidate) -> str:
        """The family of the candidate's model: "sd1", "sdxl", "flux" ...; of one that its own pipeline samples, its class."""
        model = self.library.open(frame_of(candidate.model))
        return model.pipeline or model.family

    def load_seconds(self, candidate: Candidate) -> tuple[float, ...]:
        """Seconds that loading the candidate's architectures took in this session, from the system's file cache or not; empty if
        one was not loaded."""
        places = set(self._places([self.in_its_format(candidate)]).values())
        return (sum(self._loading[place] for place in places),) if places <= self._loading.keys() else ()

    def runtime_seconds(self, candidate: Candidate) -> dict[str, tuple[float, ...]]:
        """Seconds that the candidate's runtimes took in this session, by what they did: "export", "open", "refresh", those of all
        its components together. Empty for one that takes the live modules themselves."""
        seconds: dict[str, list[float]] = {}
        if any(RUNTIMES[name].exported for name in runtimes_in(candidate.runtime)):
            for place in set(self._places([self.in_its_format(candidate)]).values()) & self._frames.keys():
                graphs = graphs_of(candidate, self._frames[place])
                for what in dict.fromkeys(what for graph in graphs for what in graph.seconds.get(candidate.name, {})):
                    taken = [graph.seconds.get(candidate.name, {}).get(what, []) for graph in graphs]
                    seconds[what] = [*seconds.get(what, ()), *map(sum, zip_longest(*taken, fillvalue=0.0))]
        return {what: tuple(taken) for what, taken in seconds.items()}

    def content(self, reference: str) -> str:
        """The BLAKE3 of the file or folder of a path or `zoo:` name."""
        return self.library.content(reference)

    def content_for(self, candidate: Candidate, reference: str) -> str:
        """The same of what a candidate uses of the file or folder."""
        return self.library.content(reference, components_used(candidate, self.library).get(reference))

    def post(self, candidate: Candidate) -> PostProcess | None:
        """The candidate's post-steps with their files read; None if it has none. Raises PictureError and CubeError."""
        return process_of(candidate.post, self.library.path, self.content) if candidate.post else None

    def raw_weights(self, candidate: Candidate) -> Weights:
        """The weights of what is sampled for a candidate, before its post-steps; in bf16 where it overflows in fp16."""
        return self._weights_of_groups(replace(self.in_its_format(candidate), post=()))

    def sampled_weights(self, candidate: Candidate) -> Weights:
        """The weights that what is sampled is kept under: those of the candidate, without its post-steps if it has any."""
        return self.raw_weights(candidate) if candidate.post else self.weights(candidate)

    def weights_up_to(self, candidate: Candidate, stage: int) -> Weights:
        """The weights of what a stage, from 0, ends with: those of the candidate without its later stages and its post-steps."""
        return self._weights_of_groups(replace(self.in_its_format(candidate), stages=candidate.stages[:stage], post=()))

    def prepare(self, candidate: Candidate, group: int = 0) -> Prepared:
        """The live pipelines of `candidate`, with the coverage of every tensor. Where prompts bring adapters of their own, it is
        as one of its `groups` is sampled; by default that of the first prompt, which is the one that is timed."""
        self.inspect(candidate)
        candidate = self.groups(self.in_its_format(candidate))[group].candidate
        self._executing.copies.empty()
        own = self.stages(candidate)
        frames = self._frames_of(own)
        for frame in frames.values():
            frame.detach({adapter.path for stage in own for adapter in stage.adapters})
        self._nets.keep(own)
        self._image_prompts.keep(own)
        for frame in frames.values():
            self._executing.begin(frame)
        grids = (None,) * len(own) if self._grid is None else stage_grids(self._grid, candidate)
        begins = ("", *(self.handed_over(candidate, [grid for grid in grids if grid is not None]) if "vae" in runtimes_beside(
            candidate.runtime) and self._grid is not None else [""] * (len(own) - 1)))
        (phases, coverage), *later = [self._phases(stage, frames, grid, of) for stage, grid, of in zip(
            own, grids, begins, strict=True)]
        coverage = (*coverage, *(replace(row, stage=f"{stage_name(number)}: {row.stage}")
                                 for number, (_, rows) in enumerate(later, 1) for row in rows))
        stages = self._live_stages(candidate, [phases, *(of for of, _ in later)]) if later else ()
        # Every phase is made live once, so that errors are known before the first image.
        phases[0].enter()
        self.library.refuse_changed(references_of(candidate))
        return Prepared(phases=phases, coverage=coverage, stages=stages, post=self.post(candidate), candidate=candidate)

    def _live_stages(self, candidate: Candidate, phases: Sequence[tuple[Phase, ...]]) -> tuple[LiveStage, ...]:
        """The later stages of a candidate, of whose stages these are the phases."""
        assert self._grid is not None  # a workbench without a grid does not know the sizes and texts of stages
        own = self.stages(candidate)

        def same(number: int) -> bool:
            configs = [vae_config(phases[at][0].enter()) for at in (number - 1, number)]
            return configs[0] == configs[1] and self._same_vae(own, number)

        for number, stage in enumerate(candidate.stages, 1):
            if asks_for_latents(stage) and not same(number):
                refuse_other_latents(number, stage)
        return live_stages(candidate, self._grid, phases, same,
                           lambda steps: process_of(steps, self.library.path, self.library.content))

    def _phases(self, candidate: Candidate, frames: Mapping[str, Frame], grid: Grid | None,
                begins: str = "") -> tuple[tuple[Phase, ...], tuple[Coverage, ...]]:
        """The phases of a candidate, or of one of its stages, whose models have `frames`, by their declaration, and the coverage
        of every model. `grid` says how large its images are, where that is known, and `begins` what a later stage begins from."""
        encodes = begins == PIXELS
        phases, covered = [], dict[str, tuple[Candidate, tuple[QuantizedPart, ...], tuple[Coverage, ...]]]()
        numbers = {repr(model): number for number, model in reversed([*enumerate(models_of(candidate.model), 1)])}
        for leg in self.legs(candidate):
            branches = []
            for single, weight in leg.singles:
                name = repr(single.model)
                branch, parts = self._branch(single, frames[name], numbers[name], grid, encodes=encodes)
                branch, saved = with_savers(single, self._sharing(branch, single, leg, frames))
                branches.append(replace(branch, weight=weight))
                covered.setdefault(name, (replace(candidate, model=single.model), parts, saved))
            phases.append(Phase(first=leg.first, branches=tuple(branches)))
        several = len(models_of(candidate.model)) > 1
        # After all phases: only then is known which tensors of a hypernetwork have no effect.
        return tuple(phases), tuple(replace(row, stage=f"model {numbers[name]}: {row.stage}") if several else row
                                    for name, (of_model, report, saved) in covered.items()
                                    for row in (*self._coverage(of_model, frames[name], report), *saved))

    def _sharing(self, branch: Branch, single: Candidate, leg: Leg, frames: Mapping[str, Frame]) -> Branch:
        """The branch with the VAE and, where one model reads for all, the text encoders of the leg."""
        decoding, reading = ((other, frames[repr(other.model)]) if other is not None and other.model != single.model else None
                             for other in (leg.decoding, leg.reading))
        if decoding is None and reading is None:
            return branch

        def enter() -> Pipeline:
            pipeline = branch.enter()
            if decoding is not None:
                pipeline = with_part(pipeline, "vae", self._enter(*decoding).vae)
            return pipeline if reading is None else reading_with(pipeline, self._enter(*reading))

        if reading is None:
            return replace(branch, enter=enter)
        of_reading = [self._reading(adapter, reading[0].model) for adapter in reading[0].adapters]
        self._enter(*reading)
        return replace(branch, enter=enter, treatment=self._treatment(reading[0], of_reading),
                       text_identity=self._text_identity(*reading, of_reading))

    def _branch(self, candidate: Candidate, frame: Frame, number: int, grid: Grid | None, *,
                encodes: bool) -> tuple[Branch, tuple[QuantizedPart, ...]]:
        """The branch of a candidate's one model with the adapters of one leg, and how its components are quantized. `number`
        tells the models apart that are live together, `grid` says how large the images are, where that is known, and `encodes`
        that the picture of a stage before is encoded."""
        pipeline = self._enter(candidate, frame)
        if candidate.references:  # before the denoiser is copied
            self._image_prompts.show(candidate, pipeline.unet, self._shape(frame_of(candidate.model)))
        readings = [self._reading(adapter, candidate.model) for adapter in candidate.adapters]
        # Quantized copies are discarded afterwards: the frame keeps its parameters for the next candidate.
        pipeline, parts = quantized(candidate, frame, pipeline, lends_layers=self._lends_layers)
        if self._lends_layers:
            lend_layers(pipeline.denoiser, pipeline.device)
        size = None if grid is None or pipeline.own is not None else latent_shape(pipeline, grid.width, grid.height)[1:]
        run, refresh = self._executing.executed(candidate, frame, pipeline, number, size,
                                                encodes=encodes or candidate.inpaint is not None)
        run = self._guided(candidate, run)

        def enter() -> Pipeline:
            # Needed even if the denoiser is a quantised copy: the text encoders and the VAE are the frame's, and may hold the
            # weights of another phase or candidate.
            self._enter(candidate, frame)
            refresh()
            return run

        return Branch(treatment=self._treatment(candidate, readings), enter=enter,
                      text_identity=self._text_identity(candidate, frame, readings)), parts

    def _guided(self, candidate: Candidate, pipeline: Pipeline) -> Pipeline:
        """The pipeline with the pictures that it changes, and the candidate's control networks and references beside its
        U-Net."""
        if candidate.inpaint is not None:
            pipeline = replace(pipeline, inpaint=live_inpaint(candidate.inpaint, self._declared_steps(candidate), self.library))
        if not candidate.controls and not candidate.references:
            return pipeline
        shape = self._shape(frame_of(candidate.model))
        return replace(pipeline, controls=self._nets.live(candidate, pipeline, shape, partial(self._merged, candidate, shape)),
                       references=self._image_prompts.live(candidate, pipeline, shape))

    def controls_without_values(self, candidate: Candidate, pipeline: Pipeline) -> tuple[LiveControl, ...]:
        """The control networks that act on a candidate's one model, on the meta device, beside its pipeline there."""
        return self._nets.without_values_beside(candidate, pipeline)

    def references_without_values(self, candidate: Candidate, pipeline: Pipeline) -> tuple[LiveReference, ...]:
        """As `controls_without_values`, the references, which the pipeline's cross attention sees from then on."""
        if not candidate.references:
            return ()
        return self._image_prompts.without_values_beside(candidate, pipeline, self._shape(frame_of(candidate.model)))

    def _merged(self, candidate: Candidate, shape: Pipeline, names: Collection[str]) -> dict[str, torch.Tensor]:
        """Tensors of the candidate's merged U-Net, without its adapters, in float32 on the host."""
        import torch

        plan, shapes = self._plan(candidate.model), shape.unet.state_dict()
        part = plan.parts["unet"]
        merged = {name: torch.empty(shapes[name].shape) for name in names}

        def read(source: Source) -> torch.Tensor:
            return self._load(source.model, source.component)[source.key]

        keys = surveyed(part.keys, read, self._limits)
        write_live([Target(key=name, expression=keys[name], dtype=part.stored[name].dtype, live=live)
                    for name, live in merged.items()], read, plan.precision)
        return merged

    def _text_identity(self, candidate: Candidate, frame: Frame, readings: Sequence[Reading]) -> str:
        """The hash of everything that determines an embedding: the weights in the text encoder, and the treatment of prompts."""
        base = frame_of(candidate.model)
        holds = [sorted(by_key.items()) for part, by_key in sorted(frame.holds.items()) if part.startswith("text_encoder")]
        skipped = self._treatment(candidate, readings).clip_skip
        beside = [] if base.base is None else [base.base]
        return short_hash([base.path, base.config, base.ema, *beside, repr(holds), *(
            plain(adapter) for adapter, reading in zip(candidate.adapters, readings, strict=True)
            if reading.embeddings or any(component.startswith("text_encoder") for component, _ in reading.changes)),
            plain(candidate.emphasis), plain(candidate.aesthetic), *([] if skipped is None else [skipped]),
            *(["quantized", texts] if (texts := plain(quantized_texts(candidate))) else []),
            *(["runtimes", executed] if (executed := runtimes_of_texts(candidate)) else []),
            *(["controls", *(map_identity(control.picture) for control in candidate.controls)] if candidate.controls else []),
            *(["references", *map(identity_of, candidate.references)] if candidate.references else [])])

    def _enter(self, candidate: Candidate, frame: Frame) -> Pipeline:
        """Changes the frame's parameters and layers to the candidate's, where they differ. Raises MaterialiseError for a frame
        that was freed: what was compiled for it, and its layers with that, may compute for another one now."""
        if not any(frame is other for other in self._frames.values()):
            raise MaterialiseError(f"candidate {candidate.name!r} ({spelled(candidate.quantization)}) is no longer live on "
                                   f"{self.device}: its model was freed when one of another architecture or number format was "
                                   "prepared. Prepare the candidate again")
        name = short_hash([candidate.model, candidate.adapters, *(["in the weights", written] if (
            written := [part for part in frame.live if in_the_weights(candidate, part)]) else [])])
        if frame.entered != name:
            frame.entered = ""
            plan = self._plan(candidate.model)
            self._name_as(plan)
            for part in frame.live:
                self._write(candidate, frame, plan.parts[part], plan.precision)
            frame.work(self.working(candidate))
            # Parents are read from mapped files, at every change of phase: no image may be made of what was changed meanwhile.
            self.library.refuse_changed(references_of(candidate))
            frame.entered = name
        return frame.pipeline

    def _coverage(self, candidate: Candidate, frame: Frame, parts: Iterable[QuantizedPart]) -> Iterator[Coverage]:
        """A row for each component of the model, each file, each adapter, and each component's quantization."""
        plan = self._plan(candidate.model)
        for part in frame.live:
            yield Coverage(candidate=candidate.name, stage="merge", component=part, keys=plan.parts[part].coverage,
                           notes=tuple(dict.fromkeys([*plan.parts[part].notes, *frame.pipeline.notes,
                                                      *self._arithmetic(frame, part)])))
        yield from self._beside(candidate)
        yield from self._adapter_rows(candidate, frame)
        yield from self._nets.coverage(candidate)
        yield from self._image_prompts.coverage(candidate, () if self._grid is None else self._grid.prompts)
        yield from (part.coverage(candidate.name) for part in parts)
        for component, graphs in groupby(graphs_of(candidate, frame), lambda graph: graph.component or frame.denoiser):
            yield Coverage(candidate=candidate.name, stage=f"runtime {runtime_of(candidate.runtime, component)}",
                           component=component, keys={}, notes=tuple(graph.note for graph in graphs))

    def _arithmetic(self, frame: Frame, part: str) -> Iterator[str]:
        """What a part beside the denoiser computes in, on a GPU, where tools differ."""
        if self.device != "cpu" and part != frame.denoiser:
            module = frame.pipeline.parts[part]
            dtype = str(next(module.parameters()).dtype).removeprefix("torch.")
            asked = ", as its config asks (force_upcast)" if getattr(module.config, "force_upcast", False) else ""
            yield f"computes in {dtype}{asked if part == 'vae' else ''}"

    def _write(self, candidate: Candidate, frame: Frame, part: PartPlan, precision: str) -> None:
        """Writes one component's weights, merged or plain, into the live parameters where they differ.

        Adapter changes that low-rank layers cannot apply are included here, on the merged weights and without rounding.
        """
        live, holds = frame.live[part.component], frame.holds[part.component]
        keys = surveyed(part.keys, self._reader(live), self._limits)
        targets = {key: (keys[key], part.stored[key].dtype) for key in live}
        if in_the_weights(candidate, part.component):  # what layers would be beside is rounded as it is stored
            beside = {weight_key(path, keys) for number in range(len(candidate.adapters))
                      for of, path in self._on_layers(candidate, number) if of == part.component}
            keys |= {key: as_stored(keys[key], part.stored[key].dtype) for key in beside}
        for number, adapter in enumerate(candidate.adapters):
            changed_by = with_adapter(keys, part.component, adapter, self._reading(adapter, candidate.model),
                                      self._weights(adapter, candidate.model), untouched=self._live(candidate, number))
            keys |= changed_by
            targets |= {key: (expression, "F32") for key, expression in changed_by.items()}
        changed = [key for key in live if holds.get(key) != targets[key]]
        self._refuse_damaged(part.component, [keys[key] for key in changed])
        for key in changed:
            # Unknown until done: after a merge that fails half-way, the old contents must not be assumed.
            holds.pop(key, None)
        write_live([Target(key=key, expression=keys[key], dtype=targets[key][1], live=live[key].tensor) for key in changed],
                   self._reader(live), precision)
        holds.update({key: targets[key] for key in changed})

    def _refuse_damaged(self, component: str, expressions: list[Expression]) -> None:
        """Raises MaterialiseError, naming the keys, if a merge would read a NaN or an infinity."""
        read = [source for expression in expressions if not isinstance(expression, Source) for source in sources(expression)]
        for model in dict.fromkeys(source.model for source in read):
            if (model, component) not in self._damaged:
                tensors = self._load(model, component)
                self._damaged[model, component] = frozenset(key for key, tensor in tensors.items() if not finite(tensor))
        if bad := sorted({f"{s.key!r} of {s.model}" for s in read if s.key in self._damaged[s.model, component]}):
            raise MaterialiseError(f"{component}: {len(bad)} tensors hold NaN or infinite values: {', '.join(bad[:5])}"
                                   f"{' ...' if len(bad) > 5 else ''}. Repair or replace that model")

    def _beside(self, candidate: Candidate) -> list[Coverage]:
        """Rows for the rest of the model files: known extras (EMA, schedule, position ids), and unknown tensors."""
        rows = []
        for name, file in self._plan(candidate.model).files.items():
            keys = {"known_extra": file.known_extras, "unmatched": file.strays}
            rows.append(Coverage(candidate=candidate.name, stage=f"file {name}", component="file",
                                 keys={status: names for status, names in keys.items() if names}))
        plan = self._plan(candidate.model)
        rows += [Coverage(candidate=candidate.name, stage=f"fused adapter {path}", component=component, keys=statuses,
                          notes=plan.adapter_notes.get(path, ()))
                 for path, components in plan.adapters.items()
                 for component, statuses in components.items()]
        return rows

    def _plan(self, model: Model) -> RecipePlan:
        # Not by its hash, which is the same for the default parts and for the U-Net by name.
        key = repr(model)
        if key not in self._plans:
            self._plans[key] = plan_recipe(model, self.library)
        return self._plans[key]

    def working(self, candidate: Candidate) -> list[Working]:
        """The candidate's adapters in order, with the parts that live layers apply."""
        if RUNTIMES[denoiser_runtime(candidate.runtime)].exported:
            return []
        return [self._working(candidate, number) for number in range(len(candidate.adapters))]

    def _working(self, candidate: Candidate, number: int) -> Working:
        """One of the candidate's adapters, with the part that live layers apply."""
        adapter, model = candidate.adapters[number], candidate.model
        if net := self.library.hypernetwork(adapter.path):
            return Working(path=adapter.path, net=net, weights=float(adapter.weight))
        live, plan = self._live(candidate, number), self._layers(adapter, model)
        # A graph is made of layers that nothing wraps.
        factors = {place: of for place, of in plan.factors.items() if not in_the_weights(candidate, place[0])}
        return Working(path=adapter.path, plan=replace(plan, factors=factors), weights={
            place: weight if place in live else 0.0 for place, weight in self._weights(adapter, model).items()})

    def _live(self, candidate: Candidate, number: int) -> frozenset[Places]:
        """The modules in which live layers apply one of the candidate's adapters. A module is excluded if a later adapter's
        change depends on its weight, such as a DoRA: the earlier change must then be in the weight. So are all changes where
        the layers are not executed."""
        return frozenset(place for place in self._on_layers(candidate, number) if not in_the_weights(candidate, place[0]))

    def _on_layers(self, candidate: Candidate, number: int) -> frozenset[Places]:
        """As `_live`, of layers that are executed."""
        later = [self._reading(adapter, candidate.model) for adapter in candidate.adapters[number + 1:]]
        factors = self._layers(candidate.adapters[number], candidate.model).factors
        return frozenset(place for place in factors if all(
            place not in reading.changes or is_additive(reading.changes[place]) for reading in later))

    def _adapter_rows(self, candidate: Candidate, frame: Frame) -> Iterator[Coverage]:
        """Rows with the status of every tensor of every adapter's file."""
        paths = [adapter.path for adapter in candidate.adapters]
        for adapter in candidate.adapters:
            plan, recipe = self._layers(adapter, candidate.model), self._plan(candidate.model)
            foreign = () if self.library.hypernetwork(adapter.path) else foreign_prediction(
                self._reading(adapter, candidate.model), kind_of_result(recipe), self.family(candidate))
            # One file can be active in two ranges of steps.
            span = f" from {adapter.start:g} to {adapter.end:g}" if paths.count(adapter.path) > 1 else ""
            for component, keys in frame.statuses(adapter.path, plan).items():
                yield Coverage(candidate=candidate.name, stage=f"adapter {adapter.path}{span}", component=component, keys=keys,
                               notes=(*said_of(adapter), f"format {plan.format}", *plan.notes, *foreign,
                                      *(f"{key}: {plan.reasons[key]}" for key in keys.get("refused", ()))))

    def _frames_of(self, candidates: Sequence[Candidate]) -> dict[str, Frame]:
        """The live pipelines that the models of these candidates need together, by the model's declaration. On a GPU all others
        are freed first."""
        places = self._places(candidates)
        if self.device != "cpu" and self._frames.keys() - places.values():
            self._let_go(keeping=places.values())
        return {model: self._frame(place) for model, place in places.items()}

    def _frame(self, place: _Place) -> Frame:
        """The live pipeline of an architecture in a number format."""
        if place not in self._frames:
            base = place.base
            file, plan = self.library.open(base), self._plan(base)
            self._name_as(plan)
            started = time.perf_counter()
            pipeline = build_pipeline(file, place.config, self.device, homes_of(
                file, self.device, place.mode, quantized=place.quantized, low_memory=self.low_memory))
            if "tiled_decoding" in self.low_memory:
                tile(pipeline.vae)
            self._loading[place] = time.perf_counter() - started
            cast, executed = QuantizeReport(quantized=(), kept=()), dict[str, Any]()
            if not place.quantized:  # weights to be quantized are not run, and stay as they are
                cast = live_in(pipeline.denoiser, LIVE_DTYPES[place.mode])
                pipeline, executed = self._executing.copies.taken_up(pipeline, place.mode)
            live = {part: slots(module, file.components[part]) for part, module in pipeline.parts.items()
                    if part in file.components}
            expressions = {part: {key: (plan.parts[part].keys[key], plan.parts[part].stored[key].dtype) for key in keys}
                           for part, keys in live.items()}
            self._frames[place] = Frame(pipeline=pipeline, live=live, holds=expressions, cast=cast, executed=executed)
        return self._frames[place]

    def _let_go(self, keeping: Collection[_Place]) -> None:
        """Frees the live pipelines but these, and what was compiled for any."""
        for place in [place for place in self._frames if place not in keeping]:
            self._executing.copies.keep(self._frames.pop(place), place.mode)
        free_memory(self.device)

    def _places(self, candidates: Sequence[Candidate]) -> dict[str, _Place]:
        """Where the models of these candidates are live, by their declaration: those that share an architecture in slots of their
        own."""
        places, taken = dict[str, _Place](), dict[_Place, int]()
        for single in (single for candidate in candidates for single in self.singles(candidate)):
            if (name := repr(single.model)) not in places:
                place = self._place(single)
                places[name] = replace(place, slot=taken.get(place, 0))
                taken[place] = taken.get(place, 0) + 1
        return places

    def _place(self, candidate: Candidate) -> _Place:
        base, mode = frame_of(candidate.model), of_denoiser(candidate.quantization)
        return _Place(path=self.library.path(base.path), config=self._configs(base), completed=base.base is not None,
                      ema=base.ema, mode=str(mode) if only_casts(mode) else NOT_QUANTIZED,
                      quantized=made_on_host(mode) and self.device != "cpu", base=base)

    @property
    def _lends_layers(self) -> bool:
        return self.device != "cpu" and "denoiser_on_host" in self.low_memory

    def _reading(self, adapter: Adapter, model: Model) -> Reading:
        return self.library.adapter(adapter.path, self.library.open(frame_of(model)))

    def _weights(self, adapter: Adapter, model: Model) -> dict[tuple[str, str], float]:
        """The weight of every module that the adapter changes."""
        return weights_of(adapter, self._reading(adapter, model), self.library.open(frame_of(model)))

    def _layers(self, adapter: Adapter, model: Model) -> AdapterPlan:
        """The part of an adapter that live layers apply; the rest is written into the weights."""
        reading = self._reading(adapter, model)
        place = (adapter.path, name_of(frame_of(model)))
        if place not in self._layered:
            self._layered[place] = live_plan(reading, shapes_of(self.library.open(frame_of(model))))
        return self._layered[place]

    def _reader(self, live: Mapping[str, Slot]) -> Callable[[Source], torch.Tensor]:
        """Reads a parent's tensor on the device of these live tensors, in its stored dtype. Parents stay on the host: each tensor
        is sent when it is merged."""
        device = next(iter(live.values())).tensor.device if live else None

        def read(source: Source) -> torch.Tensor:
            tensor = self._load(source.model, source.component)[source.key]
            return tensor if device is None else self._uploads.send(tensor, device)

        return read

    def _name_as(self, plan: RecipePlan) -> None:
        """Takes the names that a recipe gives to the tensors of its models. They depend on the models beside each other, so what
        is known under the names of an earlier recipe is forgotten where they differ."""
        for model, file in plan.files.items():
            other, self._opened[model] = self._opened.get(model, file), file
            for part in (other.components.keys() | file.components.keys()) if other is not file else ():
                if other.components.get(part) == file.components.get(part):
                    continue
                self._tensors.pop((model, part), None)
                self._damaged.pop((model, part), None)
                self._limits.clear()
                for frame in self._frames.values():
                    holds = frame.holds.get(part, {})
                    for key in [key for key, (expression, _) in holds.items() if model in {s.model for s in sources(expression)}]:
                        del holds[key]
                        frame.entered = ""

    def _load(self, model: str, part: str) -> dict[str, torch.Tensor]:
        """A parent's tensors as stored, most of them views of the mapped file."""
        if (model, part) not in self._tensors:
            self._tensors[model, part] = dict(self._opened[model].tensors(part))
        return self._tensors[model, part]
