"""Samples a few cells again from the saved file and compares them with the run's images: what is promoted is what was
measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.declare import Candidate, Grid
from harness.declare.component_runtimes import Runtimes
from harness.declare.picture_uses import PICTURES, parts_in_key
from harness.declare.same_text import prompts_hash
from harness.materialise import Workbench
from harness.promotion.errors import PromotionError
from harness.promotion.gather import Evidence
from harness.records import Cell, Sample, sample_key
from harness.records.regular_files import lies_below
from harness.records.reusable import chunked_places
from harness.run_folder.ledger import Ledger
from harness.runtimes import packages_of
from harness.sampling import pack

if TYPE_CHECKING:
    from harness.sampling import Images

CELLS: Final = 4
ROUNDING_LEVELS: Final = 8
"""Largest noise floor that is an allowance. Batches and processors change the last bits of sums, which moves a pixel by a few
levels; a larger floor says that the run's images are not those that its candidates make."""
FUSED_MEAN_LEVELS: Final = 1.0
"""Largest allowed mean absolute difference, in levels from 0 to 255, from rounding fused adapters to the file's dtype, or on
another processor. The built-in models reach 0.05 with any kind of adapter; a LoRA at 0.7 instead of the measured 0.6 exceeds
this."""


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """How far the re-sampled images are from the run's, in levels from 0 to 255; `said` is that in words, with the limit."""

    cells: int
    equal: int
    largest_levels: int
    mean_levels: float
    outcome: str


def resample(evidence: Evidence, candidate: Candidate, device: str, root: Path, *, rounded: str = "") -> Resampled:
    """Samples CELLS cells, spread over the grid, as the run did, and compares them with the run's images. Raises PromotionError
    if they differ. Allowed are the noise floor, where the environment is not the run's, and FUSED_MEAN_LEVELS in the mean of an
    image, where weights were `rounded` for the reason given."""
    ledger = Ledger(evidence.folder)
    samples = _chosen(evidence, ledger)
    stored = {s.cell: _stored(evidence.folder, ledger, s) for s in samples}
    images = _made(evidence.grid, candidate, _batch_size(evidence, samples[0]), (device, root), [s.cell for s in samples])
    largest, means, equal = 0, [], 0
    for cell, before in stored.items():
        if before.shape != images[cell].shape:
            raise PromotionError(f"{evidence.folder}: the image of {cell} is {before.shape[1]} x {before.shape[0]} pixels, not "
                                 "the suite's size. Run the suite again")
        distance = np.abs(before.astype(int) - images[cell].astype(int))
        largest, equal = max(largest, int(distance.max())), equal + (not distance.any())
        means.append(float(distance.mean()))
    floor, elsewhere = evidence.floor_levels or 0, _differing(evidence.head, device, candidate.runtime)
    distances = f"{equal} of {len(samples)} re-sampled images are equal, the others differ by at most {largest} of 255 levels"
    if equal == len(samples):
        outcome = f"all {equal} re-sampled images are equal to the run's, bit for bit"
    elif rounded and max(means) <= FUSED_MEAN_LEVELS:
        outcome = (f"{distances} and {max(means):.3g} in the mean of an image: rounding, because {rounded} "
                   f"(at most {FUSED_MEAN_LEVELS:g} is allowed)")
    elif elsewhere and largest <= floor <= ROUNDING_LEVELS:
        outcome = (f"{distances}, within the run's noise floor of {floor} levels, which is allowed because the environment "
                   f"differs from the run's ({', '.join(elsewhere)})")
    else:
        raise PromotionError(f"suite {evidence.suite.name!r}, candidate {evidence.candidate!r}: {distances}, {max(means):.3g} in "
                             f"the mean of an image, but {_allowed(floor, elsewhere, rounded)}. {_do(elsewhere)}")
    return Resampled(cells=len(samples), equal=equal, largest_levels=largest, mean_levels=max(means), outcome=outcome)


def _chosen(evidence: Evidence, ledger: Ledger) -> list[Sample]:
    """Samples of the first cell, the last cell and cells between them, all of one batch size."""
    images = evidence.run.images
    rows = images[images["candidate"] == evidence.candidate].to_dict("records")
    chosen = [rows[index] for index in dict.fromkeys(round(part * (len(rows) - 1) / (CELLS - 1)) for part in range(CELLS))]
    cells = [Cell(prompt=str(row["prompt"]), seed=int(row["seed"]), guidance=float(row["guidance"])) for row in chosen]
    samples = [ledger.samples.get((evidence.candidate, cell)) for cell in cells]
    whole = [s for s, row in zip(samples, chosen, strict=True) if s is not None and s.key == row["sample"]]
    size = _batch_size(evidence, whole[0]) if len(whole) == len(chosen) else 0
    if len(whole) != len(chosen):
        raise PromotionError(f"suite {evidence.suite.name!r}, candidate {evidence.candidate!r}: the journal lacks images of this "
                             "run. Run the suite again")
    return [s for s in whole if _batch_size(evidence, s) == size]


def _batch_size(evidence: Evidence, sample: Sample) -> int:
    """The batch size at which a sample was made: the declared one, or a smaller one if memory did not suffice."""
    prompt = next(p for p in evidence.grid.prompts if p.id == sample.cell.prompt)
    chunked = chunked_places((row for row in evidence.run.coverage if row.candidate == evidence.candidate),
                             prompts_hash(evidence.grid.prompts))
    parts = parts_in_key(evidence.run.candidate(evidence.candidate), prompt, chunked, evidence.head.get(PICTURES, {}))
    size = evidence.grid.images_per_batch
    while size > 1:
        setting = {**evidence.sampled_as, "batch_size": size}
        if sample_key(evidence.identity, sample.cell, parts, setting) == sample.key:
            return size
        size //= 2
    return 1


def _made(grid: Grid, candidate: Candidate, size: int, where: tuple[str, Path], cells: list[Cell]) -> Mapping[Cell, Images]:
    """The images of the cells of the candidate's grid, sampled as in a run: the same texts together, the same batch shape and
    places."""
    from harness.sampling import embedded, lengths_of, sample, set_determinism, threads_for

    device, root = where
    set_determinism(device)
    with threads_for(grid, device):
        prepared = Workbench.for_grid(grid, device=device, root=root).prepare(candidate)
        texts = embedded(prepared.phases, grid.prompts, steps=grid.steps)
        images_by_cell: dict[Cell, Images] = {}
        batches = pack(grid, cells, size, lengths_of(prepared.phases, texts, grid))
        for batch, images in sample(prepared.phases, grid, batches, texts):
            images_by_cell.update(zip(batch, images, strict=True))
    return images_by_cell


def _stored(folder: Path, ledger: Ledger, sample: Sample) -> Images:
    """The run's image, hashed as it is read. Raises PromotionError for a path that leads out of the folder."""
    from harness.sampling import from_png

    try:
        path = folder / sample.path
        inside = lies_below(path, folder) and path.is_file()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise PromotionError(f"{folder}: the image {sample.path!r} is not a file in the run folder. Run the suite again")
    return from_png(ledger.read(sample))


def _differing(head: Mapping[str, Any], device: str, runtime: Runtimes) -> list[str]:
    """The facts of the environment that can change pixels in a runtime, and are not what they were in the run."""
    from harness.probes.environment import deciding_pixels, environment

    facts = head.get("environment", {})
    here = environment(device) | {"threads_per_operation": facts.get("threads_per_operation")}
    packages = packages_of(runtime)
    then, now = deciding_pixels(facts, packages), deciding_pixels(here, packages)
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


def _allowed(floor: int, elsewhere: list[str], rounded: str) -> str:
    """What the images were allowed to differ by."""
    if rounded:
        what = "fused adapters" if "fused" in rounded else "other last bits"
        return f"that is more than a mean of {FUSED_MEAN_LEVELS:g} for {what}"
    if not elsewhere:
        return "they must be equal where the environment is the run's"
    if floor > ROUNDING_LEVELS:
        return (f"the run's noise floor of {floor} levels is more than rounding makes ({ROUNDING_LEVELS} at most), so "
                "its images are not those that its candidates make")
    return f"the run's noise floor is {floor} levels"


def _do(elsewhere: list[str]) -> str:
    """What to do if the images differ: a changed environment is the first suspect."""
    if elsewhere:
        return (f"The environment differs from the run's ({', '.join(elsewhere)}): promote where the suite ran, or run the suite "
                "here with --fresh")
    return "Nothing was promoted; run the suite again with --fresh, and without a shared cache that others can write to"
