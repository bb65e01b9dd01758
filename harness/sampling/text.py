"""The embeddings of all texts of a grid for one state of the text encoders. Candidates with the same state share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Grid, Prompt
from harness.declare.same_text import effective_prompts, first_of_text, prompts_hash
from harness.records import Coverage
from harness.records.images import PROMPTS
from harness.text import Embedded, Treatment, embed
from harness.text.tokens import Layout, lay_out, room_for_text
from harness.text.two_words import as_written
from harness.weights import embed_text
from harness.weights.placing import denoiser_away, lent, lent_in_turn

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline, TextEncoder


_MOST_NAMED: Final = 8
IN_PART: Final = "shortened_in_part"
"""The status of a text that some of a model's text encoders cut off and others read whole."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The denoiser's inputs for one text: `states` (tokens, width), and the `pooled` embedding (width,) if it takes one."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class TextState:
    """`positive` and `negative` conditions by text, on the device. `dropped` names by text the tokens that did not fit;
    `occurring` are the words and phrases of the treatment that occur in any text."""

    positive: Mapping[str, Conditions]
    negative: Mapping[str, Conditions]
    dropped: Mapping[str, tuple[str, ...]]
    occurring: frozenset[str] = frozenset()


def encode(pipeline: Pipeline, prompts: Iterable[Prompt], treatment: Treatment | None = None, *,
           negatives: bool = True) -> TextState:
    """Embeds each different text once, one at a time, so that an embedding never depends on its neighbours.

    Negative prompts get the words of the treatment and nothing else of it.
    """
    listed = tuple(prompts)
    if pipeline.called is not None:
        # As its diffusers pipeline embeds them; treatments were refused before.
        return _embedded_by_diffusers(pipeline, listed, negatives)
    declared = treatment or Treatment()
    treated = as_written(declared, (text for p in listed for text in (p.text, *([p.negative] if negatives else []))))
    plain = replace(treated, weights={}, aesthetic=None)
    dropped: dict[str, tuple[str, ...]] = {}
    occurring: set[str] = set()

    texts = {"positive": dict.fromkeys(p.text for p in listed),
             "negative": dict.fromkeys(p.negative for p in listed) if negatives else {}}
    embedded: dict[tuple[str, str], list[Embedded]] = {}
    with room_for_texts(pipeline, max):
        for encoder in pipeline.encoders:  # one on the device at a time
            with lent([encoder.module], pipeline.device):
                for role, how in (("positive", treated), ("negative", plain)):
                    for text in texts[role]:
                        embedded.setdefault((role, text), []).append(embed(encoder, text, how))

    def conditions(role: str) -> dict[str, Conditions]:
        conditions_by_text = {}
        for text in texts[role]:
            parts = embedded[role, text]
            occurring.update(*(part.occurring for part in parts))
            if cut := max((part.dropped for part in parts), key=len):
                dropped[text] = cut
            pooled = [part.pooled for part in parts if part.pooled is not None]
            conditions_by_text[text] = Conditions(states=_joined([part.states for part in parts]),
                                                  pooled=pooled[-1] if pooled else None)
        return conditions_by_text

    positive, negative = conditions("positive"), conditions("negative")
    # A word that occurs as the name of its file does occur.
    occurring |= {word.token for word, written in zip(declared.words, treated.words, strict=True) if written.token in occurring}
    return TextState(positive=positive, negative=negative, dropped=dropped, occurring=frozenset(occurring))


@contextmanager
def at_text(pipeline: Pipeline) -> Iterator[None]:
    """Within the block all text encoders of a pipeline are on its device; where a transformer's have no room together, each while
    it runs."""
    modules = [encoder.module for encoder in pipeline.encoders]
    with room_for_texts(pipeline, sum):
        together = pipeline.called is None or not _lacks_room(pipeline, sum)
        with (lent if together else lent_in_turn)(modules, pipeline.device):
            yield


@contextmanager
def room_for_texts(pipeline: Pipeline, together: Callable[[Iterable[int]], int]) -> Iterator[None]:
    """Within the block the denoiser is on the host if it must make room on a GPU: a transformer always, as its encoders are as
    large as itself; a U-Net if there is too little free memory for the encoders `together`, the largest (max) or all (sum)."""
    leaving = pipeline.device.type != "cpu" and ("transformer" in pipeline.parts or _lacks_room(pipeline, together))
    with denoiser_away(pipeline) if leaving else nullcontext():
        yield


def _lacks_room(pipeline: Pipeline, together: Callable[[Iterable[int]], int]) -> bool:
    """Whether a GPU has too little free memory for the encoders that are on the host."""
    from harness.probes.available import SPARE_BYTES, device_memory
    from harness.quantize import stored_bytes

    if pipeline.device.type == "cpu":
        return False
    needed = together([stored_bytes(e.module) for e in pipeline.encoders if _on_host(e.module)] or [0])
    return device_memory(str(pipeline.device)).free < needed + SPARE_BYTES


def _on_host(module: Any) -> bool:
    return all(parameter.device.type == "cpu" for parameter in module.parameters())


def _embedded_by_diffusers(pipeline: Pipeline, prompts: Sequence[Prompt], negatives: bool) -> TextState:
    texts = dict.fromkeys([p.text for p in prompts] + ([p.negative for p in prompts] if negatives else []))
    with at_text(pipeline):
        conditions = {}
        for text in texts:
            states, pooled = embed_text(pipeline, text)
            conditions[text] = Conditions(states=states, pooled=pooled)
    return TextState(positive={p.text: conditions[p.text] for p in prompts},
                     negative={p.negative: conditions[p.negative] for p in prompts} if negatives else {}, dropped={})


def named(treatment: Treatment) -> set[str]:
    """The words and phrases of a treatment, which some prompt should contain."""
    return {word.token for word in treatment.words} | set(treatment.weights)


def coverage_of_prompts(candidate: str, prompts: Sequence[Prompt], encoders: Sequence[TextEncoder],
                        treatments: Iterable[Treatment]) -> Coverage:
    """A row that says which prompts do not fit the text encoders, by how many tokens, and which words of the treatments occur. It
    depends on tokenizers and words alone; no weight is used. What all of several encoders cut off is "shortened"; what some of
    them read, such as T5 of a text too long for CLIP, is "shortened_in_part"."""
    cut: dict[str, list[tuple[TextEncoder, Layout]]] = {}
    occurring: set[str] = set()
    texts = dict.fromkeys(text for prompt in prompts for text in (prompt.text, prompt.negative))
    for treatment in (as_written(given, texts) for given in treatments):
        for text in texts:
            layouts = [(encoder, lay_out(encoder, text, treatment)) for encoder in encoders]
            occurring.update(*(layout.occurring for _, layout in layouts))
            if _dropped(layouts) > (_dropped(cut[text]) if text in cut else (0, 0)):
                cut[text] = layouts
    places = {f"{prompt.id} ({role})": text for prompt in prompts
              for role, text in (("prompt", prompt.text), ("negative", prompt.negative)) if text or role == "prompt"}
    notes = tuple(f"{place}: {_cut_off(cut[text])}" for place, text in places.items() if text in cut)
    keys = {"whole": tuple(place for place, text in places.items() if text not in cut),
            "shortened": tuple(place for place, text in places.items() if text in cut and _dropped(cut[text])[0]),
            IN_PART: tuple(place for place, text in places.items() if text in cut and not _dropped(cut[text])[0]),
            "applied": tuple(f"word {word!r}" for word in sorted(occurring))}
    return Coverage(candidate=candidate, stage=PROMPTS, component="text_encoder", notes=notes, setting=prompts_hash(prompts),
                    keys={status: names for status, names in keys.items() if names})


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


def idle_word_problem(prompts: Sequence[Prompt], encoders: Sequence[TextEncoder], treatments: Sequence[Treatment]) -> str:
    """What is wrong with words of the treatments that no encoder gets to read, because no prompt has them or they are cut off.
    Empty if nothing is."""
    texts = list(dict.fromkeys(text for prompt in prompts for text in (prompt.text, prompt.negative)))
    read: set[str] = set()
    written: set[str] = set()
    for declared in treatments if encoders else ():
        treated = as_written(declared, texts)
        tokens = {word.token: given.token for given, word in zip(declared.words, treated.words, strict=True)}
        for text, encoder in product(texts, encoders):
            layout = lay_out(encoder, text, treated)
            written |= {tokens.get(name, name) for name in layout.occurring}
            read |= {tokens[word.token] for _, word, _ in layout.rows}
        for phrase in treated.weights:
            alone = replace(treated, weights={phrase: 2.0})
            if any(2.0 in lay_out(encoder, prompt.text, alone).weights for prompt in prompts for encoder in encoders):
                read.add(phrase)
    idle = sorted({word for treatment in treatments for word in named(treatment)} - read) if encoders else []
    if not idle:
        return ""
    if idle[0] in written:
        return (f"the word {idle[0]!r} is only in parts of the prompts that the text encoder cuts off, so it has no effect; "
                "shorten the prompts, or put it first")
    return (f"the word {idle[0]!r} appears in no prompt of the suite, so it has no effect; write it into the prompts as it is "
            "spelled here, or remove it from the candidate")


def one_text_problem(grid: Grid, encoders: Sequence[TextEncoder], treatments: Sequence[Treatment]) -> str:
    """What is wrong with prompts that differ as they are written, but not as all of the text encoders read them. Empty if nothing
    is. Like `coverage_of_prompts` it depends on tokenizers and words alone."""
    if not encoders:
        return ""
    prompts = effective_prompts(grid)
    first = first_of_text(prompts)
    texts = list(dict.fromkeys(text for prompt in prompts for text in (prompt.text, prompt.negative)))
    pairs = [(encoder, treatment) for treatment in (as_written(given, texts) for given in treatments) for encoder in encoders]
    layouts = {text: [lay_out(encoder, text, treatment) for encoder, treatment in pairs] for text in texts}
    groups: dict[Any, list[Prompt]] = {}
    for prompt in prompts:
        if first[prompt.id] == prompt.id:
            read = tuple(tuple(map(_read, layouts[text])) for text in (prompt.text, prompt.negative))
            groups.setdefault(read, []).append(prompt)
    phrases = []
    for group in (group for group in groups.values() if len(group) > 1):
        ids = ", ".join(map(repr, (prompt.id for prompt in group[:_MOST_NAMED])))
        ids += f" and {len(group) - _MOST_NAMED} more" if len(group) > _MOST_NAMED else ""
        texts = [text for prompt in group for text in (prompt.text, prompt.negative)]
        cut = any(layout.dropped_tokens for text in texts for layout in layouts[text])
        limit = f", which reads at most {max(map(room_for_text, encoders))} tokens of a text" if cut else ""
        phrases.append(f"prompts {ids} are one text for the text encoder{limit}; "
                       + ("shorten them, or put what differs first" if cut else "give each another text, or keep one of them"))
    return "; ".join(phrases)


def _read(layout: Layout) -> tuple[Any, ...]:
    """What an encoder is given of a text."""
    return (layout.ids, layout.weights,
            tuple((position, word.component, word.token, row) for position, word, row in layout.rows))


def _joined(states: list[torch.Tensor]) -> torch.Tensor:
    """States of several encoders side by side, as SDXL takes them: (tokens, width 1 + width 2)."""
    import torch

    return states[0] if len(states) == 1 else torch.cat(states, dim=-1)
