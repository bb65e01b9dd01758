"""Problems of a candidate's stages, without opening a file: what a first and a later stage can say, and which steps are run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from harness.check.phrases import number, unknown
from harness.check.post import post_problems
from harness.check.prompt_markup import phrases
from harness.check.prompts import syntax_problems
from harness.check.sampling import idle_knobs, sampled_problems
from harness.declare import Candidate, Grid, Model, Relay, Stage, Suite
from harness.declare.candidate import TAKEN
from harness.declare.effective_grid import stage_grids
from harness.declare.nearest import did_you_mean
from harness.declare.prompt_texts import POSITIVE, ROLES, parsed
from harness.declare.same_text import is_unguided
from harness.declare.stage_candidates import as_candidates, clashes, steps_run
from harness.declare.stages import COLOUR, PROMPT, RESIZE, THROUGH
from harness.declare.step_shares import hand_overs
from harness.declare.syntax.tags import without_tags
from harness.samplers import guided_steps

LATENT: Final = "latent"
LATENTS: Final = "latents"


def first_stage_problems(candidate: Candidate) -> Iterator[str]:
    """What keeps the first of all given stages from being the candidate's own fields; then nothing else is said of it."""
    if candidate.model != "" or not candidate.stages:
        return
    first = candidate.stages[0]
    if not first.model:
        yield "stage 1 has no model; give Stage(model=...), or the candidate's model"
        return
    yield from (f"{name} is given both in the candidate and in its first stage; give it in one of them"
                for name in clashes(candidate))
    for spec in fields(first):
        if spec.name not in ("model", *TAKEN) and getattr(first, spec.name) != spec.default:
            yield (f"stage 1: {spec.name} is for stages that begin from the picture of the stage before, and the first makes a "
                   f"picture of noise; {_instead(spec.name)}")


def _instead(name: str) -> str:
    return "write it into the prompts of the grid" if name in ("prompt", "negative") else "remove it"


def later_stage_problems(candidate: Candidate, root: Path) -> Iterator[str]:
    """One phrase per problem of the stages after the first, apart from their models and from how they are sampled."""
    for place, stage in enumerate(candidate.stages, 2):
        yield from (f"stage {place}: {phrase}" for phrase in _later(stage))
        yield from (f"stage {place}: before: {phrase}" for phrase in post_problems(stage.before, root, place - 1))
        if place > 2 and candidate.stages[place - 3].colour and LATENTS in (stage.through, f"{stage.resize}s"):
            yield (f"stage {place}: it is handed latents, and colour={candidate.stages[place - 3].colour!r} of the stage before "
                   "changes the picture; remove one of them")


def _later(stage: Stage) -> Iterator[str]:
    if stage.strength is None:
        yield ("it has no strength; give the share of its steps that are run on the picture of the stage before, such as "
               "strength=0.5")
    elif not number(stage.strength) or not 0 < stage.strength <= 1:
        yield f"strength is {stage.strength!r}; expected a number above 0 and at most 1"
    yield from unknown("through", [stage.through], THROUGH) if stage.through else ()
    yield from unknown("resize", [stage.resize], RESIZE)
    yield from unknown("colour", [stage.colour], [word for word in COLOUR if word]) if stage.colour else ()
    if not stage.prompt.strip():
        yield f"the prompt is empty; write {PROMPT!r} for the text of each prompt, or a text in place of it"
    for name in re.findall(r"\{(\w+)\}", stage.prompt.replace(PROMPT, "")):
        yield f"the prompt holds '{{{name}}}'; {did_you_mean('{' + name + '}', [PROMPT])}"
    if stage.through == "pixels" and stage.resize == LATENT:
        yield "resize is 'latent' and through is 'pixels'; give one of them"
    if stage.through == "latents" and stage.before:
        yield "before changes the picture, and through is 'latents', which hands over no picture; remove one of them"
    if stage.resize == LATENT and stage.before:
        yield "before changes the picture, and resize is 'latent', which hands over no picture; remove one of them"
    if stage.sampling is not None:
        if not stage.sampling.given:
            yield "sampling sets nothing; remove it"
        if (scales := stage.sampling.scales) is not None and len(scales) != 1:
            yield (f"sampling: guidance is {scales!r}; expected one scale, since the picture that the stage begins from has one. "
                   "For several, declare a candidate for each")


def staged_sampling_problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """(candidate, phrase) for every problem of how later stages are sampled, in a suite whose fields all have the right types.
    What is wrong with the stage before is not said again."""
    for candidate in suite.candidates:
        if candidate.stages and candidate.model != "":
            yield from ((repr(candidate.name), phrase) for phrase in dict.fromkeys(_sampled(suite, candidate)))


def _sampled(suite: Suite, candidate: Candidate) -> Iterator[str]:
    grids = stage_grids(suite, candidate)
    for place, (stage, grid) in enumerate(zip(candidate.stages, grids[1:], strict=True), 2):
        before = grids[place - 2]
        of_before = set(sampled_problems(before))
        yield from (f"stage {place}: sampling: {phrase}" for phrase in sampled_problems(grid) if phrase not in of_before)
        yield from (f"stage {place}: {phrase}" for phrase in _steps(stage, grid))
        resized = (grid.width, grid.height) != (before.width, before.height)
        if resized and stage.through == "latents" and stage.resize != LATENT:
            yield (f"stage {place}: through is 'latents', and its size of {grid.width} x {grid.height} is reached by resize="
                   f"{stage.resize!r} on pixels; give resize='latent', or through='pixels'")
        if not resized and stage.resize != Stage.resize:
            yield (f"stage {place}: resize is {stage.resize!r}, and its size is that of the stage before, {grid.width} x "
                   f"{grid.height}; remove it, or give sampling=Sampling(width=..., height=...)")
        yield from (f"stage {place}: {phrase}" for phrase in (*_markup(stage, grids[0]), *_texts(grids[0], grid)))


def _steps(stage: Stage, grid: Grid) -> Iterator[str]:
    """What is wrong with the steps that are run."""
    strength = stage.strength
    if not number(strength) or not 0 < (strength or 0) <= 1 or grid.steps < 1:
        return
    assert strength is not None
    if not steps_run(strength, grid.steps):
        yield from run_problems(strength, grid)
        return
    if stage.negative and is_unguided(grid.guidance_scales):
        yield "negative has no effect at guidance 1; remove it, or give the stage a guidance scale above 1"
    if stage.sampling is not None:
        yield from idle_knobs(stage.sampling, grid.guidance_scales)
    yield from run_problems(strength, grid)


def run_problems(strength: float, grid: Grid) -> Iterator[str]:
    """What is wrong where a share of the steps is run: none of them, none with guidance, or none at which a text is read."""
    count = steps_run(strength, grid.steps)
    if grid.steps < 1:
        return
    if not count:
        yield (f"strength {strength:g} of {grid.steps} steps runs none of them; expected at least {_least(grid.steps)}, or more "
               "steps")
        return
    if grid.sampling is not None and guided_steps(grid.sampling, grid.steps) and not guided_steps(grid.sampling, count):
        yield (f"guidance_start and guidance_end leave none of the {count} steps that are run with guidance; widen them, or set "
               "guidance to 1")
    for prompt in grid.prompts:
        for role in ROLES:
            with suppress(ValueError):  # which is said of the prompt
                yield from (f"prompt {prompt.id!r}: one of the texts in {written!r} would be drawn at none of the {count} steps "
                            "that are run; give it other steps, or a share of them such as 0.5"
                            for written in parsed(prompt, role).never_drawn(count))


def _least(steps: int) -> str:
    """The smallest strength of two or more decimals that runs a step."""
    least = 1 / max(steps, 1)
    return f"{least:.3g}" if steps_run(float(f"{least:.3g}"), steps) else f"{least + 0.001:.3g}"


def _markup(stage: Stage, grid: Grid) -> Iterator[str]:
    """Markup in the texts of a stage itself that the syntax of the prompts does not know."""
    for syntax in dict.fromkeys(prompt.syntax for prompt in grid.prompts if not prompt.literal):
        text = stage.prompt.replace(PROMPT, "")
        # Its tags are refused with another way out, see `_texts`.
        text = without_tags(text)[0] if syntax == "a1111" else text
        yield from (f"the prompt: {phrase}" for phrase in phrases(text, syntax))
        yield from (f"the negative text: {phrase}" for phrase in phrases(stage.negative or "", syntax, negative=True))


def _texts(first: Grid, grid: Grid) -> Iterator[str]:
    """What the syntax of prompts cannot follow in the texts of a stage, and adapters that they name."""
    for prompt, own in zip(first.prompts, grid.prompts, strict=True):
        wrong = set(syntax_problems(prompt))
        yield from (phrase for phrase in syntax_problems(own) if phrase not in wrong)
        try:
            if tags := [tag for tag in parsed(own, POSITIVE).tags if tag not in parsed(prompt, POSITIVE).tags]:
                yield f"its prompt names the LoRA {tags[0].name!r}; give it to Stage(adapters=...)"
                return
        except ValueError:  # which is said above
            continue


def as_sampled(suite: Suite, candidate: Candidate) -> list[object]:
    """What makes a candidate's later stages, for comparison: strengths count by the steps that they run."""
    grids = stage_grids(suite, candidate)
    return [[_turns(own.model, grid.steps, stage.strength), own.adapters, own.controls, own.references, stage.prompt,
             stage.negative, stage.through, stage.resize, stage.before, stage.colour, grid.sampler, grid.steps, grid.width,
             grid.height, grid.sampling, grid.guidance_scales,
             steps_run(stage.strength or 0, grid.steps) if number(stage.strength) else repr(stage.strength)]
            for stage, own, grid in zip(candidate.stages, as_candidates(candidate)[1:], grids[1:], strict=True)]


def _turns(model: Model, steps: int, strength: float | None) -> Model:
    """The model, and a relay with the steps at which it hands over."""
    with suppress(ValueError):  # which is said of the relay
        if isinstance(model, Relay) and number(strength):
            return replace(model, at=tuple(map(float, hand_overs(model.at, steps, steps_run(strength or 0, steps)))))
    return model
