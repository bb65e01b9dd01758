"""Problems of how a grid and single candidates are sampled: values that no image can have, and values that have no effect."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from harness.check.phrases import doubles
from harness.check.sampling_knobs import knob_problems, sampler_name_problems
from harness.check.values import known_values, parts_of_objective
from harness.declare import BASELINE, Candidate, Gate, Grid, Sampling, Suite, grid_of
from harness.declare.effective_grid import picture_size, whole_grid
from harness.declare.grid import MOST_STEPS, guidance_problem
from harness.declare.pairing import counterpart, with_baseline
from harness.declare.same_text import is_unguided
from harness.declare.sampling import GRID_FIELDS, NEUTRAL
from harness.metrics.ms_ssim import SMALLEST
from harness.samplers import SAMPLERS

LATENT_MULTIPLE: Final = 8
MOST_PIXELS: Final = 16376
"""Of a side; the WebP files of pages end at 16383."""
_OF_GUIDANCE: Final = ("guidance_rescale", "guidance_start", "guidance_end")


def sampled_problems(grid: Grid) -> Iterator[str]:
    """One phrase per problem of the guidance scales, the sampler, the steps and the size of an effective grid whose fields have
    the right types."""
    yield from doubles("guidance scale", grid.guidance_scales)
    yield from (f"the guidance scales {' and '.join(map(repr, scales))} are both shown as CFG {text}; remove one, or give scales "
                "that differ more" for text, scales in _by_text(grid.guidance_scales).items() if len(scales) > 1)
    yield from filter(None, map(guidance_problem, grid.guidance_scales))
    yield from sampler_name_problems(grid)
    for name, least in (("steps", 1), ("width", LATENT_MULTIPLE), ("height", LATENT_MULTIPLE)):
        if (value := getattr(grid, name)) < least:
            yield f"{name} is {value!r}; expected an integer of at least {least}"
        elif name != "steps" and value % LATENT_MULTIPLE:
            yield f"{name} is {value}; expected a multiple of {LATENT_MULTIPLE} pixels"
        elif name != "steps" and value > MOST_PIXELS:
            yield f"{name} is {value}; expected at most {MOST_PIXELS} pixels"
    if grid.steps > MOST_STEPS:
        yield f"steps is {grid.steps}; expected at most {MOST_STEPS}, the number of steps a diffusion model is trained on"
    if grid.sampler in SAMPLERS:
        yield from knob_problems(grid_of(grid))


def grid_sampling_problems(grid: Grid) -> Iterator[str]:
    """One phrase per problem of the `sampling` of a grid whose fields have the right types."""
    if grid.sampling is None:
        return
    yield from _empty(grid.sampling)
    yield from (f"sampling: {name} is a field of the grid; set {field} there"
                for name, field in GRID_FIELDS.items() if name in grid.sampling.given)


def candidate_sampling_problems(suite: Suite) -> Iterator[tuple[str, str]]:
    """(candidate, phrase) for every problem of a candidate's `sampling`, in a suite whose fields all have the right types. What
    is wrong with the grid itself is said of the grid."""
    of_grid = set(sampled_problems(suite.grid))
    for candidate in suite.candidates:
        if candidate.sampling is None:
            continue
        phrases = [*_empty(candidate.sampling), *_scales(candidate.sampling),
                   *idle_knobs(candidate.sampling, grid_of(suite, candidate).guidance_scales)]
        phrases += [f"sampling: {phrase}" for phrase in sampled_problems(grid_of(suite, candidate)) if phrase not in of_grid]
        yield from ((repr(candidate.name), phrase) for phrase in phrases)


def idle_grid_problems(suite: Suite) -> Iterator[str]:
    """What the grid's `sampling` says of guidance, where no candidate is guided."""
    if suite.grid.sampling is not None:
        yield from (f"grid: {phrase}" for phrase in idle_knobs(suite.grid.sampling, whole_grid(suite).guidance_scales))


def idle_knobs(sampling: Sampling, scales: Collection[float]) -> Iterator[str]:
    """The knobs of guidance that have no effect, because every scale is 1."""
    if scales and is_unguided(scales):
        yield from (f"sampling: {name} has no effect at guidance 1; remove it" for name in _OF_GUIDANCE
                    if name in sampling.given and sampling.given[name] != NEUTRAL[name])


def _scales(sampling: Sampling) -> Iterator[str]:
    if sampling.scales == ():
        yield "sampling: guidance is empty; expected a number, or a tuple of them"


def _empty(sampling: Sampling) -> Iterator[str]:
    if not sampling.given:
        yield "sampling sets nothing; remove it"


def size_problems(suite: Suite) -> Iterator[str]:
    """Metrics for which the images of some candidate are too small."""
    if "ms_ssim" not in suite.metrics:
        return
    sizes = [(suite.grid.width, suite.grid.height), *(picture_size(suite, candidate) for candidate in suite.candidates)]
    small = [size for size in sizes if min(size) < SMALLEST]
    for width, height in dict.fromkeys(small):
        yield (f"metric 'ms_ssim' compares five scales, for which images of {width} x {height} are too "
               f"small; use 'ssim', or a width and height of at least {SMALLEST}")


def pairing_problems(suite: Suite) -> Iterator[str]:
    """What the objective or a gate asks of a candidate's images beside the baseline's, where the baseline has no counterpart of
    them."""
    alone = {c.name: why for c in suite.candidates if (why := _why_alone(suite, c))}
    if not alone:
        return
    paired = {name for name, spec in known_values(suite).items() if spec.paired}
    for value in (part for part in parts_of_objective(suite.objective) if part in paired):
        for name, why in alone.items():
            yield f"objective: {_unmeasured(suite, value, name, why)}"
    for gate in suite.gates:
        for name in _judged_alone(gate, alone, paired):
            yield f"gate {gate.name!r}: {_unmeasured(suite, gate.value, name, alone[name])}"


def unpaired_gates(suite: Suite) -> Iterator[str]:
    """Gates that compare the pick with a candidate of several guidance scales, of which none stands beside the scale of another
    candidate: if that one is picked, the gate has nothing to compare."""
    by_name = {candidate.name: candidate for candidate in suite.candidates}
    for gate in suite.gates:
        other = by_name.get(suite.baseline if gate.not_worse_than == BASELINE else gate.not_worse_than or "")
        if other is None or gate.value not in known_values(suite):
            continue
        scales = grid_of(suite, other).guidance_scales
        judged = [by_name[name] for name in gate.candidates if name in by_name] or suite.candidates
        alone = [(candidate.name, scale) for candidate in judged for scale in grid_of(suite, candidate).guidance_scales
                 if counterpart(scales, scale) is None]
        if alone:
            name, scale = alone[0]
            yield (f"gate {gate.name!r} cannot be decided for candidate {name!r} at CFG {scale:g}, because {other.name!r}, with "
                   f"which it compares, is sampled at CFG {', '.join(f'{known:g}' for known in scales)}; give {name!r} one of "
                   f"these, or give {other.name!r} one scale")


def _unmeasured(suite: Suite, value: str, name: str, why: str) -> str:
    return (f"{value!r} is measured against the baseline's images, and candidate {name!r} has images without a counterpart among "
            f"them: {why}. Use another value, or give {name!r} the size and guidance of the baseline {suite.baseline!r}")


def _why_alone(suite: Suite, candidate: Candidate) -> str:
    pairs = [with_baseline(suite, candidate, scale) for scale in grid_of(suite, candidate).guidance_scales]
    return next((pair.why for pair in pairs if pair.scale is None), "")


def _judged_alone(gate: Gate, alone: Collection[str], paired: Collection[str]) -> list[str]:
    return [name for name in gate.candidates if name in alone] if gate.value in paired else []


def _by_text(scales: Collection[float]) -> dict[str, list[float]]:
    """The different scales, by how reports write them."""
    by_text: dict[str, list[float]] = {}
    for scale in dict.fromkeys(scales):
        by_text.setdefault(f"{scale:g}", []).append(scale)
    return by_text
