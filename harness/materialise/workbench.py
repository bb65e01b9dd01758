"""Candidate -> live pipeline on a device: merge, adapters, quantization, runtime, in that order. run.py holds one
Workbench per suite."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters import AdapterError, AdapterPlan, Reading, attach, detach, live_plan, set_weight
from harness.adapters.kinds import KINDS
from harness.declare import Adapter, Candidate, Model, plain, short_hash
from harness.materialise.adapting import refuse_embeddings, with_adapter
from harness.materialise.library import Library, MaterialiseError, adapters_of, frame_of, leaves, merges_of, shapes_of
from harness.materialise.recipe import PartPlan, RecipePlan, plan_recipe
from harness.materialise.survey import surveyed
from harness.merge import MERGE_METHODS, Expression, Source, Target, finite, sources, write_live
from harness.quantize import QUANTIZATION_MODES
from harness.records import Coverage, Weights
from harness.weights import Pipeline, build_pipeline, inspect_pipeline

if TYPE_CHECKING:
    import torch

COMPONENTS: Final = ("unet", "vae", "text_encoder")
ADAPTED: Final = ("unet", "text_encoder")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A candidate ready to sample. `text_identity` changes with the state of the text encoder, and with nothing else."""

    pipeline: Pipeline
    coverage: tuple[Coverage, ...]
    text_identity: str


@dataclass(kw_only=True)
class _Frame:
    """One architecture on the device: the pipeline whose parameters are rewritten in place, candidate after candidate."""

    pipeline: Pipeline
    live: Mapping[str, Mapping[str, torch.Tensor]]
    holds: dict[str, dict[str, tuple[Expression, str]]] = field(default_factory=dict)
    """By component and key, the expression that stands in the live tensor, and the dtype it was rounded to."""
    attached: dict[str, AdapterPlan] = field(default_factory=dict)


class Workbench:
    """Opens model files once, keeps the parents' tensors and one live pipeline per architecture, and makes candidates.

    The next alpha is computed into the parameters that are already on the device, and only where it changes them;
    nothing is loaded twice.
    """

    def __init__(self, *, device: str, root: Path) -> None:
        self.device, self.library = device, Library(root)
        self._plans: dict[str, RecipePlan] = {}
        self._tensors: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
        self._layered: dict[tuple[int, str], AdapterPlan] = {}
        self._limits: dict[str, tuple[float, float]] = {}
        self._damaged: dict[tuple[str, str], frozenset[str]] = {}
        self._frames: dict[tuple[Path, Path | None, bool], _Frame] = {}
        self._inspected: set[tuple[str, str | None, bool]] = set()

    def inspect(self, candidate: Candidate) -> None:
        """Reads headers and plans the merge without touching a weight; raises what materialising would raise.

        Raises ModelFileError for a damaged or unknown file, MaterialiseError for keys that stand in the merge's way,
        AdapterError for a file that is no adapter of a known format.
        """
        if reason := QUANTIZATION_MODES[candidate.quantization].why_not(self.device):
            raise MaterialiseError(f"quantization {candidate.quantization!r} on {self.device}: {reason}")
        self._plan(candidate.model)
        base = frame_of(candidate.model)
        place = (base.path, base.config, base.ema)
        if place not in self._inspected:
            inspect_pipeline(self.library.open(base), self.library.path(base.config) if base.config else None)
            self._inspected.add(place)
        for adapter in candidate.adapters:
            refuse_embeddings(self._reading(adapter, candidate.model))

    def weights(self, candidate: Candidate) -> Weights:
        """What the candidate is by content: BLAKE3 of every input file, and one identity over all of them."""
        references = [*(leaf.path for leaf in leaves(candidate.model)),
                      *(a.path for a in (*adapters_of(candidate.model), *candidate.adapters))]
        if config := frame_of(candidate.model).config:
            references.append(config)
        inputs = {reference: self.library.content(reference) for reference in dict.fromkeys(references)}
        made = _by_content(plain(candidate), inputs)
        versions = {m.method: MERGE_METHODS[m.method].version for m in merges_of(candidate.model)}
        if any((*adapters_of(candidate.model), *candidate.adapters)):
            versions |= {f"adapter {name}": kind.version for name, kind in KINDS.items()}
        return Weights(candidate=candidate.name, inputs=inputs, identity=short_hash([
            {k: v for k, v in made.items() if k not in ("name", "axes")}, sorted(inputs.values()), versions,
            QUANTIZATION_MODES[candidate.quantization].version]))

    def content(self, reference: str) -> str:
        """BLAKE3 of the file or folder behind a path or `zoo:` name."""
        return self.library.content(reference)

    def prepare(self, candidate: Candidate) -> Prepared:
        """The live pipeline of `candidate` and what happened to every tensor on the way."""
        self.inspect(candidate)
        frame = self._frame_of(candidate.model)
        plan = self._plan(candidate.model)
        coverage = [self._write(candidate, frame, plan.parts[part], plan.precision) for part in COMPONENTS]
        coverage += self._beside(candidate)
        coverage += self._adapt(candidate, frame)
        pipeline = frame.pipeline
        mode = QUANTIZATION_MODES[candidate.quantization]
        if candidate.quantization != "fp32":
            # The quantised copy is thrown away afterwards: the frame keeps its full-precision parameters for the next one.
            pipeline = replace(pipeline, unet=copy.deepcopy(frame.pipeline.unet))
        report = mode.apply(pipeline.unet)
        keys = {"quantized": report.quantized, "kept": report.kept}
        coverage.append(Coverage(candidate=candidate.name, stage=f"quantize {candidate.quantization}", component="unet",
                                 keys={status: names for status, names in keys.items() if names}, notes=report.notes))
        base = frame_of(candidate.model)
        text_weights = [base.path, base.config, base.ema, repr(sorted(frame.holds["text_encoder"].items())), *(
            [a.path, a.weight] for a in candidate.adapters
            if any(component == "text_encoder" for component, _ in frame.attached[a.path].factors))]
        return Prepared(pipeline=pipeline, coverage=tuple(coverage), text_identity=short_hash(text_weights))

    def _write(self, candidate: Candidate, frame: _Frame, part: PartPlan, precision: str) -> Coverage:
        """Puts one component's weights, merged or plain, into the live parameters where they are not there already.

        What an adapter does that low-rank layers cannot, it does here, on the merged weights and without rounding.
        """
        live, holds = frame.live[part.component], frame.holds[part.component]
        keys = surveyed(part.keys, self._read, self._limits)
        wanted = {key: (keys[key], part.stored[key].dtype) for key in live}
        for adapter in candidate.adapters:
            reading = self._reading(adapter, candidate.model)
            layered = frozenset(self._layers(reading, candidate.model).factors)
            changed_by = with_adapter(keys, part.component, adapter, reading, left=layered)
            keys |= changed_by
            wanted |= {key: (expression, "F32") for key, expression in changed_by.items()}
        changed = [key for key in live if holds.get(key) != wanted[key]]
        self._refuse_damaged(part.component, [keys[key] for key in changed])
        for key in changed:
            # Unknown until done: a merge that fails half-way must not pass for what was there before.
            holds.pop(key, None)
        write_live([Target(key=key, expression=keys[key], dtype=wanted[key][1], live=live[key]) for key in changed],
                   self._read, precision)
        holds.update({key: wanted[key] for key in changed})
        return Coverage(candidate=candidate.name, stage="merge", component=part.component, keys=part.coverage,
                        notes=tuple(dict.fromkeys([*part.notes, *frame.pipeline.notes])))

    def _refuse_damaged(self, component: str, expressions: list[Expression]) -> None:
        """MaterialiseError naming the keys, if a merge would read a NaN or an infinity."""
        read = [source for expression in expressions if not isinstance(expression, Source) for source in sources(expression)]
        for model in dict.fromkeys(source.model for source in read):
            if (model, component) not in self._damaged:
                tensors = self._load(model, component)
                self._damaged[model, component] = frozenset(key for key, tensor in tensors.items() if not finite(tensor))
        if bad := sorted({f"{s.key!r} of {s.model}" for s in read if s.key in self._damaged[s.model, component]}):
            raise MaterialiseError(f"{component}: {len(bad)} tensors hold NaN or infinite values: {', '.join(bad[:5])}"
                                   f"{' ...' if len(bad) > 5 else ''}. Repair or replace that model")

    def _beside(self, candidate: Candidate) -> list[Coverage]:
        """What else the model files hold: known extras (EMA, schedule, position ids), and tensors that nothing knows."""
        rows = []
        for name, file in self._plan(candidate.model).files.items():
            keys = {"known_extra": file.known_extras, "unmatched": file.strays}
            rows.append(Coverage(candidate=candidate.name, stage=f"file {name}", component="file",
                                 keys={status: names for status, names in keys.items() if names}))
        rows += [Coverage(candidate=candidate.name, stage=f"fused adapter {path}", component=component, keys=statuses)
                 for path, components in self._plan(candidate.model).adapters.items()
                 for component, statuses in components.items()]
        return rows

    def _plan(self, model: Model) -> RecipePlan:
        key = short_hash(model)
        if key not in self._plans:
            self._plans[key] = plan_recipe(model, self.library)
        return self._plans[key]

    def _adapt(self, candidate: Candidate, frame: _Frame) -> list[Coverage]:
        """Attaches the declared adapters at their weights and takes off those of earlier candidates."""
        modules = {part: getattr(frame.pipeline, part) for part in ADAPTED}
        wanted = {a.path: a.weight for a in candidate.adapters}
        for path in [p for p in frame.attached if p not in wanted]:
            if frame.attached[path].factors:
                detach(modules, _adapter_name(path))
            del frame.attached[path]
        coverage = []
        for path, weight in wanted.items():
            if path not in frame.attached:
                plan = self._layers(self._reading(Adapter(path=path), candidate.model), candidate.model)
                try:
                    if plan.factors:
                        attach(plan, modules, _adapter_name(path), weight)
                except BaseException:
                    with suppress(AdapterError):
                        detach(modules, _adapter_name(path))
                    raise
                frame.attached[path] = plan
            plan = frame.attached[path]
            if plan.factors:
                set_weight(modules, _adapter_name(path), weight)
            coverage += [Coverage(candidate=candidate.name, stage=f"adapter {path}", component=component, keys=keys,
                                  notes=(f"weight {weight:g}", f"format {plan.format}", *plan.notes,
                                         *(f"{key}: {plan.reasons[key]}" for key in keys.get("refused", ()))))
                         for component, keys in plan.keys.items()]
        return coverage

    def _frame_of(self, model: Model) -> _Frame:
        base = frame_of(model)
        config = self.library.path(base.config) if base.config else None
        place = (self.library.path(base.path), config, base.ema)
        if place not in self._frames:
            file, plan = self.library.open(base), self._plan(base)
            pipeline = build_pipeline(file, config, self.device)
            live = {part: dict(_parameters(getattr(pipeline, part), file.components[part])) for part in COMPONENTS}
            held = {part: {key: (plan.parts[part].keys[key], plan.parts[part].stored[key].dtype) for key in live[part]}
                    for part in COMPONENTS}
            self._frames[place] = _Frame(pipeline=pipeline, live=live, holds=held)
        return self._frames[place]

    def _reading(self, adapter: Adapter, model: Model) -> Reading:
        return self.library.adapter(adapter.path, self.library.open(frame_of(model)))

    def _layers(self, reading: Reading, model: Model) -> AdapterPlan:
        """What of an adapter live layers take; the rest is written into the weights."""
        place = (id(reading), frame_of(model).path)
        if place not in self._layered:
            self._layered[place] = live_plan(reading, shapes_of(self.library.open(frame_of(model))))
        return self._layered[place]

    def _read(self, source: Source) -> torch.Tensor:
        return self._load(source.model, source.component)[source.key]

    def _load(self, model: str, part: str) -> dict[str, torch.Tensor]:
        """A parent's tensors on the device, as stored; they stay there for the next alpha."""
        if (model, part) not in self._tensors:
            file = next(plan.files[model] for plan in self._plans.values() if model in plan.files)
            self._tensors[model, part] = {name: tensor.to(self.device) for name, tensor in file.tensors(part).items()}
        return self._tensors[model, part]


def _parameters(module: Any, names: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    """The live tensors of `module` under the file's names. They stay the same objects when adapters wrap their layers."""
    state = module.state_dict(keep_vars=True)
    return {name: state[name] for name in names}


def _by_content(declaration: Any, inputs: Mapping[str, str]) -> Any:
    """A declaration with every file name replaced by the hash of the file: a renamed file is the same candidate."""
    if isinstance(declaration, dict):
        return {key: _by_content(value, inputs) for key, value in declaration.items()}
    if isinstance(declaration, list):
        return [_by_content(value, inputs) for value in declaration]
    return inputs.get(declaration, declaration) if isinstance(declaration, str) else declaration


def _adapter_name(path: str) -> str:
    """PEFT keeps adapters by a name without dots."""
    return f"adapter_{short_hash(path)}"
