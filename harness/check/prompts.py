"""Problems of a grid's prompts: their names, splits and texts, and the markup of their syntax."""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.field_types import name_problem
from harness.check.phrases import doubles, lookalikes, unknown
from harness.check.prompt_markup import markup_problems, phrases
from harness.check.together import together
from harness.declare import SPLITS, Grid, Prompt, Suite, grid_of
from harness.declare.grid import LEAST_GUIDANCE, LONG_PROMPTS, MOST_STEPS, GridsNegative, GridsSyntax
from harness.declare.prompt_texts import NEGATIVE, POSITIVE, ROLES, parsed
from harness.declare.same_text import effective_prompts, is_unguided, same_texts
from harness.declare.syntax import PLAIN, SYNTAXES, MarkupError
from harness.records.harmless_text import first_control


def prompt_problems(grid: Grid) -> Iterator[str]:
    """One phrase per problem of the prompts of a grid whose fields have the right types."""
    prompts = grid.prompts
    yield from doubles("prompt id", [p.id for p in prompts])
    yield from lookalikes("prompt id", [p.id for p in prompts])
    for prompt in prompts:
        yield from _prompt(prompt)
    yield from markup_problems(*prompts)
    if prompts and not any(p.split == "select" for p in prompts):
        yield "no prompt is in the split 'select', on which candidates are compared; give at least one"
    # The negative text has the syntax of its prompt.
    syntaxes = {prompt.syntax for prompt in prompts if isinstance(prompt.negative, GridsNegative) and not prompt.literal}
    yield from dict.fromkeys(f"negative: {phrase}" for syntax in sorted(syntaxes)
                             for phrase in phrases(grid.negative, syntax, negative=True, owner="Grid"))
    if grid.negative and all(prompt.negative != grid.negative for prompt in prompts):
        yield f"negative {grid.negative!r} has no effect, because every prompt has a negative text of its own; remove it"
    yield from unknown("syntax", [grid.syntax], SYNTAXES)
    yield from unknown("long_prompts", [grid.long_prompts], LONG_PROMPTS)


def _prompt(prompt: Prompt) -> Iterator[str]:
    if trouble := name_problem(prompt.id):
        yield f"the prompt id {trouble}"
    if prompt.split not in SPLITS:
        yield f"prompt {prompt.id!r}: split {prompt.split!r}; expected one of {', '.join(SPLITS)}"
    for field, text in (("the text", prompt.text), ("the negative text", prompt.negative)):
        if odd := first_control(text):
            yield f"prompt {prompt.id!r}: {field} holds the control character {odd!r}, which draws nothing; remove it"
    if prompt.literal and prompt.syntax not in ("", PLAIN):
        yield f"prompt {prompt.id!r}: it is literal, and has the syntax {prompt.syntax!r}; remove one of the two"
    if prompt.syntax in SYNTAXES or not prompt.syntax:
        yield from syntax_problems(prompt)
    elif not isinstance(prompt.syntax, GridsSyntax):  # which is said of the grid
        yield from (f"prompt {prompt.id!r}: {phrase}" for phrase in unknown("syntax", [prompt.syntax], SYNTAXES))


def syntax_problems(prompt: Prompt) -> Iterator[str]:
    """What in a prompt's texts its own syntax cannot follow."""
    for role in ROLES:
        where = f"prompt {prompt.id!r}{', negative' if role == NEGATIVE else ''}"
        try:
            text = parsed(prompt, role)
        except MarkupError as error:
            yield f"{where}: {error}"
            continue
        if role == POSITIVE and not text.plain.strip():
            last = " at its last step, and by this one images are scored" if text.changes else ""
            yield f"prompt {prompt.id!r}: the text is empty{last}"
        if role == NEGATIVE and text.tags:
            yield (f"{where}: <lora:{text.tags[0].name}:...> applies nothing, because A1111 reads such tags in the prompt alone; "
                   "write it there, or remove it")


def schedule_problems(suite: Suite) -> Iterator[str]:
    """One phrase for each part of a prompt that would be drawn at none of the steps of some candidates."""
    missing: list[tuple[str, str]] = []
    steps = {candidate.name: grid_of(suite, candidate).steps for candidate in suite.candidates}
    for prompt in suite.grid.prompts:
        for role in ROLES:
            try:
                text = parsed(prompt, role)
            except ValueError:  # which is said of the prompt
                continue
            where = f"prompt {prompt.id!r}{', negative' if role == NEGATIVE else ''}"
            missing += [(repr(name), f"{where}: one of the texts in {written!r} would be drawn at none of the {count} steps; "
                        "give it other steps, or a share of them such as 0.5")
                        for name, count in steps.items() if 0 < count <= MOST_STEPS for written in text.never_drawn(count)]
    yield from together(missing)


def shared_texts(grid: Grid) -> Iterator[str]:
    """Texts that stand on both sides of the split: what was chosen on them would be confirmed by them."""
    splits = {p.id: p.split for p in grid.prompts}
    unguided = LEAST_GUIDANCE in grid.guidance_scales
    what = "text (a negative text has no effect at guidance scale 1)" if unguided else "text and negative text"
    for names in same_texts(effective_prompts(grid)):
        first = {split: next((name for name in names if splits[name] == split), "") for split in SPLITS}
        if all(first.values()):
            sides = " and ".join(f"{name!r} ({split})" for split, name in first.items())
            yield (f"prompts {sides} have the same {what}, so the pick would be confirmed on what it was chosen "
                   "on; give one of them another text, or remove it (more images of one text: more seeds)")


def idle_negatives(grid: Grid) -> Iterator[str]:
    """Negative texts that no image depends on."""
    if is_unguided(grid.guidance_scales) and any(prompt.negative.strip() for prompt in grid.prompts):
        yield ("negative texts have no effect at guidance scale 1, and the grid has no other scale; remove them, or add a scale "
               "above 1")
