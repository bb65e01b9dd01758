"""All problems of a suite that can be found before any work, at once and without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from harness.check.acting import idle_spans
from harness.check.budget_and_search import budget_problems, refine_remarks, search_problems
from harness.check.candidate import candidate_problems, prompts_adapter_problems, reference_problems
from harness.check.clip import clip_problems, default_problems
from harness.check.expected_time import expected
from harness.check.field_types import name_problem, shown, type_problems
from harness.check.guiding import map_size_problems, picture_problems, picture_remarks
from harness.check.image_prompts import agreement_problems, image_prompt_remarks
from harness.check.inpainting import inpaint_remarks, inpainted_problems
from harness.check.objective_and_gates import gate_problems, objective_problems
from harness.check.phrases import doubles, lookalikes, number, unknown
from harness.check.picture_settings import unused_settings
from harness.check.poses import pose_problems, pose_remarks
from harness.check.post import enlarged_too_far
from harness.check.prompt_adapters import prompt_adapter_problems, with_prompt_adapters
from harness.check.prompt_markup import brackets, phrases
from harness.check.prompt_words import invisible_characters, mistyped_weight, unknown_inversions
from harness.check.prompts import idle_negatives, prompt_problems, schedule_problems, shared_texts, syntax_problems
from harness.check.same_pictures import same_pictures
from harness.check.sampling import (
    candidate_sampling_problems,
    grid_sampling_problems,
    idle_grid_problems,
    pairing_problems,
    sampled_problems,
    size_problems,
    unpaired_gates,
)
from harness.check.savers import batched_cache_problems, idle_saver_problems, saver_remarks
from harness.check.secrets import secret_problems
from harness.check.several_models import alike_relays, hand_over_problems
from harness.check.stage_remarks import in_whole_steps, stage_remarks
from harness.check.stages import as_sampled, staged_sampling_problems
from harness.check.together import together
from harness.check.values import COLUMNS, value_for_metric
from harness.declare import Budget, Candidate, Gate, Grid, Objective, Search, Suite, grid_of, short_hash
from harness.declare.candidate_names import hint
from harness.declare.component_runtimes import EAGER, denoiser_runtime, runtime_of
from harness.declare.effective_grid import sampled_as, stage_grids, whole_grid
from harness.declare.grid import FIT, LOW_MEMORY
from harness.declare.listing import brief
from harness.declare.stage_candidates import as_candidates, steps_run
from harness.declare.stages import stage_name
from harness.declare.suite import (
    CALIBRATION,
    DEFAULT_CLIP,
    MOST_IMAGES,
    MOST_IN_BATCH,
    MOST_ROUNDS,
    MOST_SECONDS,
    ROUNDS_FOR_MEDIAN,
)
from harness.declare.syntax import PLAIN, SYNTAXES
from harness.metrics import METRICS
from harness.records.file_names import unusable_on_windows
from harness.records.harmless_text import without_secrets
from harness.records.values import SECONDS
from harness.samplers import SAMPLERS
from harness.text.occurrences import composed, occurrences

_Kind = TypeVar("_Kind")


def problems(suite: object, root: Path) -> list[str]:
    """One sentence per problem of `suite`; empty when it may run. Relative paths are resolved below `root`.

    Imports no code of the user: for a suite from a trusted author call `load_rows` first. Never raises: values are checked only
    in declarations whose fields all have their annotated types.
    """
    if not isinstance(suite, Suite):
        return [f"SUITE is a {type(suite).__name__}; expected harness.Suite(...)"]
    try:
        phrases = [*_problems(with_prompt_adapters(suite, root), root), *_named_adapters(suite, root)]
    except Exception as error:  # a suite file can hold any object, and its methods raise what they like
        phrases = [f"could not be checked: {shown(error)}"]
    label = shown(suite.name) if isinstance(suite.name, str) else "SUITE"
    return [brief(without_secrets(f"suite {label}: {phrase}")) for phrase in phrases]


def _hand_overs(suite: Suite) -> Iterator[tuple[str, str]]:
    yield from alike_relays(suite)
    for candidate in suite.candidates:
        strengths = [1.0 if candidate.inpaint is None else candidate.inpaint.strength, *(s.strength for s in candidate.stages)]
        for place, (stage, grid, strength) in enumerate(zip(
                as_candidates(candidate), stage_grids(suite, candidate), strengths, strict=True)):
            if number(strength) and 0 < (strength or 0) <= 1:  # else it is said of the strength
                label, run = f"{stage_name(place)}: " if place else "", steps_run(strength or 0, grid.steps)
                yield from ((repr(candidate.name), f"{label}{phrase}") for phrase in (
                    *hand_over_problems(stage, grid, run), *idle_spans(stage, run)))


def _named_adapters(suite: Suite, root: Path) -> Iterator[str]:
    if not isinstance(suite.grid, Grid) or any(type_problems(suite)):
        return
    if all(prompt.syntax in ("", *SYNTAXES) and not any(True for _ in syntax_problems(prompt)) for prompt in suite.grid.prompts):
        yield from prompt_adapter_problems(suite, root)


def remarks(suite: object, root: Path = Path()) -> list[str]:
    """What is worth a look in a suite that may run: a sentence each. Never raises, like `problems`."""
    try:
        prompts = suite.grid.prompts if isinstance(suite, Suite) else ()
        texts = [*filter(None, map(brackets, prompts)), *filter(None, map(mistyped_weight, prompts)),
                 *((*invisible_characters(suite), *unknown_inversions(suite, root), *picture_remarks(suite, root),
                    *inpaint_remarks(suite, root), *image_prompt_remarks(suite), *pose_remarks(suite),
                    *stage_remarks(suite, root), *_remarks(suite)) if isinstance(suite, Suite) else ())]
        return [f"suite {shown(suite.name)}: {text}" for text in texts]  # type: ignore[attr-defined]  # a Suite
    except Exception:  # see problems, which says what is wrong
        return []


def _remarks(suite: Suite) -> Iterator[str]:
    yield from idle_negatives(whole_grid(suite))
    yield from unused_settings(suite)
    yield from unpaired_gates(suite)
    yield from _same_steps(suite)
    yield from saver_remarks(suite)
    yield from same_pictures(suite)
    yield from refine_remarks(suite)
    timed = [gate.value for gate in suite.gates if gate.value == SECONDS.name]
    if timed and suite.latency_rounds < ROUNDS_FOR_MEDIAN and not suite.latency_budget_seconds:
        yield (f"the gate on {timed[0]} cannot be decided by {suite.latency_rounds} timed round"
               f"{'s' if suite.latency_rounds > 1 else ''}; set latency_rounds to at least {ROUNDS_FOR_MEDIAN}")


def _same_steps(suite: Suite) -> Iterator[str]:
    """Candidates that differ only in shares of the steps which round to the same steps."""
    earlier: dict[str, tuple[str, str]] = {}
    for candidate in suite.candidates:
        declared, rounded = (_made_of(suite, one) for one in (candidate, in_whole_steps(suite, candidate)))
        name, other = earlier.setdefault(rounded, (candidate.name, declared))
        if name != candidate.name and other != declared:
            yield (f"candidates {name!r} and {candidate.name!r} differ only in start or end, which are shares of the steps and "
                   "round to the same steps, so every picture is made twice; move them further apart, or sample with more steps")


def extent(suite: object, runs: Path | None = None, device: str = "cpu") -> str:
    """How much a sound suite is: its candidates and images, and how long these take by what earlier runs below `runs` took. With
    a budget the images are the most that it takes."""
    assert isinstance(suite, Suite)
    count, images = len(suite.candidates), suite.images
    most = images if suite.budget is None else min(images, suite.budget.images or images)
    how_long = "" if runs is None else f"; {expected(suite, most, runs, device)}"
    if suite.budget is not None:
        limit = f" within {suite.budget.minutes:g} min," if suite.budget.minutes else ","
        return f"{suite.name}: {count} candidates{limit} at most {most:,} images, and those of candidates that it adds{how_long}"
    return f"{suite.name}: {count} candidate{'s' if count > 1 else ''}, {images:,} image{'s' if images > 1 else ''}{how_long}"


def same_name(suite: object, others: Sequence[tuple[object, str]]) -> list[str]:
    """A sentence for each of the other suites, given with their files, that would share the suite's run folder. Upper and lower
    case are the same: on some disks they name the same folder."""
    if not isinstance(suite, Suite) or not isinstance(suite.name, str):
        return []
    return [f"suite {shown(suite.name)}: {file} declares the name {shown(other.name)} too, and both would share one run folder; "
            "rename one of them" for other, file in others
            if isinstance(other, Suite) and isinstance(other.name, str) and other.name.casefold() == suite.name.casefold()]


def model_problems(model: object, root: Path) -> list[str]:
    """One sentence per problem of a checkpoint or merge outside a suite. Relative paths are resolved below `root`.

    Never raises, like `problems`.
    """
    try:
        candidate = Candidate(name="model", model=model)  # type: ignore[arg-type]  # any object: its type is checked first
        return list(type_problems(candidate)) or list(dict.fromkeys(reference_problems(candidate.model, root)))
    except Exception as error:  # see problems
        return [f"the model could not be checked: {shown(error)}"]


def _problems(suite: Suite, root: Path) -> Iterator[str]:
    outside = list(type_problems(suite, inner=False))
    yield from outside
    inside = False
    listed: list[tuple[str, str]] = []
    for place, candidate in enumerate(_listed(suite.candidates, Candidate)):
        label = shown(candidate.name) if isinstance(candidate.name, str) else f"number {place + 1}"
        phrases = list(type_problems(candidate))
        inside = inside or bool(phrases)
        phrases = phrases or [*candidate_problems(candidate, root), *_axes(candidate), *_beside_the_grid(candidate, suite.grid)]
        listed += [(label, phrase) for phrase in dict.fromkeys(phrases)]
    yield from together(listed)
    unsound = bool(outside) or inside
    if isinstance(suite.grid, Grid):
        phrases = list(type_problems(suite.grid))
        unsound = unsound or bool(phrases)
        yield from (f"grid: {phrase}" for phrase in phrases or (*_grid(suite.grid), *grid_sampling_problems(suite.grid)))
    if not outside:
        yield from _metrics(suite)
    mistyped = False
    if isinstance(suite.objective, Objective):
        phrases = list(type_problems(suite.objective))
        mistyped = bool(phrases)
        yield from (f"objective: {phrase}" for phrase in phrases or ([] if outside else objective_problems(suite)))
    if not unsound and suite.images > MOST_IMAGES:
        yield f"declares {suite.images} images; expected at most {MOST_IMAGES}. Use fewer candidates, prompts, seeds or scales"
    names = [c.name for c in _listed(suite.candidates, Candidate) if isinstance(c.name, str)]
    for place, gate in enumerate(_listed(suite.gates, Gate)):
        phrases = list(type_problems(gate))
        inside = inside or bool(phrases)
        label = f"number {place + 1}" if phrases else repr(gate.name)
        yield from (f"gate {label}: {phrase}" for phrase in phrases or ([] if outside else gate_problems(gate, suite, names)))
    yield from _spending(suite, root, unsound)
    if not unsound:
        yield from together(_emphasis(suite))
        yield from schedule_problems(suite)
        yield from together(prompts_adapter_problems(suite, root))
        yield from together(candidate_sampling_problems(suite))
        yield from together(staged_sampling_problems(suite))
        yield from together(_hand_overs(suite))
        yield from together(idle_saver_problems(suite))
        yield from together(picture_problems(suite, root))
        yield from together(inpainted_problems(suite, root))
        yield from together([(repr(c.name), why) for c in suite.candidates if (why := enlarged_too_far(suite, c))])
        yield from (*idle_grid_problems(suite), *size_problems(suite))
        yield from (f"grid: {phrase}" for phrase in shared_texts(whole_grid(suite)))
    if not outside and not inside:
        yield from _suite(suite, root)
        yield from () if unsound else secret_problems(suite)
        # What these say, the objective's values decide.
        yield from () if unsound or mistyped else (*pairing_problems(suite), *map_size_problems(suite),
                                                   *agreement_problems(suite), *pose_problems(suite, root))


def _spending(suite: Suite, root: Path, unsound: bool) -> Iterator[str]:
    """Problems of budget and search. More than their types is checked only if candidates and grid have the right types."""
    if isinstance(suite.budget, Budget):
        phrases = list(type_problems(suite.budget))
        yield from (f"budget: {phrase}" for phrase in phrases or ([] if unsound else budget_problems(suite, suite.budget)))
    if isinstance(suite.search, Search):
        phrases = list(type_problems(suite.search))
        yield from (f"search: {phrase}" for phrase in phrases or ([] if unsound else search_problems(suite, suite.search, root)))


def _name(name: str) -> Iterator[str]:
    if not name or not all(ch.isalnum() or ch in "-_." for ch in name) or name.startswith("."):
        yield f"the name {name!r} names a folder; use only letters, digits, '-', '_' and '.', and no '.' at the start"
    elif trouble := name_problem(name):
        yield f"the name {trouble}"
    elif wrong := unusable_on_windows(name):
        yield f"the name {name!r} names a folder, and {wrong}; choose another"
    elif name.casefold().endswith(CALIBRATION):
        yield f"the name {name!r} ends in {CALIBRATION}, as the folders of `sweetspot calibrate` do; choose another"


def _suite(suite: Suite, root: Path) -> Iterator[str]:
    yield from _name(suite.name)
    names = [c.name for c in suite.candidates]
    if not names:
        yield "no candidates are declared"
    yield from doubles("candidate", names)
    yield from lookalikes("candidate", names)
    keys = {candidate.name: _made_of(suite, candidate) for candidate in suite.candidates}
    first: dict[str, str] = {}
    for candidate in suite.candidates:
        if (other := first.setdefault(keys[candidate.name], candidate.name)) != candidate.name:
            yield f"candidate {candidate.name!r} duplicates {other!r}: both give the same images; remove one"
    if names and suite.baseline not in names:
        yield f"the baseline {suite.baseline!r} is not a candidate; {hint(suite.baseline, names)}"
    yield from _values(suite)
    yield from default_problems(suite)
    yield from clip_problems(suite.clip, root)
    rows = [row for name in suite.metrics if (row := METRICS.find(name)) is not None]
    if suite.clip != DEFAULT_CLIP and not any(row.needs_clip for row in rows):
        yield f"clip is {suite.clip!r}, but no metric uses it; add 'clip_score' to metrics, or remove clip"
    yield from _styles(suite)
    yield from doubles("gate", [g.long_name for g in suite.gates])
    if not 1 <= suite.latency_rounds <= MOST_ROUNDS:
        yield f"latency_rounds is {suite.latency_rounds!r}; expected an integer from 1 to {MOST_ROUNDS:,}"
    if not 0 <= suite.largest_batch <= MOST_IN_BATCH:
        yield (f"largest_batch is {suite.largest_batch!r}; expected a batch size up to {MOST_IN_BATCH:,}, or 0 to measure no "
               "batch sizes")
    if not number(suite.latency_budget_seconds) or not 0 <= suite.latency_budget_seconds <= MOST_SECONDS:
        yield (f"latency_budget_seconds is {suite.latency_budget_seconds!r}; expected a number from 0 to "
               f"{MOST_SECONDS:,}, a week")


def _made_of(suite: Suite, candidate: Candidate) -> str:
    """A hash of all that makes a candidate's images: a value of its own that the grid has too makes no other ones."""
    if not isinstance(suite.grid, Grid) or any(type_problems(suite.grid)):
        return candidate.key
    grid = grid_of(suite, candidate)
    sampled = sampled_as(grid)
    if grid.sampler in SAMPLERS and sampled.get("eta") == SAMPLERS[grid.sampler].eta:
        sampled.pop("eta", None)
    if candidate.stages and candidate.model != "" and not any(type_problems(candidate)):
        later = as_sampled(suite, candidate)
        return short_hash([replace(candidate, sampling=None, stages=()).key, sampled, grid.guidance_scales, later])
    return short_hash([replace(candidate, sampling=None).key, sampled, grid.guidance_scales])


def _metrics(suite: Suite) -> Iterator[str]:
    """Before what depends on them: a misspelt metric is the cause of what the objective lacks."""
    if not suite.metrics:
        yield "no metrics are declared"
    yield from doubles("metric", suite.metrics)
    yield from filter(None, (value_for_metric(name) or METRICS.why_not(name) for name in suite.metrics))


def _values(suite: Suite) -> Iterator[str]:
    """Problems of the user's metrics: values whose name is already used."""
    giving: dict[str, str] = {}
    for name in (metric for metric in suite.metrics if METRICS.find(metric) is not None):
        for spec in METRICS[name].values:
            if spec.name in giving:
                yield f"metrics {giving[spec.name]!r} and {name!r} both give {spec.name!r}; rename the value of one of them"
            elif name not in METRICS and spec.name in COLUMNS:
                yield f"metric {name!r} gives {spec.name!r}, but this name is already used; rename the value"
            giving.setdefault(spec.name, name)
    for candidate in suite.candidates:
        yield from (f"candidate {candidate.name!r}: axis {axis!r} has the name of a value of {giving[axis]!r}; expected another, "
                    f"like 'my_{axis}'" for axis in candidate.axes if axis in giving and axis not in COLUMNS)


def _emphasis(suite: Suite) -> Iterator[tuple[str, str]]:
    """(candidate, phrase) for every emphasised phrase that no prompt contains, so that it would have no effect."""
    texts = [composed(prompt.text) for prompt in suite.grid.prompts]
    marked = next((prompt for prompt in suite.grid.prompts if prompt.syntax not in ("", PLAIN)), None)
    for candidate in suite.candidates:
        if candidate.emphasis is not None and marked is not None:
            yield shown(candidate.name), (
                f"emphasis weighs words of plain prompts, but prompt {marked.id!r} has the syntax {marked.syntax!r}; write the "
                "weights into the prompts, or remove emphasis")
            continue
        for word in candidate.emphasis.weights if candidate.emphasis is not None else ():
            if word.strip() and not any(occurrences([word], text) for text in texts):
                yield shown(candidate.name), (
                    f"emphasis: the word {word!r} is in no prompt of the suite, so it would have no effect; write it into a "
                    "prompt as it is spelled here, or remove it")


def _styles(suite: Suite) -> Iterator[str]:
    if suite.styles and not any(row.uses_styles for name in suite.metrics if (row := METRICS.find(name)) is not None):
        yield "styles are given, but no metric uses them; add 'styles' to metrics, or remove them"
    if "styles" in suite.metrics and len(suite.styles) < 2:
        yield f"the metric 'styles' needs at least two entries in styles; {len(suite.styles)} given"
    for name, text in suite.styles.items():
        if trouble := name_problem(name):
            yield f"the style {trouble}"
        elif not text.strip():
            yield f"the style {name!r} has no text; give one such as 'an anime drawing'"
        else:
            yield from (f"the style {name!r}: {phrase}" for phrase in phrases(text, negative=True))


def _axes(candidate: Candidate) -> Iterator[str]:
    for axis, value in candidate.axes.items():
        if not isinstance(value, str) and not number(value):
            yield f"axis {axis!r} is {value!r}; expected a finite number or a word"
        if trouble := name_problem(axis):
            yield f"the axis name {trouble}"
        elif axis in COLUMNS:
            yield f"axis {axis!r}: a column of the result tables has this name; rename the axis, for example 'my_{axis}'"


def _grid(grid: Grid) -> Iterator[str]:
    for name in ("prompts", "seeds", "guidance_scales"):
        if not getattr(grid, name):
            yield f"{name} is empty"
    yield from prompt_problems(grid)
    yield from doubles("seed", grid.seeds)
    for seed in grid.seeds:
        if seed < 0:
            yield (f"seed {seed}: expected an integer of at least 0. Elsewhere -1 asks for a random seed; here every seed is "
                   "fixed, so that candidates start from the same noise")
    yield from sampled_problems(grid)
    yield from unknown("low_memory measure", grid.low_memory, LOW_MEMORY)
    yield from doubles("low_memory measure", grid.low_memory)
    if isinstance(grid.batch_size, str):
        if grid.batch_size != FIT:
            yield f"batch_size is {grid.batch_size!r}; expected an integer of at least 1, or {FIT!r}"
    elif not 1 <= grid.batch_size <= MOST_IN_BATCH:
        yield f"batch_size is {grid.batch_size!r}; expected an integer from 1 to {MOST_IN_BATCH:,}"


def _beside_the_grid(candidate: Candidate, grid: object) -> Iterator[str]:
    yield from batched_cache_problems(candidate, grid) if isinstance(grid, Grid) else ()
    measures = grid.low_memory if isinstance(grid, Grid) and isinstance(grid.low_memory, tuple) else ()
    if "denoiser_on_host" in measures and (runtime := denoiser_runtime(candidate.runtime)) != EAGER:
        yield (f"runtime is {runtime!r}, but the grid's low_memory lends single layers to the GPU, which only 'eager' "
               "can run; remove 'denoiser_on_host' from low_memory, or the runtime")
    if "tiled_decoding" in measures and (runtime := runtime_of(candidate.runtime, "vae")) != EAGER:
        yield (f"runtime of vae is {runtime!r}, but the grid's low_memory decodes in tiles, which only 'eager' can; remove "
               "'tiled_decoding' from low_memory, or the runtime of vae")


def _listed(items: object, kind: type[_Kind]) -> list[_Kind]:
    return [item for item in items if isinstance(item, kind)] if isinstance(items, tuple) else []
