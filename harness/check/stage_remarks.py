"""What is doubtful about stages that may be sampled, and about shares of the steps that round to the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from harness.check.files import ADAPTER, file_problem
from harness.declare import Adapter, Candidate, Control, Reference, Suite
from harness.declare.effective_grid import run_grids
from harness.declare.listing import first_of
from harness.declare.prompt_texts import ROLES, texts_of
from harness.declare.stage_candidates import as_candidates
from harness.declare.stages import PROMPT, stage_name
from harness.declare.step_shares import first_step
from harness.hub import place

_SHARP_FROM: Final = 0.5
"""The strength from which a stage removes the blur of latents that were enlarged."""
_LATENT: Final = "latent"
_Acting = TypeVar("_Acting", Adapter, Control, Reference)


def stage_remarks(suite: Suite, root: Path) -> Iterator[str]:
    """A sentence for each doubt about later stages, with the candidates that it is about."""
    by_phrase: dict[str, list[str]] = {}
    for candidate in suite.candidates:
        if candidate.model != "" and candidate.stages:
            for phrase in (*_of_declaration(candidate), *_words_left(suite, candidate, root)):
                names = by_phrase.setdefault(phrase, [])
                names += [] if repr(candidate.name) in names else [repr(candidate.name)]
    yield from (f"candidate{'' if len(names) == 1 else 's'} {first_of(names)}, {phrase}" for phrase, names in by_phrase.items())


def _of_declaration(candidate: Candidate) -> Iterator[str]:
    for number, stage in enumerate(candidate.stages, 1):
        place = stage_name(number)
        if stage.resize == _LATENT and (stage.strength or 1) < _SHARP_FROM:
            yield (f"{place}: latents that are resized are blurred, and strength {stage.strength:g} may leave that; take "
                   f"resize='lanczos', or a strength of at least {_SHARP_FROM:g}")
        if stage.strength == 1:
            yield (f"{place}: strength 1 runs all steps from almost pure noise, so hardly anything is left of the picture of the "
                   "stage before; take less, or declare this stage's model alone as a candidate")
        if PROMPT not in stage.prompt:
            yield (f"{place}: its prompt {stage.prompt[:80]!r} is read in place of every prompt of the grid, by which the images "
                   f"are still scored; write {PROMPT!r} into it where the prompt's own text is meant to stay")


def _words_left(suite: Suite, candidate: Candidate, root: Path) -> Iterator[str]:
    """Words of textual inversions of an earlier stage that a later stage reads as plain words."""
    from harness.text.occurrences import composed, occurrences

    stages, grids = as_candidates(candidate), run_grids(suite, candidate)
    for number in range(1, len(stages)):
        own = {adapter.path for adapter in stages[number].adapters}
        earlier = dict.fromkeys(adapter.path for stage in stages[:number] for adapter in stage.adapters
                                if adapter.path not in own)
        texts = {composed(text.words) for prompt in grids[number].prompts for role in ROLES if not prompt.literal
                 for text in texts_of(prompt, role, max(1, grids[number].steps))} if earlier else set()
        for path in earlier:
            words = _inversion_words(path, root)
            if word := next((word for word in words if any(occurrences([word], text) for text in texts)), ""):
                yield (f"{stage_name(number)}: it reads {word!r} as a plain word, because the textual inversion {path!r} is "
                       f"given to an earlier stage alone; give it to Stage(adapters=...) too if it is meant")


def _inversion_words(path: str, root: Path) -> tuple[str, ...]:
    """The words that a file adds, if it is a textual inversion; what is wrong with the file is said elsewhere."""
    from harness.adapters import AdapterError, recognise_file

    with suppress(AdapterError, OSError, ValueError):
        file = place(path, root)
        if not file_problem(ADAPTER, file):
            found = recognise_file(file)
            return () if found.modules else tuple(filter(None, (*found.tokens, found.file_word)))
    return ()


def in_whole_steps(suite: Suite, candidate: Candidate) -> Candidate:
    """The candidate with what acts from and to shares of the steps acting from and to whole steps; itself if nothing does."""
    counts = [grid.steps for grid in run_grids(suite, candidate)] if candidate.model != "" else []
    if not counts or min(counts) < 1:
        return candidate
    stages = tuple(replace(stage, adapters=_rounded(stage.adapters, steps), controls=_rounded(stage.controls, steps),
                           references=_rounded(stage.references, steps))
                   for stage, steps in zip(candidate.stages, counts[1:], strict=True))
    first = counts[0]
    rounded = replace(candidate, stages=stages, adapters=_rounded(candidate.adapters, first),
                      controls=_rounded(candidate.controls, first), references=_rounded(candidate.references, first))
    return candidate if rounded == candidate else rounded


def _rounded(acting: tuple[_Acting, ...], steps: int) -> tuple[_Acting, ...]:
    return tuple(replace(one, start=first_step(one.start, steps) / steps, end=first_step(one.end, steps) / steps)
                 for one in acting)
