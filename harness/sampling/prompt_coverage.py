"""How the text encoders of a model read the prompts of a suite: what does not fit, which words occur, which prompts are one text.
It depends on tokenizers and words alone; no weight is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Grid, Prompt
from harness.declare.prompt_texts import NEGATIVE, POSITIVE, ROLES, all_texts, parsed, place, texts_of
from harness.declare.same_text import effective_prompts, first_of_text, prompts_hash
from harness.declare.syntax import Text
from harness.records import Coverage
from harness.records.images import CHUNKED, PROMPTS
from harness.text import Treatment
from harness.text.tokens import Layout, in_chunks, lay_out, room_for_text
from harness.text.two_words import as_written

if TYPE_CHECKING:
    from harness.weights import TextEncoder

_MOST_NAMED: Final = 8
_LONGEST: Final = 160
IN_PART: Final = "shortened_in_part"
"""The status of a text that some of a model's text encoders cut off and others read whole."""


def named(treatment: Treatment) -> set[str]:
    """The words and phrases of a treatment, which some prompt should contain."""
    return {word.token for word in treatment.words} | set(treatment.weights)


def coverage_of_prompts(grid: Grid, encoders: Sequence[TextEncoder], treatments: Iterable[Treatment], *,
                        chunks: bool = False) -> Coverage:
    """A row, without a candidate's name, that says which prompts do not fit the text encoders, by how many tokens, and which
    words of the treatments occur. With `chunks` what does not fit is read in further chunks, and "chunked". Else what all of
    several encoders cut off is "shortened"; what some of them read, such as T5 of a text too long for CLIP, is
    "shortened_in_part"."""
    long: dict[Text, list[tuple[TextEncoder, Layout]]] = {}
    counts: dict[Text, int] = {}
    occurring: set[str] = set()
    texts = all_texts(grid.prompts, grid.steps)
    for treatment in (as_written(given, texts) for given in treatments):
        for text in texts:
            layouts = [(encoder, lay_out(encoder, text, treatment)) for encoder in encoders]
            occurring.update(*(layout.occurring for _, layout in layouts))
            if chunks and (count := max(len(in_chunks(encoder, text, treatment)) for encoder in encoders)) > counts.get(text, 1):
                long[text], counts[text] = layouts, count
            elif not chunks and _dropped(layouts) > (_dropped(long[text]) if text in long else (0, 0)):
                long[text] = layouts
    room = max(map(room_for_text, encoders), default=0)
    notes: list[str] = []
    keys: dict[str, list[str]] = {status: [] for status in ("whole", CHUNKED, "shortened", IN_PART)}
    for prompt, role in product(grid.prompts, ROLES):
        words = texts_of(prompt, role, grid.steps)
        if role == NEGATIVE and not any(text.words for text in words):
            continue
        longest = max((text for text in words if text in long), key=lambda text: (counts.get(text, 0), *_dropped(long[text])),
                      default=None)
        if longest is None:
            keys["whole"].append(place(prompt, role))
            continue
        keys[CHUNKED if chunks else "shortened" if _dropped(long[longest])[0] else IN_PART].append(place(prompt, role))
        how = f"read in {counts[longest]} chunks of at most {room} tokens" if chunks else _cut_off(long[longest])
        notes.append(f"{place(prompt, role)}: {how}")
    keys["applied"] = [f"word {word!r}" for word in sorted(occurring)]
    return Coverage(candidate="", stage=PROMPTS, component="text_encoder", notes=tuple(notes), setting=prompts_hash(grid.prompts),
                    keys={status: tuple(names) for status, names in keys.items() if names})


def _dropped(layouts: Sequence[tuple[TextEncoder, Layout]]) -> tuple[int, int]:
    """How many tokens of a text all encoders drop, and how many some encoder drops."""
    counts = [layout.dropped_tokens for _, layout in layouts]
    return min(counts), max(counts)


def _cut_off(layouts: Sequence[tuple[TextEncoder, Layout]]) -> str:
    """What the encoders drop of one text, in words."""
    (least, most), (encoder, layout) = _dropped(layouts), max(layouts, key=lambda row: row[1].dropped_tokens)
    text = " ".join(layout.dropped)
    if least == most:
        return f"{most} tokens do not fit and are cut off: {text}"
    readers = ", ".join(other.component for other, whole in layouts if not whole.dropped_tokens)
    rest = f"; {readers} reads the whole text" if readers else f"; of all text encoders, the last {least} tokens"
    return f"{most} tokens do not fit {encoder.component} and are cut off there: {text}{rest}"


def markup_problem(grid: Grid, family: str) -> str:
    """Which prompts have markup that a family's own pipeline cannot follow. Empty if none has."""
    marked = [place(prompt, role) for prompt, role in product(grid.prompts, ROLES) if parsed(prompt, role).changes
              or any(part.weight != 1 or part.breaks for text in texts_of(prompt, role, grid.steps) for part in text.parts)]
    if not marked:
        return ""
    return (f"models of the family {family} are sampled by their own pipeline, which takes no weights of words, no BREAK and no "
            f"texts that change at a step; write plain text instead: {', '.join(marked[:_MOST_NAMED])}"
            f"{f' and {len(marked) - _MOST_NAMED} more' if len(marked) > _MOST_NAMED else ''}")


def long_text_problem(grid: Grid, encoders: Sequence[TextEncoder], treatments: Sequence[Treatment], *, advice: str) -> str:
    """Which ends of texts none of the encoders would read. Empty if all of them fit one."""
    lost: dict[Text, Layout] = {}
    texts = all_texts(grid.prompts, grid.steps)
    for text in texts if encoders else ():
        for treatment in (as_written(given, texts) for given in treatments):
            least = min((lay_out(encoder, text, treatment) for encoder in encoders), key=lambda layout: layout.dropped_tokens)
            if least.dropped_tokens > (lost[text].dropped_tokens if text in lost else 0):
                lost[text] = least
    phrases = [f"{place(prompt, role)}: {_tokens(lost[text])}, '{_shortly(' '.join(lost[text].dropped))}'"
               for prompt, role in product(grid.prompts, ROLES) for text in texts_of(prompt, role, grid.steps) if text in lost]
    if not phrases:
        return ""
    more = f" and {len(phrases) - _MOST_NAMED} more" if len(phrases) > _MOST_NAMED else ""
    room = max(map(room_for_text, encoders))
    return (f"texts do not fit the text encoder, which reads at most {room} tokens, so their ends would be lost: "
            f"{'; '.join(phrases[:_MOST_NAMED])}{more}. {advice}")


def _tokens(layout: Layout) -> str:
    return f"{layout.dropped_tokens} token{'' if layout.dropped_tokens == 1 else 's'}"


def _shortly(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST - 3]}..."


def idle_word_problem(grid: Grid, encoders: Sequence[TextEncoder], treatments: Sequence[Treatment], *,
                      chunks: bool = False) -> str:
    """What is wrong with words of the treatments that no encoder gets to read, because no prompt has them or they are cut off.
    With `chunks` nothing is cut off. Empty if nothing is wrong."""
    texts, positive = all_texts(grid.prompts, grid.steps), all_texts(grid.prompts, grid.steps, (POSITIVE,))
    read: set[str] = set()
    written: set[str] = set()
    for declared in treatments if encoders else ():
        treated = as_written(declared, texts)
        tokens = {word.token: given.token for given, word in zip(declared.words, treated.words, strict=True)}
        for text, encoder in product(texts, encoders):
            for layout in _layouts(encoder, text, treated, chunks):
                written |= {tokens.get(name, name) for name in layout.occurring}
                read |= {tokens[word.token] for _, word, _ in layout.rows}
        for phrase in treated.weights:
            alone, plain = replace(treated, weights={phrase: 2.0}), replace(treated, weights={})
            if any([layout.weights for layout in _layouts(encoder, text, alone, chunks)]
                   != [layout.weights for layout in _layouts(encoder, text, plain, chunks)]
                   for text, encoder in product(positive, encoders)):
                read.add(phrase)
    idle = sorted({word for treatment in treatments for word in named(treatment)} - read) if encoders else []
    if not idle:
        return ""
    if idle[0] in written:
        return (f"the word {idle[0]!r} is only in parts of the prompts that the text encoder cuts off, so it has no effect; "
                "shorten the prompts, or put it first")
    return (f"the word {idle[0]!r} appears in no prompt of the suite, so it has no effect; write it into the prompts as it is "
            "spelled here, or remove it from the candidate")


def one_text_problem(grid: Grid, encoders: Sequence[TextEncoder], treatments: Sequence[Treatment], *,
                     chunks: bool = False) -> str:
    """What is wrong with prompts that differ as they are written, but not as all of the text encoders read them, with `chunks` in
    chunks. Empty if nothing is."""
    if not encoders:
        return ""
    # A text encoder is given no pictures.
    prompts = tuple(replace(prompt, pictures={}) for prompt in effective_prompts(grid))
    first = first_of_text(prompts)
    texts = all_texts(prompts, grid.steps)
    pairs = [(encoder, treatment) for treatment in (as_written(given, texts) for given in treatments) for encoder in encoders]
    layouts = {text: [layout for encoder, treatment in pairs for layout in _layouts(encoder, text, treatment, chunks)]
               for text in texts}
    groups: dict[Any, list[Prompt]] = {}
    for prompt in prompts:
        if first[prompt.id] == prompt.id:
            read = tuple((span.until, tuple(map(_read, layouts[span.text])))
                         for role in ROLES for span in parsed(prompt, role).spans(grid.steps))
            groups.setdefault(read, []).append(prompt)
    phrases = []
    for group in (group for group in groups.values() if len(group) > 1):
        ids = ", ".join(map(repr, (prompt.id for prompt in group[:_MOST_NAMED])))
        ids += f" and {len(group) - _MOST_NAMED} more" if len(group) > _MOST_NAMED else ""
        cut = any(layout.dropped_tokens for text in all_texts(group, grid.steps) for layout in layouts[text])
        limit = f", which reads at most {max(map(room_for_text, encoders))} tokens of a text" if cut else ""
        phrases.append(f"prompts {ids} are one text for the text encoder{limit}; "
                       + ("shorten them, or put what differs first" if cut else "give each another text, or keep one of them"))
    return "; ".join(phrases)


def _layouts(encoder: TextEncoder, text: Text, treatment: Treatment, chunks: bool) -> tuple[Layout, ...]:
    return in_chunks(encoder, text, treatment) if chunks else (lay_out(encoder, text, treatment),)


def _read(layout: Layout) -> tuple[Any, ...]:
    """What an encoder is given of a text."""
    return (layout.ids, layout.weights,
            tuple((position, word.component, word.token, row) for position, word, row in layout.rows))
