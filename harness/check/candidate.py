"""All problems of one candidate that can be found before any file is opened: its model, its adapters, its text treatments,
missing files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from harness import zoo
from harness.check.alphas import Range, alpha_problems
from harness.check.clip import clip_problems
from harness.check.field_types import name_problem
from harness.check.files import file_problem, hub_problems
from harness.check.guiding import control_problems
from harness.check.image_prompts import image_prompt_problems
from harness.check.inpainting import inpaint_problems
from harness.check.merge import merge_problems
from harness.check.phrases import number, unknown
from harness.check.post import post_problems
from harness.check.quantization import quantization_problems
from harness.check.runtime import runtime_problems
from harness.check.savers import saver_problems
from harness.check.several_models import several_models_problems
from harness.check.sizes import size_problem
from harness.check.stages import first_stage_problems, later_stage_problems
from harness.declare import Adapter, Candidate, Checkpoint, Control, Ensemble, Fused, Merge, Model, Reference, Relay, Suite
from harness.declare.candidate import NOT_QUANTIZED, NUMBER_FORMATS
from harness.declare.component_runtimes import runtimes_in
from harness.declare.mixed import of_denoiser
from harness.declare.models import models_of
from harness.declare.nearest import closest
from harness.declare.prompt_groups import groups_of
from harness.declare.syntax.parsed import LARGEST_WEIGHT
from harness.hub import PREFIX, identity_of, place
from harness.quantize.declared import made_on_host
from harness.runtimes import RUNTIMES
from harness.text import WEIGHTINGS
from harness.text.occurrences import occurrences

CONFIG: Final = "zoo:config"
_EXPECTED_WEIGHT: Final = f"expected a number from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"


def candidate_problems(candidate: Candidate, root: Path) -> Iterator[str]:
    """One phrase per problem of a candidate whose fields have the right types. Axes are checked with the suite."""
    if trouble := name_problem(candidate.name):
        yield f"the name {trouble}"
    if first := list(first_stage_problems(candidate)):
        yield from first
        return
    yield from _sampled_model(candidate.model, root)
    yield from quantization_problems(candidate)
    yield from filter(None, map(RUNTIMES.why_not, runtimes_in(candidate.runtime)))
    yield from _precision(candidate)
    yield from saver_problems(candidate)
    yield from runtime_problems(candidate)
    yield from _adapters(candidate.adapters, root)
    yield from _controls(candidate.controls, root)
    yield from _references(candidate.references, root)
    yield from inpaint_problems(candidate.inpaint) if candidate.inpaint is not None else ()
    yield from _treatments(candidate, root)
    yield from later_stage_problems(candidate, root)
    yield from post_problems(candidate.post, root, 1 + len(candidate.stages))
    for nth, stage in enumerate(candidate.stages, 2):
        phrases = (*(_sampled_model(stage.model, root) if stage.model else ()), *_adapters(stage.adapters, root),
                   *_controls(stage.controls, root, later=True), *_references(stage.references, root))
        yield from (f"stage {nth}: {phrase}" for phrase in phrases)


def _sampled_model(model: Model, root: Path) -> Iterator[str]:
    yield from reference_problems(model, root)
    # The configs of a merge are those of its first model. A merge that is not sampled needs none.
    yield from filter(None, (size_problem(next(_checkpoints(one)), root) for one in models_of(model)))


def _precision(candidate: Candidate) -> Iterator[str]:
    precision, mode = candidate.precision, of_denoiser(candidate.quantization)
    if not precision:
        return
    yield from unknown("precision", [precision], NUMBER_FORMATS)
    if mode in NUMBER_FORMATS:
        if mode not in (NOT_QUANTIZED, precision):
            yield f"precision is {precision!r} and quantization {mode!r}, which are two number formats; give one of them"
    elif precision != NOT_QUANTIZED and not made_on_host(mode):
        yield (f"precision is {precision!r}, but {mode} computes in fp32; remove precision, or measure {precision} without "
               "quantization")


def _controls(controls: Collection[Control], root: Path, later: bool = False) -> Iterator[str]:
    for path in dict.fromkeys(control.path for control in controls):
        yield from _file("control", path, root)
    yield from control_problems(controls, later=later)


def _references(references: Collection[Reference], root: Path) -> Iterator[str]:
    for path in dict.fromkeys(reference.path for reference in references):
        yield from _file("reference", path, root)
    yield from image_prompt_problems(references, root)


def _adapters(adapters: Collection[Adapter], root: Path, fused: bool = False) -> Iterator[str]:
    for adapter in adapters:
        yield from _file("adapter", adapter.path, root)
        yield from (f"adapter {adapter.path!r}: {phrase}" for phrase in _adapter(adapter, fused))
    yield from _overlaps(adapters, root)


def prompts_adapter_problems(suite: Suite, root: Path) -> Iterator[tuple[str, str]]:
    """The adapters that single prompts bring, each with the label of what has the problem: they are refused like those of
    candidates, and beside each candidate's own."""
    for group in groups_of(Candidate(name=""), suite.grid.prompts):
        alone = list(dict.fromkeys(_adapters(group.adapters, root)))
        yield from ((f"prompt {name!r}", phrase) for phrase in alone for name in group.prompts)
        if not alone and group.adapters:
            for candidate in suite.candidates:
                both = (*candidate.adapters, *group.adapters)
                yield from ((repr(candidate.name), f"with the adapters of prompt {group.prompts[0]!r}, {phrase}")
                            for phrase in _overlaps(both, root))


def _adapter(adapter: Adapter, fused: bool) -> Iterator[str]:
    if not _is_weight(adapter.weight):
        yield f"weight is {adapter.weight!r}; {_EXPECTED_WEIGHT}"
    if adapter.blocks is not None:
        yield from alpha_problems(adapter.blocks, Range(word="blocks", whose="an adapter", low=-LARGEST_WEIGHT,
                                                        high=LARGEST_WEIGHT))
    if not (number(adapter.start) and number(adapter.end) and 0 <= adapter.start < adapter.end <= 1):
        yield f"start is {adapter.start!r} and end {adapter.end!r}; expected shares of the steps, 0 <= start < end <= 1"
    elif fused and (adapter.start, adapter.end) != (0, 1):
        yield "start and end are given, but a fused adapter acts at every step. Move it to the candidate's adapters"


def _is_weight(value: float) -> bool:
    return number(value) and abs(value) <= LARGEST_WEIGHT


def _overlaps(adapters: Collection[Adapter], root: Path) -> Iterator[str]:
    """Adapter files that are given more than once for the same step, and so would act at twice the strength."""
    # By file, not by spelling: "l.safetensors", "./l.safetensors" and a link to it are the same.
    files: dict[str, list[Adapter]] = {}
    for adapter in adapters:
        files.setdefault(identity_of(adapter.path, root), []).append(adapter)
    for uses in files.values():
        uses.sort(key=lambda adapter: adapter.start)
        if any(before.end > after.start for before, after in pairwise(uses)):
            names = list(dict.fromkeys(repr(adapter.path) for adapter in uses))
            yield (f"adapter {names[0]} is given {len(uses)} times{', also as ' if names[1:] else ''}{', '.join(names[1:])}; it "
                   "would act more strongly than either weight says. Give it once, or for other steps")


def _treatments(candidate: Candidate, root: Path) -> Iterator[str]:
    if candidate.emphasis is not None:
        yield from unknown("emphasis method", [candidate.emphasis.method], WEIGHTINGS)
        for word, weight in candidate.emphasis.weights.items():
            if not word.strip():
                yield f"emphasis: the word {word!r} is empty"
            if not _is_weight(weight):
                yield f"emphasis of {word!r} is {weight!r}; {_EXPECTED_WEIGHT}"
        try:
            occurrences((word for word in candidate.emphasis.weights if word.strip()), "")
        except ValueError as error:
            yield f"emphasis: {error}"
        if not candidate.emphasis.weights:
            yield "emphasis names no words; remove it, or give weights={'blue': 0.7}"
    if (aesthetic := candidate.aesthetic) is not None:
        yield from (f"aesthetic: {phrase}" for phrase in (*_file("aesthetic gradient", aesthetic.path, root),
                                                      *clip_problems(aesthetic.clip, root, scores=False)))
        if aesthetic.steps < 0:
            yield f"aesthetic: steps is {aesthetic.steps}; expected an integer of at least 0"
        if not number(aesthetic.weight) or not 0 <= aesthetic.weight <= 1:
            yield f"aesthetic: weight is {aesthetic.weight!r}; expected a number from 0 to 1"
        if not number(aesthetic.rate) or aesthetic.rate <= 0:
            yield f"aesthetic: rate is {aesthetic.rate!r}; expected a number above 0"


def reference_problems(model: Model, root: Path) -> Iterator[str]:
    """One phrase per problem of a model: missing files, and problems of its merges."""
    if isinstance(model, str):
        yield from _file("model", model, root)
    elif isinstance(model, Checkpoint):
        yield from _file("model", model.path, root)
        yield from _config(model.config, root) if model.config not in (None, CONFIG) else ()
        yield from _base(model, root)
    elif isinstance(model, Fused):
        if not model.adapters:
            yield "a fused model names no adapters"
        yield from _adapters(model.adapters, root, fused=True)
        yield from reference_problems(model.model, root)
    elif isinstance(model, Relay | Ensemble):
        yield from several_models_problems(model)
        for part in model.models:
            yield from reference_problems(part, root)
    else:
        yield from merge_problems(model)
        yield from _idle_configs(model)
        for parent in (*model.models, *model.take.values()):
            yield from reference_problems(parent, root)


def _base(model: Checkpoint, root: Path) -> Iterator[str]:
    """Problems of a checkpoint's companion folder."""
    if model.base is None:
        return
    if model.config is not None:
        yield (f"model {model.path!r} has both base={model.base!r} and config={model.config!r}; its configs are those of the "
               "base. Remove config")
    if model.base.startswith(PREFIX):
        yield from (f"base {model.base!r}: {phrase}" for phrase in hub_problems(model.base))
    elif model.base.startswith("zoo:") and model.base not in zoo.NAMES:
        yield from unknown("base of the zoo", [model.base], zoo.NAMES)
    elif not _there(place(model.base, root), folder=True):
        yield f"base {model.base!r} is not a folder below {root}; give the diffusers folder of a model of the same architecture"


def _config(config: str | None, root: Path) -> Iterator[str]:
    if str(config).startswith(PREFIX):
        yield from (f"config {config!r}: {phrase}" for phrase in hub_problems(str(config), weights=False))
    elif not _there(root / str(config), folder=True):
        yield f"config {config!r} is not a folder below {root}; give a folder of diffusers configs, or {CONFIG!r}"


def _idle_configs(merge: Merge) -> Iterator[str]:
    """Configs of models that are not A, whose configs the result has. The same config may stand with all of them."""
    first, *others = _checkpoints(merge)
    for other in others:
        if other.config not in (None, first.configs, CONFIG if first.path.startswith("zoo:") else None):
            yield (f"config {other.config!r} of {other.path!r} has no effect: the result is sampled by the config of A, "
                   f"{first.path!r}{f' ({first.configs})' if first.configs else ''}. Give A that config, or remove it")


def _checkpoints(model: Model) -> Iterator[Checkpoint]:
    """The checkpoints of a recipe, the leftmost first."""
    if isinstance(model, Merge):
        for parent in (*model.models, *model.take.values()):
            yield from _checkpoints(parent)
    elif isinstance(model, Fused):
        yield from _checkpoints(model.model)
    elif isinstance(model, Relay | Ensemble):
        for part in model.models:
            yield from _checkpoints(part)
    else:
        yield model if isinstance(model, Checkpoint) else Checkpoint(path=model)


_ZOO_KINDS: Final = {"model": "a checkpoint", "adapter": "an adapter", "control": "a control network",
                     "reference": "an IP-Adapter", "clip": "a CLIP model", "config": "a folder of configs"}
"""What a member of the zoo is, by its kind."""


def _file(kind: str, reference: str, root: Path) -> Iterator[str]:
    if reference.startswith("zoo:"):
        yield from unknown(f"{kind} of the zoo", [reference], zoo.NAMES)
        if (known := zoo.kind_of(reference)) in _ZOO_KINDS and kind in _ZOO_KINDS and known != kind:
            of_kind = [name for name in zoo.NAMES if zoo.kind_of(name) == kind]
            yield (f"{kind} {reference!r} is {_ZOO_KINDS[known]}; expected {_ZOO_KINDS[kind]}, such as {of_kind[0]!r}")
    elif reference.startswith(PREFIX):
        if phrases := list(hub_problems(reference)):
            yield from (f"{kind} {reference!r}: {phrase}" for phrase in phrases)
        elif wrong := file_problem(kind, place(reference, root)):
            yield f"{kind} {reference!r}: {wrong}"
    elif reference and not _there(root / reference) and _is_link(root / reference):
        yield f"{kind} {reference!r}: {file_problem(kind, root / reference)}"
    elif not reference or not _there(root / reference):
        folder = (root / reference).parent
        beside = [p.name for p in folder.iterdir() if _there(p)] if _there(folder, folder=True) else []  # a link may lead nowhere
        close = closest(Path(reference).name, beside, cutoff=0.6)
        hint = f"; {close[0]!r} does" if close else "; ~ and variables are not replaced in a suite, so write the whole path" if (
            reference.startswith("~") or "$" in reference) else ""
        yield f"{kind} file {reference!r} does not exist below {root}{hint}"
    elif wrong := file_problem(kind, root / reference):
        yield f"{kind} {reference!r}: {wrong}"


def _there(path: Path, folder: bool = False) -> bool:
    try:
        return path.is_dir() if folder else path.exists()
    except (OSError, ValueError):  # a name that is too long, a folder we may not read
        return False


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):  # as above
        return False
