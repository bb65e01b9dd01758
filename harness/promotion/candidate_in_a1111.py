"""What a candidate does to a picture besides one model sampled once: in A1111's words where it has them, and in a sentence each
where A1111 does not repeat it from its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Final

from harness.declare import Candidate, Suite
from harness.declare.candidate_words import (
    cache_phrases,
    guide_phrases,
    model_name,
    model_phrases,
    post_phrases,
    saver_phrases,
    stage_phrases,
)
from harness.declare.component_runtimes import EAGER, denoiser_runtime, runtimes_beside
from harness.declare.effective_grid import grid_of, picture_size, sampler_of, stage_grids
from harness.declare.guiding import Control
from harness.declare.hub_names import file_name
from harness.declare.post_steps import Upscale
from harness.declare.stages import PROMPT
from harness.promotion.samplers_in_a1111 import sampler_in_a1111, schedule_in_a1111
from harness.records import Cell

_UPSCALERS: Final = {"lanczos": "Lanczos", "nearest": "Nearest", "latent": "Latent (antialiased)"}
_NO_WORDS: Final = ("guidance_rescale", "guidance_start", "guidance_end", "shift")
"""The knobs of a Sampling that A1111's text does not know."""


def pairs_in_a1111(suite: Suite, candidate: Candidate, cell: Cell) -> dict[str, str]:
    """The "name: value" pairs by which A1111 and its ControlNet extension write a second pass, inpainting, controls, eta and an
    enlargement. Of several later stages nothing is written: A1111 has words for one."""
    first, size = grid_of(suite, candidate), picture_size(suite, candidate)
    pairs = {}
    if (first.width, first.height) != size:  # A1111 takes this for the size to sample, and "Size" for that of the result
        pairs["First pass size"] = f"{first.width}x{first.height}"
    if first.sampling is not None and first.sampling.eta is not None:
        pairs["Eta DDIM" if sampler_of(first)[0] == "ddim" else "Eta"] = f"{first.sampling.eta:g}"
    if candidate.inpaint is not None:
        pairs["Denoising strength"] = f"{candidate.inpaint.strength:g}"
    elif len(candidate.stages) == 1:
        pairs |= _second_pass(suite, candidate, cell)
    pairs |= {f"ControlNet {number}": _control(control) for number, control in enumerate(candidate.controls)}
    if enlarged := [step for step in candidate.post if isinstance(step, Upscale)]:
        pairs["Postprocess upscale by"] = f"{enlarged[0].factor:g}"
        pairs["Postprocess upscaler"] = _UPSCALERS.get(enlarged[0].method, enlarged[0].method)
    return pairs


def _second_pass(suite: Suite, candidate: Candidate, cell: Cell) -> dict[str, str]:
    """A later stage as A1111's "hires fix"."""
    (stage,), (first, second) = candidate.stages, stage_grids(suite, candidate)
    before, prompt = (next(p for p in grid.prompts if p.id == cell.prompt) for grid in (first, second))
    pairs = {"Denoising strength": f"{stage.strength or 0:g}"}
    if second.width * first.height == second.height * first.width:
        pairs["Hires upscale"] = f"{second.width / first.width:g}"
    pairs |= {"Hires steps": str(second.steps), "Hires upscaler": _UPSCALERS.get(stage.resize, stage.resize)}
    if stage.model:
        pairs["Hires checkpoint"] = model_name(stage.model)
    if sampler_of(second) != sampler_of(first):
        sampler, schedule = sampler_of(second)
        pairs |= {"Hires sampler": sampler_in_a1111(sampler), "Hires schedule type": schedule_in_a1111(sampler, schedule)}
    if second.guidance_scales != first.guidance_scales:
        pairs["Hires CFG Scale"] = f"{second.guidance_scales[0]:g}"
    if stage.prompt != PROMPT:
        pairs["Hires prompt"] = prompt.text
    if prompt.negative != before.negative:
        pairs["Hires negative prompt"] = prompt.negative
    return pairs


def _control(control: Control) -> str:
    return (f"Module: none, Model: {PurePath(file_name(control.path)).stem}, Weight: {control.weight:g}, "
            f"Guidance Start: {control.start:g}, "
            f"Guidance End: {control.end:g}, Control Mode: {'ControlNet is more important' if control.guess else 'Balanced'}")


def _model(_: Suite, candidate: Candidate) -> Iterator[str]:
    yield from (f"{phrase}: A1111 samples one model at a time" for phrase in model_phrases(candidate.model))


def _stages(_: Suite, candidate: Candidate) -> Iterator[str]:
    instead = ("A1111 writes one second pass, and this candidate has several" if len(candidate.stages) > 1 else
               "A1111's hires fix draws other noise and runs one step more")
    for number, stage in enumerate(candidate.stages, 2):
        phrase, *guides = stage_phrases(number, stage)
        yield f"{phrase}: {instead}"
        yield from (f"{guide}: A1111 has no words for this in a second pass" for guide in guides)


def _controls(_: Suite, candidate: Candidate) -> Iterator[str]:
    yield from (f"{phrase}: A1111 needs its ControlNet extension, and the picture" for phrase in
                guide_phrases(candidate.controls, ()))


def _references(_: Suite, candidate: Candidate) -> Iterator[str]:
    yield from (f"{phrase}: A1111 needs its ControlNet extension, and the picture" for phrase in
                guide_phrases((), candidate.references))


def _inpaint(_: Suite, candidate: Candidate) -> Iterator[str]:
    if (inpaint := candidate.inpaint) is not None:
        yield (f"inpainting of {inpaint.picture!r} where {inpaint.mask!r} is white, strength {inpaint.strength:g}: A1111's text "
               "holds neither picture")


def _post(_: Suite, candidate: Candidate) -> Iterator[str]:
    yield from (f"{phrase}: A1111 does not repeat this from its text" for phrase in post_phrases(candidate))


def _format(_: Suite, candidate: Candidate) -> Iterator[str]:
    if candidate.number_format:
        yield f"the number format of the denoiser was {candidate.number_format}, and A1111 takes its own"


def _runtime(_: Suite, candidate: Candidate) -> Iterator[str]:
    if (runtime := denoiser_runtime(candidate.runtime)) != EAGER:
        yield f"the denoiser was run by {runtime!r}, which A1111 does not have, and rounds otherwise"
    for component, runtime in runtimes_beside(candidate.runtime).items():
        yield f"{component} was run by {runtime!r}, which A1111 does not have, and rounds otherwise"


def _savers(_: Suite, candidate: Candidate) -> Iterator[str]:
    yield from (f"{phrase}: A1111 sets this for itself, and not by a picture's text" for phrase in saver_phrases(candidate))


def _step_cache(_: Suite, candidate: Candidate) -> Iterator[str]:
    yield from (f"{phrase}: A1111 runs every step whole" for phrase in cache_phrases(candidate))


def _emphasis(_: Suite, candidate: Candidate) -> Iterator[str]:
    if (emphasis := candidate.emphasis) is not None:
        words = ", ".join(f"{word!r} {weight:g}" for word, weight in emphasis.weights.items())
        yield f"the emphasis {words} ({emphasis.method}) is not in the prompt's text"


def _aesthetic(_: Suite, candidate: Candidate) -> Iterator[str]:
    if (gradient := candidate.aesthetic) is not None:
        yield (f"the text encoder was moved by the aesthetic gradient {PurePath(file_name(gradient.path)).stem} (CLIP "
               f"{PurePath(gradient.clip).name}, weight {gradient.weight:g}, {gradient.steps} steps, rate {gradient.rate:g}), "
               "for which A1111 needs an extension")


def _sampling(suite: Suite, candidate: Candidate) -> Iterator[str]:
    if (sampling := grid_of(suite, candidate).sampling) is not None:
        yield from (f"{name} {value:g}: A1111's text has no words for it" for name in _NO_WORDS
                    if (value := sampling.given.get(name)) is not None)


def _tagged(_: Suite, __: Candidate) -> Iterator[str]:
    """Adapters of a first stage are tags, and what a tag cannot say is said beside them."""
    yield from ()


DIFFERENCES: Final[Mapping[str, Callable[[Suite, Candidate], Iterator[str]]]] = {
    "model": _model, "adapters": _tagged, "stages": _stages, "controls": _controls, "references": _references,
    "inpaint": _inpaint, "post": _post, "quantization": _format, "precision": _format, "runtime": _runtime,
    "savers": _savers, "step_cache": _step_cache,
    "emphasis": _emphasis, "aesthetic": _aesthetic, "sampling": _sampling}
"""By field of a candidate: what A1111 does not repeat from its text."""


def candidate_differences(suite: Suite, candidate: Candidate) -> tuple[str, ...]:
    """In a sentence each: what this candidate does that A1111 does not repeat from its text."""
    return tuple(dict.fromkeys(sentence for of in DIFFERENCES.values() for sentence in of(suite, candidate)))
