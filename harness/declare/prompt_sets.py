"""Built-in prompts for people who have none: 48 of twelve kinds, for any model that draws from texts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from harness.declare.grid import SPLITS, Prompt
from harness.declare.nearest import did_you_mean
from harness.declare.prompt_files import read_prompts

KIND: Final = "kind"
"""The tag of a built-in prompt that names its kind."""
_FILE: Final = Path(__file__).with_name("prompt_sets.toml")


def prompt_set(*kinds: str, count: int | None = None) -> tuple[Prompt, ...]:
    """The built-in prompts of these kinds ("portrait", "hands", "text", "landscape", "product", "anime", "night", "crowd",
    "animal", "food", "architecture", "interior"), or of all: two in each split and kind, tagged {"kind": ...}.

    `count` takes as many of them, spread evenly over kinds and splits; the same count always gives the same prompts, and a larger
    one gives those and others. ValueError names an unknown kind, and a count that is not to be had.
    """
    prompts = read_prompts(_FILE)
    known = list(dict.fromkeys(prompt.tags[KIND] for prompt in prompts))
    for kind in kinds:
        if kind not in known:
            raise ValueError(f"unknown kind of prompts {kind!r}; {did_you_mean(kind, known)}")
    wanted = [prompt for prompt in prompts if not kinds or prompt.tags[KIND] in kinds]
    if count is None:
        return tuple(wanted)
    if type(count) is not int or not 1 <= count <= len(wanted):
        raise ValueError(f"count is {count!r}; expected an integer from 1 to {len(wanted)}, the number of these prompts")
    taken = {prompt.id for prompt in _in_turns(wanted)[:count]}
    return tuple(prompt for prompt in wanted if prompt.id in taken)


def _in_turns(prompts: list[Prompt]) -> list[Prompt]:
    """One of each kind after the other, the splits in turns."""
    kinds = list(dict.fromkeys(prompt.tags[KIND] for prompt in prompts))
    by_place = {(kind, split): [p for p in prompts if p.tags[KIND] == kind and p.split == split]
                for kind in kinds for split in SPLITS}
    rounds = len(prompts) // len(kinds)
    order: list[Prompt] = []
    for turn in range(rounds):
        for number, kind in enumerate(kinds):
            order.append(by_place[kind, SPLITS[(number + turn) % len(SPLITS)]][turn // len(SPLITS)])
    return order
