"""Problems of a suite that its model files show by themselves, before the first image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from harness.check.together import together
from harness.declare import Candidate, Grid, Merge, Search, Suite
from harness.declare.effective_grid import stage_grids
from harness.declare.listing import first_of
from harness.declare.stages import stage_name
from harness.materialise import Workbench
from harness.materialise.merged_parts import DENOISERS, opened, with_named_parts
from harness.merge.search_space import in_words_of_search, proposed
from harness.samplers import sampler_problem, zero_snr_problem
from harness.text.encoder_forward import clip_skip_problem


def file_problems(suite: Suite, offered: list[Candidate], bench: Workbench, equal: Mapping[str, str],
                  doing: Callable[[str, str], None], texts: Callable[[Candidate], str] = lambda _: "") -> list[str]:
    """One sentence per problem of the candidates that the device offers and of the suite's search; one that many candidates have
    is said once. `equal` is what Workbench.equalities says of them; `doing` is called with a candidate's name and the stage;
    `texts` says what is wrong with the prompts for an inspected candidate."""
    unusable: list[tuple[str, str]] = []
    for candidate in offered:
        doing(candidate.name, "read the model files")
        try:
            bench.inspect(candidate)
            problem = _of_sampling(suite, candidate, bench) or texts(candidate)
        except Exception as error:
            problem = str(error)
        if problem:
            unusable.append((repr(candidate.name), problem))
    of_search = [] if suite.search is None else _of_search(suite.search, bench)
    phrases = [*together(unusable), *equal.values(), *of_search]
    return [f"suite {suite.name!r}, {phrase}" for phrase in phrases]


def _of_sampling(suite: Suite, candidate: Candidate, bench: Workbench) -> str:
    """What keeps an inspected candidate's models from being sampled as their effective grids say; empty if nothing does."""
    for number, (stage, grid) in enumerate(zip(bench.stages(candidate), stage_grids(suite, candidate), strict=True)):
        if problem := _of_stage(grid, stage, bench):
            return f"{stage_name(number)}: {problem}" if number else problem
    return ""


def _of_stage(grid: Grid, candidate: Candidate, bench: Workbench) -> str:
    if problem := sampler_problem(grid.sampler, bench.family(candidate)):
        return problem
    if bench.zero_snr(candidate) and (problem := zero_snr_problem(grid.sampler)):
        return problem
    if grid.sampling is None or grid.sampling.clip_skip is None:
        return ""
    encoders = [encoder for reader in bench.readers(candidate) for encoder in bench.encoded_by(reader)[0]]
    return next(filter(None, (clip_skip_problem(encoder, grid.sampling.clip_skip) for encoder in encoders)), "")


def _of_search(search: Search, bench: Workbench) -> list[str]:
    """What stands against the merge of a search, of whose candidates none is declared: only their numbers differ."""
    try:
        named = with_named_parts(search.merge, opened(search.merge, bench.library))
        merged = named.parts if isinstance(named, Merge) else ()
        if not {*merged} & {*DENOISERS}:
            return [f"search: its merge merges {', '.join(merged)} alone, and a search proposes weights of the denoiser's "
                    "blocks, which hold none of these tensors. Add 'denoiser' to the parts of its merge, or give candidates with "
                    "one alpha each in place of the search"]
        bench.inspect(Candidate(name="search", model=proposed(search, (0.5,) * search.blocks)))
    except Exception as error:
        return [f"search: {in_words_of_search(str(error), search)}"]
    if len(bench.idle_blocks(search)) == search.blocks:
        return [f"search: no block weight changes a tensor, so that all trials would make the same pictures; {_WHY_IDLE}. Merge "
                "other models or parts"]
    return []


_WHY_IDLE: Final = "what they merge is equal in the models, or patterns in the keys of alpha decide it"


def search_remarks(suite: Suite, bench: Workbench) -> list[str]:
    """A sentence on the block weights of a sound search that have no effect, of which trials would differ in nothing."""
    idle = () if suite.search is None else bench.idle_blocks(suite.search)
    if not idle:
        return []
    weight, them = ("weight of the block", "it") if len(idle) == 1 else ("weights of the blocks", "them")
    return [f"suite {suite.name!r}: search: the {weight} {first_of([*map(repr, idle)])} has no effect: {_WHY_IDLE}. Trials that "
            f"differ in {them} alone make the same pictures"]
