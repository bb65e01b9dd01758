"""How the text encoders of candidates read the prompts: the row that is recorded of it, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from harness.declare import Candidate, Grid, Suite, short_hash
from harness.declare.effective_grid import run_grid, run_grids, whole_grid
from harness.declare.grid import IN_CHUNKS
from harness.declare.prompt_texts import POSITIVE, ROLES, change_along_steps, place, text_at
from harness.declare.same_text import prompts_hash
from harness.declare.stages import stage_name
from harness.materialise import Workbench
from harness.records import Coverage
from harness.records.images import PROMPTS
from harness.samplers import FLOW_FAMILIES, is_pipeline
from harness.sampling import coverage_of_prompts, idle_word_problem, long_text_problem, markup_problem, one_text_problem
from harness.sampling.prompt_coverage import IN_PART
from harness.text import Treatment

if TYPE_CHECKING:
    from harness.weights import TextEncoder


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The row for the journal, without a candidate's name, and what is wrong; empty if nothing is."""

    row: Coverage
    problem: str


def read_grid(suite: Suite, candidate: Candidate) -> Grid:
    """The grid of a candidate with the guidance scales of all: texts that are one question at any are one."""
    return replace(run_grid(suite, candidate), guidance_scales=whole_grid(suite).guidance_scales)


class PromptReadings:
    """The readings of a session's candidates; those with the same encoders and words share them."""

    def __init__(self) -> None:
        # With the encoders, so that no other ones get their `id`.
        self._known: dict[tuple[int, int, str], tuple[object, Reading]] = {}

    def of(self, candidate: Candidate, grid: Grid, bench: Workbench) -> Reading | None:
        """How an inspected candidate reads the prompts of its grid; None without text encoders. Of several models that read it is
        the first reading, or the first with a problem."""
        readings = self._of_stage(candidate, grid, bench)
        for number, (stage, own) in enumerate(self._later(candidate, grid, bench), 1):
            readings += [reading if not reading.problem else replace(reading, problem=f"{stage_name(number)}: {reading.problem}")
                         for reading in self._of_stage(stage, own, bench)]
        return next((reading for reading in readings if reading.problem), next(iter(readings), None))

    def _of_stage(self, candidate: Candidate, grid: Grid, bench: Workbench) -> list[Reading]:
        return [reading for reader in bench.readers(candidate) if (reading := self._of_one(reader, grid, bench)) is not None]

    @staticmethod
    def _later(candidate: Candidate, grid: Grid, bench: Workbench) -> list[tuple[Candidate, Grid]]:
        """The later stages as candidates of their own, with the prompts as they read them."""
        return list(zip(bench.stages(candidate)[1:], run_grids(grid, candidate)[1:], strict=True)) if candidate.stages else []

    def _of_one(self, candidate: Candidate, grid: Grid, bench: Workbench) -> Reading | None:
        if is_pipeline(bench.family(candidate)):
            return _by_own_pipeline(candidate, grid, bench)
        encoders, treatments = bench.encoded_by(candidate)
        if not encoders:
            return None
        words = short_hash([[[w.component, w.token, w.file_word, len(w.vectors)] for w in treatment.words]
                            + sorted(treatment.weights) for treatment in treatments])
        texts = prompts_hash(grid.prompts)
        key = (id(encoders), grid.steps if change_along_steps(grid.prompts) else 0, f"{words} {texts}")
        if key not in self._known:
            self._known[key] = encoders, _reading(grid, bench.family(candidate), encoders, treatments)
        return self._known[key][1]


def _by_own_pipeline(candidate: Candidate, grid: Grid, bench: Workbench) -> Reading:
    """Of a model that the pipeline of its folder samples. A text that no encoder reads whole was refused."""
    keys: dict[str, list[str]] = {}
    roles = ROLES if any(scale != 1 for scale in grid.guidance_scales) else (POSITIVE,)
    for prompt, role in product(grid.prompts, roles):
        words = text_at(prompt, role, 0, 1).words
        if role == POSITIVE or words:
            cut = bench.cut_in_part(candidate, grid, words)
            keys.setdefault(IN_PART if cut else "whole", []).append(place(prompt, role))
    row = Coverage(candidate="", stage=PROMPTS, component="text_encoder", keys={s: tuple(names) for s, names in keys.items()},
                   setting=prompts_hash(grid.prompts))
    return Reading(row=row, problem=markup_problem(grid, bench.family(candidate)))


def _reading(grid: Grid, family: str, encoders: Sequence[TextEncoder], treatments: Sequence[Treatment]) -> Reading:
    own_pipeline = family in FLOW_FAMILIES
    chunks = not own_pipeline and grid.long_prompts == IN_CHUNKS
    advice = "Shorten them" if own_pipeline else f"Shorten them, or let the grid have long_prompts={IN_CHUNKS!r}"
    problem = markup_problem(grid, family) if own_pipeline else ""
    problem = problem or one_text_problem(grid, encoders, treatments, chunks=chunks)
    problem = problem or idle_word_problem(grid, encoders, treatments, chunks=chunks)
    if not (problem or chunks):
        problem = long_text_problem(grid, encoders, treatments, advice=advice)
    return Reading(row=coverage_of_prompts(grid, encoders, treatments, chunks=chunks), problem=problem)
