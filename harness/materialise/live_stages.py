"""The later stages of a candidate while they are live: what they begin from, how it is handed over, and which steps they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from harness.control.maps import source_of
from harness.declare import Candidate, Grid, PostStep, Stage, short_hash
from harness.declare.effective_grid import stage_grids
from harness.declare.guiding import STAGE_BEFORE
from harness.declare.prompt_texts import change_along_steps
from harness.declare.stage_candidates import own_guidance, steps_run
from harness.declare.stages import PROMPT, stage_name
from harness.materialise.library import MaterialiseError
from harness.materialise.phases import Phase
from harness.post import PostProcess
from harness.records import Cell
from harness.weights import Pipeline

LATENTS, PIXELS, LATENT = "latents", "pixels", "latent"


@dataclass(frozen=True, kw_only=True)
class LiveStage:
    """A stage after the first. `number` counts from 1 for the second; the steps of its `grid` are those that it runs, the last of
    `of_steps`. Its prompts are those that it reads, and `guidance` its own scale, if it has one. `through` is "latents" or
    "pixels"; where the size differs from that of the stage before, `resize` says how it is reached. `before` are the post-steps
    of the picture that it begins from, whose colours its own picture gets with `colour`. `followed` says that a control follows
    that picture."""

    number: int
    grid: Grid
    of_steps: int
    guidance: float | None
    phases: tuple[Phase, ...]
    through: str
    resize: str
    before: PostProcess | None = None
    colour: bool = False
    followed: bool = False

    @property
    def name(self) -> str:
        """What the stage is called: "stage 2" is the second."""
        return stage_name(self.number)

    def cells(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """The cells of a batch with the guidance that this stage has."""
        return tuple(cells if self.guidance is None else (replace(cell, guidance=self.guidance) for cell in cells))


def live_stages(candidate: Candidate, grid: Grid, phases: Sequence[tuple[Phase, ...]], same_latents: Callable[[int], bool],
                prepared: Callable[[tuple[PostStep, ...]], PostProcess]) -> tuple[LiveStage, ...]:
    """The later stages of a candidate on the grid of its suite; `phases` are those of all its stages. `same_latents` says of a
    stage whether its latents mean what those of the stage before mean; `prepared` makes post-steps ready."""
    grids = stage_grids(grid, candidate)
    ways = handed_over(candidate, grids, same_latents)
    stages = []
    for number, (stage, own) in enumerate(zip(candidate.stages, grids[1:], strict=True), 1):
        count = steps_run(stage.strength or 0.0, own.steps)
        stages.append(LiveStage(
            number=number, grid=replace(own, steps=count), of_steps=own.steps, guidance=own_guidance(candidate, number),
            phases=_reading(phases[number], stage, count if change_along_steps(own.prompts) else 0), resize=stage.resize,
            through=ways[number - 1], before=prepared(stage.before) if stage.before else None, colour=bool(stage.colour),
            followed=any(source_of(control.picture) == STAGE_BEFORE and control.weight != 0 for control in stage.controls)))
    return tuple(stages)


def handed_over(candidate: Candidate, grids: Sequence[Grid], same_latents: Callable[[int], bool]) -> tuple[str, ...]:
    """How each later stage of a candidate is handed what it begins from, "latents" or "pixels"; `grids` are those of all
    stages."""
    ways = []
    for number, stage in enumerate(candidate.stages, 1):
        sizes = {(grid.width, grid.height) for grid in grids[number - 1:number + 1]}
        changed = number > 1 and bool(candidate.stages[number - 2].colour)
        ways.append(through(stage, changed=changed, resized=len(sizes) > 1, same=partial(same_latents, number)))
    return tuple(ways)


def through(stage: Stage, *, changed: bool, resized: bool, same: Callable[[], bool]) -> str:
    """How a stage is handed what it begins from: as declared; by default as latents where these mean the same in both stages and
    nothing happens to the picture in between. `changed` says that the stage before changed its picture."""
    if stage.through:
        return stage.through
    if resized:
        return LATENTS if stage.resize == LATENT else PIXELS
    return LATENTS if not stage.before and not changed and same() else PIXELS


def asks_for_latents(stage: Stage) -> bool:
    """Whether a stage can only be handed latents."""
    return stage.through == LATENTS or stage.resize == LATENT


def refuse_other_latents(number: int, stage: Stage) -> None:
    """Raises MaterialiseError for a stage that asks for latents which mean nothing to it."""
    asked = "through is 'latents'" if stage.through == LATENTS else "resize is 'latent'"
    raise MaterialiseError(f"{stage_name(number)}: {asked}, but its VAE is not that of the stage before, so that latents of one "
                           "mean another picture in the other; give through='pixels' and a resize on pixels, or take one VAE "
                           "for both with Merge(..., take={'vae': ...})")


def _reading(phases: tuple[Phase, ...], stage: Stage, count: int) -> tuple[Phase, ...]:
    """The phases with identities of their texts that say how the stage rewrites the prompts, and at how many steps they
    change."""
    rewriting = [*([] if (stage.prompt, stage.negative) == (PROMPT, None) else [stage.prompt, stage.negative]),
                 *([count] if count else [])]
    if not rewriting:
        return phases
    return tuple(replace(phase, branches=tuple(replace(branch, text_identity=short_hash([branch.text_identity, *rewriting]))
                                               for branch in phase.branches)) for phase in phases)


def vae_config(pipeline: Pipeline) -> tuple[object, ...]:
    """What of a VAE's config decides what latents mean, beside its tensors."""
    config = pipeline.vae.config
    return (float(config.scaling_factor), float(getattr(config, "shift_factor", None) or 0.0), len(config.block_out_channels))
