"""The candidate whose layers are measured: which candidates can be, and their pictures in any mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.declare import Candidate, Ensemble, Grid, Relay, Suite, short_hash
from harness.declare.candidate import NOT_QUANTIZED, NUMBER_FORMATS
from harness.declare.candidate_names import hint
from harness.declare.effective_grid import run_grid
from harness.declare.mixed import Mode, of_denoiser, with_denoiser
from harness.declare.picture_uses import names_of, parts_in_key
from harness.materialise import Prepared, Workbench
from harness.materialise.number_format import computing_of
from harness.probes.available import device_memory
from harness.records import Cell
from harness.run.fitted_batch import with_fitted_batch
from harness.run.latency import timed_cell
from harness.run.preflight import file_problems
from harness.sampling import embedded, lengths_of, pack, sample, set_determinism, setting, threads_for

if TYPE_CHECKING:
    from harness.sampling import Images


class SubjectError(ValueError):
    """A candidate whose layers cannot be measured, or that is not in the suite; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A candidate without quantization of its denoiser, run eagerly and without savers and post-steps; `grid` is how it is
    sampled, at one guidance scale."""

    candidate: Candidate
    grid: Grid
    bench: Workbench

    def prepared(self, mode: Mode = NOT_QUANTIZED) -> Prepared:
        """It live, with its denoiser in a mode."""
        return self.bench.prepare(self.quantized(mode))

    def quantized(self, mode: Mode) -> Candidate:
        """The same candidate with its denoiser in a mode, which computes in the same number format."""
        if mode == NOT_QUANTIZED:
            return self.candidate
        return replace(self.candidate, quantization=with_denoiser(self.candidate.quantization, mode),
                       precision=str(self.candidate.denoiser_format))

    @property
    def computing(self) -> str:
        """The dtype ("float32") in which its denoiser computes."""
        return computing_of(self.bench.in_its_format(self.quantized("int8_weight_only")))

    def prompts(self, split: str) -> tuple[str, ...]:
        """The ids of the prompts of a split."""
        return tuple(prompt.id for prompt in self.grid.prompts if prompt.split == split)

    def cells(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[Cell, ...]:
        """The cells of these prompts and seeds."""
        (guidance,) = self.grid.guidance_scales
        return tuple(Cell(prompt=prompt, seed=seed, guidance=guidance) for prompt in prompts for seed in seeds)

    def pictures(self, prepared: Prepared, cells: Sequence[Cell]) -> dict[Cell, Images]:
        """Its pictures of these cells, in batches of the grid's size."""
        by_cell: dict[Cell, Images] = {}
        for pictures in self._sampled(prepared, cells, 0, at_once=True):
            by_cell.update(pictures)
        return {cell: by_cell[cell] for cell in cells}

    def batches(self, prepared: Prepared, cells: Sequence[Cell]) -> Iterator[dict[Cell, Images]]:
        """As `pictures`, in batches of as many cells as there are, each begun when the one before is finished."""
        return self._sampled(prepared, cells, len(cells), at_once=False)

    def _sampled(self, prepared: Prepared, cells: Sequence[Cell], size: int, *, at_once: bool) -> Iterator[dict[Cell, Images]]:
        with threads_for(self.grid, self.bench.device):
            texts = embedded(prepared.phases, self.grid.prompts, steps=self.grid.steps)
            packed = pack(self.grid, cells, size, lengths_of(prepared.phases, texts, self.grid))
            for todo in [packed] if at_once else [[batch] for batch in packed]:
                for batch, images in sample(prepared.phases, self.grid, todo, texts):
                    yield dict(zip(batch, images, strict=True))

    def identity(self) -> str:
        """A hash of everything that decides its pictures without quantization."""
        grid = self.grid
        used = names_of(self.candidate)
        contents = {file: self.bench.content(file) for prompt in grid.prompts for name, file in prompt.pictures.items()
                    if name in used}
        prompts = [[prompt.id, *parts_in_key(self.candidate, prompt, (), contents)] for prompt in grid.prompts]
        return short_hash([self.bench.weights(self.candidate).identity, prompts, list(grid.seeds), list(grid.guidance_scales),
                           setting(grid, self.bench.device, device_memory(self.bench.device).name)])


def subject_of(suite: Suite, name: str, device: str, root: Path) -> Subject:
    """The candidate of this name, with its files checked and nothing loaded. Raises SubjectError, and for its files what opening
    them raises."""
    declared = next((candidate for candidate in suite.candidates if candidate.name == name), None)
    if declared is None:
        raise SubjectError(f"suite {suite.name!r} has no candidate {name!r}; {hint(name, [c.name for c in suite.candidates])}")
    set_determinism(device)
    bench = Workbench.for_grid(suite.grid, device=device, root=root)
    if reason := _refusal(suite, declared, bench):
        raise SubjectError(f"suite {suite.name!r}, candidate {name!r}: {reason}")
    candidate = in_full(declared)
    if problems := file_problems(suite, [candidate], bench, {}, lambda *_: None):
        raise SubjectError("\n".join(problems))
    if len(bench.legs(candidate)) > 1:
        raise SubjectError(f"suite {suite.name!r}, candidate {name!r}: adapters, controls or references act in some of the steps "
                           "alone, so that its weights change between them. Declare a candidate in which they act in all steps")
    suite = with_fitted_batch(suite, bench, {})[0]
    grid = run_grid(suite, candidate)
    bench.take_grid(suite.grid)
    return Subject(candidate=candidate, bench=bench, grid=replace(grid, guidance_scales=(timed_cell(grid).guidance,)))


def in_full(candidate: Candidate) -> Candidate:
    """The candidate with its denoiser in a plain number format, run eagerly and without savers and post-steps."""
    mode = of_denoiser(candidate.quantization, NOT_QUANTIZED)
    kept = mode if mode in NUMBER_FORMATS else NOT_QUANTIZED
    return replace(candidate, quantization=with_denoiser(candidate.quantization, kept), runtime="eager", savers=(),
                   step_cache=None, post=())


def _refusal(suite: Suite, candidate: Candidate, bench: Workbench) -> str:
    """Why the layers of a candidate cannot be measured; empty if they can."""
    if candidate.stages:
        return "it has several stages, each with a denoiser of its own. Declare the model of one stage as a candidate"
    if isinstance(candidate.model, Relay | Ensemble):
        return (f"its model is {'a relay' if isinstance(candidate.model, Relay) else 'an ensemble'}, which has several "
                "denoisers. Declare one of its models as a candidate")
    if len(bench.groups(candidate)) > 1:
        return "the prompts bring different adapters. Declare a suite whose prompts bring none, or the same"
    if "denoiser_on_host" in suite.grid.low_memory and bench.device != "cpu":
        return "low_memory has 'denoiser_on_host', and layers on the host cannot be exchanged one by one. Remove it, or use "\
               "--device cpu"
    return ""
