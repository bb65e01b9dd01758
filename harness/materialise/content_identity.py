"""The identity of a candidate by content, independent of file names: the hash that its images and values are stored under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from harness.adapters.kinds import KINDS
from harness.control.edge_map import EDGES_VERSION
from harness.control.residuals import CONTROL_VERSION
from harness.declare import AestheticGradient, Candidate, Canny, Ensemble, Model, PostStep, Relay, plain, short_hash
from harness.declare.candidate import NOT_QUANTIZED
from harness.declare.component_runtimes import in_one_spelling as one_runtime
from harness.declare.mixed import in_one_spelling, of_denoiser
from harness.declare.models import models_of
from harness.declare.stage_candidates import as_candidates
from harness.hub import PREFIX
from harness.materialise.library import Library, adapters_of, files_of_checkpoint, frame_of, leaves, merges_of
from harness.materialise.live_references import REFERENCE_VERSION, by_content, encoder_file
from harness.materialise.merged_parts import opened, with_named_parts
from harness.merge import MERGE_METHODS
from harness.metrics.clip_reference import parsed, weights_of
from harness.post import POST_STEPS, files_of
from harness.post.colour_transfer import COLOUR_TRANSFER_VERSION
from harness.quantize.declared import identity_of, made_on_host
from harness.records import Weights
from harness.runtimes import identity_of as runtime_identity
from harness.samplers import called_by_diffusers
from harness.savers import SAVERS
from harness.text import WEIGHTINGS
from harness.weights.companion import folders_used

TREATMENT_VERSIONS: Final = {"hypernetwork": 1, "aesthetic": 1, "blocks": 2, "together": 2, "texts of flow models": 2,
                             "kept layers of flow models": 2, "arithmetic of integer modes": 1, "relay": 1, "ensemble": 1,
                             "stages": 1, "inpaint": 1, "relay in part": 1, "own pipeline": 1}
"""Increased when the same files give different numbers. It covers the block weights of adapters, several adapters of one
candidate, adapters for some of the steps, that texts of SD3 and Flux are embedded one by one, which of their layers the
integer modes keep, how these modes compute in 16 bits, and how models take turns or are averaged, how a stage
begins from the picture of the stage before, how a picture is changed where its mask is white, at which steps models take
turns where only the last steps are run, and how the pipeline that a folder names is called."""
STEP_CACHE_VERSION: Final = 1
"""Increases when a step cache gives other images."""
_IN_PARTS: Final = ("model", "adapters")
"""What of a stage is in the identity of the stage by itself."""


def weights_of_candidate(candidate: Candidate, library: Library, used: Mapping[str, frozenset[str]] | None = None) -> Weights:
    """The BLAKE3 of every input file, and one identity over these, the declaration and the versions of the arithmetic. The
    candidate's number format is its quantization (number_format.in_its_format). How it is sampled decides the keys of its images,
    and not this identity; how its later stages are sampled does. `used` are its `components_used`, for a stage those of all."""
    if candidate.stages:
        return _weights_of_stages(candidate, library)
    # Two spellings of one quantization or runtime make the same images, which are then made once.
    candidate = replace(candidate, quantization=in_one_spelling(candidate.quantization, NOT_QUANTIZED),
                        runtime=one_runtime(candidate.runtime))
    references = references_of(candidate)
    used = components_used(candidate, library) if used is None else used
    inputs = {reference: library.content(reference, used.get(reference)) for reference in references}
    # By the names of the parts: the same words mean other components of another model.
    model = _by_part_names(candidate.model, library)
    image_prompts = tuple(by_content(reference, inputs) for reference in candidate.references)
    content = _by_content(plain(replace(candidate, model=model, references=image_prompts,
                                        aesthetic=_aesthetic_by_content(candidate.aesthetic, inputs))), inputs)
    words = _words(candidate, library)
    library.refuse_changed(references)
    declared = {k: v for k, v in content.items() if k not in ("name", "axes", "precision", "sampling")}
    return Weights(candidate=candidate.name, inputs=inputs, identity=short_hash([
        declared, sorted(inputs.values()), _versions(candidate, library), identity_of(candidate.quantization),
        runtime_identity(candidate.runtime), *([words] if words else [])]))


def _aesthetic_by_content(given: AestheticGradient | None, inputs: Mapping[str, str]) -> AestheticGradient | None:
    """The same, with the content of a CLIP model of the hub in the place of its address, which names a commit."""
    inside = parsed(given.clip) if given is not None and PREFIX in given.clip else None
    return replace(given, clip=f"{inside.model}:{inputs[inside.file]}") if given is not None and inside is not None else given


def _weights_of_stages(candidate: Candidate, library: Library) -> Weights:
    """One identity over those of all stages and over what each later one says of its texts, its steps and its beginning."""
    used = components_used(candidate, library)
    stages = [weights_of_candidate(stage, library, used) for stage in as_candidates(candidate)]
    steps = _post_steps(candidate)
    files = files_of(steps)
    inputs = {reference: digest for stage in stages for reference, digest in stage.inputs.items()} | {
        file: library.content(file) for file in files}
    said = [{name: value for name, value in _by_content(plain(replace(stage, references=tuple(
        by_content(reference, inputs) for reference in stage.references))), inputs).items() if name not in _IN_PARTS}
            for stage in candidate.stages]
    return Weights(candidate=candidate.name, inputs=inputs, identity=short_hash([
        "stages", TREATMENT_VERSIONS["stages"], [stage.identity for stage in stages], said, _by_content(
            plain(candidate.post), inputs), _post_versions(steps), COLOUR_TRANSFER_VERSION if any(
                stage.colour for stage in candidate.stages) else 0, *_relays_in_part(candidate)]))


def _relays_in_part(candidate: Candidate) -> list[int]:
    """The version of how the models of a relay take turns in a later stage that runs a part of its steps, if there is one."""
    stages = zip(candidate.stages, as_candidates(candidate)[1:], strict=True)
    in_part = any(isinstance(own.model, Relay) and (stage.strength or 0) < 1 for stage, own in stages)
    return [TREATMENT_VERSIONS["relay in part"]] if in_part else []


def _post_steps(candidate: Candidate) -> tuple[PostStep, ...]:
    """All post-steps of a candidate, those between its stages included."""
    return (*candidate.post, *(step for stage in candidate.stages for step in stage.before))


def _post_versions(steps: Sequence[PostStep]) -> dict[str, int]:
    return {f"post {type(step).__name__}": POST_STEPS[type(step)].version for step in steps}


def _by_part_names(model: Model, library: Library) -> Model:
    if isinstance(model, Relay | Ensemble):
        return replace(model, models=tuple(with_named_parts(one, opened(one, library)) for one in model.models))
    return with_named_parts(model, opened(model, library))


def references_of(candidate: Candidate) -> tuple[str, ...]:
    """Every file and folder that a candidate is made of, as declared: models, also those that only give components, adapters,
    the config folder with its tokenizer, the aesthetic gradient and its CLIP model. Those of all stages."""
    if candidate.stages:
        steps = _post_steps(candidate)
        return tuple(dict.fromkeys([*(path for stage in as_candidates(candidate) for path in references_of(stage)),
                                    *files_of(steps)]))
    references = [*(file for leaf in leaves(candidate.model) for file in files_of_checkpoint(leaf)),
                  *(a.path for a in (*adapters_of(candidate.model), *candidate.adapters))]
    references += [control.path for control in candidate.controls]
    references += [file for reference in candidate.references for file in (reference.path, encoder_file(reference))]
    references += [config for model in models_of(candidate.model) if (config := frame_of(model).config)]
    if candidate.aesthetic is not None:
        references += [candidate.aesthetic.path, weights_of(candidate.aesthetic.clip)]
    references += files_of(candidate.post)
    return tuple(dict.fromkeys(references))


def components_used(candidate: Candidate, library: Library) -> dict[str, frozenset[str]]:
    """{base: the components that the candidate's models take from it}, without the folders that are models themselves too."""
    models = [leaf for stage in as_candidates(candidate) for leaf in leaves(stage.model)]
    used: dict[str, frozenset[str]] = {}
    for leaf in models:
        if leaf.base is not None:
            used[leaf.base] = used.get(leaf.base, frozenset()) | folders_used(library.open(leaf))
    whole = {leaf.path for leaf in models} | {leaf.config for leaf in models}
    return {base: components for base, components in used.items() if base not in whole}


def _words(candidate: Candidate, library: Library) -> list[list[str]]:
    """The words of the candidate's textual inversions, by adapter. Many files do not contain the word but are named after it,
    so renaming such a file makes a different candidate."""
    model = library.open(frame_of(candidate.model))
    tokens = [[e.token for e in library.adapter(adapter.path, model).embeddings] for adapter in candidate.adapters]
    return tokens if any(tokens) else []


def _versions(candidate: Candidate, library: Library) -> dict[str, int | list[int | str]]:
    """The version of every piece of arithmetic that the candidate uses."""
    versions: dict[str, int | list[int | str]] = {m.method: MERGE_METHODS.identity(m.method) for m in merges_of(candidate.model)}
    mode = of_denoiser(candidate.quantization)
    model = library.open(frame_of(candidate.model))
    if called_by_diffusers(model.pipeline or model.family):
        what = "own pipeline" if model.pipeline else "texts of flow models"
        versions[what] = TREATMENT_VERSIONS[what]
        if made_on_host(mode):
            versions["kept layers of flow models"] = TREATMENT_VERSIONS["kept layers of flow models"]
    if made_on_host(mode) and candidate.precision not in ("", NOT_QUANTIZED):
        versions["arithmetic of integer modes"] = [TREATMENT_VERSIONS["arithmetic of integer modes"], candidate.precision]
    if any((*adapters_of(candidate.model), *candidate.adapters)):
        versions |= {f"adapter {name}": kind.version for name, kind in KINDS.items()}
        versions["hypernetwork"] = TREATMENT_VERSIONS["hypernetwork"]
    frame = library.open(frame_of(candidate.model))
    if (strength := max((library.adapter(adapter.path, frame).strength_version for adapter in (
            *adapters_of(candidate.model), *candidate.adapters)), default=1)) > 1:
        versions["strength beside the factors"] = strength
    if any(adapter.blocks is not None for adapter in (*adapters_of(candidate.model), *candidate.adapters)):
        versions["blocks"] = TREATMENT_VERSIONS["blocks"]
    if len(candidate.adapters) > 1 or any((adapter.start, adapter.end) != (0, 1) for adapter in candidate.adapters):
        versions["together"] = TREATMENT_VERSIONS["together"]
    versions |= {"control": CONTROL_VERSION} if candidate.controls else {}
    versions |= {"reference": REFERENCE_VERSION} if candidate.references else {}
    versions |= {"inpaint": TREATMENT_VERSIONS["inpaint"]} if candidate.inpaint is not None else {}
    if any(isinstance(control.picture, Canny) for control in candidate.controls):
        versions["canny"] = EDGES_VERSION
    if candidate.emphasis is not None:
        versions[f"emphasis {candidate.emphasis.method}"] = WEIGHTINGS[candidate.emphasis.method].version
    if isinstance(candidate.model, Relay) and candidate.inpaint is not None and candidate.inpaint.strength < 1:
        versions["relay in part"] = TREATMENT_VERSIONS["relay in part"]
    if isinstance(candidate.model, Relay | Ensemble):
        kind = type(candidate.model).__name__.lower()
        versions[kind] = TREATMENT_VERSIONS[kind]
    if candidate.aesthetic is not None:
        versions["aesthetic"] = TREATMENT_VERSIONS["aesthetic"]
    versions |= {f"saver {name}": SAVERS[name].version for name in candidate.savers}
    versions |= {type(candidate.step_cache).__name__: STEP_CACHE_VERSION} if candidate.step_cache is not None else {}
    versions |= _post_versions(candidate.post)
    return versions


def _by_content(declaration: Any, inputs: dict[str, str]) -> Any:
    """A declaration with every file name replaced by the file's hash, so a renamed file gives the same candidate."""
    if isinstance(declaration, dict):
        return {key: _by_content(value, inputs) for key, value in declaration.items()}
    if isinstance(declaration, list):
        return [_by_content(value, inputs) for value in declaration]
    return inputs.get(declaration, declaration) if isinstance(declaration, str) else declaration
