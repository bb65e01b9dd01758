"""What a suite declares for a model that the pipeline of its own folder samples: in effect, or refused before the first image."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING, Final

from harness.declare import Candidate, Grid
from harness.declare.component_runtimes import EAGER, runtimes_in
from harness.declare.grid import FIT
from harness.declare.prompt_texts import NEGATIVE, POSITIVE, all_texts
from harness.materialise.library import Library, MaterialiseError, adapters_of, frame_of
from harness.own_pipelines.calling import OwnCall
from harness.own_pipelines.rehearsal import Rehearsed, rehearsed
from harness.own_pipelines.schedulers import scheduler_problem
from harness.weights.header_claims import short

if TYPE_CHECKING:
    from harness.weights import Pipeline

_KNOBS: Final = ("schedule", "eta", "clip_skip", "guidance_rescale", "guidance_start", "guidance_end")
_SHIFTED: Final = "flow_euler"
"""The sampler whose noise levels can be shifted."""


class OwnOptions:
    """The checks of a workbench's candidates; calls without values are made once for each text and size."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: dict[tuple[object, ...], Rehearsed] = {}
        self._kept: dict[int, Pipeline] = {}

    def inspect(self, candidate: Candidate, pipeline: Pipeline, grid: Grid | None) -> None:
        """Raises MaterialiseError for the first thing that the candidate or its effective grid declares and the pipeline does not
        take."""
        assert pipeline.own is not None
        problem = next(self._of_candidate(candidate), "") or (next(self._of_grid(grid, pipeline), "") if grid is not None else "")
        if problem:
            raise MaterialiseError(f"{pipeline.own.name} samples this model, and {problem}")

    def in_part(self, pipeline: Pipeline, grid: Grid, text: str) -> bool:
        """Whether one of several encoders cuts off a text that another reads whole."""
        return self._rehearsed(pipeline, grid, text).in_part

    def _of_candidate(self, candidate: Candidate) -> Iterator[str]:
        if others := [name for name in runtimes_in(candidate.runtime) if name != EAGER]:
            yield f"it runs in {EAGER!r} alone; remove the runtime {others[0]!r}"
        if candidate.savers or candidate.step_cache is not None:
            yield "it takes no savers and no step cache; remove them"
        model = frame_of(candidate.model)
        for adapter in (*adapters_of(candidate.model), *candidate.adapters):
            if self._library.hypernetwork(adapter.path):
                yield f"it takes no hypernetwork, which {adapter.path!r} is; remove the adapter"
                return
            keys = self._library.adapter(adapter.path, self._library.open(model)).keys
            if idle := [component for component, at in keys.items() if at.get("absent_component")]:
                count = sum(len(keys[component]["absent_component"]) for component in idle)
                command = f"sweetspot adapter convert {quote(adapter.path)} --model {quote(model.path)} --leave-out -o OUTPUT"
                yield (f"adapters act on its denoiser alone: {count} tensors of {adapter.path!r} are for {', '.join(idle)}. To "
                       f"go on without them: {command}, and give what it writes")

    def _of_grid(self, grid: Grid, pipeline: Pipeline) -> Iterator[str]:
        own = pipeline.own
        assert own is not None
        if problem := scheduler_problem(own.scheduler, pipeline.scheduler_config, own.name, grid.sampler):
            yield problem
        given = {} if grid.sampling is None else grid.sampling.given
        yield from (f"it takes no {name}; remove it from sampling" for name in _KNOBS if given.get(name) not in (None, ""))
        if "shift" in given and grid.sampler != _SHIFTED:
            way = f"give the sampler {_SHIFTED!r}" if not scheduler_problem(
                own.scheduler, pipeline.scheduler_config, own.name, _SHIFTED) else "remove it"
            yield f"the sampler {grid.sampler!r} takes no shift; {way}"
        if grid.low_memory:
            yield "it takes no measures for short memory; remove low_memory from the grid"
        if grid.batch_size == FIT:
            yield f"what it needs of memory is not predicted; give batch_size a number in place of {FIT!r}"
        yield from self._of_guidance(grid, pipeline)
        yield from self._of_calls(grid, pipeline)

    def _of_guidance(self, grid: Grid, pipeline: Pipeline) -> Iterator[str]:
        own = pipeline.own
        assert own is not None
        guided = [scale for scale in grid.guidance_scales if scale != 1]
        if guided and not own.row.guidance:
            yield f"it takes no guidance, and guidance is {guided[0]:g}; give 1"
        if guided and not own.row.negative and (with_negative := [p for p in grid.prompts if p.negative]):
            yield (f"it takes no negative texts, and prompt {with_negative[0].id!r} has the negative text "
                   f"{with_negative[0].negative[:60]!r}; remove it")

    def _of_calls(self, grid: Grid, pipeline: Pipeline) -> Iterator[str]:
        assert pipeline.own is not None
        guided = any(scale != 1 for scale in grid.guidance_scales) and pipeline.own.row.negative
        for role in (POSITIVE, NEGATIVE) if guided else (POSITIVE,):
            for text in all_texts(grid.prompts, grid.steps, (role,)):
                seen = self._rehearsed(pipeline, grid, text.words)
                if seen.problem:
                    yield f"it says: {seen.problem}"
                if seen.too_long:
                    yield f"the text {short(text.words)} is too long for it: {seen.too_long}"

    def _rehearsed(self, pipeline: Pipeline, grid: Grid, text: str) -> Rehearsed:
        scale = max(grid.guidance_scales)
        self._kept[id(pipeline)] = pipeline  # so that no other one gets its `id`
        key = (id(pipeline), text, grid.width, grid.height, grid.steps, scale)
        if key not in self._known:
            import torch

            self._known[key] = rehearsed(pipeline, OwnCall(
                prompts=(text,), negatives=("",), generators=[torch.Generator("cpu").manual_seed(0)], guidance=scale,
                steps=grid.steps, width=grid.width, height=grid.height))
        return self._known[key]


