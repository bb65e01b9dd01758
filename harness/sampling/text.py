"""The embeddings of all texts of a grid for one state of the text encoders. Candidates with the same state share them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Grid, Prompt
from harness.declare.same_text import effective_prompts, first_of_text, prompts_hash
from harness.records import Coverage
from harness.records.images import PROMPTS
from harness.text import Treatment, embed
from harness.text.tokens import Layout, lay_out, room_for_text
from harness.text.two_words import as_written
from harness.weights.placing import lent

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline, TextEncoder


_MOST_NAMED: Final = 8


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
    if pipeline.called is not None:
        # The diffusers pipeline embeds the texts itself; treatments were refused before.
        return TextState(positive={}, negative={}, dropped={})
    listed = tuple(prompts)
    declared = treatment or Treatment()
    treated = as_written(declared, (text for p in listed for text in (p.text, *([p.negative] if negatives else []))))
    plain = replace(treated, weights={}, aesthetic=None)
    dropped: dict[str, tuple[str, ...]] = {}
    occurring: set[str] = set()

    def conditions(texts: Iterable[str], how: Treatment) -> dict[str, Conditions]:
        conditions_by_text = {}
        for text in dict.fromkeys(texts):
            parts = [embed(encoder, text, how) for encoder in pipeline.encoders]
            occurring.update(*(part.occurring for part in parts))
            if cut := max((part.dropped for part in parts), key=len):
                dropped[text] = cut
            pooled = [part.pooled for part in parts if part.pooled is not None]
            conditions_by_text[text] = Conditions(states=_joined([part.states for part in parts]),
                                                  pooled=pooled[-1] if pooled else None)
        return conditions_by_text

    with lent([encoder.module for encoder in pipeline.encoders], pipeline.device):
        positive = conditions((p.text for p in listed), treated)
        negative = conditions((p.negative for p in listed), plain) if negatives else {}
    # A word that occurs as the name of its file does occur.
    occurring |= {word.token for word, written in zip(declared.words, treated.words, strict=True) if written.token in occurring}
    return TextState(positive=positive, negative=negative, dropped=dropped, occurring=frozenset(occurring))


def named(treatment: Treatment) -> set[str]:
    """The words and phrases of a treatment, which some prompt should contain."""
    return {word.token for word in treatment.words} | set(treatment.weights)


def coverage_of_prompts(candidate: str, prompts: Sequence[Prompt], encoders: Sequence[TextEncoder],
                        treatments: Iterable[Treatment]) -> Coverage:
    """A row that says which prompts do not fit the text encoder, by how many tokens, and which words of the treatments occur. It
    depends on tokenizers and words alone; no weight is used. Of several encoders the one that drops most counts."""
    cut: dict[str, Layout] = {}
    occurring: set[str] = set()
    texts = dict.fromkeys(text for prompt in prompts for text in (prompt.text, prompt.negative))
    for treatment in (as_written(given, texts) for given in treatments):
        for text in texts:
            for encoder in encoders:
                layout = lay_out(encoder, text, treatment)
                occurring |= layout.occurring
                if layout.dropped_tokens > (cut[text].dropped_tokens if text in cut else 0):
                    cut[text] = layout
    places = {f"{prompt.id} ({role})": text for prompt in prompts
              for role, text in (("prompt", prompt.text), ("negative", prompt.negative)) if text or role == "prompt"}
    notes = tuple(f"{place}: {cut[text].dropped_tokens} tokens do not fit and are cut off: {' '.join(cut[text].dropped)}"
                  for place, text in places.items() if text in cut)
    keys = {"whole": tuple(place for place, text in places.items() if text not in cut),
            "shortened": tuple(place for place, text in places.items() if text in cut),
            "applied": tuple(f"word {word!r}" for word in sorted(occurring))}
    return Coverage(candidate=candidate, stage=PROMPTS, component="text_encoder", notes=notes, setting=prompts_hash(prompts),
                    keys={status: names for status, names in keys.items() if names})


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
