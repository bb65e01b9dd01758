"""What a declaration asks for by name, and to how many tensors each request applies: one that applies to none is not met."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from harness.declare import Alphas, Blocks, Gradient
from harness.declare.nearest import closest
from harness.declare.ways_out import DEFAULT_ZERO
from harness.merge.alpha_by_key import ByKey
from harness.merge.blocks import NONE

OR_ZERO: Final = "or give 0 for {slot}, or give the values without it"
ZERO_OR_ONE: Final = "Give 0 for it, or one alpha for all blocks"
"""What to do about a block weight that applies to no tensor, where the weights are declared. A search proposes them, and says
other words in place of these."""
Nearest = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Requested:
    """A request: what is asked for, how many tensors it applies to, and the message if it applies to none."""

    what: str
    tensors: int
    unmet: str


def unmet(requests: Iterable[Requested]) -> list[str]:
    """One sentence for each request that applies to no tensor."""
    return [f"{request.what}: {request.unmet}" for request in requests if not request.tensors]


def requested_alphas(word: str, given: float | Blocks | Gradient | Alphas, by_component: Sequence[ByKey],
                     nearest: Nearest | None = None) -> list[Requested]:
    """Every part, pattern and block that the alpha or beta of a merge names. `word` is what it is called ("alpha"),
    `by_component` holds its values for all components that are merged. `nearest` gives what a pattern without a match may mean,
    in a sentence with a space before it."""
    blocks: Counter[str] = Counter()
    for one in by_component:
        blocks.update(one.explicit)
    requests = [Requested(what=f"{word} for the block {slot}", tensors=count, unmet=_no_block(slot, by_component))
                for slot, count in blocks.items()]
    requests += _of_gradients(word, by_component)
    if not isinstance(given, Alphas):
        return requests
    merged = ", ".join(one.component for one in by_component) or "nothing"
    absent = f"it is not merged; merged: {merged}. Name it in the merge's parts, or leave it out here"
    default = _of_default(word, given, by_component, neutral=(0,))
    return [*requests, *_of_parts(word, given, by_component, absent), *_of_patterns(word, given, by_component, nearest), *default]


def requested_weights(given: Alphas, by_component: Sequence[ByKey], nearest: Nearest | None = None) -> list[Requested]:
    """Every part and pattern that the block weights of an adapter name, but for parts at 0: nothing of them is asked for. The
    default, unless it is 0 or 1: the adapter off, or as it is. `by_component` holds the weights of all modules that the adapter
    changes."""
    changed = ", ".join(one.component for one in by_component) or "nothing"
    absent = f"the adapter changes nothing of it; it changes {changed}. Leave it out, or use another adapter"
    asked = replace(given, parts={part: rule for part, rule in given.parts.items() if rule != 0})
    word = "blocks: the weight"
    default = _of_default(word, given, by_component, neutral=(0, 1))
    return [*_of_parts(word, asked, by_component, absent), *_of_patterns(word, given, by_component, nearest), *default]


def _of_default(word: str, given: Alphas, by_component: Sequence[ByKey], neutral: Collection[float]) -> Iterator[Requested]:
    """The default, unless all its numbers are among the `neutral` ones, which ask for nothing: a default must be given."""
    numbers = _numbers(given.default)
    if numbers and all(number in neutral for number in numbers):
        return
    tensors = sum(slot not in given.keys and slot != NONE for one in by_component if one.component not in given.parts
                  for slot in one.slots.values())
    overriding = [*(repr(one.component) for one in by_component if one.component in given.parts),
                  *(repr(pattern) for pattern in given.keys if any(pattern in one.matched for one in by_component))]
    value = f"{given.default:g}" if isinstance(given.default, int | float) else type(given.default).__name__
    yield Requested(what=f"{word} for everything else (default, {value})", tensors=tensors, unmet=(
        f"no tensor is left for it: all have a value of their own from {', '.join(overriding) or 'nothing'}. Give "
        f"{DEFAULT_ZERO}, or leave out what overrides it"))


def _numbers(rule: float | Blocks | Gradient) -> tuple[float, ...]:
    """The numbers of a rule; empty for a preset, which has numbers of its own."""
    if isinstance(rule, Blocks):
        return (*rule.values, *(() if rule.base is None else (rule.base,))) if not rule.preset else ()
    return rule.values if isinstance(rule, Gradient) else (rule,)


def _of_gradients(word: str, by_component: Sequence[ByKey]) -> Iterator[Requested]:
    """Every value of the gradients. One that lies between two layers of every component takes part in none of their alphas."""
    layers: dict[tuple[float, ...], dict[str, int]] = {}
    for one in by_component:
        if one.gradient:
            layers.setdefault(one.gradient, {})[one.component] = one.layers
    for values, counts in layers.items():
        for place, value in enumerate(values):
            near = sum(abs(layer * (len(values) - 1) / max(count - 1, 1) - place) < 1
                       for count in counts.values() for layer in range(count))
            listed = ", ".join(f"{component} has {count}" for component, count in counts.items())
            what = f"{word}: value {place + 1} of the {len(values)} of the gradient ({value:g})"
            yield Requested(what=what, tensors=near, unmet=(
                f"no layer is near it, so it would change nothing; layers: {listed}. Give at most {max(counts.values())} values"))


def _of_parts(word: str, given: Alphas, by_component: Sequence[ByKey], absent: str) -> Iterator[Requested]:
    slots = {one.component: one.slots.values() for one in by_component}
    overridden = "every tensor of it is matched by a pattern, and patterns come before parts. Remove it, or narrow the patterns"
    for part in given.parts:
        yield Requested(what=f"{word} for the part {part!r}", unmet=overridden if part in slots else absent,
                        tensors=sum(slot not in given.keys for slot in slots.get(part, ())))


def _of_patterns(word: str, given: Alphas, by_component: Sequence[ByKey], nearest: Nearest | None) -> Iterator[Requested]:
    for pattern in given.keys:
        tensors = sum(slot == pattern for one in by_component for slot in one.slots.values())
        yield Requested(what=f"{word} for the keys {pattern!r}", tensors=tensors,
                        unmet="" if tensors else _no_key(pattern, given, by_component, nearest))


def _no_key(pattern: str, given: Alphas, by_component: Sequence[ByKey], nearest: Nearest | None) -> str:
    if any(pattern in one.matched for one in by_component):
        later = list(given.keys)[list(given.keys).index(pattern) + 1:]
        winning = {slot for one in by_component for slot in one.slots.values()} & set(later)
        return (f"every key that it matches is matched by a later pattern too ({', '.join(map(repr, sorted(winning)))}), and the "
                "last one counts. Put it last, or remove it")
    components = [one.component for one in by_component]
    example = next((key for one in by_component for key in one.values), "down_blocks.0.resnets.0.conv1.weight")
    question = _question(pattern, by_component) or (nearest(pattern) if nearest else "")
    return (f"no key of {', '.join(components) or 'anything that is merged'} matches.{question} A pattern must match the whole "
            f"name, such as {example!r}; write * for any text, like '*attn2*' or "
            f"'{components[0] if components else 'unet'}.*'")


def _question(pattern: str, by_component: Sequence[ByKey]) -> str:
    """The pattern with its text replaced by the most similar part of a name, where that matches; else empty."""
    bare = pattern.strip("*")
    keys = [f"{one.component}.{key}" for one in by_component for key in one.values]
    words = sorted(set(chain.from_iterable(key.split(".") for key in keys)))
    for word in closest(bare, words, most=3):
        proposal = pattern.replace(bare, word) if pattern != bare else f"*{word}*"
        if any(re.match(fnmatch.translate(proposal), key) for key in keys):
            return f" Did you mean {proposal!r}?"
    return ""


def _no_block(slot: str, by_component: Sequence[ByKey]) -> str:
    components = ", ".join(one.component for one in by_component)
    beside = {"BASE": "the text encoders", "CLIP": "text_encoder", "T5": "text_encoder_2", "VAE": "the VAE"}
    if slot in beside:
        return (f"no tensor of {components} counts to it; it is for {beside[slot]}. Name them in the merge's parts too, "
                f"{OR_ZERO.format(slot=slot)}")
    return f"no tensor that is merged counts to it (merged: {components}). {ZERO_OR_ONE}"
