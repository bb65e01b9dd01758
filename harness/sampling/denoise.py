"""The denoising loop of one batch, with classifier-free guidance; it can stop at a step and continue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from harness.control.residuals import control_inputs, feature_inputs, picture_features
from harness.declare import Grid, Sampling
from harness.declare.grid import guidance_problem
from harness.declare.prompt_texts import NEGATIVE, POSITIVE, ROLES, text_at
from harness.declare.syntax import Text
from harness.records import Cell
from harness.reference.live import NO_PICTURE, reference_inputs
from harness.samplers import (
    SAMPLERS,
    begin_at,
    build_scheduler,
    evaluations,
    first_evaluation,
    guided_steps,
    history_options,
    noised,
    set_steps,
    step_options,
)
from harness.sampling.arriving import Arriving, Images, SamplingError
from harness.sampling.branches import LiveBranch
from harness.sampling.inpainting import kept_of
from harness.sampling.noise import generators, initial_noise
from harness.sampling.predictions import converted, prediction_of, signal_and_noise
from harness.sampling.text import Conditions, TextState
from harness.sampling.text_lengths import common_length, repeated
from harness.savers.step_caches import CachedSteps, cached
from harness.savers.transformer_caches import begin_anew
from harness.weights import Call, added_conditions, call_pipeline, unscaled
from harness.weights.denoiser_streams import in_turn
from harness.weights.pipeline import reads_mask
from harness.weights.placing import lent
from harness.weights.upload import sent

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline
    from harness.weights.pipeline import LiveControl

DECODE_BATCH: Final = 8
"""Latents decoded at once on a CPU. On a GPU they are decoded one by one: the decoder's activations would be the peak of memory,
3 GiB for an image of 1024 x 1024, and one image keeps the GPU busy."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a later stage begins from: the latents of its pictures, the number of the stage, which counts from 1 for the second,
    and the steps of its schedule, of which only the last are run."""

    latents: torch.Tensor
    stage: int
    of_steps: int
    pictures: Images | None = None
    """The pictures themselves, in the stage's size, where a control follows them."""


SHOWN: Final = "cross_attention_kwargs"
"""The U-Net's input by which its attention is given pictures beside the text."""


class Denoising:
    """A batch of cells in progress: `latents` (n, channels, h, w) in float32 and the next step.

    Every cell has its own guidance scale, of at least 1. Either all cells of a batch have guidance 1, where the negative branch
    cancels and is not computed, or none has. With a `start`, or where the pipeline changes pictures, the grid's steps are those
    that are run, and shares are of these.
    """

    def __init__(self, pipeline: Pipeline, grid: Grid, cells: tuple[Cell, ...], start: Start | None = None) -> None:
        import torch

        if problem := next(filter(None, (guidance_problem(cell.guidance) for cell in cells)), ""):
            raise SamplingError(problem)
        self.grid, self.cells, self.step = grid, cells, 0
        self._knobs = grid.sampling or Sampling()
        schedule, self._prediction = self._knobs.schedule or "", prediction_of(pipeline.scheduler_config)
        self._scheduler = build_scheduler(grid.sampler, pipeline.scheduler_config, schedule=schedule, eta=self._knobs.eta)
        # The scheduler looks its timesteps up on the host, as some look up their tables with them, and would wait for the device.
        inpaint = pipeline.inpaint if start is None else None
        steps = start.of_steps if start is not None else inpaint.of_steps if inpaint is not None else grid.steps
        set_steps(self._scheduler, grid.sampler, steps, schedule)
        self._in_part = start is not None or inpaint is not None
        self._first = begin_at(self._scheduler, grid.sampler, steps, steps - grid.steps) if self._in_part else 0
        self._timesteps = sent(self._scheduler.timesteps, pipeline.device)
        drawing = generators(cells, 0 if start is None else start.stage)
        with torch.inference_mode():
            noise = initial_noise(pipeline, grid, cells, drawing)
            self._kept = None if inpaint is None else kept_of(pipeline, inpaint, grid, cells, noise)
            begun = start.latents if start is not None else None if self._kept is None or steps == grid.steps else (
                self._kept.latents)
            self.latents: torch.Tensor = (noise * self._scheduler.init_noise_sigma if begun is None else
                                          noised(self._scheduler, self._first, begun, noise))
        # The noise that a sampler adds at its steps is drawn by each cell's own generator.
        self._options = step_options(grid.sampler, self._knobs.eta, drawing)
        self._control_maps: dict[str, torch.Tensor] = {}
        self._features: dict[tuple[Any, str], list[torch.Tensor]] = {}
        self._cached: dict[tuple[int, int], CachedSteps] = {}
        self._shared_made = False
        self._begun_from = None if start is None else start.pictures
        self._sends = SAMPLERS[grid.sampler].sends and pipeline.device.type == "cuda"
        self._guided = guided_steps(self._knobs, grid.steps) if cells[0].guidance != 1 else range(0)
        self._guidance = sent(torch.tensor([c.guidance for c in cells]), pipeline.device).view(-1, 1, 1, 1)

    def advance(self, branches: Sequence[LiveBranch], until: int | None = None,
                around: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Runs the steps up to `until`, or to the end, each within `around`. A step's prediction is the weighted sum of the
        branches' predictions."""
        import torch

        with torch.inference_mode():
            inputs: list[dict[str, Any]] = []
            self._cached.clear()
            self._shared_made = False
            before: tuple[bool, tuple[Text, ...]] | None = None
            for step in range(self.step, self.grid.steps if until is None else until):
                guided = step in self._guided
                texts = self._texts(step, guided=guided)
                if before is not None and before[0] != guided:
                    self._cached.clear()  # the negative half comes or goes
                if before != (before := (guided, texts)):
                    inputs = [self._conditions(branch, texts, guided=guided) for branch in branches]
                first, end = (self._first + first_evaluation(self.grid.sampler, self.grid.steps, at) for at in (step, step + 1))
                with around():
                    for part, evaluation in enumerate(range(first, end)):
                        self._evaluate(branches, inputs, evaluation, part, guided=guided)
                    self.step += 1
        # Many batches wait between phases, and features are as large as some dozens of latents.
        self._features.clear()
        self._cached.clear()

    def _evaluate(self, branches: Sequence[LiveBranch], inputs: Sequence[dict[str, Any]], evaluation: int, part: int, *,
                  guided: bool) -> None:
        """Runs every denoiser once, and lets the sampler move the latents. `part` counts the evaluations of one step."""
        from harness.weights.sending import Sending

        timestep = self._scheduler.timesteps[evaluation]
        scaled = self._scheduler.scale_model_input(self.latents, timestep)

        def predicted(place: int) -> torch.Tensor:
            with cached(self._steps_of(place, part, branches[place].pipeline)):
                return self._predicted(branches[place], scaled, evaluation, inputs[place], guided=guided)

        calls = [partial(predicted, place) for place in range(len(branches))]
        # The first evaluation makes what later ones find: control maps, and the features of adapters.
        streams, self._shared_made = branches[0].streams if self._shared_made else None, True
        shape = *self.latents.shape, int(guided), *inputs[0]["encoder_hidden_states"].shape
        outputs = in_turn(calls) if streams is None else streams.predictions(calls, shape, self.latents.device)
        for place, branch in enumerate(branches):
            if (predicts := prediction_of(branch.pipeline.scheduler_config)) != self._prediction:
                outputs[place] = converted(outputs[place], predicts, self._prediction, scaled,
                                           *signal_and_noise(self._scheduler, timestep))
        output = averaged(outputs, [branch.weight for branch in branches])
        with Sending() if self._sends else nullcontext():
            options = {**self._options, **(history_options(self.grid.sampler, self.step) if self._in_part else {})}
            self.latents = self._scheduler.step(output, timestep, self.latents, **options).prev_sample
        if self._kept is not None and not reads_mask(branches[0].pipeline):
            self.latents = self._kept.put_into(self.latents, self._scheduler, evaluation + 1)

    def _steps_of(self, place: int, part: int, pipeline: Pipeline) -> CachedSteps | None:
        """What a denoiser with a step cache keeps of this batch: each evaluation of a step goes on with the same one of the step
        before. None without a cache."""
        cache = pipeline.step_cache
        return None if cache is None else self._cached.setdefault((place, part), CachedSteps(interval=cache.interval))

    def _predicted(self, branch: LiveBranch, scaled: torch.Tensor, evaluation: int, given: dict[str, Any], *,
                   guided: bool) -> torch.Tensor:
        """One denoiser's guided prediction in float32."""
        import torch

        pipeline, timestep = branch.pipeline, self._timesteps[evaluation]
        scaled = scaled.to(pipeline.dtype)
        beside = self._kept.beside(scaled.dtype) if self._kept is not None and reads_mask(pipeline) else None
        if guided:
            scaled = torch.cat([scaled, scaled])
            beside = None if beside is None else torch.cat([beside, beside])
        added = control_inputs(pipeline.controls, self._maps(branch), scaled, timestep, given, guided=guided)
        added |= feature_inputs([(control.weight, self._features_of(control)) for control in pipeline.controls
                                 if control.t2i and control.weight != 0], guided=guided)
        read = scaled if beside is None else torch.cat([scaled, beside], dim=1)
        output: torch.Tensor = pipeline.unet(read, timestep, **given, **added).sample.float()
        return guided_output(output, self._guidance, self._knobs.guidance_rescale or 0.0) if guided else output

    def _maps(self, branch: LiveBranch) -> dict[str, torch.Tensor]:
        """The control maps of the cells (n, 3, h, w) from 0 to 1, by the control's `picture`."""
        import torch

        dtype = branch.pipeline.dtype
        for control in branch.pipeline.controls:
            if control.weight != 0 and control.picture not in self._control_maps:
                drawn = torch.stack([self._map(control, branch.text, place) for place in range(len(self.cells))])
                self._control_maps[control.picture] = (sent(drawn, branch.pipeline.device).float() / 255).to(dtype)
        return self._control_maps

    def _features_of(self, control: LiveControl) -> list[torch.Tensor]:
        """A T2I-Adapter's features of the cells' maps, each (n, c, h, w). Each picture is run once and alone, so that its
        features never depend on its neighbours, and they are kept for all steps of a phase."""
        import torch

        if (place := (control.network, control.picture)) not in self._features:
            maps = self._control_maps[control.picture]
            pictures = [number if control.drawn else cell.prompt for number, cell in enumerate(self.cells)]
            by_picture = {picture: picture_features(control.network, maps[pictures.index(picture)])
                          for picture in dict.fromkeys(pictures)}
            self._features[place] = [torch.cat(parts) for parts in zip(*(by_picture[one] for one in pictures), strict=True)]
        return self._features[place]

    def _map(self, control: LiveControl, text: TextState, place: int) -> torch.Tensor:
        """The control map (3, h, w) of a cell, uint8 on the host."""
        import torch

        if control.drawn is None:
            return text.pictures[control.picture, self.cells[place].prompt]
        if self._begun_from is None:
            raise SamplingError("a control follows the picture of the stage before, and there is none")
        return torch.from_numpy(control.drawn(self._begun_from[place])).permute(2, 0, 1).contiguous()

    def _texts(self, step: int, *, guided: bool) -> tuple[Text, ...]:
        """The texts of the cells at a step; if `guided`, negative prompts first."""
        prompts = {p.id: p for p in self.grid.prompts}
        return tuple(text_at(prompts[cell.prompt], role, step, self.grid.steps)
                     for role in (NEGATIVE, POSITIVE) if guided or role == POSITIVE for cell in self.cells)

    def _conditions(self, branch: LiveBranch, texts: Sequence[Text], *, guided: bool) -> dict[str, Any]:
        """A denoiser's inputs besides the latents; if `guided`, negative prompts first."""
        import torch

        pipeline, text = branch.pipeline, branch.text
        count = len(self.cells) if guided else 0
        chosen: list[Conditions] = [text.negative[one] for one in texts[:count]] + [text.positive[one] for one in texts[count:]]
        dtype = pipeline.dtype
        length = common_length(chosen)
        if any(common_length(chosen[place::len(self.cells)]) != length for place in range(len(self.cells))):
            raise SamplingError("a batch has cells whose texts have different lengths; expected them in batches of their own")
        pooled = torch.stack([c.pooled for c in chosen if c.pooled is not None]) if chosen[0].pooled is not None else None
        added = added_conditions(pipeline, pooled, self.grid.width, self.grid.height, count)
        inputs: dict[str, Any] = {"encoder_hidden_states": torch.stack([repeated(c.states, length) for c in chosen]).to(dtype)}
        if added is not None:
            # The sizes stay float32: they are numbers to embed, and not every dtype can hold 1000 exactly.
            inputs["added_cond_kwargs"] = {name: value if name == "time_ids" else value.to(dtype)
                                           for name, value in added.items()}
        if pipeline.references:
            rows = [NO_PICTURE] * count + [cell.prompt for cell in self.cells]
            inputs[SHOWN] = {"ip_hidden_states": reference_inputs(pipeline.references, text.pictures, rows, dtype)}
        return inputs


def averaged(predictions: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The sum of weights times predictions; a single prediction as it is, to the last bit."""
    first, *others = predictions
    if not others:
        return first
    total = weights[0] * first
    for weight, prediction in zip(weights[1:], others, strict=True):
        total = total + weight * prediction
    return total


def guided_output(output: torch.Tensor, scales: torch.Tensor, rescale: float) -> torch.Tensor:
    """Classifier-free guidance of (2n, c, h, w), the negative half first: out = negative + g (positive - negative) (Ho and
    Salimans, arXiv 2207.12598).

    With phi = `rescale` above 0, out becomes phi * out * std(positive) / std(out) + (1 - phi) * out, each image's standard
    deviation over all of its numbers (Lin et al., arXiv 2305.08891).
    """
    low, high = output.chunk(2)
    guided = low + scales * (high - low)
    if rescale == 0:
        return guided
    every = (1, 2, 3)
    matched = guided * (high.std(every, keepdim=True) / guided.std(every, keepdim=True))
    return rescale * matched + (1 - rescale) * guided


def called(pipeline: Pipeline, grid: Grid, cells: tuple[Cell, ...], text: TextState) -> torch.Tensor:
    """Latents (n, channels, h, w) of a batch for a family that is sampled by diffusers' own pipeline: one call for each guidance
    scale of the batch. Noise is drawn as for all other families."""
    import torch

    prompts = {p.id: p for p in grid.prompts}
    noise = initial_noise(pipeline, grid, cells)
    latents = torch.empty_like(noise)
    for scale in dict.fromkeys(cell.guidance for cell in cells):
        places = [place for place, cell in enumerate(cells) if cell.guidance == scale]
        asked = [prompts[cells[place].prompt] for place in places]
        # At guidance 1 the negative branch cancels and is not computed.
        words = {role: [text_at(prompt, role, 0, 1) for prompt in asked] for role in ROLES}
        negative = [text.negative[one] for one in words[NEGATIVE]] if scale != 1 else []
        scheduler = build_scheduler(grid.sampler, pipeline.scheduler_config, shift=(grid.sampling or Sampling()).shift)
        call = Call(positive=_embeds(text.positive[one] for one in words[POSITIVE]), negative=_embeds(negative),
                    negatives=tuple(one.words for one in words[NEGATIVE]), guidance=scale, steps=grid.steps, width=grid.width,
                    height=grid.height)
        begin_anew(pipeline.denoiser, evaluations(grid.sampler, grid.steps))
        latents[places] = call_pipeline(pipeline, call, noise[places], scheduler).to(latents)
    return latents


def _embeds(conditions: Iterable[Conditions]) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    return tuple((c.states, c.pooled) for c in conditions if c.pooled is not None)


def decoded(pipeline: Pipeline, latents: torch.Tensor, at_once: int) -> torch.Tensor:
    """Latents to pixels (n, 3, height, width) from -1 to 1, `at_once` images at a time."""
    import torch

    scaled = unscaled(pipeline, latents.to(pipeline.vae.dtype))
    return torch.cat([pipeline.vae.decode(part).sample.float() for part in torch.split(scaled, at_once)])


def decode(pipeline: Pipeline, latents: torch.Tensor) -> Arriving:
    """Latents to images, which a GPU copies to the host while the next batch is launched."""
    import torch

    with torch.inference_mode():
        with lent([pipeline.vae], pipeline.device):
            pixels = decoded(pipeline, latents, at_once(pipeline))
        return Arriving(pixels, latents)


def at_once(pipeline: Pipeline) -> int:
    """How many latents or pictures the VAE is given at once."""
    return DECODE_BATCH if pipeline.device.type == "cpu" else 1
