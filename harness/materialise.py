"""Candidate -> live pipeline on a device: merge, adapters, quantization, runtime, in that order. run.py holds one
Workbench per suite."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness import zoo
from harness.adapters import AdapterError, AdapterPlan, attach, detach, inspect_adapter, read_adapter, set_weight
from harness.declare import Candidate, Checkpoint, Merge, Model, plain, short_hash
from harness.merge import MERGE_METHODS, MergePlan, merge_tensors, plan_merge
from harness.quantize import QUANTIZATION_MODES
from harness.records import Coverage, Weights
from harness.weights import ModelFile, Pipeline, build_pipeline, content_hash, inspect_pipeline, open_model

if TYPE_CHECKING:
    import torch

COMPONENTS: Final = ("unet", "vae", "text_encoder")
ADAPTED: Final = ("unet", "text_encoder")


class MaterialiseError(ValueError):
    """A candidate that cannot be made from its files."""


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
    holds: dict[str, str] = field(default_factory=dict)
    attached: dict[str, AdapterPlan] = field(default_factory=dict)


class Workbench:
    """Opens model files once, keeps the parents' tensors and one live pipeline per architecture, and makes candidates.

    The next alpha is computed into the parameters that are already on the device; nothing is loaded twice.
    """

    def __init__(self, *, device: str, root: Path) -> None:
        self.device, self.root = device, root
        self._files: dict[Path, ModelFile] = {}
        self._tensors: dict[tuple[Path, str], dict[str, torch.Tensor]] = {}
        self._frames: dict[tuple[Path, Path | None], _Frame] = {}
        self._inspected: set[tuple[str, str | None]] = set()

    def inspect(self, candidate: Candidate) -> None:
        """Reads headers and plans the merge without touching a weight; raises what materialising would raise.

        Raises ModelFileError for a damaged or unknown file, MaterialiseError for keys that stand in the merge's way,
        AdapterError for a file that is no adapter of a known format.
        """
        if reason := QUANTIZATION_MODES[candidate.quantization].why_not(self.device):
            raise MaterialiseError(f"quantization {candidate.quantization!r} on {self.device}: {reason}")
        for part in COMPONENTS:
            self._plans(candidate.model, part)
        base = _frame(candidate.model)
        place = (base.path, base.config)
        if place not in self._inspected:
            inspect_pipeline(self._open(base.path), self._path(base.config) if base.config else None)
            self._inspected.add(place)
        for adapter in candidate.adapters:
            inspect_adapter(self._path(adapter.path))

    def weights(self, candidate: Candidate) -> Weights:
        """What the candidate is by content: SHA-256 of every input file, and one identity over all of them."""
        references = [*_leaves(candidate.model), *(a.path for a in candidate.adapters)]
        if config := _frame(candidate.model).config:
            references.append(config)
        inputs = {reference: self.content(reference) for reference in dict.fromkeys(references)}
        made = _by_content(plain(candidate), inputs)
        versions = {m.method: MERGE_METHODS[m.method].version for m in _merges(candidate.model)}
        return Weights(candidate=candidate.name, inputs=inputs, identity=short_hash([
            {k: v for k, v in made.items() if k not in ("name", "axes")}, sorted(inputs.values()), versions,
            QUANTIZATION_MODES[candidate.quantization].version]))

    def content(self, reference: str) -> str:
        """SHA-256 of the file or folder behind a path or `zoo:` name."""
        return content_hash(self._path(reference))

    def prepare(self, candidate: Candidate) -> Prepared:
        """The live pipeline of `candidate` and what happened to every tensor on the way."""
        self.inspect(candidate)
        frame = self._frame_of(candidate.model)
        coverage = [self._write(candidate, frame, part) for part in COMPONENTS]
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
        base = _frame(candidate.model)
        text_weights = [base.path, base.config, frame.holds["text_encoder"], *(
            [a.path, a.weight] for a in candidate.adapters
            if any(component == "text_encoder" for component, _ in frame.attached[a.path].factors))]
        return Prepared(pipeline=pipeline, coverage=tuple(coverage), text_identity=short_hash(text_weights))

    def _write(self, candidate: Candidate, frame: _Frame, part: str) -> Coverage:
        """Puts one component's weights, merged or plain, into the live parameters unless they are there already."""
        wanted = short_hash([part, _of_part(candidate.model, part)])
        plans = self._plans(candidate.model, part)
        if frame.holds.get(part) != wanted:
            # Unknown until done: a merge that fails half-way must not pass for what was there before.
            frame.holds.pop(part, None)
            tensors = self._merged(candidate.model, part, into=frame.live[part])
            if tensors is not frame.live[part]:
                for name, parameter in frame.live[part].items():
                    parameter.detach().copy_(tensors[name])
            frame.holds[part] = wanted
        if not plans:
            names = tuple(sorted(self._open(_frame(candidate.model).path).components[part]))
            return Coverage(candidate=candidate.name, stage="merge", component=part, keys={"copied": names})
        keys: dict[str, tuple[str, ...]] = {}
        for plan in plans:
            for status, names in plan.coverage_keys().items():
                keys[status] = tuple(sorted({*keys.get(status, ()), *names}))
        if "merged" in keys and "copied" in keys:
            keys["copied"] = tuple(k for k in keys["copied"] if k not in keys["merged"])
        return Coverage(candidate=candidate.name, stage="merge", component=part, keys={k: v for k, v in keys.items() if v},
                        notes=tuple(dict.fromkeys([*(note for plan in plans for note in plan.notes()), *frame.pipeline.notes])))

    def _beside(self, candidate: Candidate) -> list[Coverage]:
        """What else the model files hold: known extras (EMA, schedule, position ids), and tensors that nothing knows."""
        rows = []
        for reference in dict.fromkeys(_leaves(candidate.model)):
            file = self._open(reference)
            keys = {"known_extra": file.known_extras, "unmatched": file.strays}
            rows.append(Coverage(candidate=candidate.name, stage=f"file {reference}", component="file",
                                 keys={status: names for status, names in keys.items() if names}))
        return rows

    def _merged(self, model: Model, part: str, into: Mapping[str, torch.Tensor] | None) -> Mapping[str, torch.Tensor]:
        """The tensors of `part` of a model that may be a nested merge; the outermost merge is written to `into`."""
        if not isinstance(model, Merge):
            return self._load(_checkpoint(model).path, part)
        if part not in model.parts:
            return self._merged(model.a, part, into)
        parents = [self._merged(parent, part, None) for parent in (model.a, model.b, model.c) if parent is not None]
        plan = self._plans(model, part)[-1]
        merged = merge_tensors(plan, MERGE_METHODS[model.method], model.alpha, parents, out=into)
        return merged if into is None else into

    def _plans(self, model: Model, part: str) -> list[MergePlan]:
        """The plans of all merges of `part` within `model`, innermost first; raises MaterialiseError for their problems."""
        if not isinstance(model, Merge):
            return []
        if part not in model.parts:
            return self._plans(model.a, part)
        parents = [parent for parent in (model.a, model.b, model.c) if parent is not None]
        inner = [plan for parent in parents for plan in self._plans(parent, part)]
        files = [self._open(_frame(parent).path) for parent in parents]
        if len({file.markers for file in files}) > 1:
            said = "; ".join(f"{file.path.name}: {', '.join(file.markers) or 'no marker'}" for file in files)
            raise MaterialiseError(f"the parents were trained on different predictions ({said}): their sum would be noise. "
                                   "Merge models of one prediction type")
        infos = [file.components.get(part, {}) for file in files]
        plan = plan_merge(part, infos[0], infos[1], infos[2] if len(infos) > 2 else None, missing=model.missing)
        if problems := plan.problems():
            more = f" ... and {len(problems) - 5} more keys" if len(problems) > 5 else ""
            raise MaterialiseError(
                f"merging {' and '.join(repr(_frame(p).path) for p in parents)}: {' '.join(problems[:5])}{more}")
        return [*inner, plan]

    def _adapt(self, candidate: Candidate, frame: _Frame) -> list[Coverage]:
        """Attaches the declared adapters at their weights and takes off those of earlier candidates."""
        modules = {part: getattr(frame.pipeline, part) for part in ADAPTED}
        wanted = {a.path: a.weight for a in candidate.adapters}
        for path in [p for p in frame.attached if p not in wanted]:
            detach(modules, _adapter_name(path))
            del frame.attached[path]
        coverage = []
        for path, weight in wanted.items():
            if path not in frame.attached:
                plan = read_adapter(self._path(path), modules)
                try:
                    attach(plan, modules, _adapter_name(path), weight)
                except BaseException:
                    with suppress(AdapterError):
                        detach(modules, _adapter_name(path))
                    raise
                frame.attached[path] = plan
            set_weight(modules, _adapter_name(path), weight)
            plan = frame.attached[path]
            coverage += [Coverage(candidate=candidate.name, stage=f"adapter {path}", component=component, keys=keys,
                                  notes=(f"weight {weight:g}", f"format {plan.format}", *plan.notes,
                                         *(f"{key}: {plan.reasons[key]}" for key in keys.get("refused", ()))))
                         for component, keys in plan.keys.items()]
        return coverage

    def _frame_of(self, model: Model) -> _Frame:
        base = _frame(model)
        config = self._path(base.config) if base.config else None
        place = (self._path(base.path), config)
        if place not in self._frames:
            pipeline = build_pipeline(self._open(base.path), config, self.device)
            live = {part: dict(_parameters(getattr(pipeline, part), self._open(base.path).components[part]))
                    for part in COMPONENTS}
            held = {part: short_hash([part, _of_part(base.path, part)]) for part in COMPONENTS}
            self._frames[place] = _Frame(pipeline=pipeline, live=live, holds=held)
        return self._frames[place]

    def _load(self, reference: str, part: str) -> dict[str, torch.Tensor]:
        """A parent's tensors on the device, as stored; they stay there for the next alpha."""
        place = (self._path(reference), part)
        if place not in self._tensors:
            tensors = self._open(reference).tensors(part)
            self._tensors[place] = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        return self._tensors[place]

    def _open(self, reference: str) -> ModelFile:
        path = self._path(reference)
        if path not in self._files:
            self._files[path] = open_model(path)
        return self._files[path]

    def _path(self, reference: str) -> Path:
        return zoo.resolve(reference) if reference.startswith("zoo:") else (self.root / reference).resolve()


def _parameters(module: Any, names: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    """The live tensors of `module` under the file's names. They stay the same objects when adapters wrap their layers."""
    state = module.state_dict(keep_vars=True)
    return {name: state[name] for name in names}


def _checkpoint(model: str | Checkpoint) -> Checkpoint:
    if isinstance(model, Checkpoint):
        return model
    return Checkpoint(path=model, config="zoo:config" if model.startswith("zoo:") else None)


def _frame(model: Model) -> Checkpoint:
    """The checkpoint that gives all that is not merged: the leftmost leaf."""
    while isinstance(model, Merge):
        model = model.a
    return _checkpoint(model)


def _leaves(model: Model) -> list[str]:
    if isinstance(model, Merge):
        return [leaf for parent in (model.a, model.b, model.c) if parent is not None for leaf in _leaves(parent)]
    return [_checkpoint(model).path]


def _merges(model: Model) -> list[Merge]:
    if not isinstance(model, Merge):
        return []
    return [model, *(m for parent in (model.a, model.b, model.c) if parent is not None for m in _merges(parent))]


def _of_part(model: Model, part: str) -> Any:
    """The part of a recipe that decides `part`, as data: equal data means equal weights of that component."""
    if not isinstance(model, Merge):
        return _checkpoint(model).path
    if part not in model.parts:
        return _of_part(model.a, part)
    return [model.method, model.alpha, model.missing,
            *(_of_part(parent, part) for parent in (model.a, model.b, model.c) if parent is not None)]


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
