"""A prompt in AUTOMATIC1111's syntax: its tags, then its schedule, then the weights of each of its texts."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from harness.declare.syntax.a1111_schedule import Nodes, at_step, changes, last_text, never_drawn, nodes_of
from harness.declare.syntax.a1111_weights import weighted_parts
from harness.declare.syntax.parsed import MarkupError, Parsed, Span, Text, tidy, unchanging
from harness.declare.syntax.tags import without_tags

_AND: Final = re.compile(r"\bAND(?:_PERP|_SALT|_TOPK)?\b")


def parse(text: str) -> Parsed:
    """A prompt in A1111's syntax. Raises MarkupError for what cannot be followed."""
    if found := _AND.search(text):
        raise MarkupError(f"{found[0]!r} combines prompts in A1111, which is not supported; write 'and', or a Prompt for each")
    if "#" in text:
        raise MarkupError("'#' begins a comment in A1111, which leaves out what follows; remove it")
    words, tags = without_tags(text)
    nodes = nodes_of(words)
    if not changes(nodes):
        return unchanging(_text("".join(map(str, nodes))), tags=tags)
    last = _text(last_text(nodes))
    _refuse_faults(nodes)
    return Parsed(plain=tidy(last.words), changes=True, spans=cache(lambda steps: _spans(nodes, steps)),
                  never_drawn=cache(lambda steps: never_drawn(nodes, steps)), tags=tags)


def _text(words: str) -> Text:
    return Text(parts=weighted_parts(words), syntax="a1111")


def _spans(nodes: Nodes, steps: int) -> tuple[Span, ...]:
    """The texts in order; steps of the same text are one span."""
    spans: list[tuple[int, str]] = []
    for step in range(1, steps + 1):
        words = at_step(nodes, step, steps)
        if spans and spans[-1][1] == words:
            spans[-1] = step, words
        else:
            spans.append((step, words))
    return tuple(Span(until=until, text=_text(words)) for until, words in spans)


def _refuse_faults(nodes: Nodes) -> None:
    """Raises MarkupError for a fault in any text that is drawn at some step, whatever the number of steps."""
    for steps in (1, 2, 3, 20):
        _spans(nodes, steps)
