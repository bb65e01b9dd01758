"""A candidate in words, derived from its declaration: its scheme, the networks that it needs beside each other, and what is done
in its stages and afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Final

from harness.declare.candidate import Candidate
from harness.declare.guiding import Canny, Control, Reference
from harness.declare.models import Adapter, Checkpoint, Ensemble, Fused, Merge, Model, Recipe, Relay, models_of, weights_by_model
from harness.declare.post_steps import ColourTransfer, Lut, PostStep, Temperature, Upscale
from harness.declare.stage_candidates import as_candidates
from harness.declare.stages import PROMPT, Stage
from harness.declare.step_cache import DeepCache, FirstBlock, MagCache, TaylorSeer

SINGLE: Final = "single model"
_COUNTS: Final = {2: "two", 3: "three", 4: "four", 5: "five"}
_MOST_NAMED: Final = 4


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The networks of a candidate that predict or guide, each counted once: denoisers, controls and references. All are there
    when an image is made, one after the other or together."""

    denoisers: int
    controls: int
    references: int

    @property
    def further(self) -> int:
        """How many there are besides the one denoiser of a single model."""
        return self.denoisers + self.controls + self.references - 1

    @property
    def text(self) -> str:
        """Such as "2 denoisers, 1 control"."""
        counted = ((self.denoisers, "denoiser"), (self.controls, "control"), (self.references, "reference"))
        return ", ".join(f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in counted if count)


def networks_of(candidate: Candidate) -> Networks:
    """Counts the networks of all stages. A model that is used twice with the same adapters is one; a model of weight 0 is not
    run."""
    stages = as_candidates(candidate)
    # A merge holds mappings, so it has no hash; what it says tells it apart.
    denoisers = {repr((model, stage.adapters)) for stage in stages for model in _models_run(stage.model)}
    return Networks(denoisers=len(denoisers),
                    controls=len({control.path for stage in stages for control in stage.controls if control.weight}),
                    references=len({reference.path for stage in stages for reference in stage.references if reference.weight}))


def _models_run(model: Model) -> tuple[Recipe, ...]:
    return tuple(one for one, _ in weights_by_model(model)) if isinstance(model, Ensemble) else models_of(model)


def scheme_of(candidate: Candidate) -> str:
    """How a candidate combines its models and pictures: "merge", "two stages (single model, then merge)", "ensemble + control".
    Candidates of one scheme differ in their files and numbers alone."""
    stages = as_candidates(candidate)
    kinds = [_kind(stage.model) for stage in stages]
    combined = kinds[0] if len(stages) == 1 else f"{_COUNTS.get(len(stages), str(len(stages)))} stages"
    if len(stages) > 1 and set(kinds) != {SINGLE}:
        combined += f" ({', then '.join(kinds)})"
    beside = (("adapters", any(stage.adapters for stage in stages)), ("control", any(stage.controls for stage in stages)),
              ("reference", any(stage.references for stage in stages)), ("inpainting", candidate.inpaint is not None),
              ("post-steps", bool(candidate.post)))
    return " + ".join([combined, *(name for name, used in beside if used)])


def _kind(model: Model) -> str:
    """One word or two for what a model is made of."""
    if isinstance(model, Relay):
        return "relay"
    if isinstance(model, Ensemble):
        return "ensemble"
    inner: object = model
    while isinstance(inner, Fused):
        inner = inner.model
    return "merge" if isinstance(inner, Merge) else SINGLE


def described(candidate: Candidate) -> tuple[str, ...]:
    """One phrase for each thing that makes a candidate more than one model sampled once: the models of a relay or an ensemble,
    controls, references, inpainting, later stages, post-steps, savers and a step cache. Empty for a single model or merge."""
    return (*model_phrases(candidate.model), *guide_phrases(candidate.controls, candidate.references), *_inpainting(candidate),
            *(phrase for number, stage in enumerate(candidate.stages, 2) for phrase in stage_phrases(number, stage)),
            *post_phrases(candidate), *saver_phrases(candidate), *cache_phrases(candidate))


def model_name(model: Model) -> str:
    """A model in few words: the last part of its path, or "a merge of photo.safetensors and anime.safetensors"."""
    if isinstance(model, Merge):
        return f"a merge of {_listed(list(map(model_name, model.models)))}"
    if isinstance(model, Relay | Ensemble):
        kind = "a relay" if isinstance(model, Relay) else "an ensemble"
        return f"{kind} of {_listed(list(map(model_name, model.models)))}"
    if isinstance(model, Fused):
        return f"{model_name(model.model)} with {_listed([_file(adapter.path) for adapter in model.adapters])}"
    if isinstance(model, Checkpoint):
        return _file(model.path) if model.base is None else f"{_file(model.path)} completed with {_file(model.base)}"
    return _file(model)


def model_phrases(model: Model) -> Iterator[str]:
    """What makes a model a relay or an ensemble; nothing for any other."""
    if isinstance(model, Relay):
        first, *later = map(model_name, model.models)
        turns = [f"{name} from {share:.3g} of the steps on" for share, name in zip(model.at, later, strict=False)]
        yield f"relay of {_listed([first, *turns])}{', VAE of the last' if model.vae == 'last' else ''}"
    elif isinstance(model, Ensemble):
        shares = [f"{model_name(one)} at {weight:.3g}" for one, weight in zip(model.models, model.weights, strict=False)]
        yield f"ensemble of {_listed(shares)}{', texts read by the first' if model.texts == 'first' else ''}"


def guide_phrases(controls: tuple[Control, ...], references: tuple[Reference, ...]) -> Iterator[str]:
    """A phrase for each picture that guides a stage."""
    for control in controls:
        picture = _edges(control.picture) if isinstance(control.picture, Canny) else f"{control.picture!r}"
        yield (f"control by {_file(control.path)}, picture {picture}, weight {control.weight:.3g}"
               f"{_span(control.start, control.end)}{', guess mode' if control.guess else ''}")
    for reference in references:
        yield (f"reference by {_file(reference.path)}, picture {reference.picture!r}, weight {reference.weight:.3g}"
               f"{' by block' if reference.blocks is not None else ''}"
               f"{f', encoder {_file(reference.encoder)}' if reference.encoder else ''}{_span(reference.start, reference.end)}")


def _edges(canny: Canny) -> str:
    """The map that is made of a picture, with the thresholds that are not the usual ones."""
    given = [f"{spec.name} {getattr(canny, spec.name):.3g}" for spec in fields(canny)
             if spec.default is not MISSING and getattr(canny, spec.name) != spec.default]
    return f"edges made of {canny.of!r}" + (f" ({', '.join(given)})" if given else "")


def _adapter(adapter: Adapter) -> str:
    by = " by block" if adapter.blocks is not None else ""
    return f"{_file(adapter.path)} at {adapter.weight:.3g}{by}{_span(adapter.start, adapter.end)}"


def _inpainting(candidate: Candidate) -> Iterator[str]:
    if (inpaint := candidate.inpaint) is not None:
        yield f"inpainting of {inpaint.picture!r} where {inpaint.mask!r} is white, strength {inpaint.strength:.3g}"


def stage_phrases(number: int, stage: Stage) -> Iterator[str]:
    """First the later stage itself, then what guides it."""
    phrases = [f"stage {number}: {model_name(stage.model) if stage.model else 'the same model'}"]
    phrases += [f"strength {stage.strength:.3g}"] if stage.strength is not None else []
    phrases += [f"prompt {stage.prompt!r}"] if stage.prompt != PROMPT else []
    phrases += [f"negative prompt {stage.negative!r}"] if stage.negative is not None else []
    phrases += [f"with {_listed(list(map(_adapter, stage.adapters)))}"] if stage.adapters else []
    phrases += [f"{name} {value}" for name, value in (stage.sampling.given if stage.sampling is not None else {}).items()]
    phrases += [f"handed over as {stage.through}"] if stage.through else []
    phrases += [f"resized by {stage.resize}"] if stage.resize != "lanczos" else []
    phrases += [f"before it {_post_step(step)}" for step in stage.before]
    phrases += ["colours transferred from the stage before"] if stage.colour else []
    yield ", ".join(phrases)
    yield from (f"stage {number}: {guide}" for guide in guide_phrases(stage.controls, stage.references))
    if isinstance(stage.model, Relay | Ensemble):
        yield from (f"stage {number}: {phrase}" for phrase in model_phrases(stage.model))


def post_phrases(candidate: Candidate) -> Iterator[str]:
    """A phrase for each post-step of a candidate."""
    yield from (f"afterwards {_post_step(step)}" for step in candidate.post)


def saver_phrases(candidate: Candidate) -> Iterator[str]:
    """A phrase for a candidate's savers."""
    if candidate.savers:
        yield f"run with {_listed([name.replace('_', ' ') for name in candidate.savers])}"


def cache_phrases(candidate: Candidate) -> Iterator[str]:
    """A phrase for a candidate's step cache."""
    match candidate.step_cache:
        case DeepCache(interval=interval, branch=branch):
            yield f"step cache: DeepCache, whole at every {interval}. step{f', branch {branch}' if branch else ''}"
        case FirstBlock(threshold=threshold):
            yield f"step cache: first block, threshold {threshold:.3g}"
        case TaylorSeer() as cache:
            yield (f"step cache: TaylorSeer, whole at the first {cache.warm_up} steps and every {cache.interval} after, order "
                   f"{cache.order}")
        case MagCache() as cache:
            yield (f"step cache: MagCache, threshold {cache.threshold:.3g}, at most {cache.max_skip_steps} steps in a row, none "
                   f"in the first {cache.retention_ratio:.0%}{', own ratios' if cache.ratios else ''}")


def _post_step(step: PostStep) -> str:
    """What a post-step does, with its numbers."""
    match step:
        case ColourTransfer():
            return f"colours of {_file(step.to)} ({step.method}) at {step.strength:.3g}"
        case Lut():
            return f"table {_file(step.path)} at {step.strength:.3g}"
        case Temperature():
            return f"at most {step.max_kelvin:.0f} K"
        case Upscale():
            return f"{step.factor:.3g} times the size ({step.method})"


def _span(start: float, end: float) -> str:
    return "" if (start, end) == (0.0, 1.0) else f", from {start:.3g} to {end:.3g} of the steps"


def _file(path: str) -> str:
    """The last part of a path, which may be of another system."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2] or path


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= _MOST_NAMED else [*names[:_MOST_NAMED - 1], f"{len(names) - _MOST_NAMED + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
