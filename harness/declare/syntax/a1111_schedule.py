"""Texts that change along the steps in AUTOMATIC1111's syntax: [from:to:when], [to:when], [from::when] and [one|other].

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#prompt-editing and #alternating-words
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeAlias

from harness.declare.listing import brief
from harness.declare.syntax.parsed import MarkupError

DEEPEST: Final = 50
_OPENING: Final = {"]": "[", ")": "("}
_NUMBER: Final = re.compile(r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))\s*", re.ASCII)
_BEYOND: Final = 1e9
"""A step that no image has; a number of hundreds of digits is infinite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Switch:
    """`before` up to and with step `when`, then `after`. `when` with a point is a share of the steps, without one a step."""

    before: Nodes
    after: Nodes
    when: str
    written: str

    def chosen(self, step: int, steps: int) -> int:
        """Which of `options` stands at a step, counted from 1."""
        last = float(self.when) * (steps if "." in self.when else 1)
        return int(step > int(min(last, _BEYOND)))

    @property
    def options(self) -> tuple[Nodes, ...]:
        """Both texts."""
        return self.before, self.after


@dataclass(frozen=True, kw_only=True, eq=False)
class Alternation:
    """One of the options at each step, in turns."""

    options: tuple[Nodes, ...]
    written: str

    def chosen(self, step: int, steps: int) -> int:
        """Which of `options` stands at a step, counted from 1."""
        del steps
        return (step - 1) % len(self.options)


Node: TypeAlias = "str | Switch | Alternation"
Nodes: TypeAlias = "tuple[Node, ...]"


def nodes_of(text: str, depth: int = 0) -> Nodes:
    """The text and what changes in it. Other brackets stay in the text, where they weaken words. Raises MarkupError for brackets
    that look like a schedule and are not one, and for too many within one another."""
    if depth > DEEPEST or (depth == 0 and _deepest(text) > DEEPEST):
        raise MarkupError(f"square brackets stand more than {DEEPEST} deep in one another; remove some of them")
    nodes: list[Node] = []
    groups, place = _groups(text), 0
    while place < len(text):
        if (group := groups.get(place)) is not None:
            nodes += _bracket(text, group, depth)
            place = group.end
        else:
            length = 2 if text[place] == "\\" else 1
            nodes.append(text[place:place + length])
            place += length
    return tuple(nodes)


def at_step(nodes: Nodes, step: int, steps: int) -> str:
    """The text at a step, counted from 1."""
    return "".join(node if isinstance(node, str) else at_step(node.options[node.chosen(step, steps)], step, steps)
                   for node in nodes)


def last_text(nodes: Nodes) -> str:
    """The text with the last of all options."""
    return "".join(node if isinstance(node, str) else last_text(node.options[-1]) for node in nodes)


def changes(nodes: Nodes) -> bool:
    """Whether anything in the text changes."""
    return any(not isinstance(node, str) for node in nodes)


def never_drawn(nodes: Nodes, steps: int) -> tuple[str, ...]:
    """The schedules, as they are written, of which some text stands at none of the steps."""
    drawn: dict[Switch | Alternation, set[int]] = {node: set() for node in _inner(nodes)}
    for step in range(1, steps + 1):
        for node in _standing(nodes, step, steps):
            drawn[node].add(node.chosen(step, steps))
    return tuple(node.written for node, options in drawn.items() if len(options) < len(node.options))


def _inner(nodes: Nodes) -> Iterator[Switch | Alternation]:
    for node in nodes:
        if not isinstance(node, str):
            yield node
            for option in node.options:
                yield from _inner(option)


def _standing(nodes: Nodes, step: int, steps: int) -> Iterator[Switch | Alternation]:
    for node in nodes:
        if not isinstance(node, str):
            yield node
            yield from _standing(node.options[node.chosen(step, steps)], step, steps)


@dataclass(kw_only=True)
class _Group:
    """A bracket from the place of its sign to `end`, and the places of the signs in it that are in no inner bracket."""

    sign: str
    start: int
    end: int = 0
    colons: list[int] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)


def _groups(text: str) -> dict[int, _Group]:
    """The square brackets by where they begin, without those that are never closed or that round brackets cross."""
    groups: dict[int, _Group] = {}
    open_brackets: list[_Group] = []
    place = 0
    while place < len(text):
        sign = text[place]
        if sign == "\\":
            place += 1
        elif sign in "[(":
            open_brackets.append(_Group(sign=sign, start=place))
        elif sign in "])" and open_brackets:
            group = open_brackets.pop()
            if group.sign != _OPENING[sign]:
                open_brackets.clear()  # each of them would hold a bracket that closes nothing
            elif sign == "]":
                group.end = place + 1
                groups[group.start] = group
        elif sign in ":|" and open_brackets:
            (open_brackets[-1].colons if sign == ":" else open_brackets[-1].bars).append(place)
        place += 1
    return groups


def _deepest(text: str) -> int:
    """How many square brackets stand in one another. A text of thousands is refused before it is read level by level."""
    ends: list[int] = []
    deepest = 0
    for start, group in sorted(_groups(text).items()):
        while ends and ends[-1] <= start:
            ends.pop()
        ends.append(group.end)
        deepest = max(deepest, len(ends))
    return deepest


def _bracket(text: str, group: _Group, depth: int) -> Sequence[Node]:
    start, end, written = group.start, group.end - 1, text[group.start:group.end]
    shown = brief(written, 80)
    if group.bars:
        if group.colons:
            raise MarkupError(f"{shown!r} has both | and :, which A1111 does not read as alternating; put the inner one into "
                              "brackets of its own")
        options = _split(text, (start, *group.bars, end))
        return [Alternation(options=tuple(nodes_of(option, depth + 1) for option in options), written=written)]
    pieces = _split(text, (start, *group.colons, end))
    number = _NUMBER.fullmatch(pieces[-1]) if len(pieces) > 1 else None
    if number is None and len(pieces) < 3:
        return ["[", *nodes_of(text[start + 1:end], depth + 1), "]"]
    if number is None or len(pieces) > 3:
        raise MarkupError(f"{shown!r} looks like a text that changes at a step; expected [from:to:when], with a step or a "
                          "share of the steps last. Write \\[ for a bracket that is text")
    if number["number"].startswith("-"):
        raise MarkupError(f"{shown!r} changes before the first step; expected a step, or a share of the steps such as 0.5")
    before, after = pieces[:2] if len(pieces) == 3 else ("", pieces[0])
    return [Switch(before=nodes_of(before, depth + 1), after=nodes_of(after, depth + 1), when=number["number"], written=written)]


def _split(text: str, edges: Sequence[int]) -> list[str]:
    return [text[edge + 1:following] for edge, following in pairwise(edges)]
