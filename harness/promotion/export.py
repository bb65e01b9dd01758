"""Saves a candidate as one file, or says why that is impossible, and proves that file and memory hold the same tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness.declare import Candidate, Checkpoint, Fused
from harness.declare.mixed import spelled
from harness.declare.models import Recipe, one_recipe
from harness.materialise import Workbench, place, plan_recipe
from harness.materialise.adapter_expressions import refuse_unfusible
from harness.materialise.library import frame_of
from harness.materialise.saving import save
from harness.promotion.errors import PromotionError
from harness.promotion.last_places import compared, tensors_of

_SHOWN: Final = 4


@dataclass(frozen=True, kw_only=True)
class SavedFile:
    """A saved file: the candidate that loads it, how many tensors it has, in how many of these a GPU rounded some values
    otherwise, and the share of their values that this is."""

    candidate: Candidate
    tensors: int
    rounded: int = 0
    rounded_share: float = 0.0

    @property
    def comparison(self) -> str:
        """How the file compares with the live model, in words."""
        if not self.rounded:
            return f"all {self.tensors} tensors in the file equal those in memory, bit for bit"
        return (f"{self.tensors - self.rounded} of {self.tensors} tensors in the file equal those in memory, bit for bit; of the "
                f"other {self.rounded}, {100 * self.rounded_share:.2g} % of the values differ in the last place, because the GPU "
                "sums in another order than the CPU, which wrote the file")


BESIDE_WEIGHTS: Final = {"emphasis": "prompts", "aesthetic": "prompts", "stages": "pictures", "controls": "pictures",
                         "references": "pictures", "inpaint": "pictures", "post": "pictures"}
"""The fields of a candidate that no model file holds, and what they change."""


_FUSED: Final = "Fused(model=..., adapters=(...))"


def refuse_several(candidate: Candidate) -> Recipe:
    """The model of a candidate, if its declaration is one that a single file can hold. Raises PromotionError otherwise."""
    who = f"candidate {candidate.name!r}"
    if candidate.stages:
        raise PromotionError(f"{who} makes its pictures in {len(candidate.stages) + 1} stages, each with a model of its own, and "
                             "no single file holds them. Measure the model of a stage as a candidate without stages, and promote "
                             "that")
    try:
        model = one_recipe(candidate.model)
    except ValueError as error:
        raise PromotionError(f"{who}: {error}") from error
    if candidate.quantization != "fp32":
        raise PromotionError(f"{who} is quantized ({spelled(candidate.quantization)}), which happens when a model is loaded and "
                             "cannot be stored in a single file. Promote the candidate without quantization; for 16 bits merge "
                             f"with dtype, and with adapters use {_FUSED}. `sweetspot quantize` writes the denoiser of "
                             "some modes")
    for field, changed in BESIDE_WEIGHTS.items():
        if getattr(candidate, field):
            raise PromotionError(f"{who} has {field}, which changes {changed} and cannot be stored in a model file. Measure and "
                                 f"promote a candidate without it; adapters of weights can be fused: {_FUSED}")
    for adapter in candidate.adapters:
        if (adapter.start, adapter.end) != (0, 1):
            raise PromotionError(f"{who}: adapter {adapter.path!r} acts from {adapter.start:g} to {adapter.end:g} of the steps, "
                                 f"which a single file cannot do. Measure it fused for all steps, as {_FUSED}, and promote that")
    return model


def as_one_file(candidate: Candidate, bench: Workbench) -> Candidate:
    """The candidate with its adapters fused into the model. Raises PromotionError for anything that no file can hold."""
    model = refuse_several(candidate)
    frame = bench.library.open(frame_of(candidate.model))
    for adapter in candidate.adapters:
        try:
            refuse_unfusible(bench.library.adapter(adapter.path, frame))
        except ValueError as error:
            raise PromotionError(f"candidate {candidate.name!r}: adapter {adapter.path!r} works only at run time ({error}). "
                                 f"Measure a candidate without it and with its other adapters as {_FUSED}, and promote "
                                 "that") from error
    if not candidate.adapters:
        return candidate
    return replace(candidate, model=Fused(model=model, adapters=candidate.adapters), adapters=())


def save_as_measured(candidate: Candidate, device: str, identified: Workbench, path: Path, title: str) -> SavedFile:
    """Saves the candidate, loads the file as the workbench loads any other, and compares every tensor of every live component.
    `identified` is the workbench that identified the candidate; its files must still be the same.

    On a CPU they must be equal bit for bit. A GPU sums in another order than the CPU, which writes the file: there, values may be
    one unit in the last place of the file's dtype apart. Raises PromotionError for any other difference.
    """
    root = identified.library.root
    bench = Workbench(device=device, root=root, versions=identified.library.versions)
    live = _tensors(bench, candidate)
    plan = plan_recipe(candidate.model, bench.library)
    planned = place(plan)
    save(planned, bench.library, path, title)
    base = frame_of(candidate.model)
    # A single file has no configs of its own, so the configs of a diffusers folder are still needed.
    folder = str(bench.library.path(base.path)) if bench.library.open(base).is_folder else None
    written = str(path.resolve())
    frame = bench.library.open(base)
    loaded = replace(candidate, model=Checkpoint(path=written, base=base.base or folder) if planned.left_out or frame.pipeline
                     else Checkpoint(path=written, config=base.configs or folder))
    del bench  # one model in memory at a time
    stored = {f"{part}.{key}": tensor.dtype for part, of in plan.parts.items() for key, tensor in of.stored.items()}
    result = compared(live, _tensors(Workbench(device=device, root=root), loaded), stored)
    if result.different:
        raise PromotionError(f"candidate {candidate.name!r}: the saved file does not hold what was measured: "
                             f"{len(result.different)} of {len(live)} tensors differ: {', '.join(result.different[:_SHOWN])}. "
                             "Nothing was promoted; please report this")
    return SavedFile(candidate=loaded, tensors=len(live), rounded=len(result.rounded),
                     rounded_share=result.differing_values / result.values if result.values else 0.0)


def _tensors(bench: Workbench, candidate: Candidate) -> Mapping[str, Any]:
    """All live tensors of a candidate. A compiled denoiser has the same ones, and savers have copies of
    some."""
    return tensors_of(bench.prepare(replace(candidate, runtime="eager", savers=(), step_cache=None)).pipeline)
