"""Plans a recipe: from which tensors of which files each tensor of the result is computed, with which numbers, and what
prevents it. No weight is read but the one by which Stable Diffusion 2 shows what it predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from harness.adapters import AdapterError, Reading
from harness.declare import Alpha, Alphas, Blocks, Checkpoint, Fused, Merge, Model, short_hash
from harness.declare.listing import LONGEST_MESSAGE, first_of
from harness.declare.models import one_recipe
from harness.declare.ways_out import AS_FP16, EMA, FORCE_EMA, KEEP_A
from harness.materialise.adapter_expressions import refuse_unfusible, weights_of, with_adapter
from harness.materialise.denoiser_kind import denoiser_kind, foreign_prediction, refuse_unlike, refuse_unlike_kinds
from harness.materialise.library import (
    Library,
    MaterialiseError,
    checkpoint_of,
    frame_of,
    fusings_of,
    leaves,
    merges_of,
    name_of,
)
from harness.materialise.matching_keys import architecture_of, keys_in_common, match_note, refuse_unlike_architectures
from harness.materialise.merged_parts import guesses, opened, with_named_parts
from harness.materialise.other_spellings import keys_elsewhere, nearest_spelling
from harness.materialise.recipe_plan import PartPlan, RecipePlan, Stored
from harness.materialise.whole_names import component_names, denoiser_names
from harness.merge import MERGE_METHODS, Call, Expression, Merged, Source, plan_merge, simplified
from harness.merge.alpha_by_key import ByKey, WhereError, alphas_by_key
from harness.merge.blocks import NONE
from harness.merge.depth import pattern_of_layer
from harness.merge.expression import altered
from harness.merge.match_keys import MergePlan, model_names
from harness.merge.requested import Requested, requested_alphas, unmet
from harness.weights import ModelFile, TensorInfo
from harness.weights.gguf_types import PACKED
from harness.weights.quantized_codes import refuse_codes
from harness.weights.structural import COMPONENT

DTYPES: Final = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
_SHOWN: Final = 5


@dataclass(kw_only=True)
class _Draft:
    keys: dict[str, Expression]
    stored: dict[str, Stored]
    plans: list[MergePlan] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blocks: list[tuple[str, str, float, int]] = field(default_factory=list)
    apart: frozenset[str] = frozenset()
    """Keys that the block weights' convention excludes from the merge."""


def plan_recipe(model: Model, library: Library) -> RecipePlan:
    """The plan of a checkpoint or a (nested) merge.

    Raises ModelFileError for a file that cannot be used, and MaterialiseError for whatever stands in the merge's way:
    keys without counterpart, other shapes, other families or predictions, and parts, patterns and block weights that apply to no
    tensor.
    """
    frame, recipe = frame_of(model), one_recipe(model)
    files = opened(recipe, library)
    model = with_named_parts(recipe, files)
    _refuse_strangers(model, files)
    taken_parts = [part for merge in merges_of(model) for part in merge.take]
    components = list(dict.fromkeys([*files[name_of(frame)].components, *taken_parts]))
    planner = _Planner(files, library)
    parts = {component: _finish(component, planner.draft(model, component), model) for component in components}
    requested = planner.requested(model)
    if problems := unmet(requested):
        raise MaterialiseError(f"merging into {name_of(frame)}: {problems[0]}")
    precision = "fp64" if any(merge.precision == "fp64" for merge in merges_of(model)) else "auto"
    readings = _readings(model, files, library)
    return RecipePlan(model=model, frame=frame, files=files, parts=parts, precision=precision, requested=tuple(requested),
                      adapters={path: reading.keys for path, reading in readings.items()},
                      adapter_notes={adapter.path: _assumed(readings[adapter.path], fused, files)
                                     for fused in fusings_of(model) for adapter in fused.adapters})


def _assumed(reading: Reading, fused: Fused, files: Mapping[str, ModelFile]) -> tuple[str, ...]:
    family = files[name_of(frame_of(fused))].family
    return (*reading.warnings, *reading.notes, *foreign_prediction(reading, denoiser_kind(fused.model, files), family))


def _readings(model: Model, files: Mapping[str, ModelFile], library: Library) -> dict[str, Reading]:
    """Every fused adapter by path. Raises MaterialiseError for a tensor that cannot be applied to its layer, because the fused
    file would lack it permanently."""
    readings = {}
    for fused in fusings_of(model):
        for adapter in fused.adapters:
            reading = library.adapter(adapter.path, files[name_of(frame_of(fused))])
            refused = [key for statuses in reading.keys.values() for key in statuses.get("refused", ())]
            if refused:
                more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
                raise MaterialiseError(f"{adapter.path}: {refused[0]!r} cannot be applied ({reading.reasons.get(refused[0], '')})"
                                       f"{more}. Remove these tensors from the adapter, or use another adapter")
            readings[adapter.path] = reading
    return readings


class _Planner:
    """Walks a recipe once for each component, and records what the patterns of its alphas matched."""

    def __init__(self, files: Mapping[str, ModelFile], library: Library) -> None:
        self.files, self.library = files, library
        self._alphas: dict[str, list[ByKey]] = {}
        self._merged: Counter[str] = Counter()
        self._other_names: dict[str, dict[str, dict[str, frozenset[str]]]] = {}

    def draft(self, model: Model, component: str) -> _Draft:
        if isinstance(model, Fused):
            return self._fused(model, component)
        if not isinstance(model, Merge):
            return self._leaf(checkpoint_of(model), component)
        if component in model.take:
            self._refuse_odd(model, component, [model.take[component]])
            draft = self.draft(model.take[component], component)
            self._refuse_unlike(model, component, draft)
            draft.notes.append(f"{component}: taken whole from {name_of(frame_of(model.take[component]))}")
            return draft
        if component not in model.parts:
            return self.draft(model.a, component)
        self._refuse_odd(model, component, model.models)
        drafts = [self.draft(parent, component) for parent in model.models]
        for draft, name in zip(drafts[1:], (name_of(frame_of(parent)) for parent in model.models[1:]), strict=True):
            if odd := self.files[name].odd.get(component, ()):
                draft.notes.append(f"{component}: left out of {name}, as no {component} has such tensors: {first_of(odd)}")
        row = MERGE_METHODS[model.method]
        names = model_names(len(drafts), model.c is not None)
        plan = plan_merge(component, [draft.stored for draft in drafts], names, missing=model.missing)
        if problems := plan.problems():
            who = first_of([repr(name_of(frame_of(parent))) for parent in model.models], between=" and ")
            counts = keys_in_common({name_of(frame_of(parent)): self.files[name_of(frame_of(parent))] for parent in model.models}
                                    ) if component == COMPONENT else ""
            raise MaterialiseError(f"merging {who}: {counts}{first_of(problems, between=' ', longest=LONGEST_MESSAGE)}")
        alpha = self._numbers(model, "alpha", component, plan) if row.alpha_range else None
        beta = self._numbers(model, "beta", component, plan) if row.beta_range else None
        # The merge's own numbers are ignored: the survey reads the models before this merge.
        group = short_hash([component, model.method, list(model.models)])
        keys: dict[str, Expression] = {key: drafts[0].keys[key] for key in plan.copied}
        numbers = {word: by_key for word, by_key in (("alpha", alpha), ("beta", beta)) if by_key is not None}
        apart = {key for by_key in numbers.values() for key, slot in by_key.slots.items() if slot == NONE}
        self._merged[short_hash([model, component])] += len(set(plan.merged) - apart)
        for key in plan.merged:
            if key in apart:
                keys[key] = drafts[0].keys[key]
                continue
            call = Call(alpha=alpha.values[key] if alpha else 0.0, beta=beta.values[key] if beta else 0.0,
                        parameters=row.defaults(model.settings), weights=_weights(model) if row.weighted else ())
            merged = Merged(
                name=model.method, method=row, call=call, inputs=tuple(draft.keys[key] for draft in drafts),
                channels=plan.narrowed.get(key, 0), seed=int(model.settings.get("seed", 0)), component=component, key=key,
                group=group if row.survey else "")
            # The survey covers all merged keys, including those whose alpha changes nothing.
            keys[key] = merged if row.survey else simplified(merged)
        inner = [p for draft in drafts for p in draft.plans]
        notes = [note for draft in drafts for note in draft.notes]
        if (frame := self.files[name_of(frame_of(model))]).structural:
            matching = len(plan.merged) + len(plan.integers)
            notes.append(match_note(component, frame, matching, len(drafts[0].stored)))
            notes += frame.warnings[1:]
        notes += [f"{component}: {note}" for by_key in numbers.values() for note in by_key.notes]
        notes += [f"{component}: {note}" for note in self._crossed(model) if component == "unet"]
        return _Draft(keys=keys, stored={key: drafts[0].stored[key] for key in keys}, plans=[*inner, plan], notes=notes,
                      apart=frozenset(apart), blocks=[b for word, by_key in numbers.items() for b in _blocks(word, by_key)])

    def _crossed(self, merge: Merge) -> list[str]:
        """A note on a difference that is added to a model with another prediction or noise schedule."""
        a, b = (denoiser_kind(parent, self.files) for parent in (merge.a, merge.b))
        return [f"A ({a.describe()}) differs from B and C in what it predicts or in its noise schedule; the difference of these "
                "two is added to it, and the result is of A's kind"] if a.differs(b) and (
                    MERGE_METHODS[merge.method].adds_difference) else []

    def _fused(self, model: Fused, component: str) -> _Draft:
        draft, file = self.draft(model.model, component), self.files[name_of(frame_of(model))]
        for adapter in model.adapters:
            reading = self._reading(adapter.path, file)
            refuse_unfusible(reading)
            changed = with_adapter(draft.keys, component, adapter, reading, weights_of(adapter, reading, file))
            draft.keys.update(changed)
            if changed:
                refuse_codes(file, component)
                draft.notes.append(f"{component}: {len(changed)} tensors changed by {adapter.path} at {adapter.weight:g}"
                                   if adapter.weight else f"{component}: unchanged by {adapter.path}, whose weight is 0")
        return draft

    def _reading(self, path: str, file: ModelFile) -> Reading:
        """An adapter read against a model. Codes have other names and shapes than weights: then they are what is refused."""
        try:
            return self.library.adapter(path, file)
        except AdapterError:
            for component in file.components:
                refuse_codes(file, component)
            raise

    def _leaf(self, checkpoint: Checkpoint, component: str) -> _Draft:
        name = name_of(checkpoint)
        infos = self.files[name].components.get(component, {})
        # Scaled codes are dequantised when they are read, and the result is no longer stored as codes.
        dtypes = {key: info.values_dtype for key, info in infos.items()}
        return _Draft(keys={key: Source(model=name, component=component, key=key, dtype=dtypes[key]) for key in infos},
                      stored={key: Stored(dtype=info.kept_dtype, shape=info.shape,
                                          packed="".join(info.formats[:1])) for key, info in infos.items()},
                      notes=[*_note_on_base(component, checkpoint, self.files[name]), *_notes_on_codes(component, name, infos)])

    def _refuse_odd(self, merge: Merge, component: str, models: Sequence[Model]) -> None:
        """Raises MaterialiseError for a tensor among the weights of a component that has no such tensor, and ModelFileError,
        whatever `missing` says, for weights in codes that are not multiplied out."""
        for name in dict.fromkeys(name_of(frame_of(model)) for model in models):
            refuse_codes(self.files[name], component)
        for name in () if merge.missing == "keep_a" else dict.fromkeys(name_of(frame_of(model)) for model in models):
            if odd := self.files[name].odd.get(component, ()):
                raise MaterialiseError(f"{name}: {component}: {first_of([*map(repr, odd)], 1)}: no {component} of the family "
                                       f"{self.files[name].family or 'of this file'} has such a tensor. Remove it, or set "
                                       f"{KEEP_A} to keep A's and leave out those of the other models")

    def _refuse_unlike(self, merge: Merge, component: str, taken: _Draft) -> None:
        """Raises MaterialiseError if a component to be taken as a whole does not have the keys and shapes of A's own."""
        name, own = name_of(frame_of(merge.take[component])), self._leaf(frame_of(merge), component)
        if not taken.keys:
            raise MaterialiseError(f"take {component}: {guesses([self.files[name]])}{name} has none. Give a model that has one")
        shapes = {key: [str(list(at.stored[key].shape)) if key in at.stored else "none" for at in (own, taken)]
                for key in sorted(own.stored.keys() | taken.stored.keys()) if own.stored}
        if unlike := [key for key, (here, there) in shapes.items() if here != there]:
            here, there = shapes[unlike[0]]
            more = f", and {len(unlike) - 1} more keys differ" if len(unlike) > 1 else ""
            raise MaterialiseError(f"take {component}: it differs in {name}: {unlike[0]!r} is {here} in A and {there} in {name}"
                                   f"{more}. Take it from a model of A's kind")

    def _numbers(self, merge: Merge, word: str, component: str, plan: MergePlan) -> ByKey:
        """Alpha or beta of every merged key."""
        given: Alpha | None = getattr(merge, word)
        if given is None:
            raise MaterialiseError(f"merge method {merge.method!r} needs {word}; give {word}=...")
        file = self.files[name_of(frame_of(merge))]
        layers = file.recognised.names.layers if file.recognised else ()
        if file.structural and _by_block(given):
            layer = pattern_of_layer(file.components[component], layers)
            raise MaterialiseError(f"{word}: block weights are given, but there is no map of the blocks of "
                                   f"{name_of(frame_of(merge))} ({file.architecture or 'unknown family'}). Give a Gradient over "
                                   f"its layers, one number, or Alphas with keys, like {layer!r}")
        beside = [self.files[name_of(frame_of(parent))] for parent in merge.models]
        unet = file.original_unet_names
        names = {key: unet[key] if component == "unet" else key for key in plan.merged}
        try:
            by_key = alphas_by_key(given, component, names, family=file.family, denoiser=denoiser_names(file, beside),
                                   whole=component_names(component, file, beside), numbered=layers if file.structural else None,
                                   elsewhere=self._elsewhere(merge, word, component))
        except WhereError as error:
            raise MaterialiseError(f"{word}: {error}") from error
        self._alphas.setdefault(short_hash([merge, word]), []).append(by_key)
        return by_key

    def _elsewhere(self, merge: Merge, word: str, component: str) -> dict[str, frozenset[str]]:
        """The keys of a component that the patterns of alpha or beta match under names of other tools or of the files."""
        given, place = getattr(merge, word), short_hash([merge, word])
        if not isinstance(given, Alphas) or not given.keys:
            return {}
        if place not in self._other_names:
            self._other_names[place] = keys_elsewhere(given.keys, self._parents(merge), merge.parts)
        return {pattern: keys.get(component, frozenset()) for pattern, keys in self._other_names[place].items()}

    def _parents(self, merge: Merge) -> list[ModelFile]:
        """The files of a merge, the first of which gives the names."""
        return [self.files[name_of(frame_of(parent))] for parent in merge.models]

    def requested(self, model: Model) -> list[Requested]:
        """All that the merges of the recipe ask for by name, with the number of tensors that each request applies to."""
        requests = []
        for merge in merges_of(model):
            requests += [Requested(what=f"the part {part!r}", tensors=self._merged[short_hash([merge, part])],
                                   unmet="no tensor of it is merged in the result. Leave it out of parts")
                         for part in merge.parts]
            for word in ("alpha", "beta"):
                given: Alpha | None = getattr(merge, word)
                if given is not None:
                    requests += requested_alphas(word, given, self._alphas.get(short_hash([merge, word]), []),
                                                 partial(nearest_spelling, models=self._parents(merge), parts=merge.parts))
        return requests


def _note_on_base(component: str, checkpoint: Checkpoint, file: ModelFile) -> list[str]:
    """Of which folder a component is that the file of a checkpoint lacks."""
    return [f"{component}: that of {checkpoint.base}, as {checkpoint.path} has none"] if (
        file.companion is not None and component in file.companion.components) else []


def _notes_on_codes(component: str, name: str, infos: Mapping[str, TensorInfo]) -> list[str]:
    """What is said of the weights of a model that are stored as codes."""
    notes = [f"{component}: the scaled fp8 weights of {name} are multiplied out; what keeps their dtype is F16"] if any(
        info.scale for info in infos.values()) else []
    packed = Counter("".join(info.formats[:1]) for info in infos.values())
    formats = ", ".join(f"{count} dequantised from {word}{_kept(word, infos)}"
                        for word, count in packed.most_common() if word)
    return [*notes, f"{component}: of the {len(infos)} tensors of {name}, {formats}"] if formats else notes


def _kept(word: str, infos: Mapping[str, TensorInfo]) -> str:
    dtypes = sorted({info.kept_dtype for info in infos.values() if info.formats[:1] == (word,)})
    return "" if word in PACKED else f" (what keeps its dtype is {' or '.join(dtypes)})"


def _refuse_dtype_of_gguf(component: str, draft: _Draft, model: Model) -> None:
    """Raises MaterialiseError for a merge that is to keep the format of A where that is one of GGUF's."""
    packed = {key: at.packed for key, at in draft.stored.items() if at.packed in PACKED}
    if isinstance(model, Merge) and model.dtype == "a" and packed:
        key = next(iter(packed))
        raise MaterialiseError(f"{name_of(frame_of(model))}: {component}: {key!r} is in the GGUF format {packed[key]}, in which "
                               f"results are not written; expected a dtype for the result of the merge. Set {AS_FP16}")


def _finish(component: str, draft: _Draft, model: Model) -> PartPlan:
    """The draft as a PartPlan, with the declared dtype and the coverage of all its merges."""
    while isinstance(model, Fused):
        model = model.model
    _refuse_dtype_of_gguf(component, draft, model)
    dtype = DTYPES.get(model.dtype, "") if isinstance(model, Merge) else ""
    stored = {key: replace(at, dtype=dtype) if dtype and at.dtype.startswith(("F", "BF")) else at
              for key, at in draft.stored.items()}
    coverage: dict[str, set[str]] = {}
    for plan in draft.plans:
        for status, keys in plan.coverage_keys().items():
            coverage.setdefault(status, set()).update(keys)
    for status in ("merged", "merged_in_part"):
        coverage[status] = coverage.get(status, set()) - draft.apart
    copied = set(draft.keys) - coverage["merged"] - coverage["merged_in_part"]
    adapted = {key for key in copied if altered(draft.keys[key])}
    statuses = {status: keys for status, keys in coverage.items() if status != "copied"} | {
        "copied": copied - adapted, "adapted": adapted}
    notes = [note for plan in draft.plans for note in plan.notes()]
    return PartPlan(component=component, keys=draft.keys, stored=stored, blocks=tuple(draft.blocks),
                    notes=tuple(dict.fromkeys([*notes, *draft.notes])),
                    coverage={status: tuple(sorted(keys)) for status, keys in statuses.items() if keys})


def _blocks(word: str, by_key: ByKey) -> list[tuple[str, str, float, int]]:
    """(word, slot, value, number of keys) for every slot and every value in it."""
    counted = Counter((slot, by_key.values[key]) for key, slot in by_key.slots.items())
    return [(word, slot, value, count) for (slot, value), count in counted.items()]


def _by_block(alpha: Alpha) -> bool:
    rules = [alpha.default, *alpha.parts.values()] if isinstance(alpha, Alphas) else [alpha]
    return any(isinstance(rule, Blocks) for rule in rules)


def _weights(merge: Merge) -> tuple[float, ...]:
    return merge.weights or (1.0,) * (2 + len(merge.more))


def _refuse_strangers(model: Model, files: Mapping[str, ModelFile]) -> None:
    """Raises MaterialiseError for models of different families, key spaces or predictions, and for EMA mixed with plain
    weights."""
    for merge in merges_of(model):
        parents = [name_of(frame_of(parent)) for parent in merge.models]
        beside = [name_of(frame_of(taken)) for taken in merge.take.values()]
        _refuse_idle_bases(merge, files)
        # A VAE file alone does not show its family.
        refuse_unlike_architectures({name: files[name] for name in (*parents, *beside)})
        refuse_unlike("families", {name: architecture_of(files[name]) if files[name].structural else files[name].family
                                   for name in (*parents, *beside) if files[name].family},
                      f"{guesses(files[name] for name in (*parents, *beside))}Merge models of one family.")
        if "prediction" not in merge.force and "unet" in merge.parts:
            # What is added to A is the difference of the others: of one kind, it may be added to a model of another.
            judged = merge.models[1:] if MERGE_METHODS[merge.method].adds_difference else merge.models
            refuse_unlike_kinds([denoiser_kind(parent, files) for parent in judged], files)
        if "ema" not in merge.force and "unet" in merge.parts:
            _refuse_mixed_ema(merge, files)
        if any(inner.dtype != "a" for parent in (*merge.models, *merge.take.values()) for inner in merges_of(parent)):
            raise MaterialiseError("dtype is set in a nested merge, but only the final result is rounded. Set dtype in the "
                                   "outermost merge")


def _refuse_idle_bases(merge: Merge, files: Mapping[str, ModelFile]) -> None:
    """Raises MaterialiseError for the base of a model other than A of which nothing is merged or taken. That of A may stand with
    all of them."""
    first = frame_of(merge)
    for part, other in (*(("", model) for model in merge.models[1:]), *merge.take.items()):
        for leaf in leaves(other):
            companion = files[name_of(leaf)].companion
            if companion is None or leaf.base == first.base:
                continue
            if companion.components.keys().isdisjoint([part] if part else set(merge.parts) - merge.take.keys()):
                raise MaterialiseError(
                    f"base {leaf.base!r} of {leaf.path!r} has no effect: none of its components "
                    f"({', '.join(companion.components) or 'none'}) is merged, and the result has those of A, "
                    f"{name_of(first)!r}. Remove it, or give A that base")


def _refuse_mixed_ema(merge: Merge, files: Mapping[str, ModelFile]) -> None:
    frames = [frame_of(parent) for parent in merge.models]
    if any(frame.ema for frame in frames):
        for frame in frames:
            if not frame.ema and files[name_of(frame)].ema:
                raise MaterialiseError(
                    f"{frame.path}: its plain weights would be merged with EMA weights, although it has EMA weights itself. "
                    f"Set {EMA} for it too, or {FORCE_EMA}.")
