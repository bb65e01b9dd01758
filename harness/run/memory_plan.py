"""What a candidate needs of a device's memory, by part and stage, counted on tensors without values before anything is loaded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from math import lcm, prod
from pathlib import Path
from typing import Any, Final

from harness.declare import Candidate, Grid, Prompt, Suite
from harness.declare.component_runtimes import spelled_runtime
from harness.declare.effective_grid import picture_size, run_grids
from harness.declare.grid import LOW_MEMORY
from harness.declare.mixed import spelled
from harness.declare.prompt_texts import ROLES, all_texts, change_along_steps
from harness.declare.stages import stage_name
from harness.declare.syntax import PLAIN as PLAIN_SYNTAX
from harness.declare.syntax import Text, plain_text
from harness.materialise import Workbench
from harness.materialise.live_stages import PIXELS
from harness.materialise.shape_model import CONTROLS, IMAGE_ENCODERS, Beside, ShapeModel, shape_key, shape_model
from harness.metrics import METRICS
from harness.metrics.clip_reference import weights_of
from harness.quantize import stored_bytes
from harness.records import Cell
from harness.reference.live import NO_PICTURE
from harness.sampling import DECODE_BATCH, Conditions, Denoising, TextState, alone
from harness.sampling.at_once import workers_of
from harness.sampling.denoise import called, decoded
from harness.sampling.hand_over import encoded_levels
from harness.text import PLAIN
from harness.text.tokens import in_chunks
from harness.weights import latent_shape
from harness.weights.diffusers_call import t5_positions
from harness.weights.pipeline import LiveInpaint
from harness.weights.placing import tile

RESERVED_BYTES: Final = round(0.7 * 2 ** 30)
"""What a CUDA context, workspaces of cuDNN and cuBLAS, and pieces of the allocator's cache that fit nothing take: an estimate."""
LARGEST_BATCH: Final = 64
LARGEST_ON_CPU: Final = 16
"""Larger batches make no more images a second there."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes at one batch size. `weights` are resident, by component; `texts`, `step` and `decode` are the peaks of embedding
    texts (with one encoder at a time, and no denoiser), of a denoising step and of decoding, each with the weights
    that are on the device then; `encode` is that of encoding the pictures that a stage begins from, 0 where none are."""

    weights: Mapping[str, int]
    texts: int
    step: int
    decode: int
    encode: int = 0

    @property
    def peak(self) -> int:
        """The most that tensors take at any time."""
        return max(self.texts, self.step, self.decode, self.encode)

    @property
    def in_all(self) -> int:
        """The peak and what is reserved."""
        return self.peak + RESERVED_BYTES


def first_measures(enough: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...] | None:
    """The fewest measures for short memory, in the order in which they are worth taking, that are enough; None if all are not."""
    measures = tuple(LOW_MEMORY)
    return next((measures[:count] for count in range(len(measures) + 1) if enough(measures[:count])), None)


class Footprint:
    """The memory of one candidate on a device, for any batch size and measures for short memory. Activations are counted when
    they are first asked for."""

    def __init__(self, model: ShapeModel, grid: Grid, device: str, *, scorer: int = 0, encodes: bool = False) -> None:
        """`scorer` are the bytes of a CLIP model that lies on the device meanwhile. It `encodes` if its batches begin from
        pictures."""
        self._encodes = encodes
        self._model, self._grid, self._scorer = model, grid, scorer
        self._pipeline, self._on_gpu = model.pipeline, device.partition(":")[0] != "cpu"
        self._device = device
        self._encoders = {part: size for part, size in model.weights.items() if part.startswith("text_encoder")}
        self._denoiser = "unet" if "unet" in self._pipeline.parts else "transformer"
        conditions = conditions_without_values(self._pipeline)
        counts = [{text: self._chunks(text) for text in all_texts(grid.prompts, grid.steps, (role,))} for role in ROLES]
        self._embedded = sum(sum(of.values()) for of in counts) * sum(
            t.nbytes for t in (conditions.states, conditions.pooled) if t is not None)
        most = max((lcm(*pair) for pair in product(*({*of.values()} for of in counts))), default=1)
        longest = replace(conditions, states=conditions.states.repeat(most, 1))
        self._text = TextState(positive={plain_text(""): longest}, negative={plain_text(""): longest},
                               pictures={**maps_without_values(self._pipeline, grid), **tokens_without_values(self._pipeline)})
        # One picture of each prompt, and that of the negative branch.
        self._embedded += sum(tokens.nbytes for (_, prompt), tokens in tokens_without_values(self._pipeline).items()
                              for _ in (grid.prompts if prompt else [prompt]))
        # Not methods with a cache, which would keep every footprint alive.
        self._step_of, self._decoding_of, self._reading_of = cache(self._step), cache(self._decoding), cache(self._reading)
        self._looking_of, self._encoding_of = cache(self._looking), cache(self._encoding)
        self._others = [Footprint(other, grid, device) for other in model.others]

    def _chunks(self, text: Text) -> int:
        """In how many chunks a text is read, by the tokenizers alone."""
        encoders = () if self._pipeline.called is not None else self._pipeline.encoders
        return max((len(in_chunks(encoder, text, PLAIN)) for encoder in encoders), default=1)

    def need(self, batch_size: int, low_memory: Collection[str] = ()) -> Need:
        """The bytes for batches of this size with these measures."""
        weights = self.weights(low_memory)
        lends, vae_on_host = self._denoiser not in weights, "vae" not in weights
        resident = sum(weights.values())
        workers = 1 if self._model.compiled else workers_of(
            self._pipeline, replace(self._grid, batch_size=batch_size), self._device)
        layer = self._largest_layer() if lends else 0
        embedded = self._embedded + sum(other._embedded for other in self._others)
        lent_vae = self._model.weights["vae"] if vae_on_host else 0
        texts = max(max(one._texts(one._encoders, lends=lends) - one._embedded, one._looking_of())
                    for one in (self, *self._others))
        return Need(weights=weights, texts=resident + embedded + texts,
                    step=resident + embedded + layer + workers * self._step_of_any(batch_size),
                    decode=resident + embedded + lent_vae + workers * self._by_parts(
                        self._decoding_of, batch_size, tiled="tiled_decoding" in low_memory),
                    encode=self._encoded and resident + embedded + lent_vae + workers * self._by_parts(
                        self._encoding_of, batch_size if self._encodes else 1, tiled="tiled_decoding" in low_memory))

    @property
    def beside(self) -> Beside:
        """What lies beside the models of the candidate: see ShapeModel."""
        return {place: size for one in (*self._others, self) for place, size in one._model.beside.items()}

    def _beside(self, low_memory: Collection[str], without: Collection[tuple[str, str]]) -> dict[str, int]:
        """The bytes of what is resident beside the model, by its name. Image encoders rest on the host, and control networks do
        where the denoiser does."""
        sizes: dict[str, int] = {}
        resting = (IMAGE_ENCODERS, CONTROLS) if "denoiser_on_host" in low_memory else (IMAGE_ENCODERS,)
        for place, size in self._model.beside.items():
            if place not in without and not (self._on_gpu and place[0] in resting):
                sizes[place[0]] = sizes.get(place[0], 0) + size
        return sizes

    def weights(self, low_memory: Collection[str] = (), without: Collection[tuple[str, str]] = ()) -> dict[str, int]:
        """The bytes of what is resident with these measures, by component; `without` what counts elsewhere of what lies beside
        the model."""
        weights = {} if self._on_gpu else dict(self._encoders)
        if not (self._on_gpu and "denoiser_on_host" in low_memory):
            weights[self._denoiser] = self._model.weights[self._denoiser]
            weights |= self._model.copies
        if not (self._on_gpu and "vae_on_host" in low_memory):
            weights["vae"] = self._model.weights["vae"]
        known = {*without}
        weights |= self._beside(low_memory, known)
        for number, other in enumerate(self._others, 2):
            known |= {*self._model.beside}
            weights |= {f"{part} of model {number}": size for part, size in other.weights(low_memory, known).items()}
        if self._scorer:
            weights["CLIP"] = self._scorer
        return weights

    def largest_batch(self, memory: int, low_memory: Collection[str] = (), most: int | None = None) -> int:
        """The largest of 1, 2, 4 ... `most` that fits into `memory` bytes; 0 if none does. By default, `most` is what a fitted
        batch size can be on the device."""
        most = (LARGEST_BATCH if self._on_gpu else LARGEST_ON_CPU) if most is None else most
        sizes = [1 << power for power in range(most.bit_length())]

        def too_large(size: int) -> bool:
            return self.need(size, low_memory).in_all > memory

        # Each size costs a pass through the model, so not all of them are counted.
        if not too_large(sizes[-1]):
            return sizes[-1]
        fitting = bisect_left(sizes[:-1], True, key=too_large)
        return sizes[fitting - 1] if fitting else 0

    def measures(self, memory: int, batch_size: int) -> tuple[str, ...] | None:
        """The first of the measures for short memory, in their order, with which batches of this size fit; None if none
        do."""
        return first_measures(lambda measures: self.need(batch_size, measures).in_all <= memory)

    def _texts(self, encoders: Mapping[str, int], *, lends: bool) -> int:
        """What embedding texts takes beside the resident weights, at least: the denoiser can go to the host, and
        encoders can come one by one."""
        reading = max(map(self._reading_of, encoders), default=0)
        if not self._on_gpu:
            return self._embedded + reading
        leaving = 0 if lends else self._model.weights[self._denoiser]
        return self._embedded + max(encoders.values(), default=0) + reading - leaving

    def _reading(self, component: str) -> int:
        """Activations of embedding one text."""
        import torch

        encoder = next(e for e in self._pipeline.encoders if e.component == component)
        length = encoder.positions or int(encoder.module.config.max_position_embeddings)
        with torch.inference_mode(), self._counting() as counts:
            encoder.module(torch.zeros((1, length), dtype=torch.int64, device="meta"), output_hidden_states=True)
        return int(counts.peak)

    def _looking(self) -> int:
        """The most that embedding a picture takes beside the resident weights, one at a time, with its encoder on the device."""
        import torch

        most = 0
        for reference in self._pipeline.references:
            with torch.inference_mode(), self._counting(*reference.modules()) as counts:
                reference.tokens(None)
            lent = sum(map(stored_bytes, reference.modules())) if self._on_gpu else 0
            most = max(most, lent + counts.peak)
        return most

    def _step_of_any(self, batch_size: int) -> int:
        """The most that a step takes, whichever model predicts in it."""
        unlike = [other for other in self._others if str(other._pipeline.denoiser.config) != str(self._pipeline.denoiser.config)]
        return max(one._step_of(batch_size) for one in (self, *unlike))

    def _step(self, batch_size: int) -> int:
        """Activations of one step of a batch, its noise and inputs included."""
        grid, cells = self._of_one(), self._cells(batch_size)
        with self._counting() as counts:
            if self._pipeline.called is not None:
                called(self._pipeline, grid, cells, self._text)
            else:
                # Models that predict together do so one after the other, as this one as often: what remains is their predictions.
                pipeline = inpainting_without_values(self._pipeline, grid)
                Denoising(pipeline, grid, cells).advance(alone(pipeline, self._text) * self._model.together, 1)
        return int(counts.peak)

    @property
    def _encoded(self) -> bool:
        """Whether pictures are encoded: those of the stage before, batch by batch, or those that an inpainting changes, one by
        one."""
        return self._encodes or self._pipeline.inpaint is not None

    def _by_parts(self, of: Callable[[int, bool], int], batch_size: int, *, tiled: bool) -> int:
        """What the VAE takes for any batch: one part more takes always the same more."""
        at_once = self._at_once
        if batch_size <= 2 * at_once:
            return of(batch_size, tiled)
        one, two = of(at_once, tiled), of(2 * at_once, tiled)
        return two + round((two - one) * (batch_size / at_once - 2))

    @property
    def _at_once(self) -> int:
        return 1 if self._on_gpu else DECODE_BATCH

    def _decoding(self, batch_size: int, tiled: bool) -> int:
        """Activations of decoding a batch, with its latents and pixels."""
        import torch

        with self._counting_vae(tiled=tiled) as counts:
            latents = torch.empty((batch_size, *latent_shape(self._pipeline, self._grid.width, self._grid.height)), device="meta")
            decoded(self._pipeline, latents, self._at_once)
        return int(counts.peak)

    def _encoding(self, batch_size: int, tiled: bool) -> int:
        """Activations of encoding a batch, with its pixels and latents."""
        import torch

        with self._counting_vae(tiled=tiled) as counts:
            pixels = torch.empty((batch_size, 3, self._grid.height, self._grid.width), dtype=torch.uint8, device="meta")
            encoded_levels(self._pipeline, pixels, self._at_once)
        return int(counts.peak)

    @contextmanager
    def _counting_vae(self, *, tiled: bool) -> Iterator[Any]:
        import torch

        vae = self._pipeline.vae
        before = vae.use_tiling
        if tiled:
            tile(vae)
        try:
            with torch.inference_mode(), self._counting() as counts:
                yield counts
        finally:
            vae.use_tiling = before  # a saver may tile by itself

    def _counting(self, *modules: Any) -> Any:
        from harness.probes.living_bytes import LivingBytes

        return LivingBytes(*self._pipeline.parts.values(), *modules)

    def _largest_layer(self) -> int:
        networks = [self._pipeline.denoiser, *(control.network for control in self._pipeline.controls)]
        return max(stored_bytes(layer) - sum(map(stored_bytes, layer.children()))
                   for network in networks for layer in network.modules())

    def _of_one(self) -> Grid:
        """The grid with one text, guided from its first step, because later ones take the most. diffusers' own pipelines run all
        steps in one call, so it has one for them."""
        steps = 1 if self._pipeline.called is not None else self._grid.steps
        knobs = self._grid.sampling and replace(self._grid.sampling, guidance_start=None, guidance_end=None)
        return replace(self._grid, prompts=(Prompt(id="p", text=""),), negative="", syntax=PLAIN_SYNTAX, steps=steps,
                       sampling=knobs)

    def _cells(self, batch_size: int) -> tuple[Cell, ...]:
        return (Cell(prompt="p", seed=0, guidance=max(self._grid.guidance_scales)),) * batch_size


class StagedFootprint(Footprint):
    """The memory of a candidate of several stages: the weights of all are resident together, and each stage takes what it needs
    beside them."""

    def __init__(self, stages: Sequence[Footprint], models: Sequence[str]) -> None:
        """`models` tell the models of the stages apart: equal ones share their weights."""
        self._stages, self._models, self._on_gpu = stages, models, stages[0]._on_gpu

    def need(self, batch_size: int, low_memory: Collection[str] = ()) -> Need:
        """As of one stage, with the most that any of them takes beside the weights of all."""
        weights = self.weights(low_memory)
        resident, needs = sum(weights.values()), [stage.need(batch_size, low_memory) for stage in self._stages]

        def most(of: Callable[[Need], int]) -> int:
            return resident + max(of(need) - sum(need.weights.values()) for need in needs)

        return Need(weights=weights, texts=most(lambda need: need.texts), step=most(lambda need: need.step),
                    decode=most(lambda need: need.decode), encode=most(lambda need: need.encode) if any(
                        need.encode for need in needs) else 0)

    def weights(self, low_memory: Collection[str] = (), without: Collection[tuple[str, str]] = ()) -> dict[str, int]:
        """The bytes of what is resident, by stage and component. A stage of an earlier one's model has what guides it alone."""
        first = {model: number for number, model in reversed([*enumerate(self._models)])}
        sizes: dict[str, int] = {}
        known: set[tuple[str, str]] = set(without)
        for number, stage in enumerate(self._stages):
            own = stage.weights(low_memory, known) if first[self._models[number]] == number else (
                stage._beside(low_memory, known))
            sizes |= {name if not number else f"{stage_name(number)} {name}": size for name, size in own.items()}
            known |= {*stage.beside}
        return sizes


def tokens_without_values(pipeline: Any) -> dict[tuple[str, str], Any]:
    """The image tokens that the references of the one prompt of a step give, and those of the negative branch."""
    import torch

    with torch.inference_mode():
        return {(reference.identity, prompt): reference.tokens(None) for reference in pipeline.references
                for prompt in ("p", NO_PICTURE)}


def maps_without_values(pipeline: Any, grid: Grid) -> dict[tuple[str, str], Any]:
    """The control maps of the one prompt of a step that is counted."""
    import torch

    return {(control.picture, "p"): torch.empty((3, grid.height, grid.width), dtype=torch.uint8, device="meta")
            for control in pipeline.controls}


def inpainting_without_values(pipeline: Any, grid: Grid) -> Any:
    """The pipeline with an empty picture to change, if it changes any."""
    import numpy as np

    if pipeline.inpaint is None:
        return pipeline
    size = grid.height, grid.width
    empty = np.zeros((*size, 3), dtype=np.uint8), np.ones(size, dtype=np.bool_)
    return replace(pipeline, inpaint=LiveInpaint(read=lambda _: empty, of_steps=grid.steps))


def conditions_without_values(pipeline: Any) -> Conditions:
    """The embedding of one text, as the pipeline's denoiser takes it, on the meta device."""
    import torch

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta")

    config = pipeline.denoiser.config
    if "transformer" in pipeline.parts:
        tokens = t5_positions(pipeline.family, pipeline.denoiser)
        if pipeline.family == "sd3":
            tokens += int(pipeline.text_encoder.config.max_position_embeddings)
        return Conditions(states=empty(tokens, int(config.joint_attention_dim)), pooled=empty(int(config.pooled_projection_dim)))
    pooled = next((e for e in pipeline.encoders if e.pooled), None)
    positions = pipeline.encoders[0].module.config.max_position_embeddings
    return Conditions(states=empty(int(positions), int(config.cross_attention_dim)),
                      pooled=None if pooled is None else empty(int(pooled.module.config.projection_dim)))


@dataclass(kw_only=True)
class Planned:
    """Candidates that need the same memory: their names, and their footprint or why there is none; `size` is that of their images
    where it is not the grid's."""

    footprint: Footprint | str
    number_format: str
    size: str = ""
    names: list[str] = field(default_factory=list)


def planned(suite: Suite, candidates: Sequence[Candidate], bench: Workbench) -> list[Planned]:
    """The candidates by what they need, in the suite's order. A candidate whose files cannot be used has the error."""
    rows: dict[object, Planned] = {}
    known: dict[object, object] = {}
    scorer = clip_bytes(suite, bench)
    for candidate in candidates:
        key: object
        try:
            stages, grids = bench.stages(_largest(bench.in_its_format(candidate), bench)), run_grids(suite, candidate)
            sampled = tuple(map(_sampled, grids))
            models = [repr(stage.model) for stage in stages]
            together = tuple(map(models.index, models))  # stages of one model share its weights
            begun = (False, *(way == PIXELS for way in bench.handed_over(bench.in_its_format(candidate), grids)))
            if (files := (tuple(shape_key(stage, bench) for stage in stages), sampled, together, begun)) not in known:
                bench.inspect(candidate)
                shapes = [shape_model(stage, bench) for stage in stages]
                number_format = spelled(bench.in_its_format(candidate).quantization)
                # Other files of one architecture take the same.
                known[files] = key = (number_format, spelled_runtime(candidate.runtime), tuple(shape.key for shape in shapes),
                                      sampled, together, begun)
                pictures = picture_size(suite, candidate)
                size = "" if pictures == (suite.grid.width, suite.grid.height) else f"{pictures[0]} x {pictures[1]}"
                parts = [Footprint(shape, grid, bench.device, scorer=0 if number else scorer, encodes=encodes)
                         for number, (shape, grid, encodes) in enumerate(zip(shapes, grids, begun, strict=True))]
                rows.setdefault(key, Planned(footprint=StagedFootprint(parts, models) if len(parts) > 1 else parts[0],
                                             number_format=number_format, size=size))
            key = known[files]
        except (ValueError, OSError) as error:
            key = str(error)
            rows.setdefault(key, Planned(footprint=str(error), number_format=""))
        rows[key].names.append(candidate.name)
    return list(rows.values())


def _largest(candidate: Candidate, bench: Workbench) -> Candidate:
    """The candidate with those adapters that prompts bring whose files are the largest: only one group is live at a time."""
    return max(bench.groups(candidate), key=lambda group: sum(
        bench.library.path(adapter.path).stat().st_size for adapter in group.adapters)).candidate


def _sampled(grid: Grid) -> tuple[object, ...]:
    """What of an effective grid decides the memory of one stage."""
    # Texts that change along the steps are as many as the steps see.
    steps = grid.steps if change_along_steps(grid.prompts) else 0
    return (grid.width, grid.height, max(grid.guidance_scales) > 1, grid.sampler, steps)


def clip_bytes(suite: Suite, bench: Workbench) -> int:
    """The bytes of the suite's CLIP model in float32; 0 if no metric needs it, or it cannot be read, which is said elsewhere."""
    from harness.weights.safetensors_header import read_header

    if not any(name in METRICS and METRICS[name].needs_clip for name in suite.metrics):
        return 0
    try:
        path: Path = bench.library.path(weights_of(suite.clip))
        if path.suffix != ".safetensors":
            return path.stat().st_size
        return sum(4 * prod(tensor.shape) for tensor in read_header(path)[0].values())
    except (ValueError, OSError):
        return 0
