"""Markup of other tools in prompts: text that is an instruction there, and would be drawn and scored word for word here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.declare import Prompt
from harness.declare.grid import MOST_STEPS, GridsNegative
from harness.declare.prompt_texts import NEGATIVE, POSITIVE, texts_of
from harness.declare.syntax import PLAIN, SYNTAXES

_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_DECIMAL: Final = r"[+-]?(?:\d?\.\d+|\d\.|10\.0*)"
_WEIGHT: Final = rf"(?P<weight>{_DECIMAL}|(?<=[^\d\s]:)[+-]?(?:10|\d))"
"""A weight after a colon: up to 10. A clock time, a ratio of integers ("16:9"), a year and a score ("Team A: 3") are text."""
_INSIDE: Final = r"(?:[^()]|\([^()]*\))*"


@dataclass(frozen=True, kw_only=True)
class Markup:
    """A kind of markup: a pattern, what it is where it comes from, what to write instead, the syntaxes that know it, and whether
    these follow it or refuse it themselves."""

    pattern: re.Pattern[str]
    meaning: str
    instead: str
    known_to: tuple[str, ...] = ()
    followed: bool = True


def _row(pattern: str, meaning: str, instead: str, flags: int = 0, known_to: tuple[str, ...] = (), *,
         followed: bool = True) -> Markup:
    return Markup(pattern=re.compile(pattern, flags), meaning=meaning, instead=instead, known_to=known_to, followed=followed)


_A1111: Final = ("a1111",)
_COMFYUI: Final = ("comfyui",)
_BOTH: Final = ("a1111", "comfyui")
_MIDJOURNEY: Final = "ar|aspect|[csvqw]|version|stylize|chaos|quality|seed|niji|iw|weird|stop"
_EMPHASIS: Final = "write {words!r} alone, and give the candidate emphasis=Emphasis(weights={{{words!r}: {weight}}})"
_ADAPTER: Final = "give the candidate adapters=(Adapter(path={file!r}, weight={weight}),), with the path of your file"

MARKUP: Final = (
    _row(r"<\s*(?:lora|lyco)\s*:\s*(?P<name>[^<>:]+)(?::(?P<weight>[^<>:]*))?[^<>]*>", "applies a LoRA in A1111", _ADAPTER, re.I,
         _A1111),
    _row(r"<\s*hypernet\s*:\s*(?P<name>[^<>:]+)(?::(?P<weight>[^<>:]*))?[^<>]*>", "applies a hypernetwork in A1111", _ADAPTER,
         re.I, _A1111),
    _row(r"<\s*(?:lora|lyco|hypernet)\s*:[^<>]{0,200}", "begins a tag that A1111 would not read, because it is not closed or has "
         "white space in it", "write it as <lora:name:weight>, or remove it", re.I),
    _row(r"<[^\W\d]\w*(?:\s*\[[^\[\]<>]*\])?\s*:[^<>]*>", "is an instruction in A1111 or SwarmUI", "remove it",
         known_to=_A1111, followed=False),
    _row(r"\bembedding:(?P<name>[^\s,():]+)", "loads a textual inversion in ComfyUI",
         "give the candidate adapters=(Adapter(path={file!r}),), with the path of your file, and write the inversion's own word "
         "in the prompt", re.I, _COMFYUI),
    _row(rf"\((?P<words>{_INSIDE}):\s*{_WEIGHT}\s*,?\s*(?:\)|$)", "weights words in A1111 and ComfyUI", _EMPHASIS,
         known_to=_BOTH),
    _row(rf"(?P<words>(?<![^():])[^():]+):\s*(?P<weight>{_DECIMAL})\s*,?\s*\)", "weights words in A1111 and ComfyUI", _EMPHASIS,
         known_to=_BOTH),
    _row(rf"(?P<words>\b[^\W\d]\w*:\w+):(?P<weight>{_DECIMAL})(?=[\s,]|$)", "weights words in other tools", _EMPHASIS),
    _row(rf"\((?P<words>[^()]*)\)(?P<weight>{_DECIMAL}|10|\d)(?=[\s,.)]|$)", "weights words in compel and InvokeAI", _EMPHASIS),
    _row(r"\((?![A-Z]{1,3}\)\+)(?P<words>[^()]*)\)(?:\++|-{2,})(?=[\s,.)]|$)", "weights words in compel and InvokeAI",
         _EMPHASIS),
    _row(r"(?P<words>\b(?!(?i:\w|notepad|libc|libstdc)\+)\w+)(?:\+{2,}(?=[\s,)]|$)|-{2,}(?=[,)]|\s*$))",
         "weights a word in compel and InvokeAI", _EMPHASIS),
    _row(r"\)\s*\.\s*(?:blend|and|swap)\s*\(", "combines prompts in compel and InvokeAI", "write one text"),
    _row(r"(?P<nested>\((?:\s*\()+)(?P<words>[^()]*)\)*", "emphasises words in A1111 and ComfyUI", _EMPHASIS,
         known_to=_BOTH),
    _row(rf"\[[^\[\]]*:\s*{_NUMBER}\s*(?:\]|$)", "switches or begins a text at a step in A1111",
         "write one text; an adapter acts on some of the steps with Adapter(start=..., end=...)", known_to=_A1111),
    _row(r"\[[^\[\]]*\|[^\[\]]*\]", "alternates texts from step to step in A1111", "write one text, or a Prompt for each",
         known_to=_A1111),
    _row(r"\[(?P<words>[^\[\]]*)\]", "weakens words in A1111", _EMPHASIS, known_to=_A1111),
    _row(r"\{[^{}]*\|[^{}]*\}", "picks one of several texts in dynamic prompts", "declare a Prompt for each of them"),
    _row(r"\{[^{}]*\}", "emphasises words in NovelAI, and is a variable in other tools", "write the words without braces"),
    _row(r"(?<!\w)__[\w\-./*]+__(?!\w|\.\w)", "is a wildcard in dynamic prompts", "declare a Prompt for each of its texts"),
    _row(r"\\[()\[\]{}]", "is a plain bracket in A1111, which does not read the backslash", "write the bracket without it",
         known_to=_BOTH),
    _row(r"(?<![A-Z]{2}\s)\bBREAK\b", "begins a new chunk of the text in A1111", "remove it", known_to=_A1111),
    _row(r"\bAND_(?:PERP|SALT|TOPK)\b|(?<![A-Z]{2}\s)\bAND\b|\bAND\b(?!\s[A-Z]+\b)", "combines prompts in A1111",
         "write 'and', or a Prompt for each", known_to=_A1111, followed=False),
    _row(rf"(?:^|(?<=\s))(?:--[a-z][\w-]*|[—–](?:{_MIDJOURNEY})\s+\d)", "is a parameter in Midjourney",
         "remove it; size and seeds belong to the Grid"),
    _row(rf"::(?:\s*{_NUMBER}(?=[\s,]|$)|(?=\s+\S))", "weights a part in Midjourney", "remove it, or use Emphasis"),
    _row(r"\bNegative prompt:|\bSteps: \d+, \w", "is a line of A1111's picture information",
         "copy the text alone, and the negative prompt into negative='...'"),
)
"""What is refused, the most telling kind first. `(words)` without a weight is ordinary punctuation (see `brackets`)."""
_MOST_PIECES: Final = 100
"""Pieces of a text that are named: each is compared with the others, and a hostile file may hold a hundred thousand."""
_LITERAL: Final = "If it is meant as text, say Prompt(..., literal=True)"
_ALL_LITERAL: Final = "If the whole text is meant as it is written, say Prompt(..., literal=True, syntax='')"
_NOTED: Final = (
    (re.compile(r"\([^()]*\)"), "A1111 and ComfyUI would emphasise it", "use Emphasis without the brackets"),
    (re.compile(r"\b\w+-{2,}(?=\s)"), "compel and InvokeAI would weaken the word", "use Emphasis without the dashes"),
    (re.compile(r"[A-Z]{2,}\s(?:AND|BREAK)\b"), "A1111 would split the text there", "write it in small letters"),
)
"""What is text more often than markup: a pattern, what other tools do, and what to write if that was meant."""


def markup_problems(*prompts: Prompt) -> Iterator[str]:
    """One phrase per piece of markup in the texts and negatives of prompts that their syntax does not know, unless a prompt says
    that its text is literal. What to declare if the texts are right is said with the first piece alone."""
    advised = set[str]()
    for prompt in prompts:
        for role, where in ((POSITIVE, ""), (NEGATIVE, ", negative")):
            negative = role == NEGATIVE
            if prompt.literal or (negative and isinstance(prompt.negative, GridsNegative)):
                continue
            pieces = _pieces(_written(prompt, role), prompt.syntax, negative=negative, owner="Prompt")
            # Texts of different steps repeat what they have in common.
            for phrase, ways in dict.fromkeys(pieces):
                yield f"prompt {prompt.id!r}{where}: {'. '.join((phrase, *(way for way in ways if way not in advised)))}"
                advised.update(ways)


def _written(prompt: Prompt, role: str) -> str:
    """A text without what its own syntax reads; nothing of one that cannot be read."""
    try:
        texts = texts_of(prompt, role, MOST_STEPS)  # all that any number of steps has
    except ValueError:  # which is said elsewhere
        return ""
    return "\n".join(text.words for text in texts)


def phrases(text: str, syntax: str = "", *, negative: bool = False, owner: str = "") -> Iterator[str]:
    """What is wrong with each piece of markup in a text of some syntax; where kinds overlap, the first of them counts. `owner` is
    the declaration that can say how its texts are read."""
    for phrase, ways in _pieces(text, syntax, negative=negative, owner=owner):
        yield ". ".join((phrase, *ways))


def _pieces(text: str, syntax: str, *, negative: bool, owner: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is wrong with each piece, and what to declare if it is right as it is."""
    pieces: dict[tuple[int, int], tuple[re.Match[str], Markup]] = {}
    for row in MARKUP:
        for match in row.pattern.finditer(text) if syntax not in row.known_to else ():
            if len(pieces) == _MOST_PIECES:
                break
            if not any(start < match.end() and match.start() < end for start, end in pieces):
                pieces[match.span()] = (match, row)
    for _, (match, row) in sorted(pieces.items(), key=lambda piece: piece[0]):
        yield (f"{_cut(match[0].strip())!r} {row.meaning}, but would be drawn and scored as text here; "
               f"{_instead(row, match, negative, syntax)}", _ways_out(row, owner, negative, syntax))


def _ways_out(row: Markup, owner: str, negative: bool, syntax: str) -> tuple[str, ...]:
    """What to declare if the text is right as it is, a sentence each."""
    sentences = [_LITERAL if syntax in ("", PLAIN) else _ALL_LITERAL] if owner == "Prompt" else []
    if owner and row.known_to and row.followed and not (negative and row.instead == _ADAPTER):
        folder = ", with the folder of the file as the Grid's adapter_folder" if "file" in row.instead else ""
        named = " or ".join(f"syntax={name!r}" for name in row.known_to)
        tools = " or ".join(SYNTAXES[name].tool for name in row.known_to)
        files = ", and for a file of prompts read_prompts(file, syntax=...)" if owner == "Prompt" else ""
        sentences.append(f"To have it read as {tools} does, say {owner}(..., {named}){folder}{files}")
    return tuple(sentences)


def _instead(row: Markup, match: re.Match[str], negative: bool, syntax: str) -> str:
    """What to write, with the words and the weight of this piece."""
    own_weights = syntax not in ("", PLAIN)
    if negative and "Emphasis" in row.instead and not own_weights:
        return "write the words alone, because negative prompts are not weighted"
    groups = match.groupdict()
    name, words = (groups.get("name") or "").strip(), (groups.get("words") or "").strip(" ,")
    weight = (groups.get("weight") or "").strip()
    if not _is_number(weight):
        pairs = (groups.get("nested") or "(")[:50].count("(")
        weight = "1.0" if name else f"{1.1 ** (-1 if match[0].startswith('[') else pairs):.3g}"
    if own_weights and "Emphasis" in row.instead:
        return f"write ({words}:{weight})" if words else "remove it"
    return row.instead.format(file=f"{name}.safetensors", words=words, weight=weight)


def brackets(prompt: Prompt) -> str:
    """A sentence about words in plain brackets, or what else other tools may read as markup and is text here, or about brackets
    of a tool's syntax that do not match; empty if there is nothing of it or the prompt is literal."""
    for text in (prompt.text, prompt.negative) if prompt.syntax not in ("", PLAIN) else ():
        plain = re.sub(r"\\.", "", text)
        if plain.count("(") != plain.count(")"):
            return (f"prompt {prompt.id!r}: a text has {plain.count('(')} opening and {plain.count(')')} closing round brackets; "
                    f"it is read as {SYNTAXES[prompt.syntax].tool} does. Write \\( or \\) for a bracket that is text")
    for pattern, meaning, instead in () if prompt.literal or prompt.syntax not in ("", PLAIN) else _NOTED:
        if match := pattern.search(prompt.text) or pattern.search(prompt.negative):
            return (f"prompt {prompt.id!r}: {_cut(match[0])!r} is read as text; {meaning}. Say Prompt(..., literal=True) if that "
                    f"is right, or {instead}")
    return ""


def _is_number(text: str) -> bool:
    return re.fullmatch(_NUMBER, text) is not None


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
